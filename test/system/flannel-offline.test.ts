/** Starts without etcd: the last known leases serve until etcd tells otherwise. */
import assert from 'node:assert/strict';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { assertPing } from './lib/checks.ts';
import { ENDPOINT } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { eventually } from './lib/exec.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';

describe('a host whose state directory is full', { skip: await withoutEtcd() }, () => {
  let { bed, a, b, onA: vtepd } = {} as ClusterBed<'b', 'a'>;

  before(async () => {
    ({ bed, a, b, onA: vtepd } = await clusterBed({ run: { b: [] }, bare: ['a'] }));
  });
  after(() => bed?.destroy());

  test('has its network all the same, and says what it cannot keep', async () => {
    const state = join(a.dir, 'state');
    await mkdir(state, { recursive: true });
    // A mount namespace of its own: the mount goes with the process.
    const script = `mount -t tmpfs -o size=4k tmpfs ${state} && head -c 8192 /dev/zero > ${state}/full; exec "$@"`;
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
  let { bed, cluster, a, b, onA, daemonA } = {} as ClusterBed;

  before(async () => {
    ({ bed, cluster, a, b, onA, daemonA } = await clusterBed());
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
