import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { instancePaths, type Paths } from '../../../src/config/paths.ts';
import { Daemon, type DaemonSettings } from '../../../src/daemon/daemon.ts';
import { StatusBoard } from '../../../src/daemon/status-board.ts';
import type { HostFacts } from '../../../src/dataplane/protocol.ts';
import { adoptDataplane } from '../../../src/dataplane/spawn.ts';
import { superviseDataplane } from '../../../src/dataplane/supervisor.ts';
import type { Datastore, DatastoreEvent, Lease, OwnHost } from '../../../src/datastore/types.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../../src/flannel/config.ts';
import type { Ipv4 } from '../../../src/net/ip.ts';
import type { Mac } from '../../../src/net/mac.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import { FakeDataplane, hostFacts } from '../dataplane/fake-dataplane.ts';

const CONFIG = '{"Network":"10.246.0.0/16","Backend":{"Type":"vxlan","VNI":3,"Port":4789}}';
const DEVICE = 'flannel.3';
const PEER_MAC = '16:8d:1e:23:70:cf';

function lease(third: number, publicIp: string, mac: string): Lease {
  const attributes = { publicIp: publicIp as Ipv4, backendType: 'vxlan', vtepMac: mac as Mac, vni: 3 };
  return { key: `10.246.${third}.0-24`, subnet: parsePrefix(`10.246.${third}.0/24`), attributes };
}

const PEER = lease(13, '10.245.1.4', PEER_MAC);

/** Says what the test tells it to. */
class FakeDatastore implements Datastore {
  readonly source = 'etcd';
  readonly log: string[];
  config_: NetworkConfig = parseNetworkConfig(CONFIG);
  own: Lease | undefined;
  joinedWith: OwnHost | undefined;
  readonly #events: DatastoreEvent[] = [];
  #wake: (() => void) | undefined;

  constructor(log: string[]) {
    this.log = log;
  }

  async config(): Promise<NetworkConfig> {
    this.log.push('config');
    return this.config_;
  }

  async ownLease(): Promise<Lease | undefined> {
    return this.own;
  }

  async join(own: OwnHost): Promise<Lease> {
    this.log.push('join');
    this.joinedWith = own;
    return { ...lease(30, own.attributes.publicIp, own.attributes.vtepMac ?? ''), attributes: own.attributes };
  }

  say(...events: DatastoreEvent[]): void {
    this.#events.push(...events);
    this.#wake?.();
  }

  async *watch(signal: AbortSignal): AsyncGenerator<DatastoreEvent> {
    signal.addEventListener('abort', () => this.#wake?.());
    while (!signal.aborted) {
      const event = this.#events.shift();
      if (event !== undefined) yield event;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  async stop(): Promise<void> {
    this.log.push('stop');
  }
}

interface Bed {
  readonly paths: Paths;
  readonly facts: HostFacts;
  readonly datastore: FakeDatastore;
  readonly board: StatusBoard;
  readonly subnetFile: string;
  readonly log: string[];
  plane: FakeDataplane;
  readonly running: Promise<void>;
  stop(): Promise<void>;
}

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

interface Start {
  settings?: Partial<DaemonSettings>;
  prepare?: (bed: { plane: FakeDataplane; datastore: FakeDatastore; facts: HostFacts }) => Promise<void> | void;
  directory?: string;
  reconcileMs?: number;
  plane?: FakeDataplane;
  facts?: HostFacts;
}

/** A daemon on a host of its own; each dataplane that is started is in `bed.plane`. */
async function start(given: Start = {}): Promise<Bed> {
  const directory = given.directory ?? mkdtempSync(join(tmpdir(), 'vtepd-daemon-'));
  cleanups.push(async () => rmSync(directory, { recursive: true, force: true }));
  const paths = instancePaths('test', { VTEPD_RUNTIME_DIR: directory, VTEPD_STATE_DIR: join(directory, 'state') });
  const facts = given.facts ?? given.plane?.facts ?? hostFacts();
  const log: string[] = [];
  const datastore = new FakeDatastore(log);
  const plane = given.plane ?? (await FakeDataplane.listen(paths.socket, facts));
  await given.prepare?.({ plane, datastore, facts });
  const logger = pino({ level: 'silent' });
  const board = new StatusBoard({ version: 'test', instance: 'test', source: 'etcd' });
  const subnetFile = join(directory, 'flannel', 'subnet.env');
  const settings = { iface: [], subnetFile, routeMode: 'peer' as const, ...given.settings };
  const bed: { plane: FakeDataplane } = { plane };
  const daemon = new Daemon({
    settings,
    lookMs: 20,
    reconcileMs: given.reconcileMs,
    paths,
    datastore,
    board,
    logger,
    sessions: (signal) =>
      superviseDataplane(
        {
          paths,
          env: {},
          logger,
          start: async () => {
            bed.plane = await FakeDataplane.listen(paths.socket, facts);
            return { ...(await adoptDataplane(paths)), child: { exitCode: null } as never };
          },
        },
        signal,
      ),
    onReady: () => log.push('ready'),
  });
  const end = new AbortController();
  const running = daemon.run(end.signal);
  running.catch(() => undefined);
  const stop = async (): Promise<void> => {
    end.abort();
    await running;
  };
  cleanups.push(async () => {
    end.abort();
    await running.catch(() => undefined);
    await bed.plane.die().catch(() => undefined);
  });
  return Object.assign(bed, { paths, facts, datastore, board, subnetFile, log, running, stop });
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 400; attempt++) {
    if (holds()) return;
    await sleep(5);
  }
  assert.fail(`not within 2 s: ${what}`);
}

function snapshot(revision: number, ...leases: Lease[]): DatastoreEvent {
  return { type: 'snapshot', revision, leases, bad: [] };
}

async function ready(bed: Bed): Promise<void> {
  bed.datastore.say(snapshot(5, PEER));
  await until('ready', () => bed.board.ready);
}

const held = (bed: Bed, name = DEVICE) => {
  const network = bed.plane.networks.get(name);
  assert.ok(network !== undefined, `${name} is held`);
  return network;
};

const ours = (facts: HostFacts) => facts.links.find((link) => link.name === DEVICE);

test('start makes things in order: network, lease, address, tables, environment file, ready', async () => {
  const bed = await start();
  await until('waits for the snapshot', () => bed.board.phase === 'snapshot');
  assert.equal(existsSync(bed.subnetFile), false, 'nothing is announced before the tables are in');
  assert.deepEqual(bed.log, ['config', 'join']);
  assert.equal(bed.board.ready, false);
  await ready(bed);
  assert.deepEqual(bed.log, ['config', 'join', 'ready']);
  assert.equal(
    readFileSync(bed.subnetFile, 'utf8'),
    'FLANNEL_NETWORK=10.246.0.0/16\nFLANNEL_SUBNET=10.246.30.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n',
  );

  const [spec] = bed.plane.calledWith('network.create');
  assert.ok(spec?.mac);
  assert.deepEqual(spec, {
    name: DEVICE,
    vni: 3,
    owner: 'etcd',
    netns: null,
    local: '10.245.1.3',
    port: 4789,
    dev: 'eth0',
    remote: null,
    mac: spec.mac,
    mtu: 1450,
    proxy: true,
    learning: false,
    peersonly: true,
    ageing: 300,
    maxaddress: 0,
  });
  assert.deepEqual(bed.datastore.joinedWith?.attributes, {
    publicIp: '10.245.1.3',
    backendType: 'vxlan',
    vtepMac: spec.mac,
    vni: 3,
  });
  const { fdb, neighbours, state } = held(bed);
  assert.deepEqual(
    fdb.map((entry) => [entry.mac, entry.destinations[0]?.ip, entry.state, entry.source]),
    [[PEER_MAC, '10.245.1.4', 'permanent', 'etcd']],
  );
  assert.deepEqual(
    neighbours.map((entry) => [entry.prefix, entry.lladdr]),
    [['10.246.13.0/24', PEER_MAC]],
  );
  assert.equal(state.revisions.etcd, 5);
  assert.deepEqual(
    ours(bed.facts)?.addresses.map(({ address }) => address),
    ['10.246.30.0/32'],
  );
  const route = bed.facts.routes.find(({ dev }) => dev === DEVICE);
  assert.deepEqual([route?.destination, route?.via, route?.onlink], ['10.246.13.0/24', '10.246.13.0', true]);
  const methods = bed.plane.methods();
  assert.ok(methods.indexOf('network.create') < methods.indexOf('tables.replace'));
});

test('the MAC of an existing device is kept; else the lease tells it', async () => {
  const left = await start({
    prepare: ({ facts }) => {
      const mac = '0e:00:00:00:00:aa';
      facts.links.push({
        index: 9,
        name: DEVICE,
        kind: 'tun',
        mac,
        mtu: 1450,
        up: true,
        carrier: false,
        addresses: [],
      });
    },
  });
  await ready(left);
  assert.equal(left.datastore.joinedWith?.attributes.vtepMac, '0e:00:00:00:00:aa');

  const leased = await start({
    settings: { takeOverLease: true },
    prepare: ({ datastore }) => {
      datastore.own = lease(30, '10.245.1.3', '0e:00:00:00:00:bb');
    },
  });
  await ready(leased);
  assert.equal(leased.datastore.joinedWith?.attributes.vtepMac, '0e:00:00:00:00:bb');
});

test("another host's lease with our PublicIP ends the start; nothing is made", async () => {
  const bed = await start({
    prepare: ({ datastore }) => {
      datastore.own = lease(30, '10.245.1.3', '0e:00:00:00:00:bb');
    },
  });
  await assert.rejects(bed.running, { code: 'PUBLIC_IP_TAKEN' });
  assert.deepEqual(bed.log, ['config', 'stop']);
  assert.equal(bed.plane.networks.size, 0);
});

test('a kernel vxlan device of the same name is deleted, a network made by hand is not', async () => {
  const kernel = await start({
    prepare: ({ facts }) => {
      facts.links.push({
        index: 9,
        name: DEVICE,
        kind: 'vxlan',
        mac: null,
        mtu: 1450,
        up: true,
        carrier: true,
        addresses: [],
      });
    },
  });
  await ready(kernel);
  assert.deepEqual(kernel.plane.calledWith('host.change')[0]?.operations, [{ op: 'link.del', dev: DEVICE }]);
  assert.equal(ours(kernel.facts)?.kind, 'tun');

  const hand = await start({ prepare: async ({ plane }) => makeByHand(plane, DEVICE) });
  await assert.rejects(hand.running, /network flannel\.3 was made by hand; remove it/);
});

function makeByHand(plane: FakeDataplane, name: string, mac = '0e:00:00:00:00:05'): void {
  const spec = {
    name,
    vni: 99,
    owner: 'hand',
    netns: null,
    local: null,
    port: 4789,
    dev: null,
    remote: null,
    mac: null,
    mtu: null,
    proxy: false,
    learning: true,
    peersonly: false,
    ageing: 300,
    maxaddress: 0,
  };
  const state = { spec, ifindex: 90, mac, mtu: 1400, up: true, queues: 1, revisions: {} };
  plane.networks.set(name, { state, fdb: [], neighbours: [] });
}

test('events become patches and routes, in proportion to what they change', async () => {
  const bed = await start();
  await ready(bed);
  const third = lease(14, '10.245.1.5', '0e:00:00:00:00:14');
  bed.datastore.say({ type: 'changes', revision: 6, changes: [{ type: 'put', lease: third }], bad: [] });
  await until('patched', () => held(bed).state.revisions.etcd === 6);
  const [patch] = bed.plane.calledWith('tables.patch');
  assert.deepEqual([patch?.base, patch?.fdb_set.length, patch?.neighbours_set.length], [5, 1, 1]);
  await until('route', () => bed.facts.routes.some(({ destination }) => destination === '10.246.14.0/24'));

  // The delete is held back for its grace; the change after it is not, so its revision comes twice.
  const fourth = lease(15, '10.245.1.6', '0e:00:00:00:00:15');
  bed.datastore.say({ type: 'changes', revision: 7, changes: [{ type: 'delete', key: third.key }], bad: [] });
  bed.datastore.say({ type: 'changes', revision: 8, changes: [{ type: 'put', lease: fourth }], bad: [] });
  await until('patched', () => held(bed).state.revisions.etcd === 8);
  assert.equal(held(bed).fdb.length, 3);
  await until('no route', () => !bed.facts.routes.some(({ destination }) => destination === '10.246.14.0/24'));
  const late = bed.plane.calledWith('tables.patch').at(-1);
  assert.deepEqual([late?.base, late?.revision, late?.fdb_remove.length], [8, 8, 1]);
  assert.equal(bed.plane.calledWith('tables.replace').length, 1);
  assert.equal(held(bed).fdb.length, 2);
});

test('where the dataplane holds another revision, it gets the tables whole', async () => {
  const bed = await start();
  await ready(bed);
  held(bed).state.revisions.etcd = 4;
  const third = lease(14, '10.245.1.5', '0e:00:00:00:00:14');
  bed.datastore.say({ type: 'changes', revision: 6, changes: [{ type: 'put', lease: third }], bad: [] });
  await until('replaced', () => held(bed).state.revisions.etcd === 6);
  assert.equal(held(bed).fdb.length, 2);
});

test('what this host remembers takes nothing from a dataplane that was told more', async () => {
  const third = lease(14, '10.245.1.5', '0e:00:00:00:00:14');
  const bed = await start();
  await ready(bed);
  bed.datastore.say({ type: 'changes', revision: 9, changes: [{ type: 'put', lease: third }], bad: [] });
  const macs = () =>
    held(bed)
      .fdb.map(({ mac }) => mac)
      .toSorted();
  const routes = () => bed.facts.routes.filter(({ dev }) => dev === DEVICE).map(({ destination }) => destination);
  await until('both are in', () => macs().length === 2 && routes().length === 2);
  await bed.stop();

  const next = await start({ plane: bed.plane, directory: bed.paths.runtimeDir, facts: bed.facts });
  next.datastore.say({ type: 'snapshot', remembered: true, revision: 5, leases: [PEER], bad: [] });
  await until('ready', () => next.board.ready);
  await sleep(50);
  assert.deepEqual(macs(), ['0e:00:00:00:00:14', PEER_MAC]);
  assert.equal(routes().length, 2);
  next.datastore.say(snapshot(12, PEER));
  await until('etcd has spoken: the third has left', () => macs().length === 1 && routes().length === 1);
});

test('a dataplane that was told nothing gets what this host remembers', async () => {
  const bed = await start();
  bed.datastore.say({ type: 'snapshot', remembered: true, revision: 5, leases: [PEER], bad: [] });
  await until('ready', () => bed.board.ready);
  assert.deepEqual(
    held(bed).fdb.map(({ mac }) => mac),
    [PEER_MAC],
  );
});

test('the next controller adopts: nothing is emptied, deleted or made anew', async () => {
  const bed = await start();
  await ready(bed);
  held(bed).fdb.push({
    mac: '0e:00:00:00:00:77',
    destinations: [{ ip: '10.245.1.7' }],
    state: 'static',
    source: 'hand',
    used: null,
    active: true,
  });
  const { mac } = held(bed).state;
  await bed.stop();
  assert.deepEqual(bed.log.at(-1), 'stop');
  assert.equal(held(bed).fdb.length, 2, 'the dataplane keeps what it has');

  bed.plane.calls.splice(0);
  const next = await start({ plane: bed.plane, directory: bed.paths.runtimeDir, facts: bed.facts });
  await until('waits for the snapshot', () => next.board.phase === 'snapshot');
  const writes = bed.plane
    .methods()
    .filter((method) => !/^(hello|events\.subscribe|network\.list|tables\.dump|host\.read)$/.test(method));
  assert.deepEqual(writes, [], 'before the datastore has spoken nothing is touched');
  assert.equal(next.datastore.joinedWith?.attributes.vtepMac, mac);
  assert.equal(next.datastore.joinedWith?.previousSubnet, '10.246.30.0/24');
  await ready(next);
  assert.ok(!bed.plane.methods().some((method) => /^network\.(create|delete|update)$/.test(method)));
  assert.deepEqual(
    held(bed)
      .fdb.map((entry) => entry.source)
      .toSorted(),
    ['etcd', 'hand'],
  );
});

test('a network that cannot become what it should be is made anew, with its MAC and its entries by hand', async () => {
  const bed = await start();
  await ready(bed);
  const { mac } = held(bed).state;
  await bed.stop();
  held(bed).state.spec = { ...held(bed).state.spec, port: 8472 };
  held(bed).neighbours.push({ prefix: '10.99.0.0/24', lladdr: mac, source: 'hand', active: true });
  bed.plane.calls.splice(0);
  const next = await start({ plane: bed.plane, directory: bed.paths.runtimeDir, facts: bed.facts });
  await ready(next);
  assert.deepEqual(bed.plane.calledWith('network.delete'), [{ network: DEVICE }]);
  assert.deepEqual(
    bed.plane.calledWith('network.create').map((spec) => [spec.port, spec.mac]),
    [[4789, mac]],
  );
  assert.ok(held(bed).neighbours.some(({ prefix }) => prefix === '10.99.0.0/24'));
});

test('a dataplane that dies gets everything back: network, tables, host, and all that was made by hand', async () => {
  const bed = await start({ prepare: ({ plane }) => makeByHand(plane, 'vx9') });
  await ready(bed);
  const { mac } = held(bed).state;
  const first = bed.plane;
  const flood = { mac: '00:00:00:00:00:00', state: 'permanent' as const, source: 'hand', used: null, active: true };
  held(bed, 'vx9').fdb.push({ ...flood, destinations: [{ ip: '10.245.1.8' }, { ip: '10.245.1.9' }] });
  held(bed).fdb.push({
    mac: '0e:00:00:00:00:77',
    destinations: [{ ip: '10.245.1.7', port: 8472 }],
    state: 'static',
    source: 'hand',
    used: null,
    active: true,
  });
  held(bed).neighbours.push({ prefix: '10.99.0.0/24', lladdr: '0e:00:00:00:00:77', source: 'hand', active: true });
  first.calls.splice(0);
  first.notify('changed', { network: DEVICE, what: 'fdb' });
  await until('the mirror has looked', () => first.methods().filter((method) => method === 'tables.dump').length >= 2);
  await sleep(20);

  await first.die();
  await until('another dataplane', () => bed.plane !== first && bed.board.show().plane.state === 'up');
  await until('by hand', () => bed.plane.networks.has('vx9') && held(bed, 'vx9').fdb.length > 0);
  assert.equal(held(bed).state.mac, mac);
  assert.deepEqual(
    held(bed)
      .fdb.map((entry) => `${entry.mac} ${entry.source} ${entry.state}`)
      .toSorted(),
    ['0e:00:00:00:00:77 hand static', `${PEER_MAC} etcd permanent`],
  );
  assert.deepEqual(held(bed).fdb.find(({ source }) => source === 'hand')?.destinations, [
    { ip: '10.245.1.7', port: 8472 },
  ]);
  assert.deepEqual(
    held(bed)
      .neighbours.map(({ prefix }) => prefix)
      .toSorted(),
    ['10.246.13.0/24', '10.99.0.0/24'],
  );
  await until('both flooded', () => held(bed, 'vx9').fdb[0]?.destinations.length === 2);
  assert.equal(held(bed, 'vx9').state.mac, '0e:00:00:00:00:05');
  const { plane } = bed.board.show();
  assert.equal(plane.deaths, 1);
  assert.ok(plane.lastGapMs !== null && plane.lastGapMs < 1_000);
});

test('a dataplane that dies during start does not end the start', async () => {
  const bed = await start();
  await until('waits for the snapshot', () => bed.board.phase === 'snapshot');
  const first = bed.plane;
  await first.die();
  bed.datastore.say(snapshot(5, PEER));
  await until('ready', () => bed.board.ready);
  assert.notEqual(bed.plane, first);
  assert.equal(held(bed).fdb.length, 1);
});

test('a device that somebody deletes or changes is put right', async () => {
  const bed = await start();
  await ready(bed);
  const { mac } = held(bed).state;
  const link = ours(bed.facts);
  assert.ok(link !== undefined);
  link.mac = '0e:00:00:00:00:ff';
  bed.plane.notify('link', { network: DEVICE, what: 'mac', value: '0e:00:00:00:00:ff' });
  await until('the MAC is back', () => ours(bed.facts)?.mac === mac);

  bed.facts.links = bed.facts.links.filter(({ name }) => name !== DEVICE);
  bed.facts.routes = bed.facts.routes.filter(({ dev }) => dev !== DEVICE);
  bed.plane.notify('link', { network: DEVICE, what: 'deleted', value: '' });
  await until('the route is back', () => bed.facts.routes.some(({ dev }) => dev === DEVICE));
  assert.equal(ours(bed.facts)?.mac, mac);
  assert.equal(held(bed).fdb.length, 1);
});

test('a change that the dataplane refuses is made good later', async () => {
  const bed = await start();
  await ready(bed);
  bed.plane.refuse.set('tables.patch', 'EINVAL').set('tables.replace', 'ENOSPC');
  const third = lease(14, '10.245.1.5', '0e:00:00:00:00:14');
  bed.datastore.say({ type: 'changes', revision: 6, changes: [{ type: 'put', lease: third }], bad: [] });
  await until('refused', () => bed.plane.calledWith('tables.replace').length >= 2);
  bed.plane.refuse.clear();
  for (let waited = 0; waited < 5 && held(bed).state.revisions.etcd !== 6; waited++) await sleep(1_000);
  assert.equal(held(bed).state.revisions.etcd, 6);
  assert.ok(bed.facts.routes.some(({ destination }) => destination === '10.246.14.0/24'));
});

test('losing and regaining the lease shows, and another subnet is taken over everywhere', async () => {
  const bed = await start();
  await ready(bed);
  bed.datastore.say({ type: 'lease-lost', reason: 'the key was deleted' });
  await until('lost', () => bed.board.show().leaseLost === 'the key was deleted');
  const attributes = bed.datastore.joinedWith?.attributes;
  assert.ok(attributes !== undefined);
  bed.datastore.say({ type: 'lease-regained', lease: { ...lease(31, '', ''), attributes } });
  await until('subnet.env', () => readFileSync(bed.subnetFile, 'utf8').includes('FLANNEL_SUBNET=10.246.31.1/24'));
  assert.equal(bed.board.show().leaseLost, null);
  assert.deepEqual(
    ours(bed.facts)?.addresses.map(({ address }) => address),
    ['10.246.31.0/32'],
  );
  assert.equal(held(bed).fdb.length, 1);
});

test('a datastore that is away shows since when and why, and nothing else changes', async () => {
  const bed = await start();
  await ready(bed);
  // The underlay is looked at all the while.
  const changes = () =>
    bed.plane.calls.filter(({ method }) => !['host.read', 'network.list', 'stats'].includes(method));
  const before = changes().length;
  const since = new Date('2026-01-02T03:04:05Z');
  bed.datastore.say({ type: 'stale', since, reason: 'connection refused' });
  await until('stale', () => bed.board.show().datastore.state === 'stale');
  const { datastore } = bed.board.show();
  assert.deepEqual([datastore.since, datastore.reason], [since.toISOString(), 'connection refused']);
  bed.datastore.say({ type: 'fresh' });
  await until('fresh', () => bed.board.show().datastore.state === 'fresh');
  assert.equal(changes().length, before);
});

test('Backend.GBP is the network option gbp, and a warning says what it cannot do', async () => {
  const bed = await start({
    prepare: ({ datastore }) => {
      datastore.config_ = parseNetworkConfig(
        '{"Network":"10.246.0.0/16","Backend":{"Type":"vxlan","VNI":3,"Port":4789,"GBP":true}}',
      );
    },
  });
  await ready(bed);
  assert.equal(held(bed).state.spec.gbp, true);
  assert.match(bed.board.show().warnings.join(), /Backend\.GBP: .*this host sends none/);
});

test('an address that changes while the datastore lets us wait is seen before anything is made', async () => {
  const moved = '192.0.2.99';
  const bed = await start({
    prepare: ({ datastore, facts }) => {
      const [before] = facts.links.flatMap(({ addresses }) =>
        addresses.filter(({ address }) => address.startsWith('10.245')),
      );
      assert.ok(before !== undefined);
      const ask = datastore.ownLease.bind(datastore);
      datastore.ownLease = async () => {
        Object.assign(before, { address: `${moved}/24` });
        return ask();
      };
    },
  });
  await ready(bed);
  assert.equal(bed.datastore.joinedWith?.attributes.publicIp, moved);
  assert.equal(held(bed).state.spec.local, moved);
});

test('an environment file that cannot be written keeps us from being ready, and nothing else', async () => {
  // Nobody makes files in /proc.
  const bed = await start({ settings: { subnetFile: '/proc/subnet.env' } });
  bed.datastore.say(snapshot(5, PEER));
  await until('tables are in', () => (bed.plane.networks.get(DEVICE)?.fdb.length ?? 0) > 0);
  await until('a warning', () => bed.board.show().warnings.some((text) => /subnet\.env cannot be written/.test(text)));
  assert.equal(bed.board.ready, false);
  assert.deepEqual(bed.log, ['config', 'join']);
});

test('an address that changes, and back before the datastore has the new one, ends with everything on the first', async () => {
  const bed = await start();
  await ready(bed);
  const [address] = bed.facts.links.flatMap(({ addresses }) =>
    addresses.filter((each) => each.address.startsWith('10.245')),
  );
  assert.ok(address !== undefined);
  const local = () => bed.plane.networks.get(DEVICE)?.state.spec.local;
  let away: (() => void) | undefined;
  const join = bed.datastore.join.bind(bed.datastore);
  bed.datastore.join = async (own) => {
    await new Promise<void>((resolve) => {
      away = resolve;
    });
    bed.datastore.join = join;
    return join(own);
  };
  Object.assign(address, { address: '10.245.1.99/24' });
  await until('the datastore is told of the change', () => away !== undefined);
  assert.equal(local(), '10.245.1.99');
  Object.assign(address, { address: '10.245.1.3/24' });
  // As the dataplane refuses an address that the host no longer has.
  bed.plane.refuse.set('network.list', 'EADDRNOTAVAIL');
  away?.();
  await until('the lease names the second address', () => bed.board.lease?.attributes.publicIp === '10.245.1.99');
  await sleep(50);
  bed.plane.refuse.clear();
  await until('the lease names the first address', () => bed.board.lease?.attributes.publicIp === '10.245.1.3');
  await until('and the device stands on it', () => local() === '10.245.1.3');
  assert.deepEqual(bed.datastore.joinedWith?.formerPublicIps, ['10.245.1.99']);
});

test('a look at the host between an event and its turn sends nothing whole, and takes nothing for a repair', async () => {
  const bed = await start({ reconcileMs: 1 });
  await ready(bed);
  // One host that takes another subnet again and again: its old one goes at once, for the new one has its MAC.
  const subnets = [14, 15].map((number) => lease(number, '10.245.1.5', '0e:00:00:00:00:14'));
  const looks = () => bed.plane.calledWith('host.read').length;
  const before = looks();
  for (let revision = 6; revision < 600; revision += 1) {
    const [now, gone] = revision % 2 === 0 ? subnets : subnets.toReversed();
    assert.ok(now !== undefined && gone !== undefined);
    const changes = [
      { type: 'delete' as const, key: gone.key },
      { type: 'put' as const, lease: now },
    ];
    bed.datastore.say({ type: 'changes', revision, changes, bad: [] });
    await sleep(1);
  }
  await until('all followed', () => held(bed).state.revisions.etcd === 599);
  assert.ok(looks() > before + 5, 'it was looked at');
  assert.equal(bed.plane.calledWith('tables.replace').length, 1);
  assert.equal(bed.plane.calledWith('tables.patch').length, 594);
  assert.equal(bed.board.show().plane.repairs, 0);
});
