/** What others do to our device, our routes and the underlay is put right or followed, and told. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { assertPing } from './lib/checks.ts';
import { leaseValue } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { eventually } from './lib/exec.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';

/** The host is compared every 10 s, the underlay looked at every 5 s and followed when it was seen twice. */
const SOON = { timeoutMs: 25_000 };

describe('a host on which others change things', { skip: await withoutEtcd() }, () => {
  let { bed, cluster, a, b, onA, onB, daemonA } = {} as ClusterBed;

  before(async () => {
    ({ bed, cluster, a, b, onA, onB, daemonA } = await clusterBed());
  });
  after(() => bed?.destroy());

  const show = (...words: string[]): Promise<string> => a.ns.exec(['ip', '-4', '-o', ...words]);

  async function repairs(): Promise<number> {
    const { controller } = await onA.status();
    return controller.running ? controller.plane.repairs : -1;
  }

  test('a missing address, a missing route and a left-over route: back as they were, each with a word', async () => {
    const before = await repairs();
    await a.ns.ip(
      'addr add 10.246.99.0/32 dev flannel.3',
      'addr del 10.246.30.0/32 dev flannel.3',
      'route add 10.246.98.0/24 via 10.246.98.0 dev flannel.3 onlink proto 86',
    );
    await a.ns.exec(['sh', '-c', `ip route del ${b.subnet} || true`]);
    await eventually(
      'all is as it was',
      async () => {
        const [addresses, routes] = [await show('addr', 'show', 'dev', 'flannel.3'), await show('route')];
        return (
          / 10\.246\.30\.0\/32 /.test(addresses) &&
          !/10\.246\.99\.0/.test(addresses) &&
          /10\.246\.13\.0\/24 via 10\.246\.13\.0 dev flannel\.3/.test(routes) &&
          !/10\.246\.98\.0/.test(routes)
        );
      },
      SOON,
    );
    assert.ok((await repairs()) >= before + 3);
    await daemonA.waitFor(/put right: address 10\.246\.30\.0\/32 was missing on flannel\.3/);
    await daemonA.waitFor(/put right: address 10\.246\.99\.0\/32 was left over on flannel\.3/);
    await assertPing(a, b);
  });

  test('a MAC that systemd or NetworkManager changes is set back to the one in the lease', async () => {
    const before = await repairs();
    const mac = /"VtepMAC":"([0-9a-f:]{17})"/.exec((await cluster.lease(a)) ?? '')?.[1] ?? '';
    await a.ns.ip('link set flannel.3 address 0e:00:00:00:00:77');
    await eventually('the MAC is back', async () => (await show('link', 'show', 'flannel.3')).includes(mac), SOON);
    assert.equal(await cluster.lease(a), leaseValue(a.ipv4, 3, mac));
    await assertPing(a, b);
    await daemonA.waitFor(/differs from what it should be and is put right/);
    assert.ok((await repairs()) > before);
  });

  test('a device that is renamed, or deleted, is made again with its MAC, address and routes', async () => {
    const lease = await cluster.lease(a);
    const before = await repairs();
    await a.ns.ip('link set flannel.3 down', 'link set flannel.3 name other0');
    await eventually('the device is there', async () => /flannel\.3/.test(await show('route')), SOON);
    await assertPing(a, b);
    await a.ns.ip('link del flannel.3');
    await eventually('the device is there', async () => /dev flannel\.3/.test(await show('route')), SOON);
    assert.equal(await cluster.lease(a), lease);
    await assertPing(a, b);
    assert.equal(daemonA.output.match(/the network is made anew/g)?.length, 2);
    assert.ok((await repairs()) >= before + 2);
  });

  test('an underlay that flaps: traffic is back with it, and nothing of ours had to be put right', async () => {
    const before = await repairs();
    for (let flaps = 0; flaps < 3; flaps++) await a.ns.ip('link set eth0 down', 'link set eth0 up');
    await assertPing(a, b);
    assert.match(await show('route'), /10\.246\.13\.0\/24 via 10\.246\.13\.0 dev flannel\.3/);
    assert.equal(await repairs(), before);
    assert.doesNotMatch(daemonA.output, /underlay has changed/);
  });

  test("the underlay's MTU is followed, on the device and in subnet.env", async () => {
    await a.ns.ip('link set eth0 mtu 1400');
    await eventually(
      'the new MTU',
      async () => /^FLANNEL_MTU=1350$/m.test(await readFile(onA.subnetFile, 'utf8')),
      SOON,
    );
    assert.match(await show('link', 'show', 'flannel.3'), / mtu 1350 /);
    await daemonA.waitFor(
      /"now":\{"underlay":\{"name":"eth0","mtu":1400,[^\n]*the underlay has changed and is followed/,
    );
    await assertPing(a, b);
    await a.ns.ip('link set eth0 mtu 1500');
    await eventually('the old MTU', async () => / mtu 1450 /.test(await show('link', 'show', 'flannel.3')), SOON);
  });

  test('another underlay address: the lease names it, with the same subnet, and peers follow', async () => {
    const before = (await cluster.lease(a)) ?? '';
    await a.ns.ip('addr add 10.245.1.33/24 dev eth0', 'addr del 10.245.1.3/24 dev eth0');
    await a.ns.exec(['sh', '-c', 'ip addr show dev eth0 | grep -q 10.245.1.33 || ip addr add 10.245.1.33/24 dev eth0']);
    await eventually(
      'the lease names the new address',
      async () => (await cluster.lease(a)) === before.replace('10.245.1.3', '10.245.1.33'),
      { timeoutMs: 60_000 },
    );
    await daemonA.waitFor(/"publicIp":"10\.245\.1\.33"[^\n]*our lease names the new address/);
    const vteps = async () =>
      (await onB.fdb('flannel.3')).flatMap(({ destinations }) => destinations.map(({ ip }) => ip));
    await eventually('host b has followed', async () => (await vteps()).join() === '10.245.1.33');
    await assertPing(a, b);
    await assertPing(b, a);
  });

  test('an address that changes while vtepd is down changes the lease, not the subnet', async () => {
    const before = (await cluster.lease(a)) ?? '';
    await daemonA.stop();
    await a.ns.ip('addr add 10.245.1.34/24 dev eth0');
    await a.ns.exec(['sh', '-c', 'ip addr del 10.245.1.33/24 dev eth0; ip addr add 10.245.1.34/24 dev eth0 || true']);
    ({ daemon: daemonA } = await cluster.addVtepd(a));
    assert.equal(await cluster.lease(a), before.replace('10.245.1.33', '10.245.1.34'));
    await assertPing(a, b);
  });

  test('behind a NAT whose address changes: the settings file and SIGHUP, without a restart', async () => {
    const before = (await cluster.lease(a)) ?? '';
    const file = join(a.dir, 'vtepd.yaml');
    await daemonA.stop();
    await writeFile(file, 'public-ip: 203.0.113.7\n');
    ({ daemon: daemonA } = await cluster.addVtepd(a, '--config', file));
    assert.equal(await cluster.lease(a), before.replace('10.245.1.34', '203.0.113.7'));
    await writeFile(file, 'public-ip: nonsense\n');
    process.kill(daemonA.pid, 'SIGHUP');
    await daemonA.waitFor(/they are not usable/);
    await writeFile(file, 'public-ip: 203.0.113.8\nlog-level: warn\n');
    process.kill(daemonA.pid, 'SIGHUP');
    await eventually(
      'the lease names the new address',
      async () => (await cluster.lease(a)) === before.replace('10.245.1.34', '203.0.113.8'),
      SOON,
    );
    await daemonA.waitFor(/other settings than public-ip and public-ipv6 have changed as well/);
    assert.ok(daemonA.running);
  });
});
