/** Several networks in one daemon: each with its prefix, subnet file, VNI or backend, and its own peers. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost, HOST_A, HOST_B } from './lib/bed.ts';
import { Cluster, ENDPOINT, PREFIX } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import type { Background } from './lib/exec.ts';
import { readEnvFile, VtepdHost } from './lib/vtepd.ts';

const NETWORKS = {
  blue: { Network: '10.250.0.0/16', Backend: { Type: 'vxlan', VNI: 5, Port: 4789 } },
  red: { Network: '10.251.0.0/16', Backend: { Type: 'vxlan', VNI: 6, Port: 4789 } },
  plain: { Network: '10.252.0.0/16', Backend: { Type: 'host-gw' } },
};
const NAMES = Object.keys(NETWORKS) as (keyof typeof NETWORKS)[];

describe('a host in three networks', { skip: await withoutEtcd() }, () => {
  let bed: Bed;
  let cluster: Cluster;
  let a: BedHost;
  let b: BedHost;
  const daemons = new Map<BedHost, { vtepd: VtepdHost; daemon: Background }>();
  const first = new Map<string, string>();

  const fileOf = (host: BedHost, name: string): string => join(host.dir, `${name}.env`);

  async function start(host: BedHost): Promise<void> {
    const vtepd = await VtepdHost.on(host);
    const config = join(host.dir, 'vtepd.yaml');
    const networks = NAMES.map((name) => ({ name, 'subnet-file': fileOf(host, name) }));
    await writeFile(config, JSON.stringify({ 'etcd-endpoints': ENDPOINT, iface: 'eth0', networks }));
    const daemon = vtepd.background('run', '--config', config);
    await vtepd.isRunning(daemon);
    daemons.set(host, { vtepd, daemon });
  }

  before(async () => {
    bed = await Bed.create({ hosts: [HOST_A, HOST_B] });
    [a, b] = [bed.host('a'), bed.host('b')];
    cluster = await Cluster.start(bed);
    for (const name of NAMES) {
      await cluster.etcdctl('put', `${PREFIX}/${name}/config`, JSON.stringify(NETWORKS[name]));
    }
    await Promise.all([start(a), start(b)]);
    for (const host of [a, b]) {
      for (const name of NAMES) {
        const address = (await readEnvFile(fileOf(host, name))).get('FLANNEL_SUBNET') ?? '';
        await host.ns.ip(`link add ${name} type bridge`, `link set ${name} up`, `addr add ${address} dev ${name}`);
        first.set(`${host.label} ${name}`, address.replace(/\/.*/, ''));
      }
    }
  });
  after(() => bed?.destroy());

  test('each network carries its own traffic, from its own addresses only', async () => {
    for (const name of NAMES) {
      const [from = '', to = ''] = [first.get(`a ${name}`), first.get(`b ${name}`)];
      await a.ns.exec(['ping', '-c', '3', '-i', '0.05', '-W', '2', '-I', from, to]);
    }
    const wrong = ['ping', '-c', '2', '-i', '0.05', '-W', '1', '-I', 'blue', first.get('b red') ?? ''];
    assert.notEqual((await a.ns.tryExec(wrong)).status, 0);
    assert.match(await a.ns.exec(['ip', 'route']), /10\.250\.\d+\.0\/24 via 10\.250\.\d+\.0 dev flannel\.5/);
    assert.match(await a.ns.exec(['ip', 'route']), /10\.252\.\d+\.0\/24 via 10\.245\.1\.4 dev eth0/);
  });

  test('status lists all', async () => {
    const status = await daemons.get(a)?.vtepd.status();
    assert.ok(status?.controller.running);
    assert.deepEqual(
      status.controller.networks.map(({ name, ready, peers, network }) => [name, ready, peers, network?.vni ?? null]),
      [
        ['blue', true, 1, 5],
        ['red', true, 1, 6],
        ['plain', true, 1, null],
      ],
    );
    const text = await daemons.get(a)?.vtepd.cli('status');
    for (const name of NAMES)
      assert.match(text ?? '', new RegExp(`^joined +${name}: ready\n^datastore .*\n^lease +10.`, 'm'));
    const peers = await daemons.get(a)?.vtepd.json<{ network: string; subnet: string }[]>('peers');
    assert.deepEqual(peers?.map(({ network, subnet }) => [network, subnet.replace(/\.\d+\.0\/24$/, '')]).sort(), [
      ['flannel.5', '10.250'],
      ['flannel.6', '10.251'],
    ]);
  });

  test('a restart keeps every lease, device and subnet file; a network left out is removed', async () => {
    const held = () => cluster.etcdctl('get', '--prefix', PREFIX);
    const texts = () => Promise.all(NAMES.map((name) => readFile(fileOf(a, name), 'utf8')));
    const links = () => a.ns.exec(['ip', '-o', 'link', 'show', 'type', 'tun']);
    const before = [await held(), await texts(), await links()];
    await daemons.get(a)?.daemon.stop();
    await start(a);
    assert.deepEqual([await held(), await texts(), await links()], before);
    const running = daemons.get(a);
    await running?.daemon.stop();
    const flags = ['--networks', 'red', '--etcd-endpoints', ENDPOINT, '--iface', 'eth0'];
    const config = join(a.dir, 'one.yaml');
    await writeFile(config, JSON.stringify({ networks: [{ name: 'red', 'subnet-file': fileOf(a, 'red') }] }));
    const daemon = running?.vtepd.background('run', '--config', config, ...flags.slice(2));
    assert.ok(daemon !== undefined);
    await running?.vtepd.isRunning(daemon);
    assert.doesNotMatch(await links(), /flannel\.5/);
    assert.match(await links(), /flannel\.6/);
    assert.doesNotMatch(await a.ns.exec(['ip', 'route']), /10\.252\.\d+\.0\/24 via/);
    await daemon.stop();
  });
});
