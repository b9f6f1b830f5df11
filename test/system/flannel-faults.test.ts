/**
 * What may go wrong around two hosts, one thing after the other. Each ends the same way: traffic never stopped, no lease is
 * held twice, and every host's tables, routes and addresses are what etcd's content says.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { assertEqualToEtcd } from './lib/against-etcd.ts';
import { assertPing } from './lib/checks.ts';
import { ENDPOINT } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { eventually, run } from './lib/exec.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';
import { SteadyPing } from './lib/steady-ping.ts';
import type { VtepdHost } from './lib/vtepd.ts';

const MOVED_CLOCK = fileURLToPath(new URL('programs/moved-clock.mjs', import.meta.url));
const FLAGS = ['--etcd-endpoints', ENDPOINT, '--iface', 'eth0'];
const DAY_MS = 86_400_000;
const LONG = { timeoutMs: 60_000 };

describe('two hosts and what may go wrong', { skip: await withoutEtcd(), concurrency: false }, () => {
  let { bed, cluster, a, b, onA, onB, daemonA } = {} as ClusterBed;
  let leases: (string | undefined)[];
  let traffic: SteadyPing;
  let generation = 0;

  before(async () => {
    ({ bed, cluster, a, b, onA, onB, daemonA } = await clusterBed());
    await assertPing(a, b);
    leases = [await cluster.lease(a), await cluster.lease(b)];
  });
  after(() => bed?.destroy());

  beforeEach(() => {
    traffic = new SteadyPing(a, b);
  });

  afterEach(async () => {
    try {
      await assertEqualToEtcd(cluster, [onA, onB]);
      assert.deepEqual([await cluster.lease(a), await cluster.lease(b)], leases);
    } finally {
      assert.deepEqual(await traffic.stop(), []);
    }
  });

  /** Another host comes, one changes, one goes: whoever misses an event is found out at the end. */
  async function change(): Promise<void> {
    generation += 1;
    const host = (n: number) => ({ base: `10.246.${200 + n}.0` });
    await cluster.putLease(host(generation), '10.245.1.200', '0a:0d:00:00:00:01');
    await cluster.putLease(host(generation), `10.245.2.${generation}`, `0a:0d:00:00:00:${10 + generation}`);
    await cluster.deleteLease(host(generation - 1));
  }

  async function stateOf(vtepd: VtepdHost) {
    const { controller } = await vtepd.status();
    return controller.running ? controller : undefined;
  }

  async function isFollowed(vtepd: VtepdHost): Promise<boolean> {
    return (await stateOf(vtepd))?.datastore.state === 'fresh';
  }

  /** Ends host a's controller and starts it again, with another environment, and perhaps as a word of a script. */
  async function restartA(env: Record<string, string>, subnetFile = onA.subnetFile, script: string[] = []) {
    await daemonA.stop();
    const argv = [...script, onA.command, 'run', '--subnet-file', subnetFile, ...FLAGS];
    daemonA = a.ns.background(argv, { env: { ...onA.env, ...env } });
  }

  test('etcd killed and started', async () => {
    await cluster.signalEtcd('SIGKILL');
    await eventually('stale is said', async () => !(await isFollowed(onA)), LONG);
    await cluster.startEtcd();
    await change();
  });

  test('etcd frozen for a while', async () => {
    await cluster.signalEtcd('SIGSTOP');
    await sleep(3_000);
    await cluster.signalEtcd('SIGCONT');
    await change();
  });

  test('etcd cut off, and compacted meanwhile', async () => {
    await cluster.cutEtcd([a.ipv4, b.ipv4], 'reject with tcp reset');
    await eventually('stale is said', async () => !(await isFollowed(onA)) && !(await isFollowed(onB)), LONG);
    await change();
    await cluster.compactEtcd();
    await cluster.joinEtcd();
  });

  test('etcd slow: every answer takes half a second; a controller that starts meanwhile is up all the same', async () => {
    const quicken = cluster.slowEtcd({ stoppedMs: 480, runningMs: 20 });
    try {
      await restartA({});
      await onA.isRunning(daemonA, 60_000);
      await change();
      await assertEqualToEtcd(cluster, [onA, onB]);
      // A slow etcd is not one that is away.
      assert.equal(daemonA.output.match(/datastore cannot be followed/), null, daemonA.output);
    } finally {
      await quicken();
    }
  });

  test('etcd restored from a snapshot that is older than what the hosts know', async () => {
    const snapshot = join(bed.dir, 'snapshot');
    await cluster.etcdctl('--command-timeout=60s', 'snapshot', 'save', snapshot);
    await change();
    await assertEqualToEtcd(cluster, [onA, onB]);
    await cluster.restoreEtcd(snapshot);
    await eventually('followed again', async () => (await isFollowed(onA)) && (await isFollowed(onB)), LONG);
    await change();
  });

  test('the clock of the host is set a year on, two days back, and etcd away meanwhile', async () => {
    const clock = join(a.dir, 'clock');
    const set = (ms: number) => writeFile(clock, String(ms));
    await set(0);
    await restartA({ NODE_OPTIONS: `--import=${MOVED_CLOCK}`, MOVED_CLOCK: clock });
    await onA.isRunning(daemonA);
    for (const ms of [365 * DAY_MS, -2 * DAY_MS]) {
      await set(ms);
      await change();
      await assertEqualToEtcd(cluster, [onA, onB]);
      await cluster.stopEtcd();
      await eventually('stale is said', async () => !(await isFollowed(onA)), LONG);
      const since = Date.parse((await stateOf(onA))?.datastore.since ?? '');
      assert.ok(Math.abs(since - ms - Date.now()) < DAY_MS / 2, 'the clock that it goes by is the moved one');
      // While it waits for etcd the clock moves once more.
      await set(ms - DAY_MS);
      await cluster.startEtcd();
      await eventually('followed again', () => isFollowed(onA), LONG);
    }
    await restartA({});
    await onA.isRunning(daemonA);
    await change();
  });

  test('the disk is full: lease and traffic go on, status and log say so, and files are written when there is room', async () => {
    const disk = join(a.dir, 'disk');
    await mkdir(disk);
    const subnetFile = join(disk, 'subnet.env');
    // A mount namespace of its own: the mount goes with the process.
    const script = `mount -t tmpfs -o size=64k tmpfs ${disk} && mkdir ${disk}/state && cat /dev/zero >${disk}/full 2>/dev/null; exec "$@"`;
    const alone = ['unshare', '--mount', 'sh', '-c', script, 'sh'];
    const inside = (...argv: string[]) => run(['nsenter', `--mount=/proc/${daemonA.pid}/ns/mnt`, '--', ...argv]);
    const warned = async () =>
      (await stateOf(onA))?.warnings
        .filter((text) => text.includes('cannot be written'))
        .map((text) => text.split(' ')[0]);
    await restartA({ VTEPD_STATE_DIR: `${disk}/state` }, subnetFile, alone);
    const full = [subnetFile, `${disk}/state/default.json`].sort();
    await eventually(
      'status says so',
      async () => {
        const files = (await warned()) ?? [];
        return full.every((file) => files.includes(file));
      },
      LONG,
    );
    await daemonA.waitFor(/subnet\.env cannot be written \(ENOSPC/);
    assert.equal((await stateOf(onA))?.ready, false, 'nobody knows the subnet yet');
    await change();
    const route = `10.246.${200 + generation}.0/24`;
    await eventually('changes are followed', async () => (await a.ns.exec(['ip', 'route'])).includes(route));
    await inside('rm', join(disk, 'full'));
    await onA.isRunning(daemonA, 60_000);
    await eventually('no more warnings', async () => (await warned())?.length === 0, LONG);
    assert.equal(await inside('cat', subnetFile), await readFile(onA.subnetFile, 'utf8'));
    await restartA({});
    await onA.isRunning(daemonA);
  });

  test('a second daemon on one host, of the same instance or of another one, is refused and disturbs nothing', async () => {
    const again = onA.run(...FLAGS);
    assert.notEqual(await again.exited, 0);
    assert.match(again.output, new RegExp(`already running, pid ${daemonA.pid}`));
    const other = a.ns.background(
      [onA.command, 'run', '--instance', 'other', '--subnet-file', join(a.dir, 'other.env'), ...FLAGS],
      { env: onA.env },
    );
    assert.notEqual(await other.exited, 0);
    assert.match(other.output, /UDP port 4789 is in use by another socket/);
    await change();
  });
});
