/** The kernel's own vxlan device as the other side: in flannel's shape (routed) and in plain shape (bridged). */
import type { BedHost } from './bed.ts';

export interface FlannelShape {
  readonly name: string;
  readonly vni: number;
  readonly port: number;
  readonly mac: string;
  readonly underlay: 4 | 6;
}

/** A peer as flannel programs it. */
export interface FlannelPeer {
  readonly subnet: string;
  readonly base: string;
  readonly mac: string;
  readonly vtep: string;
}

export function vtepOf(host: BedHost, family: 4 | 6): string {
  return family === 4 ? host.ipv4 : host.ipv6;
}

/** Device, /32 address, up: what flanneld does before it knows any peer. */
export async function addFlannelDevice(host: BedHost, shape: FlannelShape): Promise<void> {
  const { name, vni, port, mac, underlay } = shape;
  await host.ns.ip(
    `link add name ${name} address ${mac} type vxlan id ${vni} local ${vtepOf(host, underlay)} dev eth0 dstport ${port} nolearning`,
    `addr add ${host.base}/32 dev ${name}`,
    `link set ${name} up`,
  );
}

/** Neighbour, FDB entry, route, in flannel's order. */
export async function addFlannelPeer(host: BedHost, name: string, peer: FlannelPeer): Promise<void> {
  await host.ns.ip(`neigh replace ${peer.base} lladdr ${peer.mac} dev ${name} nud permanent`);
  await host.ns.bridge(`fdb replace ${peer.mac} dev ${name} dst ${peer.vtep} self permanent`);
  await host.ns.ip(`route replace ${peer.subnet} via ${peer.base} dev ${name} onlink`);
}

/** `ip link add NAME type vxlan id N local A remote B dstport P`, as by hand, up. */
export async function addPlainDevice(
  host: BedHost,
  shape: { name: string; vni: number; port: number; local: string; remote: string; mac?: string },
): Promise<void> {
  const { name, vni, port, local, remote, mac } = shape;
  const address = mac === undefined ? '' : ` address ${mac}`;
  await host.ns.ip(
    `link add name ${name}${address} type vxlan id ${vni} local ${local} remote ${remote} dstport ${port} dev eth0`,
    `link set ${name} up`,
  );
}
