/**
 * The network configuration below `<prefix>/config`: flannel's names, defaults and limits (flannel `pkg/subnet/config.go`,
 * `CheckNetworkConfig`, and `pkg/backend/vxlan/vxlan.go`).
 */

import { AddressError, quote } from '../net/errors.ts';
import {
  bigIntToIp,
  type Ipv4,
  type Ipv6,
  ipToBigInt,
  ipv4ToNumber,
  numberToIpv4,
  parseIpv4,
  parseIpv6,
} from '../net/ip.ts';
import {
  type Prefix,
  parseNetworkOf,
  prefixBase,
  prefixContains,
  prefixFamily,
  prefixLength,
  prefixOf,
} from '../net/prefix.ts';
import { GoObject, parseGoObject } from './go-json.ts';
import { HOST_GW, UDP, VXLAN } from './lease.ts';

/** The `Backend` object. Of host-gw, which has no tunnel, only the type counts; of udp, type and port. */
export interface Backend {
  readonly type: 'vxlan' | 'host-gw' | 'udp';
  /** 1 where absent, as with flannel. */
  readonly vni: number;
  /** 8472 where absent or 0: the kernel's default for devices made without a port, which flannel leaves in place. udp: 8285. */
  readonly port: number;
  /** MTU of the *underlay* to count with in place of the interface's; the overlay's is this less the overhead. */
  readonly mtu?: number;
  readonly learning: boolean;
  readonly gbp: boolean;
  readonly directRouting: boolean;
}

export interface NetworkConfig {
  readonly network: Prefix;
  readonly subnetLen: number;
  /** Base of the first subnet that may be leased. */
  readonly subnetMin: Ipv4;
  /** Base of the last subnet that may be leased. */
  readonly subnetMax: Ipv4;
  readonly enableIpv4: boolean;
  readonly enableIpv6: boolean;
  /** Present exactly with `enableIpv6`. */
  readonly ipv6?: Ipv6Range;
  readonly backend: Backend;
}

/** The IPv6 half of a dual-stack network. */
export interface Ipv6Range {
  readonly network: Prefix;
  readonly subnetLen: number;
  readonly subnetMin: Ipv6;
  readonly subnetMax: Ipv6;
}

/** Default of `Backend.VNI`. */
export const DEFAULT_VNI = 1;

/** Linux made this port its default before IANA assigned 4789. */
export const DEFAULT_PORT = 8472;

/** Of the udp backend (flannel `pkg/backend/udp/udp_amd64.go`). */
export const DEFAULT_UDP_PORT = 8285;

/** 24 bits (RFC 7348 §5). */
const VNI_MAX = 0xff_ffff;

/** The smallest IPv4 MTU (68, RFC 791) and the overhead of VXLAN over IPv4 (50). */
const MTU_MIN = 68 + 50;
const MTU_MAX = 65535;

/** Reads the JSON text of `<prefix>/config`. Throws `FlannelError`. */
export function parseNetworkConfig(text: string): NetworkConfig {
  return readNetworkConfig(parseGoObject(text, 'INVALID_CONFIG'));
}

/** Reads a configuration that is already a value, such as a section of a YAML file. Throws `FlannelError`. */
export function networkConfigOf(value: unknown): NetworkConfig {
  return readNetworkConfig(new GoObject(value, 'INVALID_CONFIG', ''));
}

/** A configuration as the JSON that `parseNetworkConfig` makes it of again. */
export function formatNetworkConfig(config: NetworkConfig): string {
  const { network, subnetLen, subnetMin, subnetMax, ipv6, backend } = config;
  const { vni, port, mtu, learning, gbp, directRouting } = backend;
  return JSON.stringify({
    Network: network,
    SubnetLen: subnetLen,
    SubnetMin: subnetMin,
    SubnetMax: subnetMax,
    ...(ipv6 === undefined
      ? {}
      : {
          EnableIPv6: true,
          IPv6Network: ipv6.network,
          IPv6SubnetLen: ipv6.subnetLen,
          IPv6SubnetMin: ipv6.subnetMin,
          IPv6SubnetMax: ipv6.subnetMax,
        }),
    Backend: {
      Type: backend.type,
      VNI: vni,
      Port: port,
      ...(mtu === undefined ? {} : { MTU: mtu }),
      Learning: learning,
      GBP: gbp,
      DirectRouting: directRouting,
    },
  });
}

function readNetworkConfig(fields: GoObject): NetworkConfig {
  refuseUnserved(fields);
  const ipv6 = fields.boolean('EnableIPv6') === true ? readIpv6Range(fields) : undefined;
  const network = readNetwork(fields);
  const subnetLen = readSubnetLen(fields, network);
  const backend = readBackend(fields);
  if (backend.type === UDP && ipv6 !== undefined) {
    throw fields.error(
      'EnableIPv6',
      'is true, and the backend udp carries IPv4 only: remove it, or write "Backend": {"Type": "vxlan"}',
      'UNSUPPORTED_CONFIG',
    );
  }
  return {
    network,
    subnetLen,
    ...readRange(fields, network, subnetLen),
    enableIpv4: true,
    enableIpv6: ipv6 !== undefined,
    ...(ipv6 === undefined ? {} : { ipv6 }),
    backend,
  };
}

function refuseUnserved(fields: GoObject): void {
  if (fields.boolean('EnableIPv4') === false) {
    throw fields.error(
      'EnableIPv4',
      // Flannel writes PublicIP 0.0.0.0 for such hosts, and the second host takes over the lease of the first.
      'is false: flannel on etcd cannot tell hosts without IPv4 apart, so such networks are not served; remove the field or set it to true',
      'UNSUPPORTED_CONFIG',
    );
  }
}

function readNetwork(fields: GoObject): Prefix {
  const text = fields.string('Network');
  if (text === undefined) {
    throw fields.error('Network', 'is missing: write the IPv4 network of all subnets, such as "10.246.0.0/16"');
  }
  const network = readAddress(fields, 'Network', () => parseNetworkOf(text));
  if (prefixFamily(network) !== 4) {
    throw fields.error('Network', `is ${quote(text)}, an IPv6 network: write an IPv4 network such as "10.246.0.0/16"`);
  }
  if (network === '0.0.0.0/0') {
    throw fields.error('Network', 'is 0.0.0.0/0: write a network such as "10.246.0.0/16"');
  }
  return network;
}

/** A subnet needs four addresses (/30) and a network four subnets, because the first one is not leased. */
function readSubnetLen(fields: GoObject, network: Prefix): number {
  const networkLen = prefixLength(network);
  if (networkLen > 28) {
    throw fields.error('Network', `is ${network}, too small for four subnets: write a network of /28 or larger`);
  }
  // 0 is Go's zero value and means absent.
  const given = fields.integer('SubnetLen', 0, 30) ?? 0;
  if (given === 0) return networkLen <= 22 ? 24 : networkLen + 2;
  if (given < networkLen + 2) {
    throw fields.error(
      'SubnetLen',
      `is ${given}, and ${network} has no room for four such subnets: write ${networkLen + 2} to 30, or a larger Network`,
    );
  }
  return given;
}

function readRange(fields: GoObject, network: Prefix, subnetLen: number): { subnetMin: Ipv4; subnetMax: Ipv4 } {
  const base = ipv4ToNumber(prefixBase(network) as Ipv4);
  const size = 2 ** (32 - subnetLen);
  const end = base + 2 ** (32 - prefixLength(network));
  const subnetMin = readBound(fields, 'SubnetMin', network, size) ?? base + size;
  const subnetMax = readBound(fields, 'SubnetMax', network, size) ?? end - size;
  if (subnetMin > subnetMax) {
    throw fields.error(
      'SubnetMin',
      `is ${numberToIpv4(subnetMin)}, above SubnetMax ${numberToIpv4(subnetMax)}: no subnet is left to lease, widen the range`,
    );
  }
  return { subnetMin: numberToIpv4(subnetMin), subnetMax: numberToIpv4(subnetMax) };
}

function readBound(fields: GoObject, name: string, network: Prefix, size: number): number | undefined {
  const text = fields.string(name);
  if (text === undefined) return undefined;
  const bound = readAddress(fields, name, () => parseIpv4(text));
  const value = ipv4ToNumber(bound);
  // 0.0.0.0 is Go's zero value and means absent.
  if (value === 0) return undefined;
  if (!prefixContains(network, bound)) {
    throw fields.error(name, `is ${bound}, outside the Network ${network}: write the base of a subnet inside it`);
  }
  if (value % size !== 0) {
    const below = numberToIpv4(value - (value % size));
    throw fields.error(
      name,
      `is ${bound}, not the base of a /${32 - Math.log2(size)} subnet: write ${below} or the next one`,
    );
  }
  return value;
}

/** The rules of `Network`, in IPv6: /64 by default, at most /126, and room for four subnets. */
function readIpv6Range(fields: GoObject): Ipv6Range {
  const text = fields.string('IPv6Network');
  if (text === undefined) {
    throw fields.error('IPv6Network', 'is missing, and EnableIPv6 is true: write a network such as "fd00:246::/48"');
  }
  const network = readAddress(fields, 'IPv6Network', () => parseNetworkOf(text));
  const networkLen = prefixLength(network);
  if (prefixFamily(network) !== 6 || networkLen === 0 || networkLen > 124) {
    throw fields.error('IPv6Network', `is ${quote(text)}: write an IPv6 network of /1 to /124 such as "fd00:246::/48"`);
  }
  const given = fields.integer('IPv6SubnetLen', 0, 126) ?? 0;
  if (given !== 0 && given < networkLen + 2) {
    throw fields.error('IPv6SubnetLen', `is ${given}, and ${network} has no room for four such subnets: write more`);
  }
  const subnetLen = given !== 0 ? given : networkLen <= 62 ? 64 : networkLen + 2;
  const size = 1n << BigInt(128 - subnetLen);
  const base = ipToBigInt(prefixBase(network));
  const last = base + (1n << BigInt(128 - networkLen)) - size;
  const bound = (name: string): bigint | undefined => readIpv6Bound(fields, name, network, subnetLen);
  const subnetMin = bound('IPv6SubnetMin') ?? base + size;
  const subnetMax = bound('IPv6SubnetMax') ?? last;
  if (subnetMin > subnetMax) {
    throw fields.error('IPv6SubnetMin', 'is above IPv6SubnetMax: no subnet is left to lease, widen the range');
  }
  const toIp = (value: bigint): Ipv6 => bigIntToIp(value, 6) as Ipv6;
  return { network, subnetLen, subnetMin: toIp(subnetMin), subnetMax: toIp(subnetMax) };
}

function readIpv6Bound(fields: GoObject, name: string, network: Prefix, subnetLen: number): bigint | undefined {
  const text = fields.string(name);
  if (text === undefined || text === '::') return undefined;
  const bound = readAddress(fields, name, () => parseIpv6(text));
  if (!prefixContains(network, bound) || prefixBase(prefixOf(bound, subnetLen)) !== bound) {
    throw fields.error(name, `is ${bound}, not the base of a /${subnetLen} inside ${network}`);
  }
  return ipToBigInt(bound);
}

function readBackend(fields: GoObject): Backend {
  const backend = fields.object('Backend');
  // Flannel's code takes udp here, its manual says vxlan: only the code runs on the peers.
  if (backend === undefined) return udpBackend(DEFAULT_UDP_PORT);
  const written = backend.string('Type') ?? '';
  const type = written.toLowerCase();
  if (type === UDP) return udpBackend(backend.integer('Port', 0, 65535) || DEFAULT_UDP_PORT);
  if (type !== VXLAN && type !== HOST_GW) {
    throw backend.error(
      'Type',
      written === ''
        ? 'is missing: write "vxlan"'
        : `is ${quote(written)}, which is not served here (vxlan, host-gw and udp are): use flanneld for this network, or change its type on all hosts`,
      'UNSUPPORTED_CONFIG',
    );
  }
  // 0 is Go's zero value: the MTU of the interface.
  const mtu = backend.integer('MTU', 0, MTU_MAX) ?? 0;
  if (mtu !== 0 && mtu < MTU_MIN) {
    throw backend.error(
      'MTU',
      `is ${mtu}, the underlay's MTU: write ${MTU_MIN} to ${MTU_MAX}, or 0 for the interface's`,
    );
  }
  return {
    type,
    vni: backend.integer('VNI', 0, VNI_MAX) ?? DEFAULT_VNI,
    port: backend.integer('Port', 0, 65535) || DEFAULT_PORT,
    ...(mtu === 0 ? {} : { mtu }),
    learning: backend.boolean('Learning') ?? false,
    gbp: backend.boolean('GBP') ?? false,
    directRouting: backend.boolean('DirectRouting') ?? false,
  };
}

/** Other fields mean nothing to it: flannel does not read them. */
function udpBackend(port: number): Backend {
  return { type: UDP, vni: 0, port, learning: false, gbp: false, directRouting: false };
}

function readAddress<T>(fields: GoObject, name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof AddressError) throw fields.error(name, error.message);
    throw error;
  }
}
