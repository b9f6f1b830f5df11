/** What flannel's own functional and end-to-end tests ask of two hosts, asked of two with vtepd; etcd demands certificates. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost } from './lib/bed.ts';
import { Certificates, withoutOpenssl } from './lib/certificates.ts';
import { type EtcdServer, startEtcd, withoutEtcd } from './lib/etcd.ts';
import { type Background, eventually } from './lib/exec.ts';
import { readEnvFile, VtepdHost } from './lib/vtepd.ts';

/** As flannel waits for it. */
const SUBNET_FILE = { timeoutMs: 30_000 };

const NETWORKS = {
  vxlan: { Network: '10.50.0.0/16', Backend: { Type: 'vxlan' } },
  hostgw: { Network: '10.60.0.0/16', Backend: { Type: 'host-gw' } },
};
type Name = keyof typeof NETWORKS;

describe("flannel's functional tests", { skip: (await withoutEtcd()) || (await withoutOpenssl()) }, () => {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let etcd: EtcdServer;
  let certificates: Certificates;
  const daemons = new Map<string, Background>();

  before(async () => {
    bed = await Bed.create();
    [a, b] = [bed.host('a'), bed.host('b')];
    certificates = await Certificates.make();
    bed.teardown.defer('certificates', () => certificates.remove());
    await certificates.authority('ca');
    await certificates.certificate('server', 'ca', 'subjectAltName=IP:10.245.1.1');
    await certificates.certificate('client', 'ca', 'extendedKeyUsage=clientAuth');
    const file = (name: string): string => certificates.file(name);
    const tls = { ca: file('ca.pem'), cert: file('server.pem'), key: file('server.key'), clientAuth: true };
    etcd = await startEtcd({ netns: bed.underlay.name, address: '10.245.1.1', dir: join(bed.dir, 'etcd'), tls });
    bed.teardown.defer('etcd', () => etcd.stop());
    for (const [name, config] of Object.entries(NETWORKS)) {
      await etcd.put(`/${name}/network/config`, JSON.stringify(config));
    }
  });
  after(() => bed?.destroy());

  const fileOf = (host: BedHost, name: Name): string => join(host.dir, `${name}.env`);

  /** A daemon for one network, of several on one host; waits for its environment file as flannel's tests do. */
  async function start(host: BedHost, name: Name): Promise<void> {
    const vtepd = await VtepdHost.on(host);
    const tls = { cafile: 'ca.pem', certfile: 'client.pem', keyfile: 'client.key' };
    const flags = Object.entries(tls).flatMap(([flag, file]) => [`--etcd-${flag}`, certificates.file(file)]);
    const where = ['--etcd-endpoints', etcd.endpoint, '--etcd-prefix', `/${name}/network`, '--iface', 'eth0'];
    const words = ['run', '--instance', name, '--subnet-file', fileOf(host, name), ...where, ...flags];
    const daemon = vtepd.background(...words);
    daemons.set(`${host.label} ${name}`, daemon);
    await daemon.waitFor(/"msg":"ready"/, SUBNET_FILE.timeoutMs);
    await eventually('subnet.env', () => addressOf(host, name).then((text) => text !== ''), SUBNET_FILE);
  }

  /** The first address of the host's subnet. */
  async function addressOf(host: BedHost, name: Name): Promise<string> {
    const subnet = (await readEnvFile(fileOf(host, name))).get('FLANNEL_SUBNET') ?? '';
    return subnet.replace(/\/.*/, '');
  }

  /** A bridge that holds the subnet's first address, as a container runtime makes it. */
  async function addBridges(name: Name): Promise<void> {
    for (const host of [a, b]) {
      const address = await addressOf(host, name);
      await host.ns.ip(`link add ${name} type bridge`, `link set ${name} up`, `addr add ${address}/24 dev ${name}`);
    }
  }

  /** `ping -I own .1 other's .1`, both ways. */
  async function assertPings(name: Name): Promise<void> {
    const [ofA, ofB] = [await addressOf(a, name), await addressOf(b, name)];
    await a.ns.exec(['ping', '-c', '3', '-i', '0.05', '-W', '2', '-I', ofA, ofB]);
    await b.ns.exec(['ping', '-c', '3', '-i', '0.05', '-W', '2', '-I', ofB, ofA]);
  }

  test('vxlan: pings between two hosts, both ways', async () => {
    await Promise.all([start(a, 'vxlan'), start(b, 'vxlan')]);
    await addBridges('vxlan');
    await assertPings('vxlan');
  });

  test('multi: a second daemon with another prefix and host-gw; no ping crosses from one network to the other', async () => {
    await Promise.all([start(a, 'hostgw'), start(b, 'hostgw')]);
    await addBridges('hostgw');
    await assertPings('vxlan');
    await assertPings('hostgw');
    const wrong = async (device: Name, to: Name) => {
      const argv = ['ping', '-c', '2', '-i', '0.05', '-W', '1', '-I', device, await addressOf(b, to)];
      assert.notEqual((await a.ns.tryExec(argv)).status, 0, `${to} by ${device}`);
    };
    await Promise.all([wrong('vxlan', 'hostgw'), wrong('hostgw', 'vxlan')]);
    assert.match(await a.ns.exec(['ip', 'route']), /10\.50\.\d+\.0\/24 via 10\.50\.\d+\.0 dev flannel\.1/);
    assert.match(await a.ns.exec(['ip', 'route']), /10\.60\.\d+\.0\/24 via 10\.245\.1\.4 dev eth0/);
  });

  test('resilience: subnet.env is the same after a restart of either host, and pings go on', async () => {
    const texts = () => Promise.all([a, b].map((host) => readFile(fileOf(host, 'vxlan'), 'utf8')));
    const before = await texts();
    for (const host of [a, b]) {
      assert.equal(await daemons.get(`${host.label} vxlan`)?.stop(), 0);
      await start(host, 'vxlan');
      assert.deepEqual(await texts(), before);
      await assertPings('vxlan');
    }
    await assertPings('hostgw');
  });
});
