import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { instancePaths, networkPaths } from '../../../src/config/paths.ts';
import { hopsTo, topologyOf } from '../../../src/daemon/direct.ts';
import { KeyForm } from '../../../src/daemon/key-form.ts';
import { StatusBoard, showAll } from '../../../src/daemon/status-board.ts';
import { containerMtu, deviceAddress, deviceName, tunnelSpec, withTunnelAddress } from '../../../src/daemon/tunnel.ts';
import { type DataplaneClient, DataplaneError } from '../../../src/dataplane/client.ts';
import { ROUTE_PROTOCOL, type RouteFacts } from '../../../src/dataplane/protocol.ts';
import type { DatastoreEvent, Lease } from '../../../src/datastore/types.ts';
import { parseNetworkConfig } from '../../../src/flannel/config.ts';
import { parseLeaseAttributes } from '../../../src/flannel/lease.ts';
import { parseSubnetKey } from '../../../src/flannel/subnet-key.ts';
import { chooseIpv6 } from '../../../src/host/interface.ts';
import { recordedDaemonNetworks, writeDaemonRecord } from '../../../src/host/records.ts';
import { parseIp, parseIpv6 } from '../../../src/net/ip.ts';
import { parseMac } from '../../../src/net/mac.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import { hostFacts } from '../dataplane/fake-dataplane.ts';

const directory = mkdtempSync(join(tmpdir(), 'vtepd-networks-'));
after(() => rmSync(directory, { recursive: true }));

const route = (over: Partial<RouteFacts>): RouteFacts => ({
  destination: '10.245.1.0/24',
  via: null,
  dev: 'eth0',
  onlink: false,
  source: null,
  metric: 0,
  protocol: 2,
  ...over,
});

/** A kernel that knows these ways. */
function kernel(ways: Record<string, RouteFacts>): DataplaneClient {
  const request = async (_: string, { to }: { to: string }): Promise<RouteFacts> => {
    const found = ways[to];
    if (found === undefined) throw new DataplaneError('ENETUNREACH', `no route to ${to}`);
    return found;
  };
  return { request } as unknown as DataplaneClient;
}

test('without a gateway, by a gateway, unreachable, or our own: only the first is direct', async () => {
  const client = kernel({
    '10.245.1.4': route({}),
    '10.245.2.4': route({ via: '10.245.1.1' }),
    '10.245.1.3': route({ dev: 'lo' }),
  });
  const ips = ['10.245.1.4', '10.245.2.4', '10.245.1.3', '192.0.2.1'].map(parseIp);
  assert.deepEqual(
    (await hopsTo(client, ips)).map(([, dev]) => dev),
    ['eth0', undefined, undefined, undefined],
  );
});

test('the topology differs when a link, an address or a foreign route does, not when our own routes do', () => {
  const facts = hostFacts();
  const before = topologyOf(facts);
  facts.routes.push(route({ destination: '10.246.13.0/24', protocol: ROUTE_PROTOCOL }));
  assert.equal(topologyOf(facts), before);
  facts.routes.push(route({ destination: '10.245.1.4/32', via: '10.245.1.1' }));
  assert.notEqual(topologyOf(facts), before);
});

const DUAL = parseNetworkConfig(
  '{"Network":"10.246.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:246::/48","Backend":{"Type":"vxlan","VNI":3}}',
);

test('two tunnels of a dual-stack network: names, addresses, MTUs, and the one MTU for containers', () => {
  const given = { owner: 'etcd', netns: null, mac: parseMac('02:00:00:00:00:01') };
  const part = { name: 'eth0', mtu: 1500, address: parseIp('fd00:245::3') };
  const six = tunnelSpec(DUAL, 6, part, { ...given, name: deviceName(6, 'mine', DUAL.backend) });
  assert.deepEqual([six.name, six.local, six.mtu, six.port], ['flannel-v6.3', 'fd00:245::3', 1430, 8472]);
  assert.equal(deviceName(4, 'mine', DUAL.backend), 'mine');
  assert.equal(deviceName(4, undefined, DUAL.backend), 'flannel.3');
  assert.equal(deviceAddress(parsePrefix('fd00:246:0:f::/64'), 6), 'fd00:246:0:f::/128');
  assert.equal(deviceAddress(parsePrefix('10.246.30.0/24'), 4), '10.246.30.0/32');
  const of = (text: string) => containerMtu(parseNetworkConfig(text), 1500);
  assert.equal(containerMtu(DUAL, 1500), 1430);
  assert.equal(of('{"Network":"10.246.0.0/16","Backend":{"Type":"vxlan"}}'), 1450);
  assert.equal(of('{"Network":"10.246.0.0/16","Backend":{"Type":"vxlan","MTU":1400}}'), 1350);
  assert.equal(of('{"Network":"10.246.0.0/16","Backend":{"Type":"host-gw"}}'), 1500);
});

test('a layer-3 network: flannel0, no MAC, nothing of VXLAN, MTU less 28, its own address once there is a lease', () => {
  const config = parseNetworkConfig('{"Network":"10.246.0.0/16","Backend":{"Type":"udp"}}');
  const part = { name: 'eth0', mtu: 1500, address: parseIp('10.245.1.3') };
  const name = deviceName(4, undefined, config.backend);
  const spec = tunnelSpec(config, 4, part, { name, owner: 'etcd', netns: null, mac: null });
  const { vni, port, mac, mtu, proxy, learning, peersonly, layer3, tunnel_address: before } = spec;
  assert.deepEqual([name, vni, port, mac, mtu], ['flannel0', 0, 8285, null, 1472]);
  assert.deepEqual([proxy, learning, peersonly, layer3, before], [false, false, true, true, undefined]);
  assert.equal(withTunnelAddress(spec, parsePrefix('10.246.30.0/24')).tunnel_address, '10.246.30.0');
  assert.equal(containerMtu(config, 1500), 1472);
});

test('the IPv6 side of the underlay: global, lasting, not temporary; none is an error that says what to do', () => {
  const facts = hostFacts();
  assert.throws(() => chooseIpv6(facts, 'eth0', undefined), /eth0 has no global IPv6 address/);
  const fact = { scope: 'global', permanent: true, deprecated: false, temporary: false };
  facts.links[1]?.addresses.push(
    { ...fact, address: 'fe80::1/64', scope: 'link' },
    { ...fact, address: 'fd00:245::99/64', permanent: false, temporary: true },
    { ...fact, address: 'fd00:245::3/64' },
  );
  assert.deepEqual(chooseIpv6(facts, 'eth0', undefined), { address: 'fd00:245::3', publicIp: 'fd00:245::3' });
  assert.equal(chooseIpv6(facts, 'eth0', parseIpv6('2001:db8::1')).publicIp, '2001:db8::1');
});

function lease(key: string): Lease {
  return { key, ...parseSubnetKey(key), attributes: parseLeaseAttributes('{"PublicIP":"10.245.1.4"}') };
}

test('keys of the other form are one warning, which goes when they go', () => {
  const [four, dual] = [lease('10.246.1.0-24'), lease('10.246.2.0-24&fd00:246:0:2::-64')];
  const all: DatastoreEvent = { type: 'snapshot', revision: 1, leases: [four, dual], bad: [] };
  assert.match(new KeyForm(true).apply(all) ?? '', /leases 10\.246\.1\.0-24 have no IPv6 subnet/);
  const form = new KeyForm(false);
  assert.match(form.apply(all) ?? '', /leases 10\.246\.2\.0-24&fd00:246:0:2::-64 have an IPv6 subnet/);
  assert.ok(form.apply({ type: 'fresh' }) !== undefined);
  const gone: DatastoreEvent = {
    type: 'changes',
    revision: 2,
    changes: [{ type: 'delete', key: dual.key }],
    bad: [],
  };
  assert.equal(form.apply(gone), undefined);
});

test('several networks: one status, ready when all are, every warning under its name', () => {
  const [blue, red] = ['blue', 'red'].map(
    (network) => new StatusBoard({ version: '1', instance: 'i', source: 'etcd', network }),
  );
  assert.ok(blue !== undefined && red !== undefined);
  blue.ready = true;
  red.warnings = () => ['something'];
  red.leaseLost = 'deleted';
  const status = showAll([blue, red]);
  assert.deepEqual([status.ready, status.leaseLost, status.warnings], [false, 'deleted', ['network red: something']]);
  assert.deepEqual(
    status.networks.map(({ name, ready }) => [name, ready]),
    [
      ['blue', true],
      ['red', false],
    ],
  );
  assert.deepEqual(showAll([blue]).warnings, []);
});

test('what is remembered of several networks lies apart, and is found by cleanup', () => {
  const paths = instancePaths('one', { VTEPD_RUNTIME_DIR: directory, VTEPD_STATE_DIR: directory });
  const blue = networkPaths(paths, 'blue');
  writeDaemonRecord(blue, { subnet: '10.246.30.0/24', macs: ['02:00:00:00:00:01'] });
  writeDaemonRecord(networkPaths(paths, 'blue.leases'), {});
  writeDaemonRecord(networkPaths({ ...paths, instance: 'other' }, 'red'), {});
  assert.match(blue.knownLeases, /one@blue\.leases\.json$/);
  assert.deepEqual(recordedDaemonNetworks(paths), ['blue']);
});
