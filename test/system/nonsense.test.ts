/**
 * Nonsense on the wire, from the TAP, on the control socket, in the file and in etcd: each is refused or dropped with its
 * reason counted, and a good packet right after still passes.
 */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { join as path } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost, HOST_A, HOST_B, HOST_C } from './lib/bed.ts';
import { inject } from './lib/capture.ts';
import { assertPing } from './lib/checks.ts';
import { Cluster, leaseValue, PREFIX } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { type Background, eventually } from './lib/exec.ts';
import { DEVICE, hostsFile, joinByFile, PORT, replaceHostsFile, VNI } from './lib/hosts-file.ts';
import { arp, ethernet, ipv4, ipv6, Random, udp, vxlan } from './lib/packets.ts';
import { netCounters } from './lib/traffic.ts';
import type { VtepdHost } from './lib/vtepd.ts';

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
const STRANGER = '02:00:00:00:00:99';
const MAC_C = '02:00:00:00:00:0c';
const IPV4 = 0x0800;
const ARP = 0x0806;
const IPV6 = 0x86dd;
const UDP = 17;
const ICMPV6 = 58;

interface Link {
  readonly address: string;
}

async function macOf(host: BedHost, device: string): Promise<string> {
  const [link] = JSON.parse(await host.ns.exec(['ip', '-j', 'link', 'show', 'dev', device])) as Link[];
  return link?.address ?? assert.fail(`${device} has no MAC`);
}

describe('hosts joined by a file', () => {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let onA: VtepdHost;
  let daemonA: Background;
  /** MACs of the underlay devices and of the TAPs. */
  let under: { a: string; b: string };
  let tap: { a: string; b: string };
  let files = 0;

  before(async () => {
    bed = await Bed.create();
    [a, b] = [bed.host('a'), bed.host('b')];
    // The third host is in the list and does not exist.
    const [first] = await joinByFile(bed, [a, b], [{ ipv4: HOST_C.ipv4, subnet: `${HOST_C.net}.0/24`, mac: MAC_C }]);
    ({ vtepd: onA, daemon: daemonA } = first ?? assert.fail('host a did not join'));
    under = { a: await macOf(a, 'eth0'), b: await macOf(b, 'eth0') };
    tap = { a: await macOf(a, DEVICE), b: await macOf(b, DEVICE) };
    await assertPing(a, b);
  });
  after(() => bed?.destroy());

  const put = (host: BedHost, device: string, frames: readonly Buffer[]): Promise<void> => {
    files += 1;
    return inject(host.ns, device, path(bed.dir, `${files}.pcap`), frames);
  };

  /** Waits until the drops of host a are what they were and one more of `reason`; nothing else may have been counted. */
  async function dropsBy(reason: string, act: () => Promise<void>): Promise<void> {
    const before = await onA.drops();
    await act();
    const now = await eventually(
      `${reason} is counted`,
      async () => {
        const drops = await onA.drops();
        return (drops.get(reason) ?? 0) > (before.get(reason) ?? 0) && drops;
      },
      { timeoutMs: 3_000, everyMs: 20 },
    ).catch(async (cause: unknown) => {
      throw new Error(`drops before ${JSON.stringify([...before])}, now ${JSON.stringify([...(await onA.drops())])}`, {
        cause,
      });
    });
    assert.equal(now.get(reason), (before.get(reason) ?? 0) + 1, reason);
    await assertPing(a, b, 2);
  }

  describe('on the wire', () => {
    /** A good inner packet for the container; nobody listens there. */
    const inner = (source = tap.b): Buffer =>
      ethernet(tap.a, source, IPV4, ipv4(b.address, a.address, UDP, udp(1, 2, Buffer.from('hello'))));

    /** From host b, as any program there could send it. */
    const datagram = (payload: Buffer, { source = HOST_B.ipv4, tos = 0 } = {}): Buffer =>
      ethernet(under.a, under.b, IPV4, ipv4(source, HOST_A.ipv4, UDP, udp(50_000, PORT, payload), tos));

    const cases: readonly [what: string, reason: string, frame: () => Buffer][] = [
      ['an empty datagram', 'rx_short', () => datagram(Buffer.alloc(0))],
      ['seven bytes', 'rx_short', () => datagram(Buffer.from('08000000000001', 'hex'))],
      ['the I flag clear', 'rx_no_vni', () => datagram(vxlan(VNI, inner(), { flags: 0 }))],
      ['a GBP flag', 'rx_reserved_bits', () => datagram(vxlan(VNI, inner(), { flags: 0x88 }))],
      ['a GPE flag', 'rx_reserved_bits', () => datagram(vxlan(VNI, inner(), { flags: 0x0c }))],
      ['the last byte set', 'rx_reserved_bits', () => datagram(vxlan(VNI, inner(), { last: 1 }))],
      ['another VNI', 'rx_unknown_vni', () => datagram(vxlan(VNI + 1, inner()))],
      ['a sender without a lease', 'rx_not_peer', () => datagram(vxlan(VNI, inner()), { source: '10.245.1.66' })],
      ['nothing inside', 'rx_inner_runt', () => datagram(vxlan(VNI, Buffer.alloc(0)))],
      ['thirteen bytes inside', 'rx_inner_runt', () => datagram(vxlan(VNI, inner().subarray(0, 13)))],
      ['an IPv4 header cut short', 'rx_inner_truncated', () => datagram(vxlan(VNI, inner().subarray(0, 14 + 12)))],
      ['no IP header at all', 'rx_inner_truncated', () => datagram(vxlan(VNI, inner().subarray(0, 14)))],
      ['our own MAC as the source', 'rx_source_mac_own', () => datagram(vxlan(VNI, inner(tap.a)))],
      ['congestion marked for what cannot carry it', 'rx_ecn', () => datagram(vxlan(VNI, inner()), { tos: 3 })],
    ];
    for (const [what, reason, frame] of cases) {
      test(`${what}: ${reason}`, () => dropsBy(reason, () => put(b, 'eth0', [frame()])));
    }

    test('a good packet built the same way is delivered', async () => {
      // The container's kernel is the witness: nobody listens on the port, and nothing else is sent to one like it.
      const unwanted = async (): Promise<number | undefined> => (await netCounters(a.container)).get('UdpNoPorts');
      const before = (await unwanted()) ?? assert.fail('the kernel counts no UdpNoPorts');
      const drops = JSON.stringify([...(await onA.drops())]);
      await put(b, 'eth0', [datagram(vxlan(VNI, inner()))]);
      await eventually(
        'one packet more for a port without a listener',
        async () => (await unwanted()) === before + 1,
      ).catch(async (cause: unknown) => {
        const state = `drops before ${drops}, now ${JSON.stringify(await onA.stats())}`;
        throw new Error(`${before} before, now ${await unwanted()}; ${state}`, { cause });
      });
    });

    test(`2000 random datagrams, seed ${SEED}`, async () => {
      const random = new Random(SEED);
      const pid = await onA.dataplanePid();
      const frames = Array.from({ length: 2_000 }, () => {
        const noise = random.bytes(random.below(200));
        // Half of them get past the header: what is inside is nonsense then.
        return datagram(random.below(2) === 0 ? noise : vxlan(VNI, noise));
      });
      await put(b, 'eth0', frames);
      await assertPing(a, b);
      assert.equal(await onA.dataplanePid(), pid, 'the dataplane has survived');
      for (const reason of ['rx_no_vni', 'rx_inner_runt'])
        assert.ok(((await onA.drops()).get(reason) ?? 0) > 10, reason);
    });

    test(`1000 good packets with bytes changed inside, seed ${SEED}`, async () => {
      const random = new Random(SEED);
      const pid = await onA.dataplanePid();
      const frames = Array.from({ length: 1_000 }, () => {
        const frame = inner();
        for (let change = random.below(4) + 1; change > 0; change -= 1)
          frame[random.below(frame.length)] = random.below(256);
        return datagram(vxlan(VNI, frame.subarray(0, 1 + random.below(frame.length))));
      });
      await put(b, 'eth0', frames);
      await assertPing(a, b);
      assert.equal(await onA.dataplanePid(), pid, 'the dataplane has survived');
    });
  });

  describe('from the TAP', () => {
    const LINK_LOCAL = 'fe800000000000000000000000000001';
    const SOLICITED = 'ff0200000000000000000001ff000005';
    const target = 'fd000246000000000000000000000005';
    /** ICMPv6 type 135; the checksum is wrong, which is nonsense too. */
    const solicitation = (length: number): Buffer =>
      Buffer.concat([
        Buffer.from('8700ffff00000000', 'hex'),
        Buffer.from(target, 'hex'),
        Buffer.from('0101020000000099', 'hex'),
      ]).subarray(0, length);
    const request = (ip: string): Buffer => arp(1, STRANGER, a.base, '00:00:00:00:00:00', ip);

    const cases: readonly [what: string, reason: string, frame: () => Buffer][] = [
      [
        'ARP cut short',
        'tx_arp_malformed',
        () => ethernet('ff:ff:ff:ff:ff:ff', STRANGER, ARP, request(b.base).subarray(0, 20)),
      ],
      [
        'ARP for an address that no lease covers',
        'tx_arp_unanswered',
        () => ethernet('ff:ff:ff:ff:ff:ff', STRANGER, ARP, request('10.246.99.1')),
      ],
      [
        'an ARP reply',
        'tx_arp_swallowed',
        () => ethernet('ff:ff:ff:ff:ff:ff', STRANGER, ARP, arp(2, STRANGER, a.base, tap.b, b.base)),
      ],
      [
        'a neighbour solicitation with a wrong checksum',
        'tx_nd_malformed',
        () => ethernet('33:33:ff:00:00:05', STRANGER, IPV6, ipv6(LINK_LOCAL, SOLICITED, ICMPV6, solicitation(32))),
      ],
      [
        'a MAC that nobody has',
        'tx_no_destination',
        () => ethernet(STRANGER, tap.a, IPV4, ipv4(a.base, b.base, UDP, udp(1, 2, Buffer.alloc(0)))),
      ],
    ];
    for (const [what, reason, frame] of cases) {
      test(`${what}: ${reason}`, () => dropsBy(reason, () => put(a, DEVICE, [frame()])));
    }

    test(`2000 random frames, seed ${SEED}`, async () => {
      const random = new Random(SEED);
      const pid = await onA.dataplanePid();
      const types = [IPV4, IPV6, ARP, 0x8100, 0x88a8, 0x0000];
      const frames = Array.from({ length: 2_000 }, () => {
        const to = [tap.b, STRANGER, 'ff:ff:ff:ff:ff:ff', '33:33:ff:00:00:05'][random.below(4)] ?? tap.b;
        return ethernet(to, tap.a, types[random.below(types.length)] ?? IPV4, random.bytes(random.below(300)));
      });
      await put(a, DEVICE, frames);
      await assertPing(a, b);
      assert.equal(await onA.dataplanePid(), pid, 'the dataplane has survived');
    });
  });

  describe('on the control socket', () => {
    /** Writes bytes, ends the writing side, and gives what came back until the end, or until `timeoutMs`. */
    function say(bytes: Buffer | string, timeoutMs = 5_000): Promise<string> {
      return new Promise((resolve) => {
        const socket = connect(onA.socket);
        let answer = '';
        const done = (): void => {
          socket.destroy();
          resolve(answer);
        };
        socket.setEncoding('utf8').setTimeout(timeoutMs, done);
        socket.on('data', (text: string) => {
          answer += text;
        });
        // The dataplane may have cut the line before all of it was written.
        socket.on('error', done).on('end', done).on('close', done);
        socket.end(bytes);
      });
    }

    const errorCode = (answer: string): unknown =>
      (JSON.parse(answer.split('\n')[0] ?? '') as { error?: { code?: unknown } }).error?.code;

    const cases: readonly [what: string, line: string, code: number][] = [
      ['no JSON', 'hello?', -32_700],
      ['a list', '[]', -32_600],
      ['a number', '7', -32_600],
      ['a method that does not exist', '{"jsonrpc":"2.0","id":1,"method":"launch","params":{}}', -32_601],
      ['parameters of another kind', '{"jsonrpc":"2.0","id":1,"method":"network.create","params":[1,2]}', -32_602],
      [
        'a parameter that does not exist',
        '{"jsonrpc":"2.0","id":1,"method":"hello","params":{"colour":"red"}}',
        -32_602,
      ],
      [
        'a VNI beyond 24 bits',
        `{"jsonrpc":"2.0","id":1,"method":"fdb.change","params":{"network":"${DEVICE}","verb":"add","mac":"02:00:00:00:00:50","destination":{"ip":"10.245.1.4","vni":16777216},"state":"static"}}`,
        0,
      ],
      [
        'a MAC that is none',
        `{"jsonrpc":"2.0","id":1,"method":"fdb.change","params":{"network":"${DEVICE}","verb":"add","mac":"zz"}}`,
        -32_602,
      ],
    ];
    for (const [what, line, code] of cases) {
      test(`${what}: refused with an error`, async () => {
        const tables = await onA.fdb(DEVICE);
        const answered = errorCode(await say(`${line}\n`));
        if (code === 0) assert.equal(typeof answered, 'number');
        else assert.equal(answered, code);
        assert.deepEqual(await onA.fdb(DEVICE), tables);
        await assertPing(a, b, 2);
      });
    }

    test('a megabyte of random bytes, half a line, a line that never ends: nobody else notices', async () => {
      const random = new Random(SEED);
      const pid = await onA.dataplanePid();
      await say(random.bytes(1 << 20));
      await say('{"jsonrpc":"2.0","id":1,"met');
      // Longer than MAX_LINE of the protocol (64 MiB): the connection is ended.
      await say(Buffer.alloc((64 << 20) + 65_536, 'a'), 20_000);
      assert.equal(await onA.dataplanePid(), pid);
      await assertPing(a, b);
    });

    test('a hundred connections that say nothing do not lock the operator out for good', async () => {
      const silent = Array.from({ length: 100 }, () => connect(onA.socket).on('error', () => undefined));
      await new Promise((resolve) => setTimeout(resolve, 200));
      await assertPing(a, b);
      for (const socket of silent) socket.destroy();
      await eventually('the command line is answered again', async () => (await onA.tryCli('status')).status === 0);
    });
  });

  describe('in the file', () => {
    const good = (): string => hostsFile([a, b, { ipv4: HOST_C.ipv4, subnet: `${HOST_C.net}.0/24`, mac: MAC_C }]);
    const cases: readonly [what: string, text: () => string, reason: RegExp][] = [
      ['nothing', () => '', /empty/],
      ['no YAML', () => 'network: [unclosed\n  - "', /:\d+:\d+:/],
      ['bytes that are no text', () => '\u0000\u0001\u0002', /:\d+:\d+:/],
      ['a host twice', () => good().replace(HOST_C.ipv4, HOST_B.ipv4), /already/],
      [
        'a MAC twice',
        () =>
          good().replace(
            `mac: "${MAC_C}"`,
            `mac: "${MAC_C}"\n  - publicIP: 10.245.1.9\n    subnet: 10.246.9.0/24\n    mac: "${MAC_C}"`,
          ),
        /already/,
      ],
      ['a subnet outside the network', () => good().replace('10.246.81.0/24', '192.168.1.0/24'), /outside/],
      ['a field that does not exist', () => good().replace('publicIP: 10.245.1.5', 'publicIp6: fd00::5'), /publicIp6/],
      [
        'a million references',
        () =>
          `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n`,
        /./,
      ],
    ];
    const reason = async (): Promise<string | undefined> => {
      const { controller } = await onA.status();
      return controller.running && controller.datastore.state === 'stale'
        ? (controller.datastore.reason ?? '')
        : undefined;
    };

    for (const [what, text, expected] of cases) {
      test(`${what}: refused, and the old tables stay`, async () => {
        const tables = await onA.fdb(DEVICE);
        await replaceHostsFile(bed, text());
        assert.match(await eventually('the file is refused', reason), expected);
        assert.deepEqual(await onA.fdb(DEVICE), tables);
        assert.ok(daemonA.running);
        await assertPing(a, b, 2);
        await replaceHostsFile(bed, good());
        await eventually('the good file is taken', async () => (await reason()) === undefined);
      });
    }
  });
});

describe('in etcd', { skip: await withoutEtcd() }, () => {
  test('keys and values that are nonsense are skipped and named; the others are used', async () => {
    const bed = await Bed.create();
    try {
      const [a, b] = [bed.host('a'), bed.host('b')];
      const cluster = await Cluster.start(bed);
      const [{ vtepd: onA, daemon }] = await Promise.all([cluster.addVtepd(a), cluster.addVtepd(b)]);
      const subnets = `${PREFIX}/subnets`;
      const good = (octet: number): string =>
        leaseValue(`10.245.1.${octet}`, 3, `02:00:00:00:02:${octet.toString(16)}`);
      const nonsense: Readonly<Record<string, string>> = {
        [`${subnets}/10.246.50.0-24`]: 'not json',
        [`${subnets}/10.246.51.0-24`]: '{"PublicIP":"","BackendType":"vxlan"}',
        [`${subnets}/10.246.52.7-24`]: good(52),
        [`${subnets}/helper`]: '{}',
        [`${subnets}/10.246.54.0-99`]: good(54),
        [`${subnets}/10.246.55.0-24`]: leaseValue('10.245.1.55', 3, 'zz:zz'),
        [`${subnets}-other/10.246.56.0-24`]: good(56),
      };
      for (const [key, value] of Object.entries(nonsense)) await cluster.etcdctl('put', key, value);
      // Not nonsense, although every flanneld is wedged by it: the IPv4 half of a dual-stack host is a host.
      await cluster.etcdctl('put', `${subnets}/10.246.53.0-24&fd00:246:0:f::-64`, good(53));
      const third = { base: '10.246.60.0' };
      await cluster.putLease(third, '10.245.1.60', '02:00:00:00:02:60');
      await eventually('the good one is programmed', async () =>
        (await onA.neighbours(cluster.device)).some((entry) => entry.prefix === '10.246.60.0/24'),
      );
      const known = (await onA.neighbours(cluster.device)).map((entry) => entry.prefix);
      assert.deepEqual(known.sort(), ['10.246.13.0/24', '10.246.53.0/24', '10.246.60.0/24']);
      const { controller } = await onA.status();
      assert.ok(controller.running);
      const bad = controller.datastore.badKeys.map((each) => each.key);
      for (const name of [
        '10.246.50.0-24',
        '10.246.51.0-24',
        '10.246.52.7-24',
        'helper',
        '10.246.54.0-99',
        '10.246.55.0-24',
      ]) {
        assert.ok(
          bad.some((key) => key.endsWith(name)),
          `${name} is named; named are ${bad.join(', ')}`,
        );
      }
      assert.ok(daemon.running);
      await assertPing(a, b);
      // What was nonsense becomes a lease, and the other way round.
      await cluster.etcdctl('put', `${subnets}/10.246.50.0-24`, good(50));
      await cluster.etcdctl('put', `${subnets}/10.246.60.0-24`, '[]');
      await eventually('the tables follow', async () => {
        const now = (await onA.neighbours(cluster.device)).map((entry) => entry.prefix).sort();
        return now.join() === '10.246.13.0/24,10.246.50.0/24,10.246.53.0/24';
      });
      await assertPing(a, b);
    } finally {
      await bed.destroy();
    }
  });
});
