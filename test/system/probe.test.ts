/** `vtepd probe` through a router whose far side has a smaller MTU, one that says so by ICMP and one that does not. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ProbeRow } from '../../src/cli/probe-report.ts';
import { loadRawSocket } from '../../src/probe/echo-socket.ts';
import type { BedHost } from './lib/bed.ts';
import { Netns } from './lib/netns.ts';
import { Teardown } from './lib/teardown.ts';
import { VtepdHost } from './lib/vtepd.ts';

const FAR = '10.245.2.4';
const FAR6 = 'fd00:2::4';
/** Of the router's far side. */
const NARROW = 1_391;

function withoutRawSocket(): string | false {
  try {
    loadRawSocket();
    return false;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

describe('path MTUs are measured', { skip: withoutRawSocket() }, () => {
  const teardown = new Teardown();
  let router: Netns;
  let far: Netns;
  let vtepd: VtepdHost;

  before(async () => {
    const dir = await mkdtemp(join(tmpdir(), 'vtepd-probe-'));
    teardown.defer(dir, () => rm(dir, { recursive: true, force: true }));
    const space = async (label: string): Promise<Netns> => {
      const ns = await Netns.create(label);
      teardown.defer(label, () => ns.delete());
      return ns;
    };
    const ns = await space('probe-a');
    [router, far] = [await space('probe-r'), await space('probe-b')];
    await router.ip(
      `link add name near type veth peer name eth0 netns ${ns.name}`,
      `link add name away type veth peer name eth0 netns ${far.name}`,
      'link set near up',
      `link set away mtu ${NARROW} up`,
      'addr add 10.245.1.1/24 dev near',
      'addr add 10.245.2.1/24 dev away',
      'addr add fd00:1::1/64 dev near',
      'addr add fd00:2::1/64 dev away',
    );
    const host = (subnet: number, last: number): string[] => [
      'link set eth0 up',
      `addr add 10.245.${subnet}.${last}/24 dev eth0`,
      `addr add fd00:${subnet}::${last}/64 dev eth0`,
      `route add default via 10.245.${subnet}.1`,
      `route add default via fd00:${subnet}::1`,
    ];
    await ns.ip(...host(1, 3));
    // What comes back is not to be fragmented on the way: that is the other direction's business.
    await far.ip(...host(2, 4), `link set eth0 mtu ${NARROW}`);
    await mkdir(join(dir, 'a'));
    vtepd = await VtepdHost.on({ label: 'a', ns, dir: join(dir, 'a') } as BedHost);
  });
  after(() => teardown.run());

  /** Also gives the exit status. */
  async function probe(...words: string[]): Promise<ProbeRow & { status: number | null }> {
    const { stdout, stderr, status } = await vtepd.tryCli('probe', ...words, '--json');
    assert.notEqual(stdout, '', stderr);
    return { ...(JSON.parse(stdout) as ProbeRow), status };
  }

  /** Drops what matches from now on. */
  const drop = (ns: Netns, family: 'ip' | 'ip6', hook: 'input' | 'output', match: string): Promise<string> =>
    ns.exec([
      'nft',
      `add table ${family} t; add chain ${family} t c { type filter hook ${hook} priority 0; }; add rule ${family} t c ${match} drop`,
    ]);

  test('to the byte, over both families, without a dataplane', async () => {
    const row = await probe(FAR);
    assert.deepEqual(
      [row.status, row.path_mtu, row.limit, row.told, row.overlay_mtu, row.warnings],
      [0, NARROW, 'path', true, NARROW - 50, []],
    );
    const row6 = await probe(FAR6);
    assert.deepEqual([row6.path_mtu, row6.limit, row6.told, row6.overlay_mtu], [NARROW, 'path', true, NARROW - 70]);
    const near = await probe('10.245.1.1');
    assert.deepEqual([near.path_mtu, near.limit, near.told, near.overlay_mtu], [1500, 'interface', true, 1450]);
  });

  test('a network that is too large for the path is warned of, by name', async () => {
    await vtepd.cli('link', 'add', 'vx0', 'id', '7', 'local', '10.245.1.3', 'remote', FAR, 'dev', 'eth0');
    const row = await probe(FAR);
    assert.deepEqual(row.networks, [{ network: 'vx0', mtu: 1450, df: 'unset', fits: false, known_path_mtu: null }]);
    assert.match(row.warnings.join(), /network vx0 has MTU 1450.*beyond 1341 bytes.*fragments/);
    await vtepd.cli('link', 'set', 'vx0', 'mtu', String(NARROW - 50));
    const text = await vtepd.cli('probe', FAR, 'dev', 'vx0');
    assert.match(text, /path MTU 1391 \(limit: the path\).*\n.*\n +network vx0: MTU 1341: fits/);
    assert.doesNotMatch(text, /warning/);
  });

  test('a black hole is measured just as well, and called one', async () => {
    await drop(router, 'ip', 'output', 'icmp type destination-unreachable');
    await drop(router, 'ip6', 'output', 'icmpv6 type packet-too-big');
    const measure = async (peer: string, overhead: number): Promise<void> => {
      const row = await probe(peer, '--timeout', '100');
      assert.deepEqual([row.path_mtu, row.told, row.overlay_mtu], [NARROW, false, NARROW - overhead]);
      assert.match(row.warnings.join(), /vanish and nobody says so/);
    };
    await Promise.all([measure(FAR, 50), measure(FAR6, 70)]);
  });

  test('on a timer it goes on until it is told to stop', async () => {
    const running = vtepd.background('probe', '10.245.1.1', '--interval', '1', '--json');
    await running.waitFor(/"path_mtu":1500.*\n.*"path_mtu":1500/);
    assert.equal(await running.stop(), 0);
  });

  test('a peer that does not answer is no small MTU', async () => {
    await drop(far, 'ip', 'input', 'icmp type echo-request');
    const silent = await probe(FAR, '--timeout', '100');
    assert.deepEqual([silent.status, silent.answered, silent.path_mtu, silent.reason], [1, false, null, null]);
    assert.match(silent.warnings.join(), /does not answer ICMP echo/);
    await router.exec(['nft', 'delete', 'table', 'ip', 't']);
    await router.ip('route add unreachable 10.245.9.0/24');
    const away = await probe('10.245.9.9', '--timeout', '100');
    assert.deepEqual([away.status, away.reason], [1, '10.245.1.1: host unreachable']);
  });
});
