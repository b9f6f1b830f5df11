/** The demo's virtual machine: a kernel that truly has no vxlan module joins a host with the kernel's device. */
import { Bed, HOST_B, setContainerMtu } from '../test/system/lib/bed.ts';
import { Cluster, ENDPOINT, PREFIX } from '../test/system/lib/cluster.ts';
import { CommandError } from '../test/system/lib/exec.ts';
import { Vm } from '../test/system/lib/vm.ts';
import { VmHost } from '../test/system/lib/vm-host.ts';
import { type DemoHost, KERNEL_MAC, kernelHost, PORT, VNI } from './hosts.ts';
import { output, step, typed } from './screen.ts';
import { compare, showInside } from './show.ts';

const ADDRESS = '10.245.1.3';
const FILE_BYTES = 1_000_000;

export async function createVmBed(): Promise<Bed> {
  return step('An underlay, a second host with a bridge and a container', () =>
    Bed.create({ mode: 'wire', hosts: [HOST_B] }),
  );
}

export async function vmDemo(bed: Bed): Promise<DemoHost[]> {
  const b = bed.host('b');
  const vm = await step(
    "Debian's cloud kernel boots in a virtual machine, without vxlan.ko (software emulation: be patient)",
    async () => {
      const booted = await Vm.boot(bed, ADDRESS);
      await inGuest(booted, 'uname -r');
      return booted;
    },
  );
  await step('Its kernel cannot make a vxlan device', async () => {
    const script = 'ip link add vx0 type vxlan id 1 dstport 4789';
    typed('vm', ...script.split(' '));
    const { status, stderr } = await vm.tryExec(script);
    output(stderr);
    if (status === 0) throw new Error('it can: this is not the host that the demo is about');
  });
  const cluster = await step('A real etcd on the underlay, with the network as flannel has it', async () => {
    const started = await Cluster.start(bed, { vni: VNI, port: PORT });
    typed('etcd', 'etcdctl', 'put', `${PREFIX}/config`, started.config);
    return started;
  });
  await step('The second host has a lease, as flanneld would have put it', async () => {
    await cluster.putLease(b, b.ipv4, KERNEL_MAC);
    typed('etcd', 'etcdctl', 'get', '--prefix', `${PREFIX}/subnets/`);
    output(await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets/`));
  });
  const guest = await step('vtepd runs in the virtual machine', async () => {
    typed('vm', 'vtepd', 'run', '--etcd-endpoints', ENDPOINT, '--iface', 'eth0', '&');
    const joined = await VmHost.join(vm, cluster);
    await inGuest(vm, 'cat /run/flannel/subnet.env');
    return joined;
  });
  const second = await step("The second host has the kernel's vxlan device", async () => {
    const host = await kernelHost(b, guest.peer);
    await setContainerMtu([b], 1450);
    await guest.knows(b);
    return host;
  });
  await step('Virtual machine to container: ping', () => inGuest(vm, `ping -c 3 -I ${guest.address} ${b.address}`));
  await step(`A file of ${FILE_BYTES / 1e6} MB over TCP, and one back`, async () => {
    const { call, serve } = await guest.tcpBothWays(b, 'guest', FILE_BYTES);
    compare('vm -> container-b', call, serve);
    compare('container-b -> vm', serve, call);
  });
  await step('What vtepd holds in the virtual machine', async () => {
    for (const words of ['status', 'fdb show', 'neigh show', 'peers', 'drops']) await inGuest(vm, `vtepd ${words}`);
  });
  await showInside([second]);
  return [second];
}

/** Shows a command of the virtual machine and what it prints. */
async function inGuest(vm: Vm, script: string): Promise<void> {
  typed('vm', ...script.split(' '));
  const result = await vm.tryExec(script);
  if (result.status !== 0) throw new CommandError(script.split(' '), result);
  output(result.stdout);
}
