/**
 * The environment file that a host's CNI plugin, `mk-docker-opts.sh` and the next start read, in flannel's exact text and
 * order (flannel `pkg/subnet/subnet.go`, `WriteSubnetFile`).
 */
import { AddressError } from '../net/errors.ts';
import type { Family } from '../net/ip.ts';
import { firstAddress, type Prefix, parseNetworkOf, prefixFamily, prefixLength } from '../net/prefix.ts';

export interface SubnetEnv {
  readonly network: Prefix;
  readonly subnet: Prefix;
  /** Of a dual-stack network; both or neither. */
  readonly network6?: Prefix;
  readonly subnet6?: Prefix;
  readonly mtu: number;
  readonly ipMasq: boolean;
}

/** The whole text of the file; the subnet is written by its first usable address, `10.246.18.1/24`. */
export function formatSubnetEnv(env: SubnetEnv): string {
  return [
    `FLANNEL_NETWORK=${env.network}`,
    `FLANNEL_SUBNET=${firstAddress(env.subnet)}/${prefixLength(env.subnet)}`,
    ...(env.network6 === undefined ? [] : [`FLANNEL_IPV6_NETWORK=${env.network6}`]),
    ...(env.subnet6 === undefined
      ? []
      : [`FLANNEL_IPV6_SUBNET=${firstAddress(env.subnet6)}/${prefixLength(env.subnet6)}`]),
    `FLANNEL_MTU=${env.mtu}`,
    `FLANNEL_IPMASQ=${env.ipMasq}`,
    '',
  ].join('\n');
}

/**
 * What a file of an earlier run says, ours or flanneld's. Lines that are absent, unknown or unreadable leave their field
 * out, as flannel skips them: the file is a hint, and a bad hint must not keep a host from starting.
 */
export function parseSubnetEnv(text: string): Partial<SubnetEnv> {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const match = LINE.exec(line);
    if (match !== null) values.set(match[1] ?? '', match[3] ?? '');
  }
  const network = readSubnet(values.get('FLANNEL_NETWORK'));
  const subnet = readSubnet(values.get('FLANNEL_SUBNET'));
  const network6 = readSubnet(values.get('FLANNEL_IPV6_NETWORK'), 6);
  const subnet6 = readSubnet(values.get('FLANNEL_IPV6_SUBNET'), 6);
  const mtu = values.get('FLANNEL_MTU');
  const ipMasq = values.get('FLANNEL_IPMASQ');
  return {
    ...(network === undefined ? {} : { network }),
    ...(subnet === undefined ? {} : { subnet }),
    ...(network6 === undefined ? {} : { network6 }),
    ...(subnet6 === undefined ? {} : { subnet6 }),
    ...(mtu !== undefined && /^[1-9][0-9]{1,4}$/.test(mtu) ? { mtu: Number(mtu) } : {}),
    ...(ipMasq === 'true' || ipMasq === 'false' ? { ipMasq: ipMasq === 'true' } : {}),
  };
}

/** A shell assignment, as the readers of the file take it: an `export` and one pair of quotes are allowed. */
const LINE = /^\s*(?:export\s+)?([A-Z0-9_]+)=(["']?)([^"']*?)\2\s*$/;

/** The first readable subnet of a family in a value; flannel with several cluster CIDRs writes a comma list. */
function readSubnet(value: string | undefined, family: Family = 4): Prefix | undefined {
  for (const word of value?.split(',') ?? []) {
    try {
      const prefix = parseNetworkOf(word.trim());
      if (prefixFamily(prefix) === family) return prefix;
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
    }
  }
  return undefined;
}
