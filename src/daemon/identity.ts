/**
 * Which MAC and which subnet this host had before: peers hold both, so they are kept wherever they can be read back; and
 * whether a lease with our PublicIP is ours at all. Flannel takes whichever lease has its PublicIP, so two hosts with one
 * address (clones, Vagrant's 10.0.2.15) silently share a subnet. The VtepMAC tells hosts apart: it is random, flannel's own
 * field, and kept by us. A field of our own in the lease would tell no more, since a clone copies both.
 */
import type { HostFacts, NetworkState } from '../dataplane/protocol.ts';
import type { Lease } from '../datastore/types.ts';
import { parseSubnetEnv } from '../flannel/subnet-env.ts';
import { readIfThere } from '../host/files.ts';
import type { DaemonRecord } from '../host/records.ts';
import { parseIp } from '../net/ip.ts';
import { isUnicastMac, type Mac, parseMac, randomMac, ZERO_MAC } from '../net/mac.ts';
import { type Prefix, parsePrefix, prefixContains } from '../net/prefix.ts';

export interface MacSources {
  /** `--mac`. */
  readonly asked: Mac | undefined;
  readonly device: string;
  readonly source: 'etcd' | 'file';
  /** What the dataplane holds. */
  readonly states: readonly NetworkState[];
  /** Of the TAP's namespace. */
  readonly facts: HostFacts;
  readonly ownLease: Lease | undefined;
  /** What the lease says of this device. */
  readonly leasedMac: Mac | undefined;
  readonly record: DaemonRecord;
}

/**
 * The first of: the one asked for, the device's, the lease's, the one remembered, a random one. With a file the lease
 * comes first, because every other host reads our MAC in that file.
 */
export function chooseMac(sources: MacSources): Mac {
  const { asked, device, source, states, facts, leasedMac: leased, record } = sources;
  const held = states.find((state) => state.spec.name === device)?.mac;
  const left = facts.links.find((link) => link.name === device && link.kind === 'tun')?.mac;
  const candidates = source === 'file' ? [leased, asked, held, left] : [asked, held, left, leased];
  for (const candidate of [...candidates, record.device === device ? record.mac : undefined]) {
    const mac = usable(candidate ?? undefined);
    if (mac !== undefined) return mac;
  }
  return randomMac();
}

export interface PreviousSubnets {
  readonly subnet: Prefix | undefined;
  readonly subnet6: Prefix | undefined;
}

/** The subnets of the last run: the environment file's, else those remembered. */
export function previousSubnets(subnetFile: string, record: DaemonRecord): PreviousSubnets {
  const text = readIfThere(subnetFile);
  const env = text === undefined ? {} : parseSubnetEnv(text);
  return { subnet: env.subnet ?? readPrefix(record.subnet), subnet6: env.subnet6 ?? readPrefix(record.subnet6) };
}

function readPrefix(text: string | undefined): Prefix | undefined {
  try {
    return text === undefined ? undefined : parsePrefix(text);
  } catch {
    return undefined;
  }
}

export class ForeignLeaseError extends Error {
  readonly code = 'PUBLIC_IP_TAKEN';
}

export interface IdentitySources extends MacSources {
  /** Of the underlay's namespace. */
  readonly hostFacts: HostFacts;
  readonly previousSubnet: Prefix | undefined;
  /** `--take-over-lease`. */
  readonly takeOver: boolean;
}

/** MACs of earlier runs that are remembered. */
const MACS_KEPT = 16;

/**
 * Every MAC by which a lease is ours. Throws `ForeignLeaseError` if our PublicIP's lease has another one and nothing else
 * ties it to this host: its subnet is that of our last run, or one of our devices has an address in it.
 */
export function ourMacs(sources: IdentitySources): Mac[] {
  const { asked, states, facts, hostFacts, ownLease, record } = sources;
  const links = [...facts.links, ...hostFacts.links];
  const known = new Set(
    [
      asked,
      record.mac,
      ...(record.macs ?? []),
      ...states.map(({ mac }) => mac),
      ...links.map(({ mac }) => mac),
    ].flatMap((text) => usable(text ?? undefined) ?? []),
  );
  const leased = ownLease?.attributes.vtepMac;
  if (ownLease === undefined || leased === undefined || known.has(leased)) return [...known];
  if (!sources.takeOver && !isTied(ownLease.subnet, sources)) {
    throw new ForeignLeaseError(
      `lease ${ownLease.key} carries our PublicIP ${ownLease.attributes.publicIp} with the VtepMAC ${leased}, which was never this host's: ` +
        'another host uses this address, and both would share one subnet. Give one of the two another --public-ip; ' +
        'if this machine replaces that one, or lost its state directory, start it once with --take-over-lease',
    );
  }
  return [...known, leased];
}

function isTied(subnet: Prefix, { previousSubnet: previous, hostFacts, facts }: IdentitySources): boolean {
  if (subnet === previous) return true;
  const addresses = [...hostFacts.links, ...facts.links].flatMap((link) => link.addresses);
  return addresses.some(({ address }) => prefixContains(subnet, parseIp(address.replace(/\/.*/, ''))));
}

/** The list for the record after `mac` came into use. */
export function rememberMac(mac: string, { mac: last, macs = [] }: DaemonRecord): string[] {
  return [...new Set([mac, ...(last === undefined ? [] : [last]), ...macs])].slice(0, MACS_KEPT);
}

function usable(text: string | undefined): Mac | undefined {
  if (text === undefined) return undefined;
  try {
    const mac = parseMac(text);
    return isUnicastMac(mac) && mac !== ZERO_MAC ? mac : undefined;
  } catch {
    return undefined;
  }
}
