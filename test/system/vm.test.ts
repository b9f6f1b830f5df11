/**
 * The reason to exist: a kernel that truly has no vxlan module. Debian's cloud kernel in a virtual machine is a host on the
 * underlay; `vtepd run` in it joins, through etcd, a host with a kernel vxlan device.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost, HOST_B, setContainerMtu } from './lib/bed.ts';
import { Cluster } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { addFlannelPeer } from './lib/kernel-vxlan.ts';
import { withoutKernelVxlan, withoutVm } from './lib/requirements.ts';
import { checksumErrors, ping } from './lib/traffic.ts';
import { Vm } from './lib/vm.ts';
import { VmHost } from './lib/vm-host.ts';

const skip = (await withoutVm()) || (await withoutEtcd()) || (await withoutKernelVxlan());

describe('a virtual machine without the vxlan module', { skip }, () => {
  let bed: Bed;
  let cluster: Cluster;
  let b: BedHost;
  let vm: Vm;
  let guest: VmHost;

  before(async () => {
    bed = await Bed.create({ hosts: [HOST_B] });
    b = bed.host('b');
    [cluster, vm] = await Promise.all([Cluster.start(bed), Vm.boot(bed, '10.245.1.3')]);
    await setContainerMtu([b], 1450);
  });
  after(() => bed?.destroy());

  test('its kernel cannot make a vxlan device, and there is no module to load', async () => {
    const refused = await vm.tryExec('ip link add vx0 type vxlan id 1 dstport 4789');
    assert.notEqual(refused.status, 0);
    assert.match(refused.stderr, /Operation not supported/);
    assert.equal((await vm.tryExec('modprobe vxlan || insmod /lib/modules/vxlan.ko')).status !== 0, true);
  });

  test('vtepd run joins through etcd a host with a kernel vxlan device', async () => {
    // The other host's lease is there first: the guest takes one of the subnets that are left.
    await cluster.addKernel(b, '02:00:00:00:00:0b', []);
    guest = await VmHost.join(vm, cluster);
    assert.match(guest.subnet, /^10\.246\.\d+\.0\/24$/);
    await addFlannelPeer(b, cluster.device, guest.peer);
    await guest.knows(b);
  });

  test('ping both ways', async () => {
    const out = await vm.exec(`ping -c 3 -I ${guest.address} ${b.address}`);
    assert.match(out, /3 packets transmitted, 3 packets received/);
    const back = await ping(b.container, guest.address, { interval: 0.2 });
    assert.equal(back.received, back.sent, back.text);
  });

  test('1,000,000 bytes over TCP each way, called from either side', async () => {
    for (const caller of ['guest', 'container'] as const) {
      const { call, serve } = await guest.tcpBothWays(b, caller, 1_000_000);
      assert.equal(call.sent.bytes, 1_000_000);
      assert.deepEqual([serve.received, call.received], [call.sent, serve.sent], `called from the ${caller}`);
    }
    assert.deepEqual(await checksumErrors(b.ns, b.container), {});
    assert.match(await vm.exec("sed -n 's/^Tcp: //p' /proc/net/snmp | awk 'NR==2 { print $15 }'"), /^0\n$/);
  });
});
