/** Options of a network whose effect only the wire shows: rsc, via, df, noudpcsum, gbp; and that each segment of a superframe has it. */
import assert from 'node:assert/strict';
import { join as path } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Capture, decode } from './lib/capture.ts';
import { type HostsBed, hostsBed } from './lib/fixtures.ts';
import { macOf } from './lib/overlay.ts';
import { withoutKernelVxlan } from './lib/requirements.ts';
import { ping, tcpBothWays } from './lib/traffic.ts';

const PORT = 4789;
const noKernel = await withoutKernelVxlan();

/** The different values of a field, outermost occurrence or, with 1, the next. */
function valuesOf(packets: readonly Map<string, string[]>[], field: string, depth = 0): string[] {
  return [...new Set(packets.map((packet) => packet.get(field)?.[depth] ?? 'none'))];
}

describe('options on the wire', () => {
  let { bed, a, b, onA, onB } = {} as HostsBed;

  before(async () => {
    ({ bed, a, b, onA, onB } = await hostsBed(['a', 'b'], 'wire'));
  });
  after(() => bed?.destroy());

  /** A network between both hosts: 10.9.ID.1 and .2, each with a neighbour for the other. */
  async function join(id: number, ...options: string[]): Promise<{ dev: string; far: string }> {
    const dev = `vx${id}`;
    for (const [on, host, other, last] of [
      [onA, a, b, 1],
      [onB, b, a, 2],
    ] as const) {
      const words = `link add ${dev} type vxlan id ${id} local ${host.ipv4} dev eth0 dstport ${PORT} address ${macOf(host)}`;
      await on.cli(...words.split(' '), ...options);
      await on.cli('fdb', 'add', macOf(other), 'dst', other.ipv4, 'dev', dev);
      const near = `neigh replace 10.9.${id}.${3 - last} lladdr ${macOf(other)} dev ${dev} nud permanent`;
      await host.ns.ip(`addr add 10.9.${id}.${last}/24 dev ${dev}`, near);
    }
    return { dev, far: `10.9.${id}.2` };
  }

  /** What an act of host a's makes pass a port of the underlay, without what is not in the filter. */
  async function seen(
    name: string,
    act: () => Promise<unknown>,
    fields: readonly string[],
    filter = 'icmp.type == 8',
    port = 'to-a',
  ): Promise<Map<string, string[]>[]> {
    const file = path(bed.dir, `${name}.pcap`);
    const capture = await Capture.start(bed.underlay, port, file, `src host ${a.ipv4} and udp dst port ${PORT}`);
    await act();
    await capture.stop();
    return decode(file, PORT, fields, filter);
  }

  async function assertAnswered(to: string): Promise<void> {
    const result = await ping(a.ns, to);
    assert.equal(result.received, result.sent, result.text);
  }

  test('rsc: what is for a router goes straight to the neighbour, from the router, with its TTL', async () => {
    const { dev } = await join(1, 'rsc');
    const router = '02:00:00:00:00:fe';
    const far = '10.50.0.2';
    await onA.cli('fdb', 'add', router, 'dst', '10.245.1.99', 'router', 'dev', dev);
    await b.ns.ip(`addr add ${far}/32 dev ${dev}`);
    await a.ns.ip(
      `neigh replace 10.9.1.254 lladdr ${router} dev ${dev} nud permanent`,
      `route add ${far}/32 via 10.9.1.254 src 10.9.1.1`,
    );
    const fields = ['ip.dst', 'eth.dst', 'eth.src', 'ip.ttl'];
    const before = await seen('rsc-none', () => ping(a.ns, far, { count: 1 }), fields);
    assert.deepEqual(valuesOf(before, 'eth.dst', 1), [], 'nobody answers for 10.245.1.99: nothing leaves');
    await onA.cli('neigh', 'add', far, 'lladdr', macOf(b), 'dev', dev);
    const packets = await seen('rsc', () => assertAnswered(far), fields);
    assert.deepEqual(valuesOf(packets, 'ip.dst'), [b.ipv4]);
    assert.deepEqual([valuesOf(packets, 'eth.dst', 1), valuesOf(packets, 'eth.src', 1)], [[macOf(b)], [router]]);
    assert.deepEqual(valuesOf(packets, 'ip.ttl', 1), ['64']);
  });

  test('via: one destination leaves by another interface', async () => {
    const { dev, far } = await join(2);
    await bed.underlay.ip(
      `link add name too-a type veth peer name eth1 netns ${a.ns.name}`,
      'link set too-a master ul0 up',
    );
    await a.ns.ip('link set eth1 up');
    const usual = await seen('via-none', () => assertAnswered(far), ['ip.dst'], 'icmp.type == 8', 'too-a');
    assert.equal(usual.length, 0);
    await onA.cli('fdb', 'replace', macOf(b), 'dst', b.ipv4, 'via', 'eth1', 'dev', dev);
    const packets = await seen('via', () => assertAnswered(far), ['ip.dst'], 'icmp.type == 8', 'too-a');
    assert.deepEqual(valuesOf(packets, 'ip.dst'), [b.ipv4]);
    await a.ns.ip('link del eth1');
    // It may have got an answer from there.
    await b.ns.ip('neigh flush dev eth0');
  });

  test('df inherit and noudpcsum: DF is the inner one, the checksum is left out, the peer takes it', async () => {
    const { far } = await join(3, 'df', 'inherit', 'noudpcsum');
    for (const [how, df] of [
      ['do', /^(1|True)$/],
      ['dont', /^(0|False)$/],
    ] as const) {
      const act = (): Promise<string> => a.ns.exec(['ping', '-n', '-c', '3', '-i', '0.02', '-W', '5', '-M', how, far]);
      const packets = await seen(`df-${how}`, act, ['ip.flags.df', 'udp.checksum']);
      assert.equal(packets.length, 3);
      assert.match(valuesOf(packets, 'ip.flags.df').join(), df);
      assert.deepEqual(valuesOf(packets, 'udp.checksum').map(Number), [0]);
    }
  });

  test("gbp: a kernel peer's group policy is taken and stripped, none is sent; without gbp it is dropped by name", {
    skip: noKernel,
  }, async () => {
    await onB.cli('link', 'del', 'vx3');
    await b.ns.ip(
      `link add vx4 address ${macOf(b)} type vxlan id 4 local ${b.ipv4} dev eth0 dstport 4790 gbp`,
      'link set vx4 up',
      'addr add 10.9.4.2/24 dev vx4',
      `neigh replace 10.9.4.1 lladdr ${macOf(a)} dev vx4 nud permanent`,
    );
    await b.ns.bridge(`fdb append ${macOf(a)} dev vx4 dst ${a.ipv4}`);
    const words = `link add vx4 type vxlan id 4 local ${a.ipv4} dev eth0 dstport 4790 address ${macOf(a)}`;
    await onA.cli(...words.split(' '));
    await onA.cli('fdb', 'add', macOf(b), 'dst', b.ipv4, 'dev', 'vx4');
    await a.ns.ip('addr add 10.9.4.1/24 dev vx4', `neigh replace 10.9.4.2 lladdr ${macOf(b)} dev vx4 nud permanent`);
    const marked = (): Promise<unknown> =>
      b.ns.tryExec(['ping', '-n', '-c', '2', '-i', '0.1', '-W', '1', '-m', '291', '10.9.4.1']);
    const dropped = async (): Promise<number> => (await onA.drops()).get('rx_reserved_bits') ?? 0;
    const before = await dropped();
    await marked();
    assert.ok((await dropped()) >= before + 2);
    await onA.cli('link', 'set', 'vx4', 'type', 'vxlan', 'gbp');
    const file = path(bed.dir, 'gbp.pcap');
    const capture = await Capture.start(bed.underlay, 'to-a', file, 'udp dst port 4790');
    await marked();
    await capture.stop();
    const header = (packets: Map<string, string[]>[]): string[] => [
      ...new Set(packets.map((packet) => packet.get('udp.payload')?.[0]?.replaceAll(':', '').slice(0, 8) ?? '')),
    ];
    assert.deepEqual(header(await decode(file, 4790, ['udp.payload'], 'icmp.type == 8')), ['88000123']);
    assert.deepEqual(header(await decode(file, 4790, ['udp.payload'], 'icmp.type == 0')), ['08000000']);
  });

  test('policy is applied per segment, with and without offloads: TTL, TOS, ECN, DF', async () => {
    const { dev, far } = await join(5, 'ttl', 'inherit', 'tos', 'inherit', 'df', 'inherit');
    const rules =
      'table ip marks { chain out { type route hook output priority mangle; ip daddr 10.9.5.0/24 ip dscp set ef ; } ; }';
    for (const host of [a, b]) {
      await host.ns.exec(['sysctl', '-qw', 'net.ipv4.tcp_ecn=1']);
      await host.ns.exec(['nft', '-f', '-'], { input: rules });
    }
    await a.ns.ip(`route replace ${far}/32 dev ${dev} src 10.9.5.1 hoplimit 33`);
    // The underlay is congested: what can say so does.
    const congested =
      'table netdev red { chain c { type filter hook ingress device "to-a" priority 0; ip ecn ect0 ip ecn set ce ; } ; }';
    await bed.underlay.exec(['nft', '-f', '-'], { input: congested });
    for (const offloads of ['on', 'off'] as const) {
      for (const on of [onA, onB]) {
        for (const name of ['tap_tso', 'tap_uso', 'udp_segment', 'udp_gro'])
          await on.cli('offloads', 'set', name, offloads);
      }
      const inside = path(bed.dir, `inside-${offloads}.pcap`);
      const capture = await Capture.start(b.ns, dev, inside, `src host 10.9.5.1 and tcp`);
      const packets = await seen(
        `policy-${offloads}`,
        async () => {
          const { caller, server } = await tcpBothWays(a.ns, b.ns, far, 300_000);
          assert.deepEqual(server.received, caller.sent);
        },
        ['ip.ttl', 'ip.dsfield', 'ip.flags.df', 'tcp.len'],
        'tcp',
      );
      await capture.stop();
      const data = packets.filter((packet) => Number(packet.get('tcp.len')?.[0]) > 0);
      assert.ok(data.length > 200, `${data.length} segments of data`);
      for (const packet of packets) {
        const [outer, inner] = packet.get('ip.dsfield')?.map(Number) ?? [];
        assert.ok(outer === 0xb8 || outer === 0xba || outer === 0xbb, `outer TOS ${outer}`);
        // What was captured behind the congested place says so.
        assert.ok(inner === outer || (inner === 0xba && outer === 0xbb), `outer TOS ${outer}, inner ${inner}`);
        for (const field of ['ip.ttl', 'ip.flags.df']) {
          const [one, other] = packet.get(field) ?? [];
          assert.equal(one, other, `${field} of ${JSON.stringify([...packet])}`);
        }
      }
      assert.deepEqual(valuesOf(data, 'ip.ttl'), ['33']);
      const received = await decode(inside, PORT, ['ip.dsfield', 'ip.ttl', 'tcp.len'], 'tcp.len > 0');
      assert.ok(received.length > 0);
      // Segments, joined or not, carry the mark of congestion in.
      const marks = received.map((packet) => Number(packet.get('ip.dsfield')?.[0]));
      assert.ok(marks.includes(0xbb), marks.join());
      // What TCP sends again cannot say so (RFC 3168 §6.1.5); what could, does.
      for (const mark of marks) assert.ok(mark === 0xbb || mark === 0xb8, `TOS ${mark}`);
      assert.deepEqual(valuesOf(received, 'ip.ttl'), ['33']);
      const joined = Math.max(...received.map((packet) => Number(packet.get('tcp.len')?.[0])));
      if (offloads === 'off') assert.ok(joined <= 1448, `a segment of ${joined} bytes`);
    }
  });
});
