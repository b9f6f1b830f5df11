/** What happened to real flannel hosts, as it should have ended: leases lost, etcd away, keys gone while nobody looked. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertPing } from './lib/checks.ts';
import { leaseKey, PREFIX } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { eventually } from './lib/exec.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';
import { startPing } from './lib/traffic.ts';

describe('three hosts that start at one moment', { skip: await withoutEtcd() }, () => {
  let { bed, cluster, a, b, c, onA, daemonA } = {} as ClusterBed<'a' | 'b' | 'c'>;

  before(async () => {
    ({ bed, cluster, a, b, c, onA, daemonA } = await clusterBed({ run: { a: [], b: [], c: [] } }));
  });
  after(() => bed?.destroy());

  const isFollowed = async (): Promise<boolean> => {
    const { controller } = await onA.status();
    return controller.running && controller.datastore.state === 'fresh' && controller.leaseLost === null;
  };

  test('every pair is joined', async () => {
    for (const from of [a, b, c]) for (const to of [a, b, c]) if (from !== to) await assertPing(from, to);
  });

  test('the own key deleted under a 100/s ping: the same subnet again, no packet lost', async () => {
    const value = await cluster.lease(a);
    const pings = startPing(a.container, b.address);
    await cluster.deleteLease(a);
    await eventually('the lease is back', async () => (await cluster.lease(a)) === value);
    await eventually('all is well', isFollowed);
    // This host changes nothing, and its peers have a grace before they let go of a host whose key is gone.
    const result = await pings.stop();
    assert.equal(result.received, result.sent, result.text);
  });

  test('etcd stopped, started and compacted under a 100/s ping: no packet lost, what changed is followed', async () => {
    const pings = startPing(a.container, b.address);
    await cluster.stopEtcd();
    await eventually('stale is said', async () => !(await isFollowed()), { timeoutMs: 20_000 });
    await cluster.startEtcd();
    await cluster.putLease({ base: '10.246.60.0' }, '10.245.1.60', '02:00:00:00:01:60');
    const { header } = JSON.parse(await cluster.etcdctl('get', 'none', '-w', 'json')) as {
      header: { revision: number };
    };
    await cluster.etcdctl('compact', String(header.revision));
    await eventually('all is well', isFollowed, { timeoutMs: 30_000 });
    await eventually('the new host', async () => /10\.246\.60\.0/.test(await a.ns.exec(['ip', 'route'])));
    const result = await pings.stop();
    assert.equal(result.received, result.sent, result.text);
    await cluster.deleteLease({ base: '10.246.60.0' });
  });

  test('keys deleted and changed while the controller is down: nothing stale after its start', async () => {
    const gone = { base: '10.246.61.0' };
    const moved = { base: '10.246.62.0' };
    await cluster.putLease(gone, '10.245.1.61', '02:00:00:00:01:61');
    await cluster.putLease(moved, '10.245.1.62', '02:00:00:00:01:62');
    const routes = () => a.ns.exec(['ip', 'route']);
    await eventually('both are there', async () => /10\.246\.61\.0.*10\.246\.62\.0/s.test(await routes()));
    await daemonA.stop();
    await cluster.deleteLease(gone);
    await cluster.putLease(moved, '10.245.1.63', '02:00:00:00:01:63');
    ({ daemon: daemonA } = await cluster.addVtepd(a));
    assert.doesNotMatch(await routes(), /10\.246\.61\.0/);
    const fdb = await onA.fdb(cluster.device);
    assert.equal(
      fdb.some(({ mac }) => /^02:00:00:00:01:6[12]$/.test(mac)),
      false,
    );
    assert.equal(fdb.find(({ mac }) => mac === '02:00:00:00:01:63')?.destinations[0]?.ip, '10.245.1.63');
    await cluster.deleteLease(moved);
  });

  test('the controller killed and started again while etcd is away: no packet lost, and it says what it goes by', async () => {
    await eventually('known on disk', async () => (await cluster.lease(a)) !== undefined);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const pings = startPing(a.container, b.address);
    await cluster.stopEtcd();
    await daemonA.stop('SIGKILL');
    daemonA = onA.run('--etcd-endpoints', 'http://10.245.1.1:2379', '--iface', 'eth0');
    const { datastore } = await onA.isRunning(daemonA);
    assert.deepEqual([datastore.state, /known at/.test(datastore.reason ?? '')], ['stale', true]);
    const result = await pings.stop();
    assert.equal(result.received, result.sent, result.text);
    await cluster.startEtcd();
    await eventually('all is well', isFollowed, { timeoutMs: 30_000 });
  });

  test('no lease was doubled on the way', async () => {
    const keys = (await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets/`, '--keys-only'))
      .split('\n')
      .filter((line) => line !== '');
    assert.deepEqual(keys.sort(), [a, b, c].map(leaseKey).sort());
  });
});
