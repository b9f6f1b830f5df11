/**
 * One family's part of a network: its device, if it has one, and its peers. A dual-stack network has two, `flannel.<VNI>`
 * over IPv4 and `flannel-v6.<VNI>` over IPv6, each with its own MAC, as flannel makes them.
 */
import type { NetworkConfig } from '../flannel/config.ts';
import type { Family, Ip } from '../net/ip.ts';
import { bitsOf } from '../net/ip.ts';
import type { Mac } from '../net/mac.ts';
import { type Prefix, prefixBase } from '../net/prefix.ts';
import type { PeerState } from '../reconcile/desired.ts';
import type { FedSpec } from './network.ts';
import type { Content, Desired } from './plane.ts';

/** Inner Ethernet 14, outer IPv4 20 or IPv6 40, UDP 8, VXLAN 8. */
export const OVERHEAD: Readonly<Record<Family, number>> = { 4: 50, 6: 70 };
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

export function deviceName(family: Family, asked: string | undefined, vni: number): string {
  if (family === 6) return `flannel-v6.${vni}`;
  return asked ?? `flannel.${vni}`;
}

export function tunnelSpec(
  { backend }: NetworkConfig,
  family: Family,
  underlay: UnderlayPart,
  given: { name: string; owner: string; netns: string | null; mac: Mac },
): FedSpec {
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
    mtu: (backend.mtu ?? underlay.mtu) - OVERHEAD[family],
    proxy: true,
    learning: backend.learning,
    peersonly: true,
    ageing: AGEING,
    maxaddress: 0,
    ...(backend.gbp ? { gbp: true } : {}),
  };
}

/** The subnet's base, as flannel sets it on its device. */
export function deviceAddress(subnet: Prefix, family: Family): string {
  return `${prefixBase(subnet)}/${bitsOf(family)}`;
}

/**
 * FLANNEL_MTU. Containers have one MTU for both families, so the smaller of the two tunnels counts; flanneld writes the
 * IPv4 tunnel's, with which full-size IPv6 packets do not pass. Without a tunnel it is the underlay's.
 */
export function containerMtu(config: NetworkConfig, underlayMtu: number): number {
  if (config.backend.type === 'host-gw') return underlayMtu;
  return (config.backend.mtu ?? underlayMtu) - OVERHEAD[config.ipv6 === undefined ? 4 : 6];
}
