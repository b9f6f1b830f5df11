/**
 * flannel's `udp` backend: bare IPv4 packets in UDP between a TUN and its peers, here host a and c with vtepd and host b with a
 * program that has the semantics of flannel's own proxy.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join as path } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost, HOST_A, HOST_B, HOST_C, setContainerMtu } from './lib/bed.ts';
import { Capture, decode } from './lib/capture.ts';
import { assertNoChecksumErrors, assertPing, assertTcp, assertUdp } from './lib/checks.ts';
import { Cluster, leaseKey, leaseValue, NETWORK, PREFIX } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { type Background, eventually } from './lib/exec.ts';
import { FlannelProxy } from './lib/flannel-proxy.ts';
import { ping, udpFlows } from './lib/traffic.ts';
import type { VtepdHost } from './lib/vtepd.ts';

const PORT = 8285;
const MTU = 1472;
const DEVICE = 'flannel0';
/** In the network, and nobody's. */
const NOWHERE = '10.246.99.5';
/** tshark's `*.checksum.status`: 0 bad, 1 good. */
const GOOD = '1';

describe('the udp backend', { skip: await withoutEtcd() }, () => {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let c: BedHost;
  let cluster: Cluster;
  let onA: VtepdHost;
  let onC: VtepdHost;
  let daemonA: Background;

  before(async () => {
    bed = await Bed.create({ hosts: [HOST_A, HOST_B, HOST_C], mode: 'wire' });
    [a, b, c] = [bed.host('a'), bed.host('b'), bed.host('c')];
    cluster = await Cluster.start(bed);
    await cluster.etcdctl('put', `${PREFIX}/config`, JSON.stringify({ Network: NETWORK, Backend: { Type: 'udp' } }));
    // flanneld with this backend names no type in its lease.
    await cluster.etcdctl('put', leaseKey(b), `{"PublicIP":"${b.ipv4}","PublicIPv6":null}`);
    const joined = await Promise.all([cluster.addVtepd(a), cluster.addVtepd(c), FlannelProxy.start(bed, b, [a, c])]);
    [{ vtepd: onA, daemon: daemonA }, { vtepd: onC }] = joined;
    await setContainerMtu(bed.hosts, MTU);
  });
  after(() => bed?.destroy());

  const dropped = async (on: VtepdHost, reason: string): Promise<number> => (await on.drops()).get(reason) ?? 0;

  test('lease, device, address, the one route and subnet.env are those of flannel', async () => {
    assert.equal(await cluster.lease(a), `{"PublicIP":"${a.ipv4}","PublicIPv6":null,"BackendType":"udp"}`);
    assert.match(await a.ns.exec(['ip', '-d', 'link', 'show', DEVICE]), /mtu 1472 .*link\/none.* tun type tun /s);
    assert.match(await a.ns.exec(['ip', '-4', '-o', 'addr', 'show', DEVICE]), /inet 10\.246\.30\.0\/32 /);
    const routes = await a.ns.exec(['ip', 'route', 'show', 'dev', DEVICE]);
    assert.deepEqual(routes.trim().split('\n'), ['10.246.0.0/16 proto 86 scope link']);
    assert.match(await readFile(onA.subnetFile, 'utf8'), /^FLANNEL_SUBNET=10\.246\.30\.1\/24\nFLANNEL_MTU=1472$/m);
    const { controller } = await onA.status();
    assert.ok(controller.running && controller.network !== null);
    const { name, backend, port, vni, mtu } = controller.network;
    assert.deepEqual([name, backend, port, vni, mtu, controller.peers], [DEVICE, 'udp', PORT, null, MTU, 2]);
    assert.match(
      await onA.cli('link', 'show'),
      /link\/none\n {4}udp tunnel-address 10\.246\.30\.0 local 10\.245\.1\.3 /,
    );
    assert.match(await onA.cli('status'), /flannel0 layer 3 port 8285, local 10\.245\.1\.3, mtu 1472, up/);
  });

  test('containers reach each other through the proxy and through vtepd: ping, TCP, UDP with fragments', async () => {
    for (const [from, to] of [
      [a, b],
      [b, a],
      [a, c],
    ] as const) {
      await assertPing(from, to);
      await assertTcp(from, to, 2_000_000);
      await assertUdp(from, to, MTU);
    }
    await assertNoChecksumErrors(a, b, c);
    const { peers } = await onA.stats();
    for (const { ip, rx, tx } of peers) assert.ok(rx.bytes > 2_000_000 && tx.bytes > 2_000_000, `${ip}`);
    assert.deepEqual([...(await onA.drops())], []);
    const [network] = (await onA.stats()).networks;
    const reads = (await onA.stats()).lanes.reduce((sum, lane) => sum + lane.tap_reads, 0);
    assert.ok((network?.tx.packets ?? 0) > reads, 'superpackets of the TUN leave as several datagrams');
  });

  test('on the wire: a packet a datagram, port 8285 on both sides, TTL one less, every checksum right', async () => {
    const file = path(bed.dir, 'wire.pcap');
    const capture = await Capture.start(bed.underlay, 'to-a', file, `src host ${a.ipv4} and udp`);
    await assertTcp(a, b, 300_000);
    await capture.stop();
    const checksums = ['ip.checksum.status', 'udp.checksum.status', 'tcp.checksum.status'];
    const fields = ['ip.src', 'ip.ttl', 'ip.flags.df', 'ip.len', 'ip.id', 'udp.srcport', 'udp.dstport', 'udp.length'];
    const packets = await decode(file, PORT, [...fields, ...checksums], 'tcp.len > 0', 'ip');
    assert.ok(packets.length >= Math.ceil(300_000 / MTU), `${packets.length} segments`);
    for (const packet of packets) {
      const get = (field: string): string[] => packet.get(field) ?? [];
      assert.deepEqual(get('ip.src'), [a.ipv4, a.address]);
      assert.deepEqual([get('udp.srcport'), get('udp.dstport')], [['8285'], ['8285']]);
      // 64 of the container, less one by host a's routing and one by the tunnel.
      assert.equal(get('ip.ttl')[1], '62');
      assert.match(get('ip.flags.df')[0] ?? '', /^(0|False)$/);
      assert.equal(Number(get('ip.len')[1]) + 8, Number(get('udp.length')[0]), 'nothing but the packet');
      for (const field of checksums)
        assert.ok(
          get(field).every((status) => status === GOOD),
          `${field} ${get(field).join(' ')}`,
        );
    }
    const full = packets.filter((packet) => packet.get('ip.len')?.[1] === String(MTU));
    assert.ok(full.length > packets.length / 2, 'segments are full');
    const ids = packets.map((packet) => packet.get('ip.id')?.[1]);
    assert.ok(new Set(ids).size > packets.length / 2, 'each segment has an id of its own');
  });

  test('with every offload off it still works; lanes come and go', async () => {
    const offloads = ['tap_tso', 'tap_uso', 'udp_segment', 'udp_gro'];
    for (const offload of offloads) await onA.cli('offloads', 'set', offload, 'off');
    await assertTcp(a, c, 500_000);
    for (const offload of offloads) await onA.cli('offloads', 'set', offload, 'on');
    for (const lanes of ['3', '1', '2']) {
      await onA.cli('lanes', 'set', lanes);
      await assertTcp(a, c, 500_000);
    }
    await assertNoChecksumErrors(a, c);
  });

  test('a TTL that is used up is answered: by us, by the vtepd at the other end, and never by the proxy', async () => {
    const hops = async (to: BedHost, ttl: number): Promise<string> =>
      (await a.container.tryExec(['ping', '-n', '-c', '2', '-i', '0.2', '-W', '1', '-t', String(ttl), to.address]))
        .stdout;
    // One is taken by host a's routing, one by each end of the tunnel, one by the other host's routing.
    assert.match(await hops(c, 2), /From 10\.246\.30\.0 .*Time to live exceeded/);
    assert.match(await hops(c, 3), /From 10\.246\.81\.0 .*Time to live exceeded/);
    assert.match(await hops(c, 4), /From 10\.246\.81\.0 .*Time to live exceeded/, "the kernel's, by its address");
    assert.match(await hops(c, 5), /ttl=60/);
    assert.doesNotMatch(await hops(b, 3), /From/);
    assert.match(await hops(b, 5), /ttl=60/);
    assert.equal(await dropped(onA, 'tx_ttl_expired'), 2);
    assert.equal(await dropped(onC, 'rx_ttl_expired'), 2);
  });

  test('a destination in no subnet is net unreachable, said to the sender alone, not about ICMP, not too often', async () => {
    const file = path(bed.dir, 'unreachable.pcap');
    const before = await dropped(onA, 'tx_no_subnet');
    const capture = await Capture.start(a.container, 'eth0', file, 'icmp');
    await a.container.exec(['bash', '-c', `echo hello >/dev/udp/${NOWHERE}/9`]);
    const silent = await ping(a.container, NOWHERE, { count: 2 });
    assert.doesNotMatch(silent.output, /From/);
    await capture.stop();
    const fields = [
      'ip.src',
      'ip.dst',
      'ip.ttl',
      'icmp.type',
      'icmp.code',
      'ip.checksum.status',
      'icmp.checksum.status',
      'udp.dstport',
    ];
    const [answer, ...more] = await decode(file, PORT, fields, 'icmp.type == 3', 'ip');
    assert.deepEqual(more, []);
    assert.deepEqual(answer?.get('ip.src'), ['10.246.30.0', a.address]);
    assert.deepEqual(answer?.get('ip.dst'), [a.address, NOWHERE]);
    assert.deepEqual(answer?.get('ip.ttl'), ['64', '63'], 'the packet is quoted as it came to the tunnel');
    assert.deepEqual([answer?.get('icmp.type'), answer?.get('icmp.code')], [['3'], ['0']]);
    assert.deepEqual(answer?.get('udp.dstport'), ['9']);
    assert.equal(answer?.get('ip.checksum.status')?.[0], GOOD);
    assert.equal(answer?.get('icmp.checksum.status')?.[0], GOOD);

    const [told, began] = [(await onA.stats()).networks[0]?.refusals ?? 0, performance.now()];
    await udpFlows(a.container, NOWHERE, 4, 500);
    await eventually('all are dropped', async () => (await dropped(onA, 'tx_no_subnet')) >= before + 2_000);
    const seconds = (performance.now() - began) / 1_000;
    const answers = ((await onA.stats()).networks[0]?.refusals ?? 0) - told;
    // 100 a second and lane.
    assert.ok(answers > 0 && answers <= 200 * (seconds + 2), `${answers} answers in ${seconds} s`);
  });

  test('datagrams that are nonsense, or from nobody we know, are dropped, each with its reason', async () => {
    const send = (from: BedHost | Bed, hex: string): Promise<string> => {
      const ns = from instanceof Bed ? from.underlay : from.ns;
      const bytes = (hex.match(/../g) ?? []).map((byte) => `\\x${byte}`).join('');
      return ns.exec(['bash', '-c', `printf '${bytes}' >/dev/udp/${a.ipv4}/${PORT}`]);
    };
    const header = (length: string, ttl = '40') => `4500${length}00000000${ttl}1100000b0c0d0e0b0c0d0f`;
    const cases: readonly (readonly [string, string])[] = [
      ['rx_short', '45'],
      ['rx_short', header('0014').slice(0, 38)],
      ['rx_not_ipv4', `60${'00'.repeat(50)}`],
      ['rx_not_ipv4', `0800000000000100${'02'.repeat(40)}`],
      ['rx_not_ipv4', header('0013')],
      ['rx_inner_truncated', header('0400')],
      ['rx_ttl_expired', `${header('001c', '01')}${'00'.repeat(8)}`],
    ];
    for (const [reason, hex] of cases) {
      const before = await dropped(onA, reason);
      await send(b, hex);
      await eventually(`${reason} is counted`, async () => (await dropped(onA, reason)) > before);
    }
    await send(bed, `${header('001c')}${'00'.repeat(8)}`);
    await eventually('a stranger is told apart', async () => (await dropped(onA, 'rx_not_peer')) === 1);
    await assertPing(a, b);
  });

  test('peers come, change and go with their leases; hosts of another backend are ignored', async () => {
    await cluster.deleteLease(b);
    await eventually('the peer is gone', async () => (await onA.fdb(DEVICE)).length === 1);
    const gone = await ping(a.container, b.address, { count: 2 });
    assert.equal(gone.received, 0);
    await cluster.etcdctl('put', leaseKey(b), leaseValue(b.ipv4, 3, '02:00:00:00:00:0b'));
    await eventually('it is named', async () => {
      const { controller } = await onA.status();
      return controller.running && /another backend than udp are ignored: 1/.test(controller.warnings.join());
    });
    assert.equal((await onA.fdb(DEVICE)).length, 1);
    await cluster.etcdctl('put', leaseKey(b), `{"PublicIP":"${b.ipv4}","PublicIPv6":null,"BackendType":"udp"}`);
    await eventually('it is back', async () => (await onA.fdb(DEVICE)).length === 2);
    await assertPing(a, b);
  });

  test('a restarted controller finds everything as it should be; cleanup leaves nothing', async () => {
    const index = async (): Promise<string | undefined> =>
      (await a.ns.exec(['ip', '-o', 'link', 'show', DEVICE])).split(':')[0];
    const before = await index();
    await daemonA.stop();
    await assertPing(a, c);
    const again = onA.run('--etcd-endpoints', 'http://10.245.1.1:2379', '--iface', 'eth0');
    await onA.isRunning(again);
    assert.doesNotMatch(again.output, /made anew|differs from what it should be|put right/);
    assert.equal(await index(), before);
    await assertTcp(a, c, 100_000);
    await again.stop();
    assert.match(await onA.cli('cleanup'), /removed network flannel0/);
    assert.doesNotMatch(await a.ns.exec(['ip', 'link']), /flannel0/);
  });
});
