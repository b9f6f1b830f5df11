/** The etcd datastore against a real etcd: configuration, leases, watch. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { EtcdError } from '../../src/datastore/etcd/errors.ts';
import { type EtcdServer, startEtcd, withoutEtcd } from './lib/etcd.ts';
import { EtcdHost, flannelValue, NEVER, ownValue, putAll } from './lib/etcd-host.ts';
import { eventually } from './lib/exec.ts';

const skip = await withoutEtcd();
const NETWORK = '{"Network":"10.246.0.0/16","Backend":{"Type":"vxlan","VNI":3}}';
/** SubnetLen 24 in a /22: .1, .2 and .3 are leased. */
const THREE_SUBNETS = '{"Network":"10.246.0.0/22","SubnetLen":24,"SubnetMin":"10.246.1.0","Backend":{"Type":"vxlan"}}';
const LONG = { timeoutMs: 30_000 };

describe('etcd datastore', { skip, concurrency: false, timeout: 240_000 }, () => {
  let etcd: EtcdServer;
  let count = 0;
  const hosts: EtcdHost[] = [];

  before(async () => {
    etcd = await startEtcd();
  });
  after(async () => {
    await Promise.all(hosts.map((host) => host.stop()));
    await etcd?.stop();
  });

  /** A network of its own for each test. */
  async function network(
    config = NETWORK,
  ): Promise<{ prefix: string; host: (options?: object) => EtcdHost; key: (name: string) => string }> {
    count += 1;
    const prefix = `/test/${count}`;
    await etcd.put(`${prefix}/config`, config);
    const host = (options: object = {}): EtcdHost => {
      const made = new EtcdHost({ endpoints: [etcd.endpoint], prefix, ...options });
      hosts.push(made);
      return made;
    };
    return { prefix, host, key: (name) => `${prefix}/subnets/${name}` };
  }

  /** The etcd lease of a key, in hexadecimal; 0 for none. */
  async function etcdLeaseOf(key: string): Promise<string> {
    const text = await etcd.ctl('get', key, '-w', 'json');
    // A lease id has more digits than a JSON number keeps.
    return BigInt(/"lease":(\d+)/.exec(text)?.[1] ?? '0').toString(16);
  }

  it('config waits until the key is there, and says which', async () => {
    const host = new EtcdHost({ endpoints: [etcd.endpoint], prefix: '/test/later' });
    hosts.push(host);
    const config = host.datastore.config(NEVER);
    await eventually('log line', async () => host.log.includes('/test/later/config'), LONG);
    await etcd.put('/test/later/config', NETWORK);
    assert.equal((await config).network, '10.246.0.0/16');
    assert.equal((await config).backend.vni, 3);
  });

  it('config rejects one that is invalid, and gives up waiting when told', async () => {
    const { host } = await network('{"Network":"10.246.0.0/33"}');
    await assert.rejects(host().datastore.config(NEVER), { name: 'FlannelError' });
    const nowhere = new EtcdHost({ endpoints: [etcd.endpoint], prefix: '/test/nowhere' });
    hosts.push(nowhere);
    await assert.rejects(nowhere.datastore.config(AbortSignal.timeout(300)), { name: 'TimeoutError' });
  });

  it("join writes flannel's key and value on a lease of a day", async () => {
    const { host, key } = await network();
    const a = host();
    const lease = await a.join('10.245.1.3');
    assert.match(lease.key, /^10\.246\.\d+\.0-24$/);
    assert.equal(lease.subnet, lease.key.replace('-', '/'));
    assert.equal(await etcd.get(key(lease.key)), ownValue('10.245.1.3'));
    const ttl = await etcd.ctl('lease', 'timetolive', await etcdLeaseOf(key(lease.key)));
    assert.match(ttl, /granted with TTL\(86400s\)/);
    assert.deepEqual(await a.datastore.ownLease('10.245.1.3', NEVER), lease);
    assert.equal(await a.datastore.ownLease('10.245.1.4', NEVER), undefined);
  });

  it('stop leaves the lease in place; a restart takes it back on the same etcd lease', async () => {
    const { host, key } = await network();
    const first = host();
    const lease = await first.join('10.245.1.3');
    const etcdLease = await etcdLeaseOf(key(lease.key));
    await first.stop();
    assert.equal(await etcd.get(key(lease.key)), ownValue('10.245.1.3'));
    const again = await host().join('10.245.1.3');
    assert.deepEqual(again, lease);
    assert.equal(await etcdLeaseOf(key(lease.key)), etcdLease, 'leases do not pile up');
  });

  it('the previous subnet is taken if it is free, and another one if it is not', async () => {
    const { host, key } = await network();
    assert.equal((await host().join('10.245.1.3', '10.246.77.0/24')).subnet, '10.246.77.0/24');
    await etcd.put(key('10.246.78.0-24'), flannelValue('10.245.1.9'));
    const other = await host().join('10.245.1.4', '10.246.78.0/24');
    assert.notEqual(other.subnet, '10.246.78.0/24');
    assert.equal(await etcd.get(key('10.246.78.0-24')), flannelValue('10.245.1.9'));
  });

  it('a lease of ours that no longer fits the network is deleted, and only that', async () => {
    const { host, key, prefix } = await network();
    await etcd.put(key('10.99.1.0-24'), flannelValue('10.245.1.3'));
    await etcd.put(key('10.246.4.0-24&fd00:246:0:f::-64'), flannelValue('10.245.1.3'));
    await etcd.put(key('10.99.2.0-24'), flannelValue('10.245.1.4'));
    await etcd.put(`${prefix}/subnets-other`, 'x');
    const lease = await host().join('10.245.1.3');
    assert.match(lease.subnet, /^10\.246\./);
    assert.equal(await etcd.get(key('10.99.1.0-24')), undefined);
    assert.equal(
      await etcd.get(key('10.246.4.0-24&fd00:246:0:f::-64')),
      undefined,
      'no dual-stack key in a v4 network',
    );
    assert.equal(await etcd.get(key('10.99.2.0-24')), flannelValue('10.245.1.4'));
    assert.equal(await etcd.get(`${prefix}/subnets-other`), 'x');
  });

  it('three hosts that start together share the three subnets of the network', async () => {
    for (let round = 0; round < 3; round += 1) {
      const { host } = await network(THREE_SUBNETS);
      const leases = await Promise.all(['10.245.1.3', '10.245.1.4', '10.245.1.5'].map((ip) => host().join(ip)));
      assert.deepEqual(leases.map(({ subnet }) => subnet).sort(), ['10.246.1.0/24', '10.246.2.0/24', '10.246.3.0/24']);
    }
  });

  it('a full network is refused with the range that is full', async () => {
    const { host, key } = await network(THREE_SUBNETS);
    for (const n of [1, 2, 3]) await etcd.put(key(`10.246.${n}.0-24`), flannelValue(`10.245.2.${n}`));
    await assert.rejects(
      host().join('10.245.1.3'),
      (error) => error instanceof EtcdError && error.code === 'NETWORK_FULL' && /10\.246\.1\.0/.test(error.message),
    );
  });

  it('a reservation (a key without etcd lease) is used and stays without one', async () => {
    const { host, key } = await network();
    await etcd.put(key('10.246.50.0-24'), flannelValue('10.245.1.3'));
    const a = await host().watchFromSnapshot();
    assert.equal((await a.join('10.245.1.3')).subnet, '10.246.50.0/24');
    assert.equal(await etcd.get(key('10.246.50.0-24')), ownValue('10.245.1.3'));
    assert.equal(await etcdLeaseOf(key('10.246.50.0-24')), '0');
    assert.equal(a.datastore.status().reservation, true);
  });

  it('a lease turned into a reservation while we run stays one', async () => {
    const { host, key } = await network();
    const a = await host().watchFromSnapshot();
    const lease = await a.join('10.245.1.3');
    assert.notEqual(await etcdLeaseOf(key(lease.key)), '0');
    await etcd.put(key(lease.key), ownValue('10.245.1.3'));
    await eventually('reservation', async () => a.datastore.status().reservation, LONG);
    assert.equal(await etcdLeaseOf(key(lease.key)), '0');
    assert.equal(a.count('lease-lost'), 0);
  });

  it('a host put, changed and deleted by others is seen at once and in order', async () => {
    const { host, key } = await network();
    const a = await host().watchFromSnapshot();
    const name = '10.246.34.0-24';
    await etcd.put(key(name), flannelValue('10.245.1.12'));
    await eventually('put', async () => a.leases.get(name)?.attributes.publicIp === '10.245.1.12', LONG);
    await etcd.put(key(name), flannelValue('10.245.1.13', '02:00:00:00:00:01'));
    await eventually('change', async () => a.leases.get(name)?.attributes.vtepMac === '02:00:00:00:00:01', LONG);
    assert.equal(a.leases.get(name)?.attributes.publicIp, '10.245.1.13');
    await etcd.ctl('del', key(name));
    await eventually('delete', async () => !a.leases.has(name), LONG);
    const types = a.events.flatMap((event) =>
      event.type === 'changes' ? event.changes.map((change) => change.type) : [],
    );
    assert.deepEqual(types, ['put', 'put', 'delete']);
    const revisions = a.events.flatMap((event) => (event.type === 'changes' ? [event.revision] : []));
    assert.ok(revisions.every((revision, index) => index === 0 || revision > (revisions[index - 1] as number)));
  });

  it('an unreadable key is told by name, skipped, and disturbs no other', async () => {
    const { host, key, prefix } = await network();
    await etcd.put(key('10.246.5.0-24'), 'not json');
    const a = await host().watchFromSnapshot();
    assert.deepEqual([...a.bad.keys()], ['10.246.5.0-24']);
    await etcd.put(key('helper'), 'x');
    await etcd.put(key('10.246.6.7-24'), flannelValue('10.245.1.6'));
    await etcd.put(`${prefix}/subnets-x`, 'x');
    await etcd.put(key('10.246.7.0-24'), flannelValue('10.245.1.7'));
    await eventually('good key', async () => a.leases.has('10.246.7.0-24'), LONG);
    assert.deepEqual([...a.bad.keys()].sort(), ['10.246.5.0-24', '10.246.6.7-24', 'helper']);
    // A lease that becomes unreadable is withdrawn.
    await etcd.put(key('10.246.7.0-24'), '{"PublicIP":""}');
    await eventually('withdrawn', async () => !a.leases.has('10.246.7.0-24') && a.bad.has('10.246.7.0-24'), LONG);
    await etcd.put(key('10.246.7.0-24'), flannelValue('10.245.1.7'));
    await eventually('readable again', async () => a.leases.has('10.246.7.0-24') && !a.bad.has('10.246.7.0-24'), LONG);
    assert.equal(a.datastore.status().badKeys, 3);
    // Its subnet counts as taken all the same.
    assert.notEqual((await host().join('10.245.1.3', '10.246.5.0/24')).subnet, '10.246.5.0/24');
    assert.equal(await etcd.get(key('10.246.5.0-24')), 'not json');
  });

  it('a listing of many pages is whole', async () => {
    const { host, prefix } = await network();
    const names = Array.from({ length: 1200 }, (_, n) => `10.246.${n >> 4}.${(n & 15) * 16}-28`);
    await putAll(
      etcd.endpoint,
      names.map((name, n) => [`${prefix}/subnets/${name}`, flannelValue(`10.200.${n >> 8}.${n & 255}`)]),
    );
    const a = await host().watchFromSnapshot();
    assert.equal(a.leases.size, 1200);
    assert.equal(a.snapshots, 1);
  });

  it('our key deleted: lease-lost, then the same subnet again', async () => {
    const { host, key } = await network();
    const a = await host().watchFromSnapshot();
    const lease = await a.join('10.245.1.3');
    await etcd.ctl('del', key(lease.key));
    await a.seen('lease-lost');
    const { lease: regained } = await a.seen('lease-regained');
    assert.deepEqual(regained, lease);
    await eventually('key again', async () => (await etcd.get(key(lease.key))) === ownValue('10.245.1.3'), LONG);
  });

  it('our etcd lease revoked: regained on a new one', async () => {
    const { host, key } = await network();
    const a = await host().watchFromSnapshot();
    const lease = await a.join('10.245.1.3');
    const before = await etcdLeaseOf(key(lease.key));
    await etcd.ctl('lease', 'revoke', before);
    assert.deepEqual((await a.seen('lease-regained')).lease, lease);
    const now = await etcdLeaseOf(key(lease.key));
    assert.ok(now !== before && now !== '0');
  });

  it('lost while nobody watches: told to whoever watches next', async () => {
    const { host, key } = await network();
    const a = host();
    const lease = await a.join('10.245.1.3');
    await etcd.ctl('del', key(lease.key));
    await eventually('key again', async () => (await etcd.get(key(lease.key))) === ownValue('10.245.1.3'), LONG);
    await a.watchFromSnapshot();
    await a.seen('lease-regained');
    assert.deepEqual(a.events.map((event) => event.type).slice(0, 3), ['snapshot', 'lease-lost', 'lease-regained']);
  });

  it("our key with another host's PublicIP is left to that host: another subnet", async () => {
    const { host, key } = await network();
    const a = await host().watchFromSnapshot();
    const lease = await a.join('10.245.1.3');
    await etcd.put(key(lease.key), flannelValue('10.245.1.99'));
    assert.match((await a.seen('lease-lost')).reason, /10\.245\.1\.99/);
    const { lease: regained } = await a.seen('lease-regained');
    assert.notEqual(regained.subnet, lease.subnet);
    assert.equal(await etcd.get(key(lease.key)), flannelValue('10.245.1.99'));
    assert.equal(await etcd.get(key(regained.key)), ownValue('10.245.1.3'));
  });

  it('our key rewritten with other values of ours, or garbage, is put right', async () => {
    const { host, key } = await network();
    const a = await host().watchFromSnapshot();
    const lease = await a.join('10.245.1.3');
    for (const value of [flannelValue('10.245.1.3', '02:00:00:00:00:09'), 'garbage']) {
      await etcd.put(key(lease.key), value);
      await eventually('put right', async () => (await etcd.get(key(lease.key))) === ownValue('10.245.1.3'), LONG);
    }
    assert.equal(a.count('lease-lost'), 0);
  });

  it('two daemons with one PublicIP do not fight at full speed', async () => {
    const { host, key } = await network();
    const a = await host().watchFromSnapshot();
    const lease = await a.join('10.245.1.3');
    const twin = await host().watchFromSnapshot();
    const { attributes } = lease;
    await twin.datastore.join({ attributes: { ...attributes, vni: 2 } }, NEVER);
    const version = async (): Promise<number> =>
      Number(/"version":(\d+)/.exec(await etcd.ctl('get', key(lease.key), '-w', 'json'))?.[1]);
    const before = await version();
    await sleep(4_000);
    assert.ok((await version()) - before < 20, `${(await version()) - before} writes in 4 s`);
  });

  it('our key is announced again some seconds after joining', async () => {
    const { host, key } = await network();
    const a = await host().watchFromSnapshot();
    const lease = await a.join('10.245.1.3');
    const puts = (): number =>
      a.events.filter(
        (event) =>
          event.type === 'changes' && event.changes.some((c) => c.type === 'put' && isDeepStrictEqual(c.lease, lease)),
      ).length;
    await eventually('first put', async () => puts() === 1, LONG);
    await eventually('announcement', async () => puts() === 2, LONG);
    assert.equal(await etcd.get(key(lease.key)), ownValue('10.245.1.3'));
    assert.notEqual(await etcdLeaseOf(key(lease.key)), '0');
  });

  it('a short lease is kept alive beyond its TTL, and by nobody after stop', async () => {
    const { host, key } = await network();
    const a = await host({ leaseTtlSeconds: 3 }).watchFromSnapshot();
    const lease = await a.join('10.245.1.3');
    await sleep(8_000);
    assert.equal(a.count('lease-lost'), 0);
    assert.equal(await etcd.get(key(lease.key)), ownValue('10.245.1.3'));
    await a.stop();
    await eventually('expired', async () => (await etcd.get(key(lease.key))) === undefined, LONG);
  });

  it('joining anew publishes the new attributes on the same key', async () => {
    const { host, key } = await network();
    const a = await host().watchFromSnapshot();
    const lease = await a.join('10.245.1.3');
    const again = await a.datastore.join({ attributes: { ...lease.attributes, vni: 7 } }, NEVER);
    assert.equal(again.key, lease.key);
    assert.match((await etcd.get(key(lease.key))) ?? '', /"VNI":7/);
    await sleep(500);
    assert.match((await etcd.get(key(lease.key))) ?? '', /"VNI":7/, 'the first keeper has ended');
  });

  it('stop ends the watch and every wait, quickly', async () => {
    const { host } = await network();
    const a = await host().watchFromSnapshot();
    await a.join('10.245.1.3');
    const waiting = new EtcdHost({ endpoints: [etcd.endpoint], prefix: '/test/nowhere' });
    const config = waiting.datastore.config(NEVER);
    const refused = assert.rejects(config, { code: 'STOPPED' });
    const started = performance.now();
    await Promise.all([a.stop(), waiting.stop(), refused]);
    assert.ok(performance.now() - started < 5_000);
    await a.stop();
  });
});
