/**
 * Which leases are peers. Flannel programs whatever the store holds; a few leases would do harm on the host that programs
 * them, and are left out with a warning that names them.
 */
import type { Lease } from '../datastore/types.ts';
import { isOfBackend, UDP, VXLAN } from '../flannel/lease.ts';
import { type Family, type Ip, type Ipv4, ipv4ToNumber } from '../net/ip.ts';
import { type Mac, parseMac } from '../net/mac.ts';
import { type Prefix, prefixContains, prefixesOverlap } from '../net/prefix.ts';

/** Our own host, as far as it is known: before the first join there is no key and no subnet. */
export interface OwnIdentity {
  readonly publicIp: Ip;
  readonly key?: string | undefined;
  readonly subnet?: Prefix | undefined;
  readonly mac?: Mac | undefined;
}

export type WarningKind =
  /** Another key carries our PublicIP: a lease of our past, or a host with our address. Left out. */
  | 'own-public-ip'
  /** Our key carries another host's PublicIP. Left out. */
  | 'own-key-taken'
  /** Another host publishes our VtepMAC. Left out: frames to it would be frames to us. */
  | 'own-mac'
  /** Its subnet overlaps ours. Left out: it would take our own containers' traffic. */
  | 'overlaps-own-subnet'
  /** Its subnet contains an underlay address. Left out: the tunnel's own packets would enter the tunnel. */
  | 'covers-underlay'
  /** Its subnet is not in the network. Programmed, as flannel does. */
  | 'outside-network'
  /** Several keys name one subnet; the lowest key counts. */
  | 'duplicate-subnet'
  /** One VtepMAC at several PublicIPs; the lowest key counts. */
  | 'duplicate-mac'
  /** One PublicIP in several leases. All are programmed: nothing in them contradicts. */
  | 'duplicate-public-ip';

export interface PeerWarning {
  readonly kind: WarningKind;
  /** The leases it is about, sorted; where one counts and others do not, it is the first. */
  readonly keys: readonly string[];
  /** What happened, to what, and what to do. */
  readonly message: string;
}

/** A lease of another host with our backend, ready for the tables. */
export interface Peer {
  readonly key: string;
  readonly subnet: Prefix;
  readonly publicIp: Ip;
  /** Always present with vxlan and, as a mere name, with udp. */
  readonly mac?: Mac | undefined;
}

/** What of a lease concerns a network. */
export interface Scope {
  readonly network: Prefix;
  /** The family of the overlay; each has its own tunnel. */
  readonly family: Family;
  /** Leases of hosts with another backend are ignored. */
  readonly backend: string;
}

/** One family's part of a lease; undefined where its host does not serve that family. */
export function partOf({ key, subnet, subnet6, attributes }: Lease, family: Family): Peer | undefined {
  if (family === 4) return { key, subnet, publicIp: attributes.publicIp, mac: attributes.vtepMac };
  const { publicIpv6, vtepMac6 } = attributes;
  if (subnet6 === undefined || publicIpv6 === undefined) return undefined;
  return { key, subnet: subnet6, publicIp: publicIpv6, mac: vtepMac6 };
}

export interface Verdict {
  /** Absent where the lease is left out. */
  readonly peer?: Peer;
  /** True where the lease is left out because its host runs another backend. */
  readonly otherBackend: boolean;
  readonly warning?: PeerWarning;
}

/** Judges one lease by itself; what leases mean to each other is decided in election.ts. */
export function judge(lease: Lease, own: OwnIdentity, { network, family, backend }: Scope): Verdict {
  const part = partOf(lease, family);
  if (part === undefined) return { otherBackend: false };
  const { key, subnet, publicIp, mac } = part;
  if (key === own.key) {
    if (publicIp === own.publicIp) return { otherBackend: false };
    return leftOut('own-key-taken', key, `our lease ${key} now names ${publicIp}, not our PublicIP ${own.publicIp}`);
  }
  if (publicIp === own.publicIp) {
    if (own.key === undefined) return { otherBackend: false };
    const what = `lease ${key} carries our PublicIP ${publicIp} beside our own lease ${own.key}`;
    return leftOut(
      'own-public-ip',
      key,
      `${what}; delete it unless another host uses this address, which then must change`,
    );
  }
  if (!isOfBackend(lease.attributes.backendType, backend) || (backend === VXLAN && mac === undefined))
    return { otherBackend: true };
  if (own.subnet !== undefined && prefixesOverlap(subnet, own.subnet)) {
    return leftOut(
      'overlaps-own-subnet',
      key,
      `lease ${key} of ${publicIp} overlaps our subnet ${own.subnet}; delete it`,
    );
  }
  for (const underlay of [own.publicIp, publicIp]) {
    if (prefixContains(subnet, underlay)) {
      return leftOut(
        'covers-underlay',
        key,
        `lease ${key} of ${publicIp} contains the underlay address ${underlay}; delete it`,
      );
    }
  }
  if (backend === VXLAN && mac === own.mac) {
    const what = `lease ${key} of ${publicIp} publishes our own VtepMAC ${mac}`;
    return leftOut('own-mac', key, `${what}; give one of the two hosts another MAC (were they cloned?)`);
  }
  const name = backend === UDP ? { mac: peerName(lease.attributes.publicIp) } : {};
  const peer: Peer = backend === VXLAN ? part : { key, subnet, publicIp, ...name };
  if (prefixContains(network, subnet)) return { peer, otherBackend: false };
  const message = `lease ${key} of ${publicIp} lies outside the network ${network}; it is used, delete it if it is old`;
  return { peer, otherBackend: false, warning: { kind: 'outside-network', keys: [key], message } };
}

/**
 * A layer-3 network has no MACs, but the dataplane's tables join a peer's subnets (neighbours) and its address (FDB) by one:
 * it is made of the address, `02:00` and its four bytes.
 */
function peerName(publicIp: Ipv4): Mac {
  const digits = ipv4ToNumber(publicIp).toString(16).padStart(8, '0');
  return parseMac(['02', '00', ...(digits.match(/../g) ?? [])].join(':'));
}

function leftOut(kind: WarningKind, key: string, what: string): Verdict {
  return { otherBackend: false, warning: { kind, keys: [key], message: `${what}. The lease is left out.` } };
}

/** Most keys that a message spells out. */
const KEYS_NAMED = 5;

/** The warning about leases that have something in common that they should not have; none for fewer than two. */
export function contradiction(kind: WarningKind, keys: readonly string[], what: string): PeerWarning | undefined {
  const [first] = keys;
  if (first === undefined || keys.length < 2) return undefined;
  const more = keys.length > KEYS_NAMED ? ` and ${keys.length - KEYS_NAMED} more` : '';
  const outcome =
    kind === 'duplicate-public-ip'
      ? 'all are used; delete the one that its host has left'
      : `${first} counts, the others are left out; delete the wrong ones`;
  return { kind, keys, message: `leases ${keys.slice(0, KEYS_NAMED).join(', ')}${more} ${what}: ${outcome}` };
}
