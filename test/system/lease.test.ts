/** `vtepd lease` and `vtepd config check` against a real etcd: what they show is what lies there, what they write is flannel's. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { LeaseRow } from '../../src/cli/lease-row.ts';
import { ENDPOINT, leaseValue, PREFIX } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import type { RunResult } from './lib/exec.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';

const FROM = ['--etcd-endpoints', ENDPOINT];
const DAY = 86_400;
const key = (name: string): string => `${PREFIX}/subnets/${name}`;

describe('leases by the command line', { skip: await withoutEtcd() }, () => {
  let { bed, cluster, a, onA: vtepd } = {} as ClusterBed<never, 'a'>;

  before(async () => {
    ({ bed, cluster, a, onA: vtepd } = await clusterBed({ run: {}, bare: ['a'] }));
    // A flanneld's that is renewed, one that has not been for long, one that nobody can read, one of another backend.
    await put('10.246.81.0-24', leaseValue('10.245.1.81', 3, '02:00:00:00:00:81'), DAY);
    await put('10.246.9.0-24', leaseValue('10.245.1.9', 3, '02:00:00:00:00:09'), 600);
    await cluster.etcdctl('put', key('10.246.77.5-24'), '{"PublicIP":"10.245.1.77"}');
    await put('10.246.90.0-24', '{"PublicIP":"10.245.1.90","PublicIPv6":null,"BackendType":"host-gw"}', DAY);
  });
  after(() => bed?.destroy());

  /** A key with an etcd lease of so many seconds. */
  async function put(name: string, value: string, ttl: number): Promise<void> {
    const [, id = ''] = /lease (\S+) granted/.exec(await cluster.etcdctl('lease', 'grant', String(ttl))) ?? [];
    await cluster.etcdctl('put', `--lease=${id}`, key(name), value);
  }

  function list(...words: string[]): Promise<LeaseRow[]> {
    return vtepd.json<LeaseRow[]>('lease', 'list', ...words);
  }

  function tryLease(...words: string[]): Promise<RunResult> {
    return vtepd.tryCli('lease', ...words, ...FROM);
  }

  async function refused(words: string[], status: number, message: RegExp): Promise<void> {
    const before = await cluster.etcdctl('get', '--prefix', PREFIX);
    const result = await tryLease(...words);
    assert.equal(result.status, status, result.stdout + result.stderr);
    assert.match(result.stderr, message);
    assert.equal(await cluster.etcdctl('get', '--prefix', PREFIX), before, 'nothing was written');
  }

  test('list shows every key in the order of addresses, with its life', async () => {
    const rows = await list(...FROM);
    assert.deepEqual(
      rows.map((row) => row.key),
      ['10.246.9.0-24', '10.246.81.0-24', '10.246.90.0-24', '10.246.77.5-24'],
    );
    const [nine, eightyOne, ninety, bad] = rows;
    assert.ok(eightyOne?.ttl !== null && eightyOne !== undefined && eightyOne.ttl > DAY - 300 && eightyOne.ttl <= DAY);
    const { ttl: _, ...rest } = eightyOne;
    assert.deepEqual(rest, {
      key: '10.246.81.0-24',
      subnet: '10.246.81.0/24',
      subnet6: null,
      public_ip: '10.245.1.81',
      mac: '02:00:00:00:00:81',
      backend: 'vxlan',
      reserved: false,
      granted_ttl: DAY,
      overdue: false,
      problem: null,
    });
    assert.equal(nine?.granted_ttl, 600);
    assert.equal(ninety?.backend, 'host-gw');
    assert.equal(bad?.subnet, null);
    assert.match(bad?.problem ?? '', /host bits|10\.246\.77\.0/);
    const text = await vtepd.cli('lease', 'list', ...FROM);
    assert.match(text, /^KEY +PUBLIC-IP +MAC +BACKEND +TTL +STATE$/m);
    assert.match(text, /^10\.246\.81\.0-24 +10\.245\.1\.81 +02:00:00:00:00:81 +vxlan +(1d00h|23h59m) +live$/m);
    assert.match(text, /^10\.246\.77\.5-24 .* unreadable: /m);
  });

  test('show finds a lease by key, subnet and PublicIP', async () => {
    for (const word of ['10.246.81.0-24', '10.246.81.0/24', '10.245.1.81']) {
      const [row, ...more] = await vtepd.json<LeaseRow[]>('lease', 'show', word, ...FROM);
      assert.equal(row?.mac, '02:00:00:00:00:81');
      assert.deepEqual(more, []);
    }
    assert.match(await vtepd.cli('lease', 'show', '10.245.1.81', ...FROM), /^ttl +\S+ of 1d00h$/m);
    await refused(['show', '10.245.1.99'], 1, /no lease has the key, subnet or PublicIP 10\.245\.1\.99/);
  });

  test("reserve writes a key of flannel's form without an etcd lease, once", async () => {
    const words = ['lease', 'reserve', a.subnet, '--public-ip', a.ipv4, ...FROM];
    assert.deepEqual(await vtepd.json(...words), { key: '10.246.30.0-24', reserved: true, changed: true });
    assert.equal(await cluster.lease(a), '{"PublicIP":"10.245.1.3","PublicIPv6":null}');
    const [kv] = JSON.parse(await cluster.etcdctl('get', key('10.246.30.0-24'), '-w', 'json')).kvs;
    assert.equal(kv.lease ?? 0, 0);
    assert.equal(kv.version, 1);
    assert.deepEqual(await vtepd.json(...words), { key: '10.246.30.0-24', reserved: true, changed: false });
    assert.match(await vtepd.cli('lease', 'list', ...FROM), /^10\.246\.30\.0-24 +10\.245\.1\.3 +- +- +- +reserved$/m);
  });

  test('what is taken, or not leased by the network, cannot be reserved', async () => {
    const reserve = (subnet: string, ip: string): string[] => ['reserve', subnet, '--public-ip', ip];
    await refused(reserve('10.246.81.0/24', '10.245.1.7'), 1, /10\.246\.81\.0-24 of 10\.245\.1\.81 has that subnet/);
    await refused(reserve('10.246.82.0/24', '10.245.1.81'), 1, /10\.245\.1\.81 has 10\.246\.81\.0-24/);
    await refused(reserve('10.246.0.0/24', '10.245.1.7'), 1, /is not leased by this network.* from 10\.246\.1\.0/);
    await refused(reserve('10.246.32.0/20', '10.245.1.7'), 1, /its subnets are \/24/);
    await refused(reserve('10.247.1.0/24', '10.245.1.7'), 1, /is not leased by this network/);
    await refused(reserve('10.246.5.1/24', '10.245.1.7'), 2, /host bits/);
    await refused(reserve('10.246.5.0/24', '0.0.0.0'), 2, /0\.0\.0\.0/);
    await refused(reserve('10.246.5.0/24', '224.0.0.1'), 2, /not a host/);
    await refused(['reserve', '10.246.5.0/24'], 2, /needs a subnet and a host/);
    await refused([...reserve('10.246.5.0/24', '10.245.1.7'), '--etcd-prefix', '/none'], 1, /no network configuration/);
  });

  test('a network with IPv6 has keys of both families, and one without has none', async () => {
    const six = ['--etcd-prefix', '/six'];
    const both = {
      EnableIPv6: true,
      IPv6Network: 'fd00:246::/48',
      Network: '10.246.0.0/16',
      Backend: { Type: 'vxlan' },
    };
    await cluster.etcdctl('put', '/six/config', JSON.stringify(both));
    const words = ['reserve', '10.246.5.0/24', '--public-ip', '10.245.1.5', '--public-ipv6', 'fd00:245:1::5'];
    await refused([...words, 'fd00:246:0:5::/64'], 1, /this network has no IPv6/);
    await refused([...words, ...six], 1, /this network has IPv6: name an IPv6 subnet too/);
    await refused([...words, 'fd00:247:0:5::/64', ...six], 1, /fd00:247:0:5::\/64 is not leased by this network/);
    await refused(
      ['reserve', 'fd00:246:0:5::/64', '--public-ip', '10.245.1.5', ...six],
      2,
      /needs a subnet and a host/,
    );
    await vtepd.cli('lease', ...words, 'fd00:246:0:5::/64', ...six, ...FROM);
    assert.equal(
      await cluster.etcdctl('get', '--prefix', '/six/subnets/'),
      '/six/subnets/10.246.5.0-24&fd00:246:0:5::-64\n{"PublicIP":"10.245.1.5","PublicIPv6":"fd00:245:1::5"}',
    );
    const [row] = await vtepd.json<LeaseRow[]>('lease', 'show', 'fd00:246:0:5::/64', ...six, ...FROM);
    assert.deepEqual([row?.public_ip, row?.subnet, row?.reserved], ['10.245.1.5', '10.246.5.0/24', true]);
  });

  test('the host takes its reservation, and the key stays reserved; it is released with --force only', async () => {
    // No subnet.env, no record: nothing but the reservation tells the host its subnet.
    const daemon = vtepd.run(...FROM, '--iface', 'eth0');
    const { lease } = await vtepd.isRunning(daemon);
    assert.equal(lease?.subnet, a.subnet);
    const [row] = await vtepd.json<LeaseRow[]>('lease', 'show', a.ipv4, ...FROM);
    assert.deepEqual([row?.reserved, row?.ttl, row?.mac], [true, null, lease?.mac]);
    // Without flags it is the controller that is asked.
    const asked = await list();
    assert.deepEqual(
      asked.map((each) => [each.key, each.ttl, each.reserved]),
      [
        ['10.246.9.0-24', null, null],
        ['10.246.30.0-24', null, null],
        ['10.246.81.0-24', null, null],
      ],
    );
    await refused(['release', '10.246.30.0-24'], 1, /is reserved and in use by 10\.245\.1\.3; repeat with --force/);
    await daemon.stop();
    await vtepd.cli('lease', 'release', '10.246.30.0-24', '--force', ...FROM);
    assert.equal(await cluster.lease(a), undefined);
  });

  test('release deletes exactly one key; a live one and an unreadable one with --force only', async () => {
    await refused(['release', '10.246.81.0-24'], 1, /is the live lease of 10\.245\.1\.81.*--force/);
    await refused(['release', '10.246.81.0/24'], 1, /there is no key 10\.246\.81\.0\/24/);
    await refused(['release', '10.246.8'], 1, /there is no key/);
    await refused(['release'], 2, /needs a key/);
    await refused(['release', '10.246.77.5-24'], 1, /cannot be read .*--force/);
    await vtepd.cli('lease', 'release', '10.246.77.5-24', '--force', ...FROM);
    await vtepd.cli('lease', 'release', '10.246.81.0-24', '--force', ...FROM);
    await vtepd.cli('lease', 'reserve', '10.246.5.0/24', '--public-ip', '10.245.1.5', ...FROM);
    await vtepd.cli('lease', 'release', '10.246.5.0-24', ...FROM);
    assert.deepEqual(
      (await list(...FROM)).map((row) => row.key),
      ['10.246.9.0-24', '10.246.90.0-24'],
    );
  });

  test('etcd out of reach, and a file in its place', async () => {
    const away = await vtepd.tryCli('lease', 'list', '--etcd-endpoints', 'http://10.245.1.1:1');
    assert.equal(away.status, 1);
    assert.match(away.stderr, /etcd at http:\/\/10\.245\.1\.1:1 cannot be reached/);
    // The first endpoint may be dead.
    assert.equal((await list('--etcd-endpoints', `http://10.245.1.1:1,${ENDPOINT}`)).length, 2);
    const path = join(a.dir, 'hosts.yaml');
    await writeFile(path, HOSTS);
    const [first, second] = await list('--file', path);
    assert.deepEqual([first?.key, first?.public_ip, first?.reserved], ['10.246.13.0-24', '10.245.1.4', true]);
    assert.equal(second?.key, '10.246.30.0-24');
    const refusedFile = await vtepd.tryCli('lease', 'reserve', a.subnet, '--public-ip', a.ipv4, '--file', path);
    assert.equal(refusedFile.status, 2);
    assert.match(refusedFile.stderr, /edit .*hosts\.yaml/);
  });

  test('config check: what would be used, from etcd, a file and a settings file; and what is wrong with it', async () => {
    interface Checked {
      ok: boolean;
      problems: string[];
      warnings: string[];
      settings: { datastore: { password?: string } } | null;
      networks: {
        name: string | null;
        config: { subnetLen: number; backend: { vni: number } } | null;
        hosts: number | null;
      }[];
    }
    const check = async (...words: string[]): Promise<Checked & { status: number }> => {
      const { status, stdout, stderr } = await vtepd.tryCli('config', 'check', ...words, '--json');
      assert.equal(stderr, '');
      return { status, ...(JSON.parse(stdout) as Checked) };
    };
    const good = await check(...FROM);
    assert.deepEqual([good.status, good.ok, good.problems, good.warnings], [0, true, [], []]);
    const [network] = good.networks;
    assert.deepEqual([network?.name, network?.hosts], [null, 2]);
    assert.deepEqual([network?.config?.subnetLen, network?.config?.backend.vni], [24, 3]);
    const none = await check(...FROM, '--etcd-prefix', '/none');
    assert.deepEqual([none.status, none.ok, none.networks[0]?.config], [1, false, null]);
    assert.match(none.problems.join(), /etcd has no key \/none\/config/);
    await cluster.etcdctl('put', '/bad/config', '{"Network":"10.246.0.0/33"}');
    assert.match((await check(...FROM, '--etcd-prefix', '/bad')).problems.join(), /^\/bad\/config: Network/);

    await cluster.etcdctl('put', '/multi/blue/config', cluster.config);
    const several = await check(...FROM, '--etcd-prefix', '/multi', '--networks', 'blue,red');
    assert.deepEqual(
      several.networks.map(({ name, config }) => [name, config === null]),
      [
        ['blue', false],
        ['red', true],
      ],
    );
    assert.match(several.problems.join(), /etcd has no key \/multi\/red\/config/);

    await cluster.etcdctl('put', '/multi/red/config', cluster.config);
    const both = [...FROM, '--etcd-prefix', '/multi', '--networks', 'blue,red'];
    await vtepd.cli('lease', 'reserve', '10.246.5.0/24', '--public-ip', '10.245.1.5', ...both, '--network', 'red');
    assert.equal((await list(...both, '--network', 'red')).length, 1);
    assert.equal((await list(...both, '--network', 'blue')).length, 0);
    assert.match((await vtepd.tryCli('lease', 'list', ...both)).stderr, /several networks \(blue, red\); say which/);

    const settingsFile = join(a.dir, 'vtepd.yaml');
    await writeFile(
      settingsFile,
      `etcd-endpoints: ${ENDPOINT}\netcd-username: u\netcd-password: secret\niface: 10.1\n`,
    );
    const wrong = await check('--config', settingsFile);
    assert.deepEqual([wrong.status, wrong.settings], [1, null]);
    assert.match(wrong.problems.join(), /^iface \(.*vtepd\.yaml: iface\)/);
    await writeFile(settingsFile, `etcd-endpoints: ${ENDPOINT}\netcd-username: u\netcd-password: secret\n`);
    const text = JSON.stringify(await check('--config', settingsFile));
    assert.match(text, /"password":"\(set\)"/);
    assert.doesNotMatch(text, /secret/);

    const path = join(a.dir, 'hosts.yaml');
    await writeFile(path, HOSTS);
    const file = await check('--file', path);
    assert.deepEqual([file.ok, file.networks[0]?.hosts], [true, 2]);
    assert.match(await vtepd.cli('config', 'check', '--file', path), /^backend\.vni +7$[\s\S]*^hosts +2$[\s\S]*^ok$/m);
    await writeFile(path, HOSTS.replace('10.246.13.0/24', '10.246.30.0/24'));
    const twice = await check('--file', path);
    assert.equal(twice.status, 1);
    assert.match(twice.problems.join(), /hosts\.yaml:5:/);
    assert.match((await check('--file', '/nonexistent')).problems.join(), /does not exist/);
  });
});

const HOSTS = `network:
  { Network: 10.246.0.0/16, Backend: { Type: vxlan, VNI: 7 } }
hosts:
  - { publicIP: 10.245.1.3, subnet: 10.246.30.0/24 }
  - { publicIP: 10.245.1.4, subnet: 10.246.13.0/24 }
`;
