/** Plain routes in the place of the tunnel: DirectRouting, which follows the host's routes, and the host-gw backend. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import type { BedHost } from './lib/bed.ts';
import { assertPing, assertTcp } from './lib/checks.ts';
import { leaseKey, NETWORK, PREFIX } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { eventually } from './lib/exec.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';

/** The underlay is looked at every 5 s, routes every 10 s. */
const FOLLOWED = { timeoutMs: 20_000 };

const start = (backend: object) => clusterBed({ config: { Network: NETWORK, Backend: backend } });

const routeTo = (from: BedHost, to: BedHost): Promise<string> => from.ns.exec(['ip', 'route', 'show', to.subnet]);

describe('DirectRouting', { skip: await withoutEtcd() }, () => {
  let { bed, a, b, onA, daemonA } = {} as ClusterBed;

  before(async () => {
    ({ bed, a, b, onA, daemonA } = await start({ Type: 'vxlan', VNI: 3, Port: 4789, DirectRouting: true }));
    await bed.underlay.exec(['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv4.conf.all.send_redirects=0']);
    await bed.underlay.exec(['sysctl', '-qw', 'net.ipv4.conf.ul0.send_redirects=0']);
  });
  after(() => bed?.destroy());

  test('a peer on the same link has a plain route and no tunnel entry', async () => {
    assert.match(await routeTo(a, b), /via 10\.245\.1\.4 dev eth0/);
    assert.deepEqual(await onA.fdb('flannel.3'), []);
    assert.deepEqual(await onA.neighbours('flannel.3'), []);
    await assertPing(a, b);
    await assertTcp(a, b, 1_000_000);
  });

  test('the peer moves behind a gateway and back: tunnel, plain route, each within seconds', async () => {
    await a.ns.ip('route add 10.245.1.4/32 via 10.245.1.1 dev eth0');
    await eventually('the tunnel is used', async () => /dev flannel\.3/.test(await routeTo(a, b)), FOLLOWED);
    assert.equal((await onA.fdb('flannel.3')).length, 1);
    await assertPing(a, b);
    await a.ns.ip('route del 10.245.1.4/32');
    await eventually('the link is used', async () => /dev eth0/.test(await routeTo(a, b)), FOLLOWED);
    assert.deepEqual(await onA.fdb('flannel.3'), []);
    await assertPing(a, b);
  });

  test('a direct route that an underlay which flaps takes away is back within seconds, told and counted', async () => {
    await a.ns.ip('link set eth0 down', 'link set eth0 up');
    assert.equal((await routeTo(a, b)).trim(), '');
    await eventually('the route is back', async () => /dev eth0/.test(await routeTo(a, b)), FOLLOWED);
    const { controller } = await onA.status();
    assert.ok(controller.running && controller.plane.repairs >= 1);
    await daemonA.waitFor(/put right: route 10\.246\.13\.0\/24 was missing or another on eth0/);
    await assertPing(a, b);
  });
});

describe('the host-gw backend', { skip: await withoutEtcd() }, () => {
  let { bed, a, b, cluster, onA, daemonA } = {} as ClusterBed;

  before(async () => {
    ({ bed, a, b, cluster, onA, daemonA } = await start({ Type: 'host-gw' }));
  });
  after(() => bed?.destroy());

  test('leases, routes and subnet.env are those of flannel; there is no device', async () => {
    assert.equal(await cluster.lease(a), `{"PublicIP":"${a.ipv4}","PublicIPv6":null,"BackendType":"host-gw"}`);
    assert.match(await routeTo(a, b), /via 10\.245\.1\.4 dev eth0/);
    assert.doesNotMatch(await a.ns.exec(['ip', 'link']), /flannel/);
    assert.match(await readFile(onA.subnetFile, 'utf8'), /^FLANNEL_MTU=1500$/m);
    await assertPing(a, b);
    await assertTcp(a, b, 1_000_000);
  });

  test('a route that somebody deletes is back within ten seconds', async () => {
    await a.ns.ip(`route del ${b.subnet}`);
    await eventually('the route is back', async () => /dev eth0/.test(await routeTo(a, b)), FOLLOWED);
    await assertPing(a, b);
  });

  test('hosts that come, leave, or run another backend', async () => {
    const gateway = '{"PublicIP":"10.245.1.77","PublicIPv6":null,"BackendType":"host-gw"}';
    await cluster.etcdctl('put', `${PREFIX}/subnets/10.246.77.0-24`, gateway);
    await cluster.putLease({ base: '10.246.78.0' }, '10.245.1.78', '02:00:00:00:01:78');
    await cluster.etcdctl('put', `${PREFIX}/subnets/10.246.79.0-24`, gateway.replace('10.245.1.77', '192.0.2.79'));
    const show = (subnet: string) => a.ns.exec(['ip', 'route', 'show', subnet]);
    await eventually('the route is there', async () => /via 10\.245\.1\.77/.test(await show('10.246.77.0/24')));
    assert.equal((await show('10.246.78.0/24')).trim(), '', 'a vxlan host is not reached by a plain route');
    assert.equal((await show('10.246.79.0/24')).trim(), '', 'nor is one beyond the link');
    const { controller } = await onA.status();
    assert.ok(controller.running);
    assert.match(controller.warnings.join(), /leases of hosts with another backend than host-gw are ignored: 1/);
    await cluster.etcdctl('del', `${PREFIX}/subnets/10.246.77.0-24`);
    await eventually('the route is gone', async () => (await show('10.246.77.0/24')).trim() === '');
    await eventually(
      'the peer beyond is named',
      async () => {
        const { controller: now } = await onA.status();
        return now.running && now.warnings.some((warning) => warning.includes('192.0.2.79 is not on the same link'));
      },
      FOLLOWED,
    );
  });

  test('a network that is another at the next start: routes of the old one whose leases are gone go', async () => {
    const gone = { base: '10.246.88.0' };
    const show = (subnet: string) => a.ns.exec(['ip', 'route', 'show', subnet]);
    await cluster.etcdctl(
      'put',
      leaseKey(gone),
      '{"PublicIP":"10.245.1.88","PublicIPv6":null,"BackendType":"host-gw"}',
    );
    await eventually('the route is there', async () => /via 10\.245\.1\.88/.test(await show('10.246.88.0/24')));
    await daemonA.stop();
    await cluster.deleteLease(gone);
    const config = { Network: '10.247.0.0/16', Backend: { Type: 'host-gw' } };
    await cluster.etcdctl('put', `${PREFIX}/config`, JSON.stringify(config));
    daemonA = (await cluster.addVtepd(a)).daemon;
    assert.equal((await show('10.246.88.0/24')).trim(), '');
    await daemonA.waitFor(/direct routes of an earlier configuration are removed/);
    // The other host has not been restarted; its lease is still there.
    assert.match(await routeTo(a, b), /via 10\.245\.1\.4 dev eth0/);
  });

  test('cleanup takes the routes away', async () => {
    const { controller } = await onA.status();
    assert.ok(controller.running);
    process.kill(controller.pid, 'SIGTERM');
    await eventually('ended', async () => !(await onA.status()).controller.running);
    assert.match(await onA.cli('cleanup'), /removed 1 direct routes and blackholes/);
    assert.equal((await routeTo(a, b)).trim(), '');
  });
});
