/** The words of `ip link` on the wire, changed while the network is there, and the commands that look at tables. */
import assert from 'node:assert/strict';
import { join as path } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { BedHost } from './lib/bed.ts';
import { Capture, decode } from './lib/capture.ts';
import { eventually } from './lib/exec.ts';
import { type HostsBed, hostsBed } from './lib/fixtures.ts';
import { macOf } from './lib/overlay.ts';
import { ping } from './lib/traffic.ts';
import type { VtepdHost } from './lib/vtepd.ts';

const PORT = 4789;
const GROUP = '239.7.7.7';
/** Expedited forwarding, without ECN. */
const EF = '0xb8';
const OPTIONS = ['ttl', '7', 'tos', 'inherit', 'df', 'set', 'srcport', '50000', '50004'];
/** Of the inner network: host a is .1, host b .2. */
const FAR = '10.9.0.2';

describe('the words of ip link', () => {
  let { bed, a, b, onA: vtepd, onB } = {} as HostsBed;

  before(async () => {
    ({ bed, a, b, onA: vtepd, onB } = await hostsBed());
    const common = (host: BedHost): string[] =>
      `link add vx0 type vxlan id 7 group ${GROUP} dev eth0 local ${host.ipv4} dstport ${PORT} address ${macOf(host)}`.split(
        ' ',
      );
    await vtepd.cli(...common(a), ...OPTIONS);
    await onB.cli(...common(b));
    await a.ns.ip('addr add 10.9.0.1/24 dev vx0');
    await b.ns.ip(`addr add ${FAR}/24 dev vx0`);
  });
  after(() => bed?.destroy());

  /** Outer fields, those of host a's echo requests with the TOS given. */
  async function outer(name: string, tos: string): Promise<Map<string, string[]>[]> {
    const file = path(bed.dir, `${name}.pcap`);
    const capture = await Capture.start(bed.underlay, 'to-a', file, `src host ${a.ipv4} and udp dst port ${PORT}`);
    await a.ns.exec(['ping', '-n', '-c', '3', '-i', '0.05', '-w', '5', '-Q', tos, FAR]);
    await capture.stop();
    const packets = await decode(file, PORT, ['ip.ttl', 'ip.dsfield', 'ip.flags.df', 'udp.srcport'], 'icmp');
    assert.ok(packets.length >= 3, `only ${packets.length} packets were captured`);
    return packets;
  }

  const firsts = (packets: Map<string, string[]>[], field: string): string[] => [
    ...new Set(packets.map((packet) => packet.get(field)?.[0] ?? 'none')),
  ];

  test('hosts that joined one group find each other', async () => {
    const result = await ping(a.ns, FAR);
    assert.equal(result.received, result.sent, result.text);
    assert.ok((await a.ns.exec(['ip', 'maddr', 'show', 'dev', 'eth0'])).includes(GROUP));
  });

  test('ttl, tos, df and source ports are seen on the wire', async () => {
    const packets = await outer('added', EF);
    assert.deepEqual(firsts(packets, 'ip.ttl'), ['7']);
    assert.deepEqual(firsts(packets, 'ip.dsfield'), [EF]);
    for (const df of firsts(packets, 'ip.flags.df')) assert.match(df, /^(1|True)$/);
    for (const port of firsts(packets, 'udp.srcport')) assert.match(port, /^5000[0-3]$/);
  });

  test('link show names them', async () => {
    const shown = await vtepd.cli('link', 'show', 'vx0');
    for (const words of [`group ${GROUP}`, 'srcport 50000 50004', 'tos inherit', 'ttl 7', 'df set'])
      assert.ok(shown.includes(` ${words} `), shown);
    assert.doesNotMatch(shown, /flowlabel|udpcsum|reserved_bits|rsc|gbp|miss/);
  });

  test('link set changes them while packets flow', async () => {
    await vtepd.cli('link', 'set', 'vx0', 'type', 'vxlan', 'ttl', '33', 'tos', '0x20', 'df', 'unset');
    const packets = await outer('changed', EF);
    assert.deepEqual(firsts(packets, 'ip.ttl'), ['33']);
    assert.deepEqual(firsts(packets, 'ip.dsfield'), ['0x20']);
    for (const df of firsts(packets, 'ip.flags.df')) assert.match(df, /^(0|False)$/);
    await vtepd.cli('link', 'set', 'dev', 'vx0', 'mtu', '1400');
    const [link] = JSON.parse(await a.ns.exec(['ip', '-j', 'link', 'show', 'vx0'])) as { mtu: number }[];
    assert.equal(link?.mtu, 1400);
  });

  test('what cannot change, or cannot work here, is refused with the reason', async () => {
    const port = await vtepd.tryCli('link', 'set', 'vx0', 'dstport', '8472');
    assert.deepEqual([port.status, /dstport cannot change/.test(port.stderr)], [2, true], port.stderr);
    const label = await vtepd.tryCli('link', 'set', 'vx0', 'flowlabel', '5');
    assert.deepEqual([label.status, /flowlabel 5 needs an IPv6 underlay/.test(label.stderr)], [1, true], label.stderr);
    const absent = await vtepd.tryCli('link', 'set', 'vx1', 'ttl', '5');
    assert.deepEqual([absent.status, /no network vx1: held are vx0/.test(absent.stderr)], [1, true], absent.stderr);
  });

  test('reserved_bits is the mask of the bits that drop a datagram, as with ip', async () => {
    // Network 7, the last reserved byte set, and inside a frame of the experimental Ethernet type 0x88b5.
    const datagram = `0800000000000701${`${macOf(a)}${macOf(b)}`.replaceAll(':', '')}88b5${'00'.repeat(46)}`;
    const send = `require('dgram').createSocket('udp4').send(Buffer.from('${datagram}','hex'),${PORT},'${a.ipv4}',()=>process.exit())`;
    const dropped = async (): Promise<number> => (await vtepd.drops()).get('rx_reserved_bits') ?? 0;
    await b.ns.exec([process.execPath, '-e', send]);
    await eventually('the datagram is dropped', async () => (await dropped()) === 1);
    await vtepd.cli('link', 'set', 'vx0', 'reserved_bits', '0xf7ffffff00000000');
    assert.match(await vtepd.cli('link', 'show', 'vx0'), / reserved_bits 0xf7ffffff00000000 /);
    const capture = await Capture.start(a.ns, 'vx0', path(bed.dir, 'reserved.pcap'), 'ether proto 0x88b5');
    await b.ns.exec([process.execPath, '-e', send]);
    await capture.stop();
    assert.equal((await decode(path(bed.dir, 'reserved.pcap'), PORT, ['eth.type'])).length, 1);
    assert.equal(await dropped(), 1);
  });

  test('fdb flush removes what matches and says so', async () => {
    const add = (mac: string, ...words: string[]): Promise<string> =>
      vtepd.cli('fdb', 'add', mac, ...words, 'dev', 'vx0');
    await add('02:00:00:00:01:01', 'dst', '10.245.1.98');
    await add('02:00:00:00:01:02', 'dst', '10.245.1.99', 'via', 'eth0', 'router');
    assert.match(
      await vtepd.cli('fdb', 'show', 'dev', 'vx0'),
      /^02:00:00:00:01:02 dst 10\.245\.1\.99 via eth0 router self static/m,
    );
    const rows = await vtepd.json<{ mac: string }[]>('fdb', 'show', 'static', 'dst', '10.245.1.99');
    assert.deepEqual(
      rows.map(({ mac }) => mac),
      ['02:00:00:00:01:02'],
    );
    assert.deepEqual(await vtepd.json('fdb', 'show', '02:00:00:00:01:01', 'dynamic'), []);
    assert.equal(await vtepd.cli('fdb', 'flush', 'dev', 'vx0', 'dst', '10.245.1.99'), 'removed 1 entry\n');
    assert.deepEqual(await vtepd.json('fdb', 'flush', 'dev', 'vx0', 'static'), { removed: 1, reduced: 0, kept: 0 });
    assert.doesNotMatch(await vtepd.cli('fdb', 'show', 'dev', 'vx0'), /02:00:00:00:01:/);
  });

  test('monitor tells of changes, of what is learned and of what is missed', async () => {
    const monitor = vtepd.background('monitor');
    const asJson = vtepd.background('monitor', '--json', 'dev', 'vx0');
    let port = 5000;
    await eventually('both monitors listen', async () => {
      await vtepd.cli('fdb', 'replace', '02:00:00:00:01:01', 'dst', '10.245.1.98', 'port', `${port++}`, 'dev', 'vx0');
      return /^fdb changed 02:00:00:00:01:01/m.test(monitor.output) && asJson.output.includes('02:00:00:00:01:01');
    });
    await vtepd.cli('fdb', 'flush', 'dev', 'vx0', 'dynamic');
    await ping(a.ns, FAR);
    await monitor.waitFor(new RegExp(`^learned ${macOf(b)} dev vx0 dst ${b.ipv4}$`, 'm'));
    // With a group nothing is without a destination.
    await vtepd.cli('link', 'set', 'vx0', 'remote', '0.0.0.0', 'l2miss');
    await a.ns.ip('neigh replace 10.9.0.9 lladdr 02:00:00:00:09:09 dev vx0');
    await ping(a.ns, '10.9.0.9', { count: 1 });
    await monitor.waitFor(/^miss lladdr 02:00:00:00:09:09 dev vx0/m);
    await a.ns.ip('link set vx0 mtu 1300');
    await monitor.waitFor(/^link vx0 mtu 1300$/m);
    for (const each of [monitor, asJson]) assert.equal(await each.stop('SIGINT'), 0, each.output);
    const events = asJson.output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string; network: string });
    assert.ok(
      events.some(({ event, network }) => event === 'learned' && network === 'vx0'),
      asJson.output,
    );
  });
});

describe('the words of an IPv6 underlay', () => {
  test('flow label and zero checksums are seen on the wire, and refused over IPv4', async () => {
    const { bed, a, b, onA, onB } = await hostsBed();
    try {
      const add = (vtepd: VtepdHost, other: BedHost, ...words: string[]): Promise<string> =>
        vtepd.cli(
          'link',
          'add',
          'vx0',
          'id',
          '7',
          'local',
          vtepd.host.ipv6,
          'remote',
          other.ipv6,
          'dev',
          'eth0',
          ...words,
        );
      // As `ip -d link` prints a device of either family.
      await add(onA, b, 'flowlabel', '0x12345', 'udpcsum', 'udp6zerocsumtx', 'noudp6zerocsumrx', 'hoplimit', '9');
      await add(onB, a, 'udp6zerocsumrx');
      await a.ns.ip('addr add 10.9.0.1/24 dev vx0');
      await b.ns.ip(`addr add ${FAR}/24 dev vx0`);
      const file = path(bed.dir, 'six.pcap');
      const capture = await Capture.start(bed.underlay, 'to-a', file, `src host ${a.ipv6} and udp dst port ${PORT}`);
      const result = await ping(a.ns, FAR);
      assert.equal(result.received, result.sent, result.text);
      await capture.stop();
      const packets = await decode(file, PORT, ['ipv6.flow', 'ipv6.hlim', 'udp.checksum'], 'icmp');
      assert.ok(packets.length >= 3, `only ${packets.length} packets were captured`);
      for (const packet of packets) {
        assert.equal(Number(packet.get('ipv6.flow')?.[0]), 0x12345);
        assert.equal(packet.get('ipv6.hlim')?.[0], '9');
        assert.equal(Number(packet.get('udp.checksum')?.[0]), 0);
      }
      const words = ['link', 'add', 'vx1', 'id', '8', 'local', a.ipv4, 'dev', 'eth0', 'udp6zerocsumtx'];
      const refused = await onA.tryCli(...words);
      assert.deepEqual([refused.status, /udp6zerocsumtx is about an IPv6 underlay/.test(refused.stderr)], [2, true]);
    } finally {
      await bed.destroy();
    }
  });
});
