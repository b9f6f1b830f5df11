import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { DatastoreEvent, Lease, LeaseChange } from '../../../src/datastore/types.ts';
import { parseSubnetKey } from '../../../src/flannel/subnet-key.ts';
import { type Ipv4, parseIpv4, parseIpv6 } from '../../../src/net/ip.ts';
import { parseMac } from '../../../src/net/mac.ts';
import { type Prefix, parsePrefix } from '../../../src/net/prefix.ts';
import {
  type DesiredRoute,
  type DesiredTables,
  type PeerChange,
  PeerState,
  type RouteMode,
} from '../../../src/reconcile/desired.ts';
import { judge } from '../../../src/reconcile/rules.ts';

const OWN = {
  publicIp: parseIpv4('10.245.1.3'),
  key: '10.246.30.0-24',
  subnet: parsePrefix('10.246.30.0/24'),
  mac: parseMac('02:00:00:00:00:03'),
};

function state(routeMode: RouteMode = 'peer', own: ConstructorParameters<typeof PeerState>[0]['own'] = OWN): PeerState {
  return new PeerState({ own, network: parsePrefix('10.246.0.0/16'), routeMode });
}

function lease(key: string, publicIp: string, mac: string, backendType = 'vxlan'): Lease {
  const attributes = { publicIp: parseIpv4(publicIp), backendType, vtepMac: parseMac(mac) };
  return { key, subnet: parseSubnetKey(key).subnet, attributes };
}

function snapshot(revision: number, ...leases: Lease[]): DatastoreEvent {
  return { type: 'snapshot', revision, leases, bad: [] };
}

function changes(revision: number, ...list: LeaseChange[]): DatastoreEvent {
  return { type: 'changes', revision, changes: list, bad: [] };
}

const put = (value: Lease): LeaseChange => ({ type: 'put', lease: value });
const del = (key: string): LeaseChange => ({ type: 'delete', key });

const own = lease(OWN.key, OWN.publicIp, OWN.mac);
const A = lease('10.246.13.0-24', '10.245.1.4', '02:00:00:00:00:04');
const B = lease('10.246.34.0-24', '10.245.1.5', '02:00:00:00:00:05');

test('a peer is an FDB entry, a neighbour for its subnet and a route', () => {
  const peers = state();
  const change = peers.apply(snapshot(7, own, A));
  assert.deepEqual(peers.tables(), {
    fdb: [{ mac: '02:00:00:00:00:04', destinations: [{ ip: '10.245.1.4' }], state: 'permanent' }],
    neighbours: [{ prefix: '10.246.13.0/24', lladdr: '02:00:00:00:00:04' }],
    peers: [],
  });
  assert.deepEqual(peers.routes(), [{ destination: '10.246.13.0/24', via: '10.246.13.0', onlink: true }]);
  assert.deepEqual(change.routes, { added: peers.routes(), removed: [] });
  assert.deepEqual([change.base, change.revision, peers.revision], [0, 7, 7]);
  assert.deepEqual(peers.warnings(), []);
  assert.equal(peers.peerCount, 1);
});

test('one route for the whole network, if so asked', () => {
  const peers = state('network');
  assert.deepEqual(peers.apply(snapshot(1, A)).routes, { added: [], removed: [] });
  assert.deepEqual(peers.routes(), [{ destination: '10.246.0.0/16', onlink: false }]);
});

test('a changed MAC and PublicIP: the old entry goes, the new one comes, the route stays', () => {
  const peers = state();
  peers.apply(snapshot(1, A, B));
  const change = peers.apply(changes(2, put(lease(A.key, '10.245.1.9', '02:00:00:00:00:09'))));
  assert.deepEqual(change, {
    base: 1,
    revision: 2,
    tables: {
      fdb_remove: ['02:00:00:00:00:04'],
      fdb_set: [{ mac: '02:00:00:00:00:09', destinations: [{ ip: '10.245.1.9' }], state: 'permanent' }],
      neighbours_remove: [],
      neighbours_set: [{ prefix: '10.246.13.0/24', lladdr: '02:00:00:00:00:09' }],
      peers_remove: [],
      peers_add: [],
    },
    tablesUnchanged: false,
    routes: { added: [], removed: [] },
    warnings: [],
  });
});

test('a deleted lease takes everything with it', () => {
  const peers = state();
  peers.apply(snapshot(1, A, B));
  const change = peers.apply(changes(2, del(A.key)));
  assert.deepEqual(change.tables.fdb_remove, ['02:00:00:00:00:04']);
  assert.deepEqual(change.tables.neighbours_remove, ['10.246.13.0/24']);
  assert.deepEqual(change.routes.removed, [{ destination: '10.246.13.0/24', via: '10.246.13.0', onlink: true }]);
  assert.equal(peers.tables().fdb.length, 1);
  assert.equal(peers.peerCount, 1);
});

test('an event without effect keeps the revision, so that the next patch has its base', () => {
  const peers = state();
  peers.apply(snapshot(1, A));
  const change = peers.apply(changes(2, put(A), put(own), del('10.246.99.0-24')));
  assert.equal(change.tablesUnchanged, true);
  assert.deepEqual([change.base, change.revision], [1, 1]);
  assert.deepEqual([peers.apply(changes(3, put(B))).base, peers.revision], [1, 3]);
  assert.equal(peers.apply({ type: 'stale', since: new Date(), reason: 'away' }).tablesUnchanged, true);
});

test('of several changes of one key the last one counts', () => {
  const peers = state();
  peers.apply(snapshot(1));
  const change = peers.apply(changes(2, put(A), del(A.key), put(B), del(A.key), put(A), del(B.key)));
  assert.deepEqual(change.tables.neighbours_set, [{ prefix: '10.246.13.0/24', lladdr: '02:00:00:00:00:04' }]);
  assert.deepEqual(change.tables.fdb_remove, []);
});

test('leases of other backends are counted and ignored', () => {
  const peers = state();
  peers.apply(snapshot(1, A, lease('10.246.50.0-24', '10.245.1.6', '02:00:00:00:00:06', 'host-gw')));
  assert.equal(peers.otherBackendCount, 1);
  assert.equal(peers.tables().fdb.length, 1);
  peers.apply(changes(2, del('10.246.50.0-24')));
  assert.equal(peers.otherBackendCount, 0);
});

test('unreadable keys are named until they are gone or readable', () => {
  const peers = state();
  peers.apply({ type: 'snapshot', revision: 1, leases: [A], bad: [{ key: 'x', reason: 'not a lease' }] });
  peers.apply({ type: 'changes', revision: 2, changes: [del(A.key)], bad: [{ key: A.key, reason: 'not JSON' }] });
  assert.deepEqual(peers.bad(), [
    { key: A.key, reason: 'not JSON' },
    { key: 'x', reason: 'not a lease' },
  ]);
  peers.apply(changes(3, put(A), del('x')));
  assert.deepEqual(peers.bad(), []);
});

test('one MAC at two PublicIPs: the lowest key counts, and the other takes over when it leaves', () => {
  const low = lease('10.246.13.0-24', '10.245.1.4', '02:00:00:00:00:0c');
  const high = lease('10.246.34.0-24', '10.245.1.5', '02:00:00:00:00:0c');
  for (const order of [
    [low, high],
    [high, low],
  ]) {
    const peers = state();
    peers.apply(snapshot(1));
    const messages = order.flatMap((value, index) => peers.apply(changes(index + 2, put(value))).warnings);
    assert.deepEqual(peers.tables(), {
      fdb: [{ mac: '02:00:00:00:00:0c', destinations: [{ ip: '10.245.1.4' }], state: 'permanent' }],
      neighbours: [{ prefix: '10.246.13.0/24', lladdr: '02:00:00:00:00:0c' }],
      peers: [],
    });
    assert.deepEqual(
      peers.peers().map(({ key, active }) => [key, active]),
      [
        ['10.246.13.0-24', true],
        ['10.246.34.0-24', false],
      ],
    );
    assert.deepEqual(peers.warnings(), messages);
    assert.equal(messages.length, 1);
    assert.equal(messages[0]?.kind, 'duplicate-mac');
    assert.match(messages[0]?.message ?? '', /10\.246\.13\.0-24, 10\.246\.34\.0-24/);

    const change = peers.apply(changes(9, del(low.key)));
    assert.deepEqual(change.tables.fdb_set, [
      { mac: '02:00:00:00:00:0c', destinations: [{ ip: '10.245.1.5' }], state: 'permanent' },
    ]);
    assert.deepEqual(change.tables.neighbours_set, [{ prefix: '10.246.34.0/24', lladdr: '02:00:00:00:00:0c' }]);
    assert.deepEqual(change.routes.added, [{ destination: '10.246.34.0/24', via: '10.246.34.0', onlink: true }]);
    assert.deepEqual(peers.warnings(), []);
  }
});

test('one PublicIP in two leases: both are used, with a warning', () => {
  const peers = state();
  const second = lease('10.246.14.0-24', '10.245.1.4', '02:00:00:00:00:04');
  const { warnings } = peers.apply(snapshot(1, A, second));
  assert.equal(warnings[0]?.kind, 'duplicate-public-ip');
  assert.deepEqual(warnings[0]?.keys, [A.key, second.key]);
  assert.equal(peers.tables().fdb.length, 1, 'one MAC');
  assert.equal(peers.tables().neighbours.length, 2);
  const change = peers.apply(changes(2, del(A.key)));
  assert.deepEqual(change.tables.fdb_remove, [], 'the other lease still needs the entry');
  assert.deepEqual(peers.warnings(), []);
});

test('two keys for one subnet: the lowest key counts', () => {
  const peers = state();
  const dual: Lease = { ...B, key: '10.246.13.0-24&fd00:246:0:f::-64', subnet: A.subnet };
  const { warnings } = peers.apply(snapshot(1, dual, A));
  assert.equal(warnings[0]?.kind, 'duplicate-subnet');
  assert.deepEqual(peers.tables().neighbours, [{ prefix: '10.246.13.0/24', lladdr: '02:00:00:00:00:04' }]);
  assert.equal(peers.tables().fdb.length, 1);
  const change = peers.apply(changes(2, del(A.key)));
  assert.deepEqual(change.tables.neighbours_set, [{ prefix: '10.246.13.0/24', lladdr: '02:00:00:00:00:05' }]);
  assert.deepEqual(change.routes, { added: [], removed: [] });
});

test('leases that would do harm are left out and named', () => {
  const table: [Lease, string][] = [
    [lease('10.246.31.0-24', OWN.publicIp, '02:00:00:00:00:0a'), 'own-public-ip'],
    [lease(OWN.key, '10.245.1.99', '02:00:00:00:00:0a'), 'own-key-taken'],
    [lease('10.246.31.0-24', '10.245.1.9', OWN.mac), 'own-mac'],
    [lease('10.246.30.128-25', '10.245.1.9', '02:00:00:00:00:0a'), 'overlaps-own-subnet'],
    [lease('10.246.0.0-16', '10.245.1.9', '02:00:00:00:00:0a'), 'overlaps-own-subnet'],
    [lease('10.245.0.0-16', '10.244.1.9', '02:00:00:00:00:0a'), 'covers-underlay'],
    [lease('10.99.0.0-16', '10.99.1.9', '02:00:00:00:00:0a'), 'covers-underlay'],
  ];
  for (const [value, kind] of table) {
    const peers = state();
    const { warnings } = peers.apply(snapshot(1, value));
    assert.deepEqual(
      warnings.map((warning) => [warning.kind, warning.keys]),
      [[kind, [value.key]]],
    );
    assert.deepEqual([peers.tables().fdb, peers.routes()], [[], []], kind);
  }
});

test('a lease outside the network is used, as flannel does, with a route of its own and a warning', () => {
  const peers = state('network');
  const { warnings } = peers.apply(snapshot(1, lease('10.99.1.0-24', '10.245.1.9', '02:00:00:00:00:0a')));
  assert.equal(warnings[0]?.kind, 'outside-network');
  assert.deepEqual(peers.routes()[1], { destination: '10.99.1.0/24', via: '10.99.1.0', onlink: true });
});

test('our own lease is known by its PublicIP before we have a key, and judged anew when we join', () => {
  const peers = state('peer', { publicIp: OWN.publicIp });
  const old = lease('10.246.40.0-24', OWN.publicIp, '02:00:00:00:00:0b');
  assert.deepEqual(peers.apply(snapshot(1, old, own, A)).warnings, []);
  const change = peers.setOwn(OWN);
  assert.equal(change.warnings[0]?.kind, 'own-public-ip');
  assert.equal(change.tablesUnchanged, true);
  const overlap = lease('10.246.30.0-25', '10.245.1.9', '02:00:00:00:00:0a');
  assert.equal(peers.apply(changes(2, put(overlap))).tablesUnchanged, true);
  const moved = { ...own, key: '10.246.77.0-24', subnet: parsePrefix('10.246.77.0/24') };
  const regained = peers.apply({ type: 'lease-regained', lease: moved });
  assert.deepEqual(regained.tables.neighbours_set, [{ prefix: '10.246.30.0/25', lladdr: '02:00:00:00:00:0a' }]);
});

/** Few keys, MACs and addresses, so that contradictions are common. */
const anyLease = fc
  .tuple(
    fc.constantFrom(
      '10.246.1.0-24',
      '10.246.2.0-24',
      '10.246.3.0-24',
      '10.246.3.0-24&fd00::-64',
      '10.246.30.0-24',
      '10.9.0.0-16',
    ),
    fc.constantFrom('10.245.1.3', '10.245.1.4', '10.245.1.5', '10.9.1.1'),
    fc.constantFrom('02:00:00:00:00:03', '02:00:00:00:00:04', '02:00:00:00:00:05'),
    fc.constantFrom('vxlan', 'vxlan', 'vxlan', 'host-gw'),
  )
  .map(([key, ip, mac, type]) => lease(key, ip, mac, type));

const anyChange = fc.oneof(
  { weight: 3, arbitrary: anyLease.map(put) },
  { weight: 1, arbitrary: anyLease.map((value) => del(value.key)) },
);

const anyEvents = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.array(anyChange, { maxLength: 4 }) },
    {
      weight: 1,
      arbitrary: fc.uniqueArray(anyLease, { selector: (value) => value.key }).map((leases) => ({ leases })),
    },
  ),
  { maxLength: 12 },
);

test('any sequence of events ends in the state of the final snapshot, and each difference leads from state to state', () => {
  fc.assert(
    fc.property(anyEvents, fc.constantFrom<RouteMode>('peer', 'network'), (events, mode) => {
      const peers = state(mode);
      const held = new Map<string, Lease>();
      let tables = peers.tables();
      let routes = peers.routes();
      for (const [index, event] of events.entries()) {
        const revision = index + 1;
        let change: PeerChange;
        if (Array.isArray(event)) {
          for (const step of event) {
            if (step.type === 'put') held.set(step.lease.key, step.lease);
            else held.delete(step.key);
          }
          change = peers.apply(changes(revision, ...event));
        } else {
          held.clear();
          for (const value of event.leases) held.set(value.key, value);
          change = peers.apply(snapshot(revision, ...event.leases));
        }
        tables = patched(tables, change);
        routes = rerouted(routes, change);
        assert.deepEqual(tables, peers.tables());
        assert.deepEqual(routes, peers.routes());

        const fresh = state(mode);
        fresh.apply(snapshot(revision, ...held.values()));
        assert.deepEqual(peers.tables(), fresh.tables());
        assert.deepEqual(peers.routes(), fresh.routes());
        assert.deepEqual(peers.peers(), fresh.peers());
        assert.equal(peers.otherBackendCount, fresh.otherBackendCount);
        assert.deepEqual(sortedMessages(peers), sortedMessages(fresh));
        assert.deepEqual(peers.tables(), model([...held.values()]));
      }
    }),
    { numRuns: 500 },
  );
});

const anyHops = fc.array(
  fc.tuple(
    fc.constantFrom('10.245.1.4', '10.245.1.5').map(parseIpv4),
    fc.constantFrom<(string | undefined)[]>('eth0', 'eth1', undefined),
  ),
  { maxLength: 3 },
);

test('direct ways that come and go among the events: the same state as if they had been known from the start', () => {
  const step = fc.oneof(
    fc.array(anyChange, { maxLength: 4 }).map((list) => ({ list })),
    anyHops.map((hops) => ({ hops })),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 15 }), fc.constantFrom<RouteMode>('peer', 'network'), (steps, mode) => {
      const peers = state(mode);
      const held = new Map<string, Lease>();
      const ways = new Map<Ipv4, string | undefined>();
      let tables = peers.tables();
      let routes = peers.routes();
      for (const [index, each] of steps.entries()) {
        let change: PeerChange;
        if ('hops' in each) {
          for (const [ip, dev] of each.hops) ways.set(ip, dev);
          change = peers.setDirect(each.hops);
        } else {
          for (const item of each.list) {
            if (item.type === 'put') held.set(item.lease.key, item.lease);
            else held.delete(item.key);
          }
          change = peers.apply(changes(index + 1, ...each.list));
        }
        tables = patched(tables, change);
        routes = rerouted(routes, change);
        assert.deepEqual(tables, peers.tables());
        assert.deepEqual(routes, peers.routes());
        const fresh = state(mode);
        fresh.setDirect(ways);
        fresh.apply(snapshot(index + 1, ...held.values()));
        assert.deepEqual(peers.tables(), fresh.tables());
        assert.deepEqual(peers.routes(), fresh.routes());
        assert.deepEqual(peers.peers(), fresh.peers());
        assert.equal(peers.peerCount, fresh.peerCount);
      }
    }),
    { numRuns: 500 },
  );
});

test('one change among 20,000 hosts is a small patch, made in the time of a small change', () => {
  const peers = new PeerState({ own: OWN, network: parsePrefix('10.0.0.0/8'), routeMode: 'peer' });
  const many: Lease[] = [];
  for (let index = 0; index < 20_000; index += 1) {
    const [high, low] = [index >> 8, index & 255];
    const mac = `02:01:00:00:${high.toString(16).padStart(2, '0')}:${low.toString(16).padStart(2, '0')}`;
    many.push(
      lease(
        `10.${100 + (high >> 4)}.${(high & 15) * 16 + (low >> 4)}.${(low & 15) * 16}-28`,
        `172.16.${high}.${low}`,
        mac,
      ),
    );
  }
  peers.apply(snapshot(1, ...many));
  assert.equal(peers.tables().fdb.length, 20_000);
  const first = many[0] as Lease;
  const started = performance.now();
  for (let round = 0; round < 1000; round += 1) {
    peers.apply(changes(round * 2 + 2, del(first.key)));
    const change = peers.apply(changes(round * 2 + 3, put(first)));
    assert.equal(change.tables.fdb_set.length + change.tables.neighbours_set.length, 2);
  }
  assert.ok(performance.now() - started < 2000, '2,000 events, each independent of the number of hosts');
});

/** The rules in their plainest form: every lease against every other. */
function model(leases: Lease[]): DesiredTables {
  const usable = leases.flatMap(
    (value) => judge(value, OWN, { network: parsePrefix('10.246.0.0/16'), family: 4, backend: 'vxlan' }).peer ?? [],
  );
  const elected = usable.filter((a) => !usable.some((b) => b.subnet === a.subnet && b.key < a.key));
  const inUse = elected.filter((a) => {
    const rivals = elected.filter((b) => b.mac === a.mac);
    return rivals.every((b) => b.key >= a.key || rivals.some((c) => c.key < b.key) || b.publicIp === a.publicIp);
  });
  const fdb = new Map<string, string>(inUse.map(({ mac = '', publicIp }) => [mac, publicIp]));
  const byText = (a: string, b: string) => (a < b ? -1 : 1);
  return {
    fdb: [...fdb]
      .sort(([a], [b]) => byText(a, b))
      .map(([mac, ip]) => ({ mac, destinations: [{ ip }], state: 'permanent' })),
    neighbours: inUse
      .map(({ subnet, mac = '' }) => ({ prefix: subnet, lladdr: mac }))
      .sort((a, b) => byText(a.prefix, b.prefix)),
    peers: [],
  };
}

function patched(before: DesiredTables, { tables }: PeerChange): DesiredTables {
  const fdb = new Map(before.fdb.map((entry) => [entry.mac, entry]));
  const neighbours = new Map(before.neighbours.map((entry) => [entry.prefix, entry]));
  for (const mac of tables.fdb_remove) assert.ok(fdb.delete(mac), 'only what is there is removed');
  for (const entry of tables.fdb_set) {
    assert.notDeepEqual(fdb.get(entry.mac), entry, 'only what differs is set');
    fdb.set(entry.mac, entry);
  }
  for (const prefix of tables.neighbours_remove) assert.ok(neighbours.delete(prefix));
  for (const entry of tables.neighbours_set) {
    assert.notDeepEqual(neighbours.get(entry.prefix), entry);
    neighbours.set(entry.prefix, entry);
  }
  const peers = new Set(before.peers);
  for (const ip of tables.peers_remove) assert.ok(peers.delete(ip));
  for (const ip of tables.peers_add) {
    assert.ok(!peers.has(ip));
    peers.add(ip);
  }
  const byKey = (a: [string, unknown], b: [string, unknown]) => (a[0] < b[0] ? -1 : 1);
  return {
    fdb: [...fdb].sort(byKey).map(([, entry]) => entry),
    neighbours: [...neighbours].sort(byKey).map(([, entry]) => entry),
    peers: [...peers].sort(),
  };
}

function rerouted(before: DesiredRoute[], { routes }: PeerChange): DesiredRoute[] {
  const [first, ...rest] = before[0] !== undefined && before[0].via === undefined ? before : [undefined, ...before];
  const held = new Map<Prefix, DesiredRoute>();
  for (const route of rest) if (route !== undefined) held.set(route.destination, route);
  for (const route of routes.removed) assert.ok(held.delete(route.destination));
  for (const route of routes.added) {
    assert.ok(!held.has(route.destination));
    held.set(route.destination, route);
  }
  const sorted = [...held.values()].sort((a, b) => (a.destination < b.destination ? -1 : 1));
  return first === undefined ? sorted : [first, ...sorted];
}

function sortedMessages(peers: PeerState): string[] {
  return peers
    .warnings()
    .map((warning) => warning.message)
    .sort();
}

test('a peer on the same link, where that is asked for, has a direct route in the place of its entries, and back', () => {
  const peers = state();
  peers.apply(snapshot(7, own, A, B));
  const there = peers.setDirect([[A.attributes.publicIp, 'eth0']]);
  const direct = { destination: A.subnet, via: A.attributes.publicIp, onlink: false, dev: 'eth0' };
  const tunnel = { destination: A.subnet, via: '10.246.13.0', onlink: true };
  assert.deepEqual(there.routes, { added: [direct], removed: [tunnel] });
  assert.deepEqual(there.tables, {
    fdb_remove: ['02:00:00:00:00:04'],
    fdb_set: [],
    neighbours_remove: ['10.246.13.0/24'],
    neighbours_set: [],
    peers_remove: [],
    peers_add: ['10.245.1.4'],
  });
  assert.deepEqual(peers.routes(), [direct, { destination: B.subnet, via: '10.246.34.0', onlink: true }]);
  assert.deepEqual(peers.tables().peers, ['10.245.1.4'], 'it may still send through the tunnel');
  assert.deepEqual(
    peers.peers().map(({ active }) => active),
    [true, true],
  );
  const back = peers.setDirect([[A.attributes.publicIp, undefined]]);
  assert.deepEqual(back.routes, { added: [tunnel], removed: [direct] });
  assert.deepEqual([back.tables.fdb_set.length, back.tables.neighbours_set.length], [1, 1]);
  assert.deepEqual(back.tables.peers_remove, ['10.245.1.4']);
});

test('a direct peer that leaves takes its route and its right to send with it', () => {
  const peers = state();
  peers.setDirect([[A.attributes.publicIp, 'eth0']]);
  const change = peers.apply(snapshot(1, A));
  assert.deepEqual([change.tables.fdb_set, change.tables.peers_add], [[], ['10.245.1.4']]);
  const gone = peers.apply(changes(2, del(A.key)));
  assert.deepEqual(gone.tables.peers_remove, ['10.245.1.4']);
  assert.equal(gone.routes.removed[0]?.dev, 'eth0');
  assert.deepEqual(peers.tables(), { fdb: [], neighbours: [], peers: [] });
});

test('host-gw: leases of that type only, direct routes only, and none for a peer beyond a gateway', () => {
  const network = parsePrefix('10.246.0.0/16');
  const peers = new PeerState({ own: OWN, network, routeMode: 'peer', backend: 'host-gw' });
  const attributes = { publicIp: parseIpv4('10.245.1.4'), backendType: 'host-gw' };
  const gateway: Lease = { key: '10.246.13.0-24', subnet: parsePrefix('10.246.13.0/24'), attributes };
  peers.apply(snapshot(1, gateway, B));
  assert.equal(peers.otherBackendCount, 1);
  assert.deepEqual(peers.routes(), []);
  peers.setDirect([[attributes.publicIp, 'eth0']]);
  assert.deepEqual(peers.routes(), [{ destination: '10.246.13.0/24', via: '10.245.1.4', onlink: false, dev: 'eth0' }]);
  assert.deepEqual(peers.tables(), { fdb: [], neighbours: [], peers: [] });
});

test('udp: leases with that type or none, a name made of the address, one route for the whole network', () => {
  const network = parsePrefix('10.246.0.0/16');
  const peers = new PeerState({ own: OWN, network, routeMode: 'peer', backend: 'udp' });
  const of = (key: string, publicIp: string, backendType: string): Lease => {
    const attributes = { publicIp: parseIpv4(publicIp), backendType };
    return { key, subnet: parseSubnetKey(key).subnet, attributes };
  };
  const [typed, untyped] = [of('10.246.13.0-24', '10.245.1.4', 'udp'), of('10.246.34.0-24', '10.245.1.255', '')];
  peers.apply(snapshot(1, typed, untyped, lease('10.246.81.0-24', '10.245.1.6', '02:00:00:00:00:06')));
  assert.deepEqual([peers.peerCount, peers.otherBackendCount], [2, 1]);
  const [first, second] = ['02:00:0a:f5:01:04', '02:00:0a:f5:01:ff'];
  assert.deepEqual(peers.tables(), {
    fdb: [
      { mac: first, destinations: [{ ip: '10.245.1.4' }], state: 'permanent' },
      { mac: second, destinations: [{ ip: '10.245.1.255' }], state: 'permanent' },
    ],
    neighbours: [
      { prefix: '10.246.13.0/24', lladdr: first },
      { prefix: '10.246.34.0/24', lladdr: second },
    ],
    peers: [],
  });
  const whole = { destination: '10.246.0.0/16', onlink: false };
  assert.deepEqual(peers.routes(), [whole]);
  const change = peers.apply(changes(2, put(of('10.247.1.0-24', '10.245.1.4', 'udp')), del(untyped.key)));
  assert.deepEqual(
    change.tables.neighbours_set,
    [{ prefix: '10.247.1.0/24', lladdr: first }],
    'two subnets of one host',
  );
  assert.deepEqual([change.tables.fdb_set, change.tables.fdb_remove], [[], [second]]);
  assert.deepEqual(peers.routes(), [whole, { destination: '10.247.1.0/24', onlink: false }], 'outside of the network');
});

test('an IPv6 overlay takes the other part of each lease, and leaves out hosts that have none', () => {
  const network = parsePrefix('fd00:246::/48');
  const six: Lease = {
    ...A,
    subnet6: parsePrefix('fd00:246:0:13::/64'),
    attributes: { ...A.attributes, publicIpv6: parseIpv6('fd00:245::4'), vtepMac6: parseMac('02:00:00:00:06:04') },
  };
  const peers = new PeerState({ own: { publicIp: parseIpv6('fd00:245::3') }, network, routeMode: 'peer' });
  peers.apply(snapshot(1, six, B));
  assert.deepEqual(peers.tables(), {
    fdb: [{ mac: '02:00:00:00:06:04', destinations: [{ ip: 'fd00:245::4' }], state: 'permanent' }],
    neighbours: [{ prefix: 'fd00:246:0:13::/64', lladdr: '02:00:00:00:06:04' }],
    peers: [],
  });
  assert.deepEqual(peers.routes(), [{ destination: 'fd00:246:0:13::/64', via: 'fd00:246:0:13::', onlink: true }]);
  assert.equal(peers.otherBackendCount, 0);
});
