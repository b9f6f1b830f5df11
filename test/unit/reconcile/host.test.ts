import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AddressFacts, HostFacts, LinkFacts, RouteFacts } from '../../../src/dataplane/protocol.ts';
import { ROUTE_PROTOCOL } from '../../../src/dataplane/protocol.ts';
import { parseIp } from '../../../src/net/ip.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import type { DesiredRoute } from '../../../src/reconcile/desired.ts';
import { planFormer, planHost, routeOperations } from '../../../src/reconcile/host.ts';

const DEV = 'flannel.1';

function peer(subnet: string): DesiredRoute {
  return { destination: parsePrefix(subnet), via: parseIp(subnet.slice(0, subnet.indexOf('/'))), onlink: true };
}

function address(text: string, over: Partial<AddressFacts> = {}): AddressFacts {
  return { address: text, scope: 'global', permanent: true, deprecated: false, temporary: false, ...over };
}

function route(destination: string, over: Partial<RouteFacts> = {}): RouteFacts {
  const via = destination.slice(0, destination.indexOf('/'));
  return { destination, via, dev: DEV, onlink: true, source: null, metric: 0, protocol: ROUTE_PROTOCOL, ...over };
}

function facts(addresses: AddressFacts[], routes: RouteFacts[], over: Partial<LinkFacts> = {}): HostFacts {
  const link = { index: 5, kind: 'tun', mac: null, mtu: 1450, up: true, carrier: true };
  return {
    links: [
      { ...link, index: 2, name: 'eth0', addresses: [address('10.245.1.3/24'), address('10.245.1.7/32')] },
      { ...link, name: DEV, addresses, ...over },
    ],
    routes: [route('0.0.0.0/0', { dev: 'eth0', via: '10.245.1.1', onlink: false, protocol: 3 }), ...routes],
    blackholes: [],
  };
}

const desired = { dev: DEV, addresses: ['10.246.30.0/32'], routes: [peer('10.246.13.0/24')] };

test('a bare device gets its address, then its routes', () => {
  assert.deepEqual(planHost(facts([], []), desired), {
    operations: [
      { op: 'address.add', dev: DEV, address: '10.246.30.0/32' },
      { op: 'route.replace', dev: DEV, destination: '10.246.13.0/24', via: '10.246.13.0', onlink: true, metric: null },
    ],
    conflicts: [],
  });
});

test('nothing to do where all is as desired', () => {
  const host = facts([address('10.246.30.0/32'), address('fe80::1/64', { scope: 'link' })], [route('10.246.13.0/24')]);
  assert.deepEqual(planHost(host, desired), { operations: [], conflicts: [] });
});

test('a device that is down is brought up first: the kernel takes no route on it', () => {
  const [first] = planHost(facts([], [], { up: false }), desired).operations;
  assert.deepEqual(first, { op: 'link.set', dev: DEV, up: true });
});

test('leftovers of ours go: routes with our mark, host addresses; the new address comes before the old one goes', () => {
  const host = facts(
    [address('10.246.99.0/32')],
    [route('10.246.13.0/24'), route('10.246.77.0/24'), route('10.246.13.0/24', { metric: 50 })],
  );
  assert.deepEqual(planHost(host, desired).operations, [
    { op: 'address.add', dev: DEV, address: '10.246.30.0/32' },
    { op: 'address.del', dev: DEV, address: '10.246.99.0/32' },
    { op: 'route.del', dev: DEV, destination: '10.246.77.0/24', via: '10.246.77.0', metric: 0 },
    { op: 'route.del', dev: DEV, destination: '10.246.13.0/24', via: '10.246.13.0', metric: 50 },
  ]);
});

test('what others made stays: routes without our mark, wider addresses, other devices', () => {
  const host = facts(
    [address('10.246.30.0/32'), address('192.0.2.1/24'), address('fd00::1/64'), address('fd00::/32')],
    [
      route('10.246.13.0/24'),
      route('192.0.2.0/24', { protocol: 2 }),
      route('10.246.88.0/24', { protocol: 4 }),
      route('10.246.89.0/24', { dev: 'eth0' }),
    ],
  );
  assert.deepEqual(planHost(host, desired).operations, []);
});

test('a route of ours that differs is replaced; one on our device without our mark becomes ours', () => {
  const replace = {
    op: 'route.replace',
    dev: DEV,
    destination: '10.246.13.0/24',
    via: '10.246.13.0',
    onlink: true,
    metric: null,
  };
  for (const held of [
    route('10.246.13.0/24', { via: '10.246.13.9' }),
    route('10.246.13.0/24', { onlink: false }),
    route('10.246.13.0/24', { protocol: 3 }),
  ]) {
    assert.deepEqual(planHost(facts([address('10.246.30.0/32')], [held]), desired).operations, [replace]);
  }
});

test('a route of another device is left alone and named: replacing would take it away', () => {
  const host = facts(
    [address('10.246.30.0/32')],
    [route('10.246.13.0/24', { dev: 'docker0', via: null, protocol: 2 })],
  );
  const plan = planHost(host, desired);
  assert.deepEqual(plan.operations, []);
  assert.match(plan.conflicts[0] ?? '', /10\.246\.13\.0\/24 goes to docker0.*ip route del/);
});

test('IPv6 routes have the metric 1024 where none was given', () => {
  const six = { dev: DEV, addresses: ['fd00:246::/128'], routes: [peer('fd00:246:0:5e::/64')] };
  const host = facts([address('fd00:246::/128')], [route('fd00:246:0:5e::/64', { metric: 1024 })]);
  assert.deepEqual(planHost(host, six), { operations: [], conflicts: [] });
});

test('one route for the network has no gateway', () => {
  const wanted = { dev: DEV, addresses: [], routes: [{ destination: parsePrefix('10.246.0.0/16'), onlink: false }] };
  assert.deepEqual(planHost(facts([], []), wanted).operations, [
    { op: 'route.replace', dev: DEV, destination: '10.246.0.0/16', via: null, onlink: false, metric: null },
  ]);
  assert.deepEqual(planHost(facts([], [route('10.246.0.0/16', { via: null, onlink: false })]), wanted).operations, []);
});

test('without the device there is nothing to set', () => {
  const plan = planHost({ links: [], routes: [], blackholes: [] }, desired);
  assert.deepEqual(plan.operations, []);
  assert.match(plan.conflicts[0] ?? '', /flannel\.1 does not exist/);
});

test('a known difference needs no facts', () => {
  assert.deepEqual(routeOperations(DEV, { added: [peer('10.246.13.0/24')], removed: [peer('10.246.14.0/24')] }), [
    { op: 'route.del', dev: DEV, destination: '10.246.14.0/24', via: '10.246.14.0', metric: null },
    { op: 'route.replace', dev: DEV, destination: '10.246.13.0/24', via: '10.246.13.0', onlink: true, metric: null },
  ]);
});

const direct: DesiredRoute = {
  destination: parsePrefix('10.246.13.0/24'),
  via: parseIp('10.245.1.4'),
  onlink: false,
  dev: 'eth0',
};

test('a direct route is made on the underlay, replaces ours on the tunnel, and is ours by mark and network', () => {
  const wanted = { ...desired, within: parsePrefix('10.246.0.0/16'), routes: [direct] };
  const onEth0 = { dev: 'eth0', via: '10.245.1.4', onlink: false };
  const replace = { op: 'route.replace' as const, dev: 'eth0', destination: '10.246.13.0/24', via: '10.245.1.4' };
  const before = facts([address('10.246.30.0/32')], [route('10.246.13.0/24')]);
  assert.deepEqual(planHost(before, wanted).operations, [{ ...replace, onlink: false, metric: null }]);
  const after = facts(
    [address('10.246.30.0/32')],
    [
      route('10.246.13.0/24', onEth0),
      route('10.246.14.0/24', onEth0),
      route('10.247.14.0/24', onEth0),
      route('10.246.15.0/24', { ...onEth0, protocol: 4 }),
    ],
  );
  assert.deepEqual(planHost(after, wanted), {
    operations: [{ op: 'route.del', dev: 'eth0', destination: '10.246.14.0/24', via: '10.245.1.4', metric: 0 }],
    conflicts: [],
  });
  assert.deepEqual(planHost(after, { ...wanted, routes: [] }).operations.length, 2);
});

test('the blackhole of our subnet is made, and kept; ours of other subnets of the network go, those of others stay', () => {
  const own = parsePrefix('10.246.30.0/24');
  const metric = 2 ** 31 - 1;
  const wanted = { ...desired, within: parsePrefix('10.246.0.0/16'), routes: [], blackholes: [own] };
  const add = { op: 'blackhole.add', destination: own, metric };
  const before = facts([address('10.246.30.0/32')], []);
  assert.deepEqual(planHost(before, wanted).operations, [add]);
  const ours = { metric, protocol: ROUTE_PROTOCOL };
  const strangers = [
    { destination: '10.246.9.0/24', metric, protocol: 4 },
    { destination: '10.246.9.0/24', ...ours, metric: 0 },
    { destination: '10.247.9.0/24', ...ours },
  ];
  const blackholes = [{ destination: own, ...ours }, { destination: '10.246.31.0/24', ...ours }, ...strangers];
  const after = { ...before, blackholes };
  const former = { op: 'blackhole.del', destination: '10.246.31.0/24', metric };
  assert.deepEqual(planHost(after, wanted).operations, [former]);
  const { dev: _, ...onUnderlay } = { ...wanted, addresses: [] };
  assert.deepEqual(planHost(after, onUnderlay).operations, [former]);
  assert.deepEqual(planFormer(after, [wanted.within], new Set([own])), [former]);
});

test('a network without a device has direct routes only', () => {
  const wanted = { within: parsePrefix('10.246.0.0/16'), addresses: [], routes: [direct] };
  assert.deepEqual(
    planHost(facts([], []), wanted).operations.map((operation) => [operation.op, 'dev' in operation && operation.dev]),
    [['route.replace', 'eth0']],
  );
  const tunnel = peer('10.246.13.0/24');
  assert.deepEqual(
    routeOperations(DEV, { added: [direct], removed: [tunnel] }).map((operation) => [
      operation.op,
      'dev' in operation && operation.dev,
    ]),
    [['route.replace', 'eth0']],
    'the one takes the place of the other without a gap',
  );
});

test('a direct route of a lease outside the network is ours while it is wanted', () => {
  const within = parsePrefix('10.247.0.0/16');
  const routes = [{ ...peer('10.246.13.0/24'), via: parseIp('10.245.1.4'), onlink: false, dev: 'eth0' }];
  const held = route('10.246.13.0/24', { dev: 'eth0', via: '10.245.1.4', onlink: false });
  assert.deepEqual(planHost(facts([], [held]), { within, addresses: [], routes }), { operations: [], conflicts: [] });
});

test('marked routes of former networks go, but for those that are wanted; others are nobody of ours', () => {
  const direct = { dev: 'eth0', via: '10.245.1.4', onlink: false };
  const host = facts(
    [],
    [
      route('10.246.13.0/24', direct),
      route('10.246.14.0/24', direct),
      route('10.246.15.0/24', { ...direct, protocol: 4 }),
      route('10.248.16.0/24', direct),
    ],
  );
  assert.deepEqual(planFormer(host, [parsePrefix('10.246.0.0/16')], new Set(['10.246.14.0/24'])), [
    { op: 'route.del', dev: 'eth0', destination: '10.246.13.0/24', via: '10.245.1.4', metric: 0 },
  ]);
});
