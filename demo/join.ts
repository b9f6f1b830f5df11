/** The ways in which the demo joins its two hosts. */
import { readFile, writeFile } from 'node:fs/promises';
import type { Bed, BedHost } from '../test/system/lib/bed.ts';
import { Cluster, ENDPOINT, PREFIX } from '../test/system/lib/cluster.ts';
import { hostsFile, hostsFilePath } from '../test/system/lib/hosts-file.ts';
import { asPeer, DEVICE, type DemoHost, KERNEL_MAC, kernelHost, PORT, VNI, vtepdHost } from './hosts.ts';
import { output, step, typed } from './screen.ts';

/** From a file that all hosts read: no store, the embedded default. */
export async function byFile(bed: Bed, peer: 'vtepd' | 'kernel'): Promise<DemoHost[]> {
  const [a, b] = [bed.host('a'), bed.host('b')];
  const file = hostsFilePath(bed);
  await step('A file lists the hosts', async () => {
    await writeFile(file, hostsFile([a, peer === 'kernel' ? { ...b, mac: KERNEL_MAC } : b]));
    typed('any', 'cat', 'hosts.yaml');
    output(await readFile(file, 'utf8'));
  });
  const run = async (host: BedHost): Promise<DemoHost> => {
    const demo = await vtepdHost(host);
    typed(demo.name, 'vtepd', 'run', '--file', 'hosts.yaml', '--iface', 'eth0', '&');
    await demo.vtepd.isRunning(demo.vtepd.run('--file', file, '--iface', 'eth0'));
    return demo;
  };
  return start(run, a, b, peer);
}

/** From a real etcd with flannel's keys. */
export async function byEtcd(bed: Bed, peer: 'vtepd' | 'kernel'): Promise<DemoHost[]> {
  const [a, b] = [bed.host('a'), bed.host('b')];
  const cluster = await step('A real etcd on the underlay, with the network as flannel has it', async () => {
    const started = await Cluster.start(bed, { vni: VNI, port: PORT });
    typed('etcd', 'etcdctl', 'put', `${PREFIX}/config`, started.config);
    return started;
  });
  const run = async (host: BedHost): Promise<DemoHost> => {
    const demo = await vtepdHost(host);
    typed(demo.name, 'vtepd', 'run', '--etcd-endpoints', ENDPOINT, '--iface', 'eth0', '&');
    await cluster.addVtepd(host);
    return demo;
  };
  const hosts = await start(run, a, b, peer);
  await step("The hosts' leases in etcd, byte for byte flannel's", async () => {
    if (peer === 'kernel') await cluster.putLease(b, b.ipv4, KERNEL_MAC);
    typed('etcd', 'etcdctl', 'get', '--prefix', `${PREFIX}/subnets/`);
    output(await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets/`));
    typed('host-a', 'cat', '/run/flannel/subnet.env');
    const [first] = hosts;
    if (first?.vtepd !== undefined) output(await readFile(first.vtepd.subnetFile, 'utf8'));
  });
  return hosts;
}

/** Starts vtepd on the first host, and vtepd or the kernel's device on the second. */
async function start(
  run: (host: BedHost) => Promise<DemoHost>,
  a: BedHost,
  b: BedHost,
  peer: 'vtepd' | 'kernel',
): Promise<DemoHost[]> {
  if (peer === 'vtepd') return step('vtepd runs on both hosts', () => Promise.all([run(a), run(b)]));
  const first = await step('vtepd runs on the first host', () => run(a));
  const second = await step("The second host has the kernel's vxlan device, as flanneld sets it up", async () =>
    kernelHost(b, await asPeer(first)),
  );
  return [first, second];
}

/** Five commands a host: those of the kernel's device, two of them by vtepd's name. */
export async function byHand(bed: Bed, peer: 'vtepd' | 'kernel'): Promise<DemoHost[]> {
  const [a, b] = [bed.host('a'), bed.host('b')];
  const five = async (host: BedHost, mac: string, other: BedHost, otherMac: string): Promise<DemoHost> => {
    const demo = await vtepdHost(host);
    const add = `link add ${DEVICE} id ${VNI} local ${host.ipv4} dstport ${PORT} dev eth0 nolearning proxy address ${mac}`;
    await demo.shell.run('vtepd', ...add.split(' '));
    await demo.shell.run('vtepd', 'fdb', 'add', otherMac, 'dst', other.ipv4, 'dev', DEVICE);
    await demo.shell.run('vtepd', 'neigh', 'add', other.subnet, 'lladdr', otherMac, 'dev', DEVICE);
    await demo.shell.run('ip', 'addr', 'add', `${host.base}/32`, 'dev', DEVICE);
    await demo.shell.run('ip', 'route', 'add', other.subnet, 'via', other.base, 'dev', DEVICE, 'onlink');
    return demo;
  };
  const macA = '02:00:00:00:00:0a';
  const first = await step('Five commands on the first host', () => five(a, macA, b, KERNEL_MAC));
  const second =
    peer === 'vtepd'
      ? await step('The same five on the second, the other way round', () => five(b, KERNEL_MAC, a, macA))
      : await step("The kernel's own on the second", async () => kernelHost(b, await asPeer(first)));
  return [first, second];
}
