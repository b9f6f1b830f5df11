/** `/metrics` of a host with real traffic, read by Prometheus' own checker, also while the dataplane is away. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertTcp } from './lib/checks.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { eventually, run } from './lib/exec.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';
import { ping } from './lib/traffic.ts';

/** A host that has a lease and does not exist. */
const SILENT = '10.245.1.70';
const URL_PATH = 'http://127.0.0.1:8473/metrics';

describe('metrics of a host in a cluster', { skip: await withoutEtcd() }, () => {
  let { bed, cluster, a, b, onA, daemonA } = {} as ClusterBed;

  before(async () => {
    const flags = ['--healthz-ip', '127.0.0.1', '--healthz-port', '8473'];
    ({ bed, cluster, a, b, onA, daemonA } = await clusterBed({ run: { a: flags, b: [] } }));
    await cluster.putLease({ base: '10.246.70.0' }, SILENT, '02:00:00:00:01:70');
    await eventually('the silent host is a peer', async () => (await onA.fdb('flannel.3')).length === 2);
    await eventually('enough is sent to it', async () => {
      await a.ns.tryExec(['ping', '-n', '-c', '8', '-i', '0.05', '-w', '1', '10.246.70.2']);
      const { peers } = await onA.stats();
      return (peers.find(({ ip }) => ip === SILENT)?.tx.packets ?? 0) >= 5;
    });
  });
  after(() => bed?.destroy());

  /** The text as it is served, and each sample's value by its name and labels. */
  async function scrape(): Promise<{ text: string; value: (sample: string) => number }> {
    const script = `const r = await fetch('${URL_PATH}'); process.stdout.write(r.status + ' ' + r.headers.get('content-type') + '\\n' + await r.text())`;
    const [head = '', ...lines] = (await a.ns.exec(['node', '--input-type=module', '-e', script])).split('\n');
    assert.equal(head, '200 text/plain; version=0.0.4; charset=utf-8');
    const samples = new Map(lines.flatMap((line) => (/^[a-z]/.test(line) ? [splitSample(line)] : [])));
    const value = (sample: string): number => {
      const found = samples.get(sample);
      assert.ok(found !== undefined, `${sample} is not among:\n${lines.join('\n')}`);
      return found;
    };
    return { text: lines.join('\n'), value };
  }

  function splitSample(line: string): [string, number] {
    const at = line.lastIndexOf(' ');
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }

  test('counters follow the traffic, and a packet that nobody wants has its reason', async () => {
    const before = await scrape();
    await assertTcp(a, b, 1_000_000);
    const { sent } = await ping(a.ns, '10.246.13.2');
    // A MAC that no lease has.
    await a.ns.ip(
      'neigh add 10.246.99.9 lladdr 02:00:00:00:00:99 dev flannel.3',
      'route add 10.246.99.9 dev flannel.3',
    );
    await a.ns.tryExec(['ping', '-n', '-c', '3', '-i', '0.05', '-w', '1', '10.246.99.9']);
    const now = await scrape();
    const grown = (sample: string): number => now.value(sample) - before.value(sample);
    assert.ok(grown('vtepd_transmit_bytes_total{device="flannel.3"}') > 1_000_000);
    assert.ok(grown('vtepd_receive_packets_total{device="flannel.3"}') >= sent);
    assert.ok(grown('vtepd_drops_total{device="flannel.3",reason="tx_no_destination"}') >= 3);
    assert.ok(grown('vtepd_lane_busy_seconds_total{lane="0"}') > 0);
    assert.equal(now.value('vtepd_vteps{device="flannel.3"}'), 2);
    assert.equal(now.value('vtepd_vteps_silent{device="flannel.3"}'), 1);
    // What `vtepd stats` shows is what is counted here.
    const { networks } = await onA.stats();
    assert.equal((await scrape()).value('vtepd_transmit_packets_total{device="flannel.3"}'), networks[0]?.tx.packets);
  });

  test('lease and etcd', async () => {
    const { value } = await scrape();
    assert.equal(value('vtepd_ready{network="default"}'), 1);
    assert.equal(value('vtepd_peers{network="default"}'), 2);
    assert.equal(value('vtepd_datastore_connected{network="default"}'), 1);
    assert.ok(value('vtepd_datastore_revision{network="default"}') > 1);
    const left = value('vtepd_lease_expiry_timestamp_seconds{network="default"}') - Date.now() / 1_000;
    assert.ok(left > 80_000 && left <= 86_400, `the lease ends in ${left} s`);
    await cluster.stopEtcd();
    await eventually(
      'etcd is away',
      async () => (await scrape()).value('vtepd_datastore_connected{network="default"}') === 0,
      {
        timeoutMs: 30_000,
      },
    );
    assert.ok((await scrape()).value('vtepd_datastore_stale_seconds{network="default"}') > 0);
    await cluster.startEtcd();
    await eventually(
      'etcd is back',
      async () => (await scrape()).value('vtepd_datastore_connected{network="default"}') === 1,
      {
        timeoutMs: 30_000,
      },
    );
  });

  test('a peer that was sent to and never answered is named in status, log and peers', async () => {
    const named = new RegExp(`sent to ${SILENT} and never heard from it: .*UDP port 4789`);
    await eventually(
      'it is named',
      async () => {
        const { controller } = await onA.status();
        return controller.running && controller.warnings.some((warning) => named.test(warning));
      },
      { timeoutMs: 40_000 },
    );
    await daemonA.waitFor(named);
    assert.match(await onA.cli('peers'), /10\.245\.1\.70 +10\.246\.70\.0\/24 .* never +-$/m);
    assert.match(await onA.cli('peers'), /10\.245\.1\.4 +10\.246\.13\.0\/24 .* ago +-$/m);
  });

  test("Prometheus' checker has no complaint", async () => {
    await run(['promtool', 'check', 'metrics'], { input: (await scrape()).text });
  });

  test('a dataplane that stands still, and one that died: the rest is told, and it comes back', async () => {
    const pid = await onA.dataplanePid();
    process.kill(pid, 'SIGSTOP');
    const still = await scrape().finally(() => process.kill(pid, 'SIGCONT'));
    assert.equal(still.value('vtepd_dataplane_up'), 0);
    assert.doesNotMatch(still.text, /vtepd_receive_packets_total/);
    assert.equal(still.value('vtepd_peers{network="default"}'), 2);
    await run(['promtool', 'check', 'metrics'], { input: still.text });
    process.kill(pid, 'SIGKILL');
    await eventually('a new dataplane', async () => {
      const { value } = await scrape();
      return value('vtepd_dataplane_deaths_total') === 1 && value('vtepd_dataplane_up') === 1;
    });
  });
});
