/**
 * Path MTU by the wire: what a router on the way says about what we sent counts, what somebody makes up does not, and neither
 * disturbs anybody else.
 */
import assert from 'node:assert/strict';
import { join as path } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { vxlan } from '../model/build.ts';
import type { PathError } from '../model/endpoint.ts';
import { Bed, type BedHost, HOST_A, HOST_B, HOST_C } from './lib/bed.ts';
import { inject } from './lib/capture.ts';
import { eventually } from './lib/exec.ts';
import { pathErrorFrame } from './lib/model-outer.ts';
import { macOf } from './lib/overlay.ts';
import { ping, tcpBothWays } from './lib/traffic.ts';
import { VtepdHost } from './lib/vtepd.ts';

const VNI = 7;
const PORT = 4789;
/** What `srcport 50000 50001` leaves: one port, so that everybody knows what to quote. */
const SOURCE_PORT = 50_000;
/** The dataplane looks for ICMP errors once a second. */
const NOTICED_MS = 1_500;
/** Inner addresses: host a is .1, b .2, c .3. */
const INNER = { a: '10.9.0.1', b: '10.9.0.2', c: '10.9.0.3' } as const;

interface PeerRow {
  readonly network: string;
  readonly ip: string;
  readonly path_mtu: number | null;
}

for (const family of [4, 6] as const) {
  describe(`path MTU on an IPv${family} underlay`, () => {
    let bed: Bed;
    let a: BedHost;
    let vtepd: VtepdHost;
    const overhead = family === 4 ? 50 : 70;
    const floor = family === 4 ? 552 : 1280;

    const vtep = (host: BedHost): string => (family === 4 ? host.ipv4 : host.ipv6);
    const pathMtus = async (): Promise<Map<string, number | null>> =>
      new Map((await vtepd.json<PeerRow[]>('peers')).map((peer) => [peer.ip, peer.path_mtu]));

    before(async () => {
      bed = await Bed.create({ hosts: [HOST_A, HOST_B, HOST_C] });
      a = bed.host('a');
      for (const host of bed.hosts) {
        const on = await VtepdHost.on(host);
        if (host === a) vtepd = on;
        const words = `id ${VNI} local ${vtep(host)} dev eth0 dstport ${PORT} address ${macOf(host)}`;
        await on.cli(
          ...`link add vx0 type vxlan ${words} mtu 1500 df set srcport ${SOURCE_PORT} ${SOURCE_PORT + 1}`.split(' '),
        );
        await host.ns.ip(`addr add ${INNER[host.label as 'a']}/24 dev vx0`);
        for (const other of bed.hosts) {
          if (other === host) continue;
          await on.cli('fdb', 'add', macOf(other), 'dst', vtep(other), 'dev', 'vx0');
          await host.ns.ip(`neigh replace ${INNER[other.label as 'a']} lladdr ${macOf(other)} dev vx0 nud permanent`);
        }
      }
    });
    after(() => bed?.destroy());

    /** ICMP errors as if from a router, put on the wire to host a. */
    async function tell(...errors: PathError[]): Promise<void> {
      const links = async (host: BedHost): Promise<string> =>
        (JSON.parse(await host.ns.exec(['ip', '-j', 'link', 'show', 'eth0'])) as [{ address: string }])[0].address;
      const macs = { to: await links(a), from: '02:00:00:00:99:99' };
      const frames = errors.map((error) => pathErrorFrame(error, macs));
      await inject(bed.underlay, 'to-a', path(bed.dir, 'errors.pcap'), frames);
    }

    const about = (label: string, changes: Partial<PathError> = {}): PathError => ({
      source: vtep(a),
      sourcePort: SOURCE_PORT,
      to: vtep(bed.host(label)),
      port: PORT,
      payload: vxlan(VNI, Buffer.alloc(0)),
      mtu: 1400,
      ...changes,
    });

    /** `ping -M do` with a packet of so many bytes. */
    const whole = (to: string, length: number): Promise<{ status: number | null; stdout: string }> =>
      a.ns.tryExec(['ping', '-n', '-c', '2', '-i', '0.05', '-W', '3', '-M', 'do', '-s', String(length - 28), to]);

    test('a packet that does not fit and may not be fragmented: its sender is told, once it obeys all is well', async () => {
      const before = (await vtepd.drops()).get('tx_too_big') ?? 0;
      const told = await whole(INNER.b, 1500);
      assert.match(told.stdout, new RegExp(`mtu ?= ?${1500 - overhead}`));
      assert.ok(((await vtepd.drops()).get('tx_too_big') ?? 0) > before);
      assert.match(await a.ns.exec(['ip', 'route', 'get', INNER.b]), new RegExp(`mtu ${1500 - overhead}`));
      assert.equal((await whole(INNER.b, 1500 - overhead)).status, 0);
      const { caller, server } = await tcpBothWays(a.ns, bed.host('b').ns, INNER.b, 200_000);
      assert.deepEqual(server.received, caller.sent);
    });

    test('forged errors change nothing; one that quotes what was sent lowers the path MTU of that peer alone', async () => {
      const strange = vxlan(VNI, Buffer.alloc(0));
      strange.writeUInt8(0x0c, 0);
      await tell(
        about('b', { payload: vxlan(VNI + 1, Buffer.alloc(0)), mtu: 600 }),
        about('b', { payload: strange, mtu: 600 }),
        about('b', { payload: strange.subarray(0, 5), mtu: 600 }),
        about('b', { port: PORT + 1, mtu: 600 }),
        about('b', { sourcePort: SOURCE_PORT + 1, mtu: 600 }),
        about('b', { to: family === 4 ? '10.245.1.77' : 'fd00:245::77', mtu: 600 }),
        // The last one counts: once it is noticed, so were the others.
        about('b'),
      );
      await eventually('the path MTU is shown', async () => (await pathMtus()).get(vtep(bed.host('b'))) === 1400);
      assert.equal((await pathMtus()).get(vtep(bed.host('c'))), null);
      assert.match(await vtepd.cli('peers'), /PATH-MTU\n(.*\n)*.* 1400$/m);
    });

    test('the sender to that peer is told the rest, to others it sends as before', async () => {
      assert.match((await whole(INNER.b, 1500 - overhead)).stdout, new RegExp(`mtu ?= ?${1400 - overhead}`));
      assert.equal((await whole(INNER.b, 1400 - overhead)).status, 0);
      assert.equal((await whole(INNER.c, 1500 - overhead)).status, 0);
    });

    test('a path MTU is never raised by an error, and never below the floor', async () => {
      const to = vtep(bed.host('b'));
      await tell(about('b', { mtu: 1450 }), about('b', { mtu: 68 }));
      await eventually('the floor is reached', async () => (await pathMtus()).get(to) === floor);
      await tell(about('b', { mtu: 1450 }));
      await sleep(NOTICED_MS);
      assert.equal((await pathMtus()).get(to), floor);
    });

    test('errors about one peer never disturb sending to another, whatever they say', async () => {
      const result = ping(a.ns, INNER.c, { count: 200, interval: 0.01 });
      const unreachable = about('b', { mtu: 1400 });
      for (let times = 0; times < 6; times += 1) await tell(...Array.from({ length: 60 }, () => unreachable));
      const { sent, received, text } = await result;
      assert.equal(received, sent, text);
      const drops = await vtepd.drops();
      assert.equal(drops.get('tx_socket_error'), undefined, JSON.stringify([...drops]));
    });
  });
}

test('a router whose next link is narrower says so, and TCP goes on', async () => {
  const bed = await Bed.create();
  try {
    const [a, b] = [bed.host('a'), bed.host('b')];
    // Host b is behind the underlay's router, by a link of 1400.
    const far = '10.99.0.4';
    await bed.underlay.ip(
      `link add narrow mtu 1400 type veth peer name far mtu 1400 netns ${b.ns.name}`,
      'link set narrow up',
      'addr add 10.99.0.1/24 dev narrow',
    );
    await b.ns.ip(
      'link set far up',
      `addr add ${far}/24 dev far`,
      'link set eth0 down',
      'route add 10.245.1.0/24 via 10.99.0.1',
    );
    await a.ns.ip('route add 10.99.0.0/24 via 10.245.1.1');
    const ends = [
      { host: a, local: a.ipv4, dev: 'eth0', to: b, vtep: far, inner: INNER.a, other: INNER.b },
      { host: b, local: far, dev: 'far', to: a, vtep: a.ipv4, inner: INNER.b, other: INNER.a },
    ];
    const on: VtepdHost[] = [];
    for (const { host, local, dev, to, vtep, inner, other } of ends) {
      const vtepd = await VtepdHost.on(host);
      on.push(vtepd);
      const words = `link add vx0 type vxlan id 9 local ${local} dev ${dev} mtu 1450 df inherit address ${macOf(host)}`;
      await vtepd.cli(...words.split(' '));
      await vtepd.cli('fdb', 'add', macOf(to), 'dst', vtep, 'dev', 'vx0');
      await host.ns.ip(
        `addr add ${inner}/24 dev vx0`,
        `neigh replace ${other} lladdr ${macOf(to)} dev vx0 nud permanent`,
      );
    }
    const { caller, server } = await tcpBothWays(a.ns, b.ns, INNER.b, 500_000);
    assert.deepEqual(server.received, caller.sent);
    assert.deepEqual(caller.received, server.sent);
    const peers = (await on[0]?.json<PeerRow[]>('peers')) ?? [];
    assert.equal(peers.find(({ ip }) => ip === far)?.path_mtu, 1400);
  } finally {
    await bed.destroy();
  }
});

test('a peer whose port is closed does not disturb sending to others', async () => {
  const bed = await Bed.create({ hosts: [HOST_A, HOST_B, HOST_C] });
  try {
    const [a, b, c] = [bed.host('a'), bed.host('b'), bed.host('c')];
    const onA = await VtepdHost.on(a);
    for (const [df, id] of [
      ['unset', 11],
      ['inherit', 12],
    ] as const) {
      const dev = `vx${id}`;
      const words = (host: BedHost): string[] =>
        `link add ${dev} type vxlan id ${id} local ${host.ipv4} dev eth0 df ${df} address ${macOf(host)}`.split(' ');
      await onA.cli(...words(a));
      const onC = await VtepdHost.on(c);
      await onC.cli(...words(c));
      await onA.cli('fdb', 'add', macOf(b), 'dst', b.ipv4, 'dev', dev);
      await onA.cli('fdb', 'add', macOf(c), 'dst', c.ipv4, 'dev', dev);
      await onC.cli('fdb', 'add', macOf(a), 'dst', a.ipv4, 'dev', dev);
      const net = `10.${id}.0`;
      await a.ns.ip(
        `addr add ${net}.1/24 dev ${dev}`,
        `neigh replace ${net}.2 lladdr ${macOf(b)} dev ${dev} nud permanent`,
        `neigh replace ${net}.3 lladdr ${macOf(c)} dev ${dev} nud permanent`,
      );
      await c.ns.ip(
        `addr add ${net}.3/24 dev ${dev}`,
        `neigh replace ${net}.1 lladdr ${macOf(a)} dev ${dev} nud permanent`,
      );
      // Nobody listens on host b: every datagram comes back as "port unreachable".
      await b.ns.exec(['sysctl', '-qw', 'net.ipv4.icmp_ratelimit=0']);
      const closed = ping(a.ns, `${net}.2`, { count: 100, interval: 0.01 });
      const open = await ping(a.ns, `${net}.3`, { count: 100, interval: 0.01 });
      assert.equal(open.received, open.sent, `df ${df}: ${open.text}`);
      assert.equal((await closed).received, 0);
    }
    assert.equal((await onA.drops()).get('tx_socket_error'), undefined);
  } finally {
    await bed.destroy();
  }
});
