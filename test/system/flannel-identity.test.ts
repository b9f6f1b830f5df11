/** Two hosts with one PublicIP: flanneld merges them into one lease, vtepd refuses the second and says why. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startEtcd, withoutEtcd } from './lib/etcd.ts';
import { EtcdHost, NEVER, ownHost } from './lib/etcd-host.ts';
import { eventually } from './lib/exec.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';

const ENDPOINT = 'http://10.245.1.1:2379';

describe('two hosts with one PublicIP', { skip: await withoutEtcd() }, () => {
  let { bed, cluster, a, onB, daemonA } = {} as ClusterBed<'a', 'b'>;

  before(async () => {
    ({ bed, cluster, a, onB, daemonA } = await clusterBed({ run: { a: [] }, bare: ['b'] }));
  });
  after(() => bed?.destroy());

  test('a host that writes its own MAC into our lease, as flanneld does, is named; our value comes back', async () => {
    const before = await cluster.lease(a);
    await cluster.putLease(a, a.ipv4, '02:00:00:00:01:99');
    await eventually('our value is back', async () => (await cluster.lease(a)) === before);
    await daemonA.waitFor(/another host uses our PublicIP 10\.245\.1\.3 and has written its VtepMAC 02:00:00:00:01:99/);
  });

  test('the second is refused, the lease of the first stays as it is, and --take-over-lease lets it pass', async () => {
    const before = await cluster.lease(a);
    const flags = ['--etcd-endpoints', ENDPOINT, '--iface', 'eth0', '--public-ip', a.ipv4];
    const refused = onB.run(...flags);
    assert.equal(await refused.exited, 1, refused.output);
    assert.match(refused.output, /lease 10\.246\.30\.0-24 carries our PublicIP 10\.245\.1\.3/);
    assert.match(refused.output, /--take-over-lease/);
    assert.equal(await cluster.lease(a), before);
    const forced = onB.run(...flags, '--take-over-lease');
    const { lease } = await onB.isRunning(forced);
    assert.equal(lease?.subnet, a.subnet);
    await forced.stop();
  });
});

describe('two hosts with one PublicIP that start at the same moment', { skip: await withoutEtcd() }, () => {
  test('exactly one gets a lease, in ten tries', async () => {
    const etcd = await startEtcd();
    try {
      await etcd.ctl('put', '/net/config', '{"Network":"10.246.0.0/16","Backend":{"Type":"vxlan"}}');
      for (let round = 0; round < 10; round += 1) {
        const publicIp = `10.245.1.${round + 1}`;
        const hosts = [0, 1].map(() => new EtcdHost({ endpoints: [etcd.endpoint], prefix: '/net' }));
        const outcomes = await Promise.allSettled(
          hosts.map((host, index) => {
            const own = ownHost(publicIp);
            const vtepMac = own.attributes.vtepMac?.replace('0a:01', `0a:f${index}`) as typeof own.attributes.vtepMac;
            const attributes = { ...own.attributes, ...(vtepMac === undefined ? {} : { vtepMac }) };
            return host.datastore.join({ ...own, attributes, ourMacs: vtepMac === undefined ? [] : [vtepMac] }, NEVER);
          }),
        );
        await Promise.all(hosts.map((host) => host.stop()));
        const joined = outcomes.filter(({ status }) => status === 'fulfilled').length;
        const values = (await etcd.ctl('get', '--prefix', '/net/subnets/', '--print-value-only')).split('\n');
        assert.equal(joined, 1, JSON.stringify(outcomes));
        assert.equal(values.filter((value) => value.includes(`"${publicIp}"`)).length, 1);
      }
    } finally {
      await etcd.stop();
    }
  });
});
