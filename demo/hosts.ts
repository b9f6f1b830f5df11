/** The demo's two hosts, however they are joined: what the later steps need of them. */
import type { Bed, BedHost } from '../test/system/lib/bed.ts';
import { addFlannelDevice, addFlannelPeer, type FlannelPeer } from '../test/system/lib/kernel-vxlan.ts';
import { VtepdHost } from '../test/system/lib/vtepd.ts';
import { Shell, typed } from './screen.ts';

export const VNI = 1;
/** The IANA port: tcpdump knows it as VXLAN by itself. */
export const PORT = 4789;
export const DEVICE = `flannel.${VNI}`;
export const KERNEL_MAC = '02:00:00:00:00:0b';

export interface DemoHost {
  readonly name: string;
  readonly host: BedHost;
  readonly shell: Shell;
  /** Absent on a host with the kernel's device. */
  readonly vtepd?: VtepdHost;
}

export async function vtepdHost(host: BedHost): Promise<DemoHost & { vtepd: VtepdHost }> {
  const vtepd = await VtepdHost.on(host);
  const name = `host-${host.label}`;
  return { name, host, vtepd, shell: new Shell(name, host.ns, vtepd.env, { vtepd: vtepd.command }) };
}

export function plainHost(host: BedHost): DemoHost {
  const name = `host-${host.label}`;
  return { name, host, shell: new Shell(name, host.ns) };
}

/** The commands by which flanneld, or a person, sets up the kernel's device; shown and run. */
export async function kernelHost(host: BedHost, peer: FlannelPeer): Promise<DemoHost> {
  const demo = plainHost(host);
  const shape = { name: DEVICE, vni: VNI, port: PORT, mac: KERNEL_MAC, underlay: 4 } as const;
  const show = (line: string): void => typed(demo.name, ...line.split(' '));
  show(
    `ip link add ${DEVICE} address ${KERNEL_MAC} type vxlan id ${VNI} local ${host.ipv4} dev eth0 dstport ${PORT} nolearning`,
  );
  show(`ip addr add ${host.base}/32 dev ${DEVICE}`);
  show(`ip link set ${DEVICE} up`);
  await addFlannelDevice(host, shape);
  show(`ip neigh add ${peer.base} lladdr ${peer.mac} dev ${DEVICE} nud permanent`);
  show(`bridge fdb add ${peer.mac} dst ${peer.vtep} dev ${DEVICE}`);
  show(`ip route add ${peer.subnet} via ${peer.base} dev ${DEVICE} onlink`);
  await addFlannelPeer(host, DEVICE, peer);
  return demo;
}

/** A host as its peers see it, from the device that vtepd made. */
export async function asPeer({ host }: DemoHost): Promise<FlannelPeer> {
  const [link] = JSON.parse(await host.ns.exec(['ip', '-j', 'link', 'show', 'dev', DEVICE])) as { address: string }[];
  if (link === undefined) throw new Error(`host-${host.label} has no device ${DEVICE}`);
  return { subnet: host.subnet, base: host.base, mac: link.address, vtep: host.ipv4 };
}

export type Join = (bed: Bed, peer: 'vtepd' | 'kernel') => Promise<DemoHost[]>;
