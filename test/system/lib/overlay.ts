/**
 * A routed overlay in flannel's shape between the hosts of a bed, each end either vtepd by hand or the kernel's own
 * device: a /32 address on the device and, for every other host, a neighbour, an FDB entry and a route.
 */
import type { Bed, BedHost } from './bed.ts';
import { setContainerMtu } from './bed.ts';
import { addFlannelDevice, addFlannelPeer, type FlannelPeer, type FlannelShape, vtepOf } from './kernel-vxlan.ts';
import { VtepdHost } from './vtepd.ts';

export type EndKind = 'vtepd' | 'kernel';

/** The other end, where a test is about one: scripts/nightly.sh runs those with both. */
export const PEER: EndKind = process.env.VTEPD_TEST_PEER === 'kernel' ? 'kernel' : 'vtepd';

export interface End {
  readonly host: BedHost;
  readonly mac: string;
  readonly vtepd?: VtepdHost;
}

export interface OverlayOptions {
  readonly underlay: 4 | 6;
  readonly name?: string;
  readonly vni?: number;
  readonly port?: number;
}

/** MAC of a host's end: 02:00:00:00:00:0a for host a. */
export function macOf(host: BedHost): string {
  return `02:00:00:00:00:0${host.label}`;
}

/** Joins the hosts of the bed, one kind for each in order, and sets the containers' MTU to what the device carries. */
export async function join(bed: Bed, kinds: readonly EndKind[], options: OverlayOptions): Promise<End[]> {
  const { underlay, name = 'flannel.1', vni = 1, port = 8472 } = options;
  const ends: End[] = [];
  for (const [at, host] of bed.hosts.entries()) {
    const shape: FlannelShape = { name, vni, port, mac: macOf(host), underlay };
    if (kinds[at] === 'kernel') {
      await addFlannelDevice(host, shape);
      ends.push({ host, mac: shape.mac });
    } else {
      ends.push({ host, mac: shape.mac, vtepd: await addByHand(host, shape) });
    }
  }
  for (const end of ends) {
    for (const other of ends) {
      if (other !== end) await addPeer(end, name, peerOf(other, underlay));
    }
  }
  await setContainerMtu(bed.hosts, underlay === 4 ? 1450 : 1430);
  return ends;
}

export function peerOf(end: End, underlay: 4 | 6): FlannelPeer {
  const { host, mac } = end;
  return { subnet: host.subnet, base: host.base, mac, vtep: vtepOf(host, underlay) };
}

async function addByHand(host: BedHost, shape: FlannelShape): Promise<VtepdHost> {
  const { name, vni, port, mac, underlay } = shape;
  const vtepd = await VtepdHost.on(host);
  const local = vtepOf(host, underlay);
  const add = ['link', 'add', name, 'id', String(vni), 'local', local, 'dstport', String(port), 'dev', 'eth0'];
  await vtepd.cli(...add, 'address', mac, 'nolearning', 'proxy');
  await host.ns.ip(`addr add ${host.base}/32 dev ${name}`);
  return vtepd;
}

async function addPeer(end: End, name: string, peer: FlannelPeer): Promise<void> {
  if (end.vtepd === undefined) return addFlannelPeer(end.host, name, peer);
  await end.vtepd.cli('fdb', 'add', peer.mac, 'dst', peer.vtep, 'dev', name);
  await end.vtepd.cli('neigh', 'add', peer.subnet, 'lladdr', peer.mac, 'dev', name);
  await end.host.ns.ip(`route add ${peer.subnet} via ${peer.base} dev ${name} onlink`);
}
