/** A network with Backend.GBP: a kernel host marks its packets, and they arrive with the group policy header stripped. */
import assert from 'node:assert/strict';
import { join as path } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Capture, decode } from './lib/capture.ts';
import { NETWORK } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';
import { withoutKernelVxlan } from './lib/requirements.ts';

const skip = (await withoutEtcd()) || (await withoutKernelVxlan());
const PORT = 4789;
const MAC_B = '02:00:00:00:00:0b';
/** G and I flag, group 7, VNI 3 (draft-smith-vxlan-group-policy section 2.1). */
const MARKED = '8800000700000300';
const PLAIN = '0800000000000300';

describe('a network with Backend.GBP', { skip }, () => {
  let { bed, cluster, a, b, onA, daemonA: daemon } = {} as ClusterBed<'a', 'b'>;

  before(async () => {
    const config = { Network: NETWORK, Backend: { Type: 'vxlan', VNI: 3, Port: PORT, GBP: true } };
    ({ bed, cluster, a, b, onA, daemonA: daemon } = await clusterBed({ run: { a: [] }, bare: ['b'], config }));
    await cluster.addKernel(b, MAC_B, []);
    // As flanneld makes it with GBP.
    await b.ns.ip(`link del ${cluster.device}`);
    await b.ns.ip(
      `link add ${cluster.device} address ${MAC_B} type vxlan id 3 local ${b.ipv4} dev eth0 dstport ${PORT} nolearning gbp`,
      `addr add ${b.base}/32 dev ${cluster.device}`,
      `link set ${cluster.device} up`,
    );
    const peer = await cluster.peer(a);
    await b.ns.ip(
      `neigh replace ${peer.base} lladdr ${peer.mac} dev ${cluster.device} nud permanent`,
      `route replace ${peer.subnet} via ${peer.base} dev ${cluster.device} onlink`,
    );
    await b.ns.bridge(`fdb replace ${peer.mac} dev ${cluster.device} dst ${peer.vtep} self permanent`);
  });
  after(() => bed?.destroy());

  test('marked packets arrive, and the answers carry no mark', async () => {
    const file = path(bed.dir, 'gbp.pcap');
    const capture = await Capture.start(bed.underlay, 'to-b', file, `udp dst port ${PORT}`);
    await b.ns.exec(['ping', '-n', '-c', '3', '-i', '0.05', '-w', '5', '-m', '7', '-I', b.gateway, a.address]);
    await capture.stop();
    const packets = await decode(file, PORT, ['ip.src', 'udp.payload'], 'icmp');
    const headers = (from: string): Set<string | undefined> =>
      new Set(
        packets
          .filter((packet) => packet.get('ip.src')?.[0] === from)
          .map((packet) => packet.get('udp.payload')?.[0]?.replaceAll(':', '').slice(0, 16)),
      );
    assert.deepEqual([...headers(b.ipv4)], [MARKED], 'the kernel marks');
    assert.deepEqual([...headers(a.ipv4)], [PLAIN]);
    assert.equal((await onA.drops()).get('rx_reserved_bits') ?? 0, 0);
  });

  test('what it cannot do is said, in the log and in status', async () => {
    await daemon.waitFor(/Backend\.GBP: .*this host sends none/);
    const { controller } = await onA.status();
    assert.ok(controller.running);
    assert.match(controller.warnings.join(), /Backend\.GBP/);
  });
});
