import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { readMemory } from '../../../src/datastore/remembered/memory.ts';
import { RememberedDatastore } from '../../../src/datastore/remembered/remembered-datastore.ts';
import type { Datastore, DatastoreEvent, Lease, OwnHost } from '../../../src/datastore/types.ts';
import { formatNetworkConfig, type NetworkConfig, parseNetworkConfig } from '../../../src/flannel/config.ts';
import { KeptFiles } from '../../../src/host/kept-files.ts';
import { parseIpv4 } from '../../../src/net/ip.ts';
import { parseMac } from '../../../src/net/mac.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';

const directory = mkdtempSync(join(tmpdir(), 'vtepd-remembered-'));
after(() => rmSync(directory, { recursive: true }));

const CONFIG = '{"Network":"10.246.0.0/16","Backend":{"Type":"vxlan","VNI":3,"Port":4789}}';
const NEVER = new AbortController().signal;
const logger = pino({ level: 'silent' });
const keptFiles = new KeptFiles(logger);

function lease(third: number, publicIp: string): Lease {
  const mac = `0e:00:00:00:00:${third.toString(16).padStart(2, '0')}`;
  const attributes = { publicIp: parseIpv4(publicIp), backendType: 'vxlan', vtepMac: parseMac(mac), vni: 3 };
  return { key: `10.246.${third}.0-24`, subnet: parsePrefix(`10.246.${third}.0/24`), attributes };
}

const OWN = lease(30, '10.245.1.3');
const PEER = lease(13, '10.245.1.4');
const own: OwnHost = { attributes: OWN.attributes };

/** Answers when it is told to. */
class Inner implements Datastore {
  readonly source = 'etcd';
  readonly #gate: Promise<void>;
  readonly events: DatastoreEvent[];
  configText = CONFIG;
  joined: OwnHost[] = [];
  gives: Lease = OWN;
  open: () => void = () => undefined;

  constructor(events: DatastoreEvent[] = [], open = true) {
    this.events = events;
    this.#gate = new Promise((resolve) => {
      this.open = resolve;
    });
    if (open) this.open();
  }

  async config(): Promise<NetworkConfig> {
    await this.#gate;
    return parseNetworkConfig(this.configText);
  }

  async ownLease(): Promise<Lease | undefined> {
    await this.#gate;
    return OWN;
  }

  async join(given: OwnHost): Promise<Lease> {
    await this.#gate;
    this.joined.push(given);
    return this.gives;
  }

  async *watch(): AsyncGenerator<DatastoreEvent> {
    await this.#gate;
    yield* this.events;
  }

  async stop(): Promise<void> {}
}

let files = 0;
const newPath = (): string => join(directory, `${++files}.json`);

function remember(inner: Datastore, path: string, more: { offlineStart?: boolean; place?: string } = {}) {
  return new RememberedDatastore({
    inner,
    path,
    place: '/net',
    offlineStart: true,
    files: keptFiles,
    logger,
    patienceMs: 20,
    ...more,
  });
}

async function run(datastore: Datastore): Promise<DatastoreEvent[]> {
  await datastore.config(NEVER);
  await datastore.join(own, NEVER);
  const events: DatastoreEvent[] = [];
  for await (const event of datastore.watch(NEVER)) events.push(event);
  await datastore.stop();
  return events;
}

const SNAPSHOT: DatastoreEvent = { type: 'snapshot', revision: 7, leases: [OWN, PEER], bad: [] };

async function remembered(): Promise<string> {
  const path = newPath();
  assert.deepEqual(await run(remember(new Inner([SNAPSHOT]), path)), [SNAPSHOT]);
  return path;
}

test('a datastore that answers is passed through, and what it said is on disk at the end, for root only', async () => {
  const path = newPath();
  const change: DatastoreEvent = {
    type: 'changes',
    revision: 9,
    changes: [
      { type: 'delete', key: PEER.key },
      { type: 'put', lease: lease(14, '10.245.1.5') },
    ],
    bad: [],
  };
  const since = new Date('2026-01-02T03:04:05Z');
  const events: DatastoreEvent[] = [SNAPSHOT, change, { type: 'stale', since, reason: 'gone' }];
  assert.deepEqual(await run(remember(new Inner(events), path)), events);
  const memory = readMemory(path, '/net', assert.fail);
  assert.deepEqual(
    memory?.leases.map(({ key }) => key),
    ['10.246.30.0-24', '10.246.14.0-24'],
  );
  assert.deepEqual([memory?.revision, memory?.own, memory?.asOf], [9, OWN, since]);
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('with the datastore away, the start goes on what was known, and says up to when that was true', async () => {
  const path = await remembered();
  const inner = new Inner([{ ...SNAPSHOT, revision: 11 }], false);
  const datastore = remember(inner, path);
  assert.equal((await datastore.config(NEVER)).backend.vni, 3);
  assert.deepEqual(await datastore.ownLease('10.245.1.3', NEVER), OWN);
  assert.deepEqual(await datastore.join(own, NEVER), OWN);
  const events = datastore.watch(NEVER);
  assert.deepEqual((await events.next()).value, { ...SNAPSHOT, remembered: true });
  const stale = (await events.next()).value as DatastoreEvent & { type: 'stale' };
  assert.equal(stale.type, 'stale');
  assert.match(stale.reason, /^etcd has not answered since the start: running on the 2 leases known at 2\d{3}-/);
  assert.equal(inner.joined.length, 0);
  inner.open();
  assert.deepEqual((await events.next()).value, { ...SNAPSHOT, revision: 11 });
  assert.deepEqual(
    inner.joined.map((given) => given.previousSubnet),
    ['10.246.30.0/24'],
  );
  await datastore.stop();
});

test('the datastore comes back with another lease for us: that is told before anything else', async () => {
  const inner = new Inner([SNAPSHOT], false);
  inner.gives = lease(31, '10.245.1.3');
  const datastore = remember(inner, await remembered());
  await datastore.config(NEVER);
  await datastore.join(own, NEVER);
  const events = datastore.watch(NEVER);
  await events.next();
  await events.next();
  inner.open();
  assert.deepEqual((await events.next()).value, { type: 'lease-regained', lease: inner.gives });
  assert.deepEqual((await events.next()).value, SNAPSHOT);
  await datastore.stop();
});

test('the datastore comes back with another configuration: the watch ends with a clear word, the memory is dropped', async () => {
  const path = await remembered();
  const inner = new Inner([SNAPSHOT], false);
  inner.configText = CONFIG.replace('4789', '8472');
  const datastore = remember(inner, path);
  await datastore.config(NEVER);
  await datastore.join(own, NEVER);
  const events = datastore.watch(NEVER);
  await events.next();
  await events.next();
  inner.open();
  await assert.rejects(events.next(), { code: 'CONFIG_CHANGED' });
  assert.equal(readMemory(path, '/net', assert.fail), undefined);
});

test('it waits where there is no memory, it is switched off, it is of another prefix, or unreadable', async () => {
  const torn = newPath();
  writeFileSync(torn, readFileSync(await remembered(), 'utf8').slice(0, 200));
  const cases = [
    remember(new Inner([], false), newPath()),
    remember(new Inner([], false), await remembered(), { offlineStart: false }),
    remember(new Inner([], false), await remembered(), { place: '/other' }),
    remember(new Inner([], false), torn),
  ];
  for (const datastore of cases) {
    const outcome = await Promise.race([datastore.config(NEVER), sleep(60, 'waits')]);
    assert.equal(outcome, 'waits');
  }
});

test('a host with another PublicIP than the remembered one waits as well', async () => {
  const datastore = remember(new Inner([], false), await remembered());
  await datastore.config(NEVER);
  assert.equal(await Promise.race([datastore.ownLease('10.245.1.9', NEVER), sleep(40, 'waits')]), 'waits');
});

test('a configuration comes back from its own text', () => {
  const texts = [
    CONFIG,
    '{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0","Backend":{"Type":"vxlan","MTU":1400,"Learning":true,"GBP":true,"DirectRouting":true}}',
  ];
  for (const text of texts) {
    const config = parseNetworkConfig(text);
    assert.deepEqual(parseNetworkConfig(formatNetworkConfig(config)), config);
  }
});
