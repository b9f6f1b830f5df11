import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AddressFacts, HostFacts, LinkFacts, RouteFacts } from '../../../src/dataplane/protocol.ts';
import { chooseUnderlay } from '../../../src/host/interface.ts';
import { parseIpv4 } from '../../../src/net/ip.ts';

function address(text: string, more: Partial<AddressFacts> = {}): AddressFacts {
  return { address: text, scope: 'global', permanent: true, deprecated: false, temporary: false, ...more };
}

function link(name: string, mtu: number, ...addresses: AddressFacts[]): LinkFacts {
  return { index: 1, name, kind: null, mac: null, mtu, up: true, carrier: true, addresses };
}

function route(dev: string, metric: number): RouteFacts {
  return { destination: '0.0.0.0/0', via: '192.0.2.254', dev, onlink: false, source: null, metric, protocol: 3 };
}

const HOST: HostFacts = {
  links: [
    link('lo', 65536, address('127.0.0.1/8', { scope: 'host' })),
    link(
      'eth0',
      1500,
      address('169.254.7.7/16'),
      address('192.0.2.10/24', { permanent: false }),
      address('192.0.2.11/24'),
    ),
    link('eth1', 9000, address('fd00::1/64'), address('198.51.100.1/24')),
    link('eth2', 1500, address('fd00::2/64')),
  ],
  routes: [route('eth2', 1), route('eth1', 200), route('eth0', 100)],
  blackholes: [],
};

const choose = (iface: string[], publicIp?: string) =>
  chooseUnderlay(HOST, { iface, publicIp: publicIp === undefined ? undefined : parseIpv4(publicIp) });

test('the default route of the lowest metric whose interface has an IPv4 address', () => {
  assert.deepEqual(choose([]), { name: 'eth0', mtu: 1500, address: '192.0.2.11', publicIp: '192.0.2.11' });
});

test('of an interface: global before link-local, permanent before leased', () => {
  assert.equal(choose(['eth0']).address, '192.0.2.11');
});

test('names and addresses in the order given; those that do not fit are passed over', () => {
  assert.equal(choose(['eth9', 'eth2', 'eth1', 'eth0']).name, 'eth1');
  assert.deepEqual(choose(['192.0.2.10']), { name: 'eth0', mtu: 1500, address: '192.0.2.10', publicIp: '192.0.2.10' });
});

test('the public IP alone chooses the interface; beside an interface it may be of a NAT', () => {
  assert.equal(choose([], '198.51.100.1').name, 'eth1');
  assert.deepEqual(choose(['eth1'], '203.0.113.5'), {
    name: 'eth1',
    mtu: 9000,
    address: '198.51.100.1',
    publicIp: '203.0.113.5',
  });
});

test('an IPv6 address names its interface; a regular expression takes addresses first, then names', () => {
  assert.equal(choose(['fd00::1']).address, '198.51.100.1');
  const match = (...ifaceRegex: string[]) => chooseUnderlay(HOST, { iface: ['eth9'], ifaceRegex });
  assert.deepEqual(match('eth|^198'), {
    name: 'eth1',
    mtu: 9000,
    address: '198.51.100.1',
    publicIp: '198.51.100.1',
  });
  assert.equal(match('^ETH', '(?i)^ETH').name, 'eth0');
  assert.throws(() => match('^wlan'), /nothing matches \^wlan \(there are lo 127\.0\.0\.1, eth0 169\.254\.7\.7/);
});

test('what the kernel would send by, with the source address that it would take', () => {
  const reach = { to: parseIpv4('192.0.2.77'), dev: 'eth0', source: '192.0.2.10' };
  assert.equal(chooseUnderlay(HOST, { iface: ['eth9'], reach }).address, '192.0.2.10');
  assert.throws(() => chooseUnderlay(HOST, { iface: [], reach: { to: reach.to } }), /no route leads to 192\.0\.2\.77/);
});

test('what cannot be had is told with what there is', () => {
  assert.throws(
    () => choose(['eth9', 'eth2']),
    /iface: there is no interface eth9 \(there are lo, eth0, eth1, eth2\); eth2 has no IPv4 address/,
  );
  assert.throws(() => choose(['10.0.0.1']), /no interface has the address 10\.0\.0\.1/);
  assert.throws(
    () => choose([], '203.0.113.5'),
    /public-ip: no interface has the address 203\.0\.113\.5; an address of a NAT needs --iface/,
  );
  assert.throws(() => chooseUnderlay({ ...HOST, routes: [] }, { iface: [] }), /no IPv4 default route.*--iface/);
});
