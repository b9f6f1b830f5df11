/**
 * One family's part of a network: its device, if it has one, and its peers. A dual-stack network has two, `flannel.<VNI>`
 * over IPv4 and `flannel-v6.<VNI>` over IPv6, each with its own MAC, as flannel makes them.
 */
import type { NetworkSpec } from '../dataplane/protocol.ts';
import type { Backend, NetworkConfig } from '../flannel/config.ts';
import { HOST_GW, UDP } from '../flannel/lease.ts';
import type { Family, Ip } from '../net/ip.ts';
import { bitsOf } from '../net/ip.ts';
import type { Mac } from '../net/mac.ts';
import { type Prefix, prefixBase } from '../net/prefix.ts';
import type { PeerState } from '../reconcile/desired.ts';
import type { Content, Desired, FedSpec } from './desired-network.ts';

/** Inner Ethernet 14, outer IPv4 20 or IPv6 40, UDP 8, VXLAN 8. */
export const OVERHEAD: Readonly<Record<Family, number>> = { 4: 50, 6: 70 };
/** Outer IPv4 20, UDP 8: a layer-3 network has nothing between UDP and the inner packet. */
const OVERHEAD_UDP = 28;
/** As the kernel device. */
const AGEING = 300;

export interface Tunnel {
  readonly family: Family;
  readonly desired: Desired & { content: Content };
  readonly peers: PeerState;
}

/** What the underlay is to one family. */
export interface UnderlayPart {
  readonly name: string;
  readonly mtu: number;
  /** To bind and to send from. */
  readonly address: Ip;
}

/** What the settings say of a tunnel, beyond what flannel's network configuration does; fields of the dataplane's specification. */
export type TunnelOptions = Partial<
  Pick<NetworkSpec, (typeof TUNNEL_OPTIONS)[number] | 'udp6zerocsumrx' | 'ageing' | 'maxaddress'>
>;

/** Those that may change while packets flow, and that hold what the dataplane had where nothing is said. */
export const TUNNEL_OPTIONS = [
  'ttl',
  'tos',
  'df',
  'flowlabel',
  'srcport',
  'udpcsum',
  'udp6zerocsumtx',
  'reserved_bits',
  'gbp',
  'l2miss',
  'l3miss',
  'maxperpeer',
  'maxmoves',
] as const satisfies readonly (keyof NetworkSpec)[];

/** Of one family's outer header only. */
const ONLY: Readonly<Record<Family, readonly (keyof TunnelOptions)[]>> = {
  4: ['udpcsum'],
  6: ['flowlabel', 'udp6zerocsumtx', 'udp6zerocsumrx'],
};

/** Why options cannot be used with a network; `undefined` if they can. */
export function optionProblem(options: TunnelOptions, { backend, ipv6 }: NetworkConfig): string | undefined {
  const named = Object.keys(options);
  if (named.length === 0) return undefined;
  if (backend.type === HOST_GW || backend.type === UDP)
    return `options ${named.join(', ')}: the network is of type ${backend.type} and has no VXLAN tunnel; leave them out`;
  const lost = ipv6 === undefined ? ONLY[6].filter((name) => Object.hasOwn(options, name)) : [];
  if (lost.length === 0) return undefined;
  return `options ${lost.join(', ')}: they are about a tunnel over IPv6, and the network has none; leave them out`;
}

export function deviceName(family: Family, asked: string | undefined, { type, vni }: Backend): string {
  if (family === 6) return `flannel-v6.${vni}`;
  // flanneld asks the kernel for the first free flannel%d.
  return asked ?? (type === UDP ? 'flannel0' : `flannel.${vni}`);
}

export function tunnelSpec(
  { backend }: NetworkConfig,
  family: Family,
  underlay: UnderlayPart,
  given: { name: string; owner: string; netns: string | null; mac: Mac | null; options?: TunnelOptions },
): FedSpec {
  const layer3 = backend.type === UDP;
  const others = ONLY[family === 4 ? 6 : 4];
  const options = Object.entries(given.options ?? {}).filter(([name]) => !others.some((other) => other === name));
  return {
    name: given.name,
    vni: backend.vni,
    owner: given.owner,
    netns: given.netns,
    local: underlay.address,
    port: backend.port,
    dev: underlay.name,
    remote: null,
    mac: given.mac,
    mtu: layer3 ? underlay.mtu - OVERHEAD_UDP : (backend.mtu ?? underlay.mtu) - OVERHEAD[family],
    proxy: !layer3,
    learning: backend.learning,
    peersonly: true,
    ageing: AGEING,
    maxaddress: 0,
    ...Object.fromEntries(options),
    ...(layer3 ? { layer3 } : {}),
    ...(backend.gbp ? { gbp: true } : {}),
  };
}

/** The subnet's base, as flannel sets it on its device. */
export function deviceAddress(subnet: Prefix, family: Family): string {
  return `${prefixBase(subnet)}/${bitsOf(family)}`;
}

/** A layer-3 network answers senders from its own address, which is known with the lease. */
export function withTunnelAddress(spec: FedSpec, subnet: Prefix): FedSpec {
  return spec.layer3 === true ? { ...spec, tunnel_address: prefixBase(subnet) } : spec;
}

/**
 * FLANNEL_MTU. Containers have one MTU for both families, so the smaller of the two tunnels counts; flanneld writes the
 * IPv4 tunnel's, with which full-size IPv6 packets do not pass. Without a tunnel it is the underlay's.
 */
export function containerMtu(config: NetworkConfig, underlayMtu: number): number {
  if (config.backend.type === HOST_GW) return underlayMtu;
  if (config.backend.type === UDP) return underlayMtu - OVERHEAD_UDP;
  return (config.backend.mtu ?? underlayMtu) - OVERHEAD[config.ipv6 === undefined ? 4 : 6];
}
