/** A dual-stack network: two devices, one key for both subnets, and both families through their own tunnel. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join as path } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost, HOST_A, HOST_B } from './lib/bed.ts';
import { assertPing } from './lib/checks.ts';
import { Cluster, NETWORK, PREFIX } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { eventually } from './lib/exec.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';
import { readEnvFile, VtepdHost } from './lib/vtepd.ts';

const CONFIG = {
  Network: NETWORK,
  EnableIPv6: true,
  IPv6Network: 'fd00:246::/48',
  Backend: { Type: 'vxlan', VNI: 3, Port: 4789 },
};

describe('a dual-stack network', { skip: await withoutEtcd() }, () => {
  let bed: Bed;
  let cluster: Cluster;
  let hosts: { host: BedHost; vtepd: VtepdHost; subnet6: string; base6: string }[];

  before(async () => {
    bed = await Bed.create({ hosts: [HOST_A, HOST_B] });
    cluster = await Cluster.start(bed);
    await cluster.etcdctl('put', `${PREFIX}/config`, JSON.stringify(CONFIG));
    hosts = await Promise.all(
      bed.hosts.map(async (host) => {
        const { vtepd } = await cluster.addVtepd(host);
        const first = (await readEnvFile(vtepd.subnetFile)).get('FLANNEL_IPV6_SUBNET') ?? '';
        const base6 = first.replace(/1\/64$/, '');
        await host.ns.exec(['sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1']);
        await host.ns.ip(`addr add ${first} dev br0 nodad`);
        await host.container.ip(`addr add ${base6}2/64 dev eth0 nodad`, `route add default via ${base6}1`);
        return { host, vtepd, base6, subnet6: `${base6}/64` };
      }),
    );
  });
  after(() => bed?.destroy());

  const leaseOf = ({ host, subnet6 }: { host: BedHost; subnet6: string }): Promise<string> =>
    cluster.etcdctl('get', `${PREFIX}/subnets/${host.base}-24&${subnet6.replace('/', '-')}`, '--print-value-only');

  test('key and value are those of flannel, byte for byte, and the MACs differ', async () => {
    for (const { host, subnet6 } of hosts) {
      const value = await leaseOf({ host, subnet6 });
      const [four = '', six = ''] = [...value.matchAll(/"VtepMAC":"([0-9a-f:]{17})"/g)].map((match) => match[1]);
      assert.notEqual(four, six);
      assert.equal(
        value,
        `{"PublicIP":"${host.ipv4}","PublicIPv6":"${host.ipv6}","BackendType":"vxlan","BackendData":{"VNI":3,"VtepMAC":"${four}"},"BackendV6Data":{"VNI":3,"VtepMAC":"${six}"}}`,
      );
      assert.match(await host.ns.exec(['ip', 'link', 'show', 'flannel-v6.3']), new RegExp(`mtu 1430 [^]*ether ${six}`));
      assert.match(await host.ns.exec(['ip', 'link', 'show', 'flannel.3']), new RegExp(`mtu 1450 [^]*ether ${four}`));
    }
  });

  test('subnet.env has both families and the MTU that fits both tunnels', async () => {
    const [first] = hosts;
    const text = await readFile(first?.vtepd.subnetFile ?? '', 'utf8');
    assert.equal(
      text,
      `FLANNEL_NETWORK=10.246.0.0/16\nFLANNEL_SUBNET=10.246.30.1/24\nFLANNEL_IPV6_NETWORK=fd00:246::/48\nFLANNEL_IPV6_SUBNET=${first?.base6}1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n`,
    );
  });

  test('containers reach each other in both families, IPv6 at the full MTU too', async () => {
    const [a, b] = hosts;
    assert.ok(a !== undefined && b !== undefined);
    await assertPing(a.host, b.host);
    assert.match(await a.host.ns.exec(['ip', '-6', 'route', 'show', b.subnet6]), /via .* dev flannel-v6\.3/);
    await a.host.container.exec(['ping', '-6', '-c', '3', '-W', '2', `${b.base6}2`]);
    // 40 of IPv6 and 8 of ICMPv6 make 1430.
    await b.host.container.exec(['ping', '-6', '-c', '3', '-W', '2', '-M', 'do', '-s', '1382', `${a.base6}2`]);
  });

  test('peers, lease list and status show both families', async () => {
    const [a, b] = hosts;
    assert.ok(a !== undefined && b !== undefined);
    const [, four = '', six = ''] = /"VtepMAC":"(.{17})".*"VtepMAC":"(.{17})"/.exec(await leaseOf(b)) ?? [];
    const peers = await a.vtepd.json<{ network: string; ip: string; subnet: string; mac: string }[]>('peers');
    assert.deepEqual(peers.map(({ network, ip, subnet, mac }) => [network, ip, subnet, mac].join(' ')).sort(), [
      `flannel-v6.3 ${b.host.ipv6} ${b.subnet6} ${six}`,
      `flannel.3 ${b.host.ipv4} ${b.host.subnet} ${four}`,
    ]);
    const status = await a.vtepd.cli('status');
    assert.match(
      status,
      new RegExp(`^lease +${a.host.subnet} at ${a.host.ipv4}, .*, ${a.subnet6} at ${a.host.ipv6}, `, 'm'),
    );
    const leases = await a.vtepd.json<{ subnet6: string }[]>('lease', 'list');
    assert.deepEqual(leases.map(({ subnet6 }) => subnet6).sort(), [a.subnet6, b.subnet6].sort());
  });

  test('a restart keeps both subnets and both MACs', async () => {
    const [a] = hosts;
    assert.ok(a !== undefined);
    const before = await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets/`);
    const { controller } = await a.vtepd.status();
    assert.ok(controller.running);
    process.kill(controller.pid, 'SIGTERM');
    await eventually('ended', async () => !(await a.vtepd.status()).controller.running);
    await cluster.addVtepd(a.host);
    assert.equal(await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets/`), before);
  });

  test('a key of the other form is warned of', async () => {
    await cluster.putLease({ base: '10.246.90.0' }, '10.245.1.90', '02:00:00:00:01:90');
    const [a] = hosts;
    await eventually('the warning', async () => {
      const { controller } = (await a?.vtepd.status()) ?? {};
      return (
        controller?.running && controller.warnings.some((text) => /10\.246\.90\.0-24 have no IPv6 subnet/.test(text))
      );
    });
  });
});

describe('a dual-stack key in an IPv4 network, which wedges every flanneld', { skip: await withoutEtcd() }, () => {
  let { bed, cluster, a, b, onA } = {} as ClusterBed;

  before(async () => {
    ({ bed, cluster, a, b, onA } = await clusterBed());
  });
  after(() => bed?.destroy());

  test('its IPv4 half is used, changes are followed after it, and the key is warned of by name', async () => {
    const value =
      '{"PublicIP":"10.245.1.91","PublicIPv6":"fd00:245::91","BackendType":"vxlan","BackendData":{"VNI":3,"VtepMAC":"02:00:00:00:01:91"},"BackendV6Data":{"VNI":3,"VtepMAC":"02:00:00:00:06:91"}}';
    await cluster.etcdctl('put', `${PREFIX}/subnets/10.246.91.0-24&fd00:246:0:91::-64`, value);
    await cluster.putLease({ base: '10.246.92.0' }, '10.245.1.92', '02:00:00:00:01:92');
    const routes = () => a.ns.exec(['ip', 'route']);
    await eventually('the key after it', async () => /10\.246\.92\.0\/24 /.test(await routes()));
    assert.match(await routes(), /10\.246\.91\.0\/24 via 10\.246\.91\.0 dev flannel\.3/);
    const { controller } = await onA.status();
    assert.ok(controller.running);
    assert.match(controller.warnings.join(), /10\.246\.91\.0-24&fd00:246:0:91::-64 have an IPv6 subnet/);
    await assertPing(a, b);
  });
});

describe('a dual-stack network from a file', () => {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;

  before(async () => {
    bed = await Bed.create({ hosts: [HOST_A, HOST_B] });
    [a, b] = [bed.host('a'), bed.host('b')];
    const hosts = [a, b].map(({ ipv4, ipv6, subnet, label }) => {
      return { publicIP: ipv4, subnet, publicIPv6: ipv6, subnet6: `fd00:246:0:${label}::/64` };
    });
    await writeFile(path(bed.dir, 'hosts.json'), JSON.stringify({ network: CONFIG, hosts }));
    for (const host of [a, b]) {
      const vtepd = await VtepdHost.on(host);
      await vtepd.isRunning(vtepd.run('--file', path(bed.dir, 'hosts.json'), '--iface', 'eth0'));
      const net6 = `fd00:246:0:${host.label}::`;
      await host.ns.ip(`addr add ${net6}1/64 dev br0 nodad`);
      await host.container.ip(`addr add ${net6}2/64 dev eth0 nodad`, `route add default via ${net6}1`);
    }
  });
  after(() => bed?.destroy());

  test('containers reach each other in both families, each through its own tunnel', async () => {
    await assertPing(a, b);
    await a.container.exec(['ping', '-6', '-c', '3', '-i', '0.05', '-W', '2', 'fd00:246:0:b::2']);
    assert.match(await a.ns.exec(['ip', '-6', 'route', 'show', 'fd00:246:0:b::/64']), /via .* dev flannel-v6\.3/);
  });
});
