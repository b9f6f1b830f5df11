/** Starts without etcd: the last known leases serve until etcd tells otherwise. */
import assert from 'node:assert/strict';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost, HOST_A, HOST_B } from './lib/bed.ts';
import { assertPing } from './lib/checks.ts';
import { Cluster, ENDPOINT } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { type Background, eventually } from './lib/exec.ts';
import { VtepdHost } from './lib/vtepd.ts';

describe('a host whose state directory is full', { skip: await withoutEtcd() }, () => {
  let bed: Bed;

  after(() => bed?.destroy());

  test('has its network all the same, and says what it cannot keep', async () => {
    bed = await Bed.create({ hosts: [HOST_A, HOST_B] });
    const [a, b] = [bed.host('a'), bed.host('b')];
    const cluster = await Cluster.start(bed);
    await cluster.addVtepd(b);
    const state = join(a.dir, 'state');
    await mkdir(state, { recursive: true });
    // A mount namespace of its own: the mount goes with the process.
    const script = `mount -t tmpfs -o size=4k tmpfs ${state} && head -c 8192 /dev/zero > ${state}/full; exec "$@"`;
    const vtepd = await VtepdHost.on(a);
    const flags = ['run', '--subnet-file', vtepd.subnetFile, '--etcd-endpoints', ENDPOINT, '--iface', 'eth0'];
    await writeFile(vtepd.subnetFile, `FLANNEL_SUBNET=${a.gateway}/24\n`);
    const argv = ['unshare', '--mount', 'sh', '-c', script, 'sh', vtepd.command, ...flags];
    const daemon = a.ns.background(argv, { env: vtepd.env });
    await vtepd.isRunning(daemon);
    await assertPing(a, b);
    await eventually('the log says so', async () => /cannot be kept on disk/.test(daemon.output));
    await daemon.stop();
  });
});

describe('a host that boots while etcd is away', { skip: await withoutEtcd() }, () => {
  let bed: Bed;
  let cluster: Cluster;
  let a: BedHost;
  let b: BedHost;
  let onA: VtepdHost;
  let daemonA: Background;

  before(async () => {
    bed = await Bed.create({ hosts: [HOST_A, HOST_B] });
    [a, b] = [bed.host('a'), bed.host('b')];
    cluster = await Cluster.start(bed);
    [{ vtepd: onA, daemon: daemonA }] = await Promise.all([cluster.addVtepd(a), cluster.addVtepd(b)]);
    await assertPing(a, b);
  });
  after(() => bed?.destroy());

  test('has its network back from disk, says since when it is stale, and follows etcd when that is back', async () => {
    const lease = await cluster.lease(a);
    const env = await readFile(onA.subnetFile, 'utf8');
    await daemonA.stop();
    // A reboot: processes, device, and all below /run are gone; the state directory is not.
    await onA.withDataplane((client) => client.request('shutdown', { delete_taps: true }));
    await rm(onA.subnetFile);
    await cluster.stopEtcd();
    daemonA = onA.run('--etcd-endpoints', ENDPOINT, '--iface', 'eth0');
    const { datastore } = await onA.isRunning(daemonA);
    assert.equal(datastore.state, 'stale');
    assert.ok(Date.now() - Date.parse(datastore.since) < 60_000);
    assert.match(datastore.reason ?? '', /etcd has not answered since the start/);
    assert.equal(await readFile(onA.subnetFile, 'utf8'), env);
    await assertPing(a, b);
    await assertPing(b, a);
    await cluster.startEtcd();
    await eventually(
      'etcd is followed again',
      async () => {
        const { controller } = await onA.status();
        return controller.running && controller.datastore.state === 'fresh';
      },
      { timeoutMs: 30_000 },
    );
    assert.equal(await cluster.lease(a), lease);
    await assertPing(a, b);
  });
});
