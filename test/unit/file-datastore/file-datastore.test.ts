import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rename, rm, symlink, truncate, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pino } from 'pino';
import { HostsFileError } from '../../../src/datastore/file/errors.ts';
import { FileDatastore } from '../../../src/datastore/file/file-datastore.ts';
import { deriveVtepMac } from '../../../src/datastore/file/hosts-table.ts';
import type { DatastoreEvent, OwnHost } from '../../../src/datastore/types.ts';
import { parseIpv4 } from '../../../src/net/ip.ts';
import { parseMac } from '../../../src/net/mac.ts';

const logger = pino({ level: 'silent' });
const signal = AbortSignal.timeout(60_000);
const root = await mkdtemp(join(tmpdir(), 'vtepd-file-'));
after(() => rm(root, { recursive: true, force: true }));

const OWN: OwnHost = { attributes: { publicIp: parseIpv4('10.245.1.3'), backendType: 'vxlan' } };

interface Host {
  readonly ip: string;
  readonly subnet: string;
  readonly mac?: string;
}

const A: Host = { ip: '10.245.1.3', subnet: '10.246.30.0/24', mac: '02:00:00:00:00:03' };
const B: Host = { ip: '10.245.1.4', subnet: '10.246.13.0/24', mac: '02:00:00:00:00:04' };
const C: Host = { ip: '10.245.1.5', subnet: '10.246.14.0/24' };

function file(hosts: readonly Host[], network = 'Network: 10.246.0.0/16, Backend: { Type: vxlan, VNI: 1 }'): string {
  const lines = hosts.map(
    ({ ip, subnet, mac }) =>
      `  - { publicIP: ${ip}, subnet: ${subnet}${mac === undefined ? '' : `, mac: "${mac}"`} }\n`,
  );
  return `network: { ${network} }\nhosts:\n${lines.join('')}`;
}

let directories = 0;

interface Rig {
  readonly directory: string;
  readonly path: string;
  readonly store: FileDatastore;
}

/** A datastore on a file of its own; a long poll shows that the directory's watch did the work. */
async function rig(
  t: { after(fn: () => Promise<void>): void },
  text?: string,
  pollMs = 600_000,
  settleMs?: number,
): Promise<Rig> {
  directories += 1;
  const directory = join(root, String(directories));
  await mkdir(directory);
  const path = join(directory, 'hosts.yaml');
  if (text !== undefined) await writeFile(path, text);
  const store = new FileDatastore({ path, logger, pollMs, ...(settleMs === undefined ? {} : { settleMs }) });
  t.after(() => store.stop());
  return { directory, path, store };
}

class Reader {
  private readonly events: AsyncIterator<DatastoreEvent>;

  constructor(store: FileDatastore) {
    this.events = store.watch(signal)[Symbol.asyncIterator]();
  }

  async next(): Promise<DatastoreEvent> {
    const { value, done } = await this.events.next();
    assert.ok(done !== true, 'ended early');
    return value;
  }

  async end(): Promise<boolean> {
    return (await this.events.next()).done === true;
  }

  async expect<T extends DatastoreEvent['type']>(type: T): Promise<Extract<DatastoreEvent, { type: T }>> {
    const event = await this.next();
    assert.equal(event.type, type, JSON.stringify(event));
    return event as Extract<DatastoreEvent, { type: T }>;
  }
}

function summary(event: Extract<DatastoreEvent, { type: 'changes' }>): string[] {
  return event.changes.map((change) =>
    change.type === 'put'
      ? `put ${change.lease.key} ${change.lease.attributes.publicIp} ${change.lease.attributes.vtepMac}`
      : `delete ${change.key}`,
  );
}

test('network, own lease, join and snapshot', async (t) => {
  const { store } = await rig(t, file([A, B, C]));
  assert.equal((await store.config(signal)).backend.vni, 1);
  assert.equal(
    (await store.ownLease('10.245.1.5', signal))?.attributes.vtepMac,
    deriveVtepMac(1, parseIpv4('10.245.1.5')),
  );
  assert.equal(await store.ownLease('10.245.1.6', signal), undefined);
  const lease = await store.join({ attributes: { ...OWN.attributes, vtepMac: parseMac('02:00:00:00:00:99') } }, signal);
  assert.equal(lease.key, '10.246.30.0-24');
  assert.equal(lease.attributes.vtepMac, '02:00:00:00:00:03', 'the MAC is that of the file');
  const snapshot = await new Reader(store).expect('snapshot');
  assert.deepEqual(
    snapshot.leases.map(({ key }) => key),
    ['10.246.30.0-24', '10.246.13.0-24', '10.246.14.0-24'],
  );
});

test('a host that the file does not list cannot join, and is told its address and the file', async (t) => {
  const { store, path } = await rig(t, file([B]));
  await assert.rejects(store.join(OWN, signal), (error) => {
    assert.ok(error instanceof HostsFileError && error.code === 'HOSTS_FILE_NO_OWN_HOST');
    assert.ok(error.message.includes('10.245.1.3') && error.message.includes(path), error.message);
    return true;
  });
});

test('a broken file at the start is an error with its line', async (t) => {
  const { store, path } = await rig(t, file([A, A]));
  await assert.rejects(store.config(signal), (error) => {
    assert.ok(error instanceof HostsFileError && error.code === 'HOSTS_FILE_INVALID');
    assert.ok(error.message.startsWith(`${path}:4:`), error.message);
    return true;
  });
});

test('a file that is no text is an error that says so', async (t) => {
  const { store, path } = await rig(t);
  await writeFile(path, Buffer.from([0xff, 0xfe, 0x00]));
  await assert.rejects(store.config(signal), /not UTF-8/);
  const { store: second, path: directory } = await rig(t);
  await mkdir(directory);
  await assert.rejects(second.config(signal), /not a regular file/);
  const { store: third, path: large } = await rig(t, '');
  await truncate(large, 16 * 1024 * 1024 + 1);
  await assert.rejects(third.config(signal), /at most 16777216/);
});

test('a file that is not there yet is waited for', async (t) => {
  const { store, path } = await rig(t);
  const config = store.config(signal);
  await writeFile(path, file([A]));
  assert.equal((await config).network, '10.246.0.0/16');
});

test('waiting ends with the signal and with stop', async (t) => {
  const { store } = await rig(t);
  await assert.rejects(store.config(AbortSignal.timeout(50)));
  const waiting = assert.rejects(store.config(signal));
  await store.stop();
  await waiting;
});

test('edits become changes with growing revisions, whether written in place or renamed', async (t) => {
  const { store, path } = await rig(t, file([A, B]));
  const reader = new Reader(store);
  const { revision } = await reader.expect('snapshot');
  await writeFile(path, file([A, B, C]));
  const first = await reader.expect('changes');
  assert.deepEqual(summary(first), [`put 10.246.14.0-24 10.245.1.5 ${deriveVtepMac(1, parseIpv4('10.245.1.5'))}`]);
  assert.ok(first.revision > revision);
  for (const [round, mac] of ['02:00:00:00:00:14', '02:00:00:00:00:24', '02:00:00:00:00:34'].entries()) {
    await writeFile(`${path}.new`, file([A, { ...B, mac }]));
    await rename(`${path}.new`, path);
    const change = await reader.expect('changes');
    const put = `put 10.246.13.0-24 10.245.1.4 ${mac}`;
    assert.deepEqual(summary(change), round === 0 ? ['delete 10.246.14.0-24', put] : [put]);
  }
});

test('the dataplane is never given a smaller revision by a later run', async (t) => {
  const { store, path } = await rig(t, file([A]));
  const before = await new Reader(store).expect('snapshot');
  await store.stop();
  await new Promise((resolve) => setTimeout(resolve, 5));
  const next = new FileDatastore({ path, logger });
  t.after(() => next.stop());
  assert.ok((await new Reader(next).expect('snapshot')).revision > before.revision);
});

test('a broken edit keeps the hosts and says where; mending it brings back what changed', async (t) => {
  const { store, path } = await rig(t, file([A, B]));
  const reader = new Reader(store);
  await reader.expect('snapshot');
  await writeFile(path, file([A, B, { ...C, subnet: '10.246.13.0/24' }]));
  const stale = await reader.expect('stale');
  assert.ok(stale.reason.includes(`${path}:5:`), stale.reason);
  assert.equal((await store.ownLease('10.245.1.4', signal))?.key, '10.246.13.0-24');
  await writeFile(path, '');
  const still = await reader.expect('stale');
  assert.match(still.reason, /is empty/);
  assert.deepEqual(still.since, stale.since, 'stale since the first broken edit');
  await writeFile(path, file([A, C]));
  await reader.expect('fresh');
  assert.equal(summary(await reader.expect('changes')).length, 2);
});

test('a deleted file keeps the hosts; the same file put back needs no change', async (t) => {
  const { store, path } = await rig(t, file([A, B]));
  const reader = new Reader(store);
  await reader.expect('snapshot');
  await unlink(path);
  assert.match((await reader.expect('stale')).reason, /does not exist.*put it back/);
  await writeFile(path, file([A, B]));
  await reader.expect('fresh');
  await writeFile(path, file([A]));
  assert.deepEqual(summary(await reader.expect('changes')), ['delete 10.246.13.0-24']);
});

test('a changed network section waits for a restart while hosts still change', async (t) => {
  const { store, path } = await rig(t, file([A, B]));
  const reader = new Reader(store);
  await reader.expect('snapshot');
  await writeFile(
    path,
    file([A, B, { ...C, mac: '02:00:00:00:00:05' }], 'Network: 10.246.0.0/16, Backend: { Type: vxlan, VNI: 9 }'),
  );
  assert.deepEqual(summary(await reader.expect('changes')), ['put 10.246.14.0-24 10.245.1.5 02:00:00:00:00:05']);
  assert.match((await reader.expect('stale')).reason, /network section changed; restart vtepd to apply/);
  assert.equal((await store.config(signal)).backend.vni, 1);
  await writeFile(path, file([A, B]));
  await reader.expect('fresh');
  assert.deepEqual(summary(await reader.expect('changes')), ['delete 10.246.14.0-24']);
});

test('our own entry removed, put back and changed', async (t) => {
  const { store, path } = await rig(t, file([A, B]));
  await store.join(OWN, signal);
  const reader = new Reader(store);
  await reader.expect('snapshot');
  await writeFile(path, file([B]));
  assert.deepEqual(summary(await reader.expect('changes')), ['delete 10.246.30.0-24']);
  assert.match((await reader.expect('lease-lost')).reason, /no longer lists our PublicIP 10\.245\.1\.3/);
  await writeFile(path, file([B, C]));
  await reader.expect('changes');
  await writeFile(path, file([B, C, { ...A, subnet: '10.246.31.0/24' }]));
  await reader.expect('changes');
  assert.equal((await reader.expect('lease-regained')).lease.subnet, '10.246.31.0/24');
  await writeFile(path, file([B, C, A]));
  await reader.expect('changes');
  assert.equal((await reader.expect('lease-regained')).lease.subnet, '10.246.30.0/24');
});

test('a slow reader gets the last state, in one step', async (t) => {
  const { store, path } = await rig(t, file([A]));
  const reader = new Reader(store);
  const other = new Reader(store);
  await reader.expect('snapshot');
  await other.expect('snapshot');
  for (const hosts of [[A, B], [A], [A, C]]) {
    await writeFile(path, file(hosts));
    await other.expect('changes');
  }
  const change = summary(await reader.expect('changes'));
  assert.equal(change.length, 1);
  assert.match(change[0] ?? '', /^put 10\.246\.14\.0-24/);
});

test('a symbolic link that is turned is seen, as a ConfigMap turns it', async (t) => {
  const { directory, path, store } = await rig(t, undefined, 50);
  for (const [name, hosts] of [
    ['one', [A]],
    ['two', [A, B]],
  ] as const) {
    await mkdir(join(directory, name));
    await writeFile(join(directory, name, 'hosts.yaml'), file(hosts));
  }
  await symlink('one', join(directory, 'data'));
  await symlink('data/hosts.yaml', path);
  const reader = new Reader(store);
  await reader.expect('snapshot');
  await symlink('two', join(directory, 'data.new'));
  await rename(join(directory, 'data.new'), join(directory, 'data'));
  assert.equal(summary(await reader.expect('changes')).length, 1);
});

test('a directory that is replaced is watched anew', async (t) => {
  const { directory, path, store } = await rig(t, file([A]), 50);
  const reader = new Reader(store);
  await reader.expect('snapshot');
  await rm(directory, { recursive: true });
  await reader.expect('stale');
  await mkdir(directory);
  await writeFile(path, file([A, B]));
  await reader.expect('fresh');
  await reader.expect('changes');
  await writeFile(path, file([A]));
  await reader.expect('changes');
});

test('a file from the future is read, and so is one whose content changed under an old time stamp', async (t) => {
  const { path, store } = await rig(t, file([A]));
  const reader = new Reader(store);
  await reader.expect('snapshot');
  await writeFile(path, file([A, B]));
  await utimes(path, new Date('2099-01-01'), new Date('2099-01-01'));
  await reader.expect('changes');
  await writeFile(path, file([A, { ...B, mac: '02:00:00:00:00:05' }]));
  await utimes(path, new Date('2099-01-01'), new Date('2099-01-01'));
  assert.deepEqual(summary(await reader.expect('changes')), ['put 10.246.13.0-24 10.245.1.4 02:00:00:00:00:05']);
});

test('a file written piece by piece is read when it is whole', async (t) => {
  // A writer that a busy machine stops for longer than that would have half its file read.
  const { path, store } = await rig(t, file([A]), undefined, 1_500);
  const reader = new Reader(store);
  await reader.expect('snapshot');
  const text = file([A, B, C]);
  for (let length = 0; length <= text.length; length += 40) {
    await writeFile(path, text.slice(0, length));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await writeFile(path, text);
  assert.equal(summary(await reader.expect('changes')).length, 2, 'neither half a list nor a complaint about one');
});

test('watching ends with stop and with its signal', async (t) => {
  const { store } = await rig(t, file([A]));
  const reader = new Reader(store);
  await reader.expect('snapshot');
  const abort = new AbortController();
  const events = store.watch(abort.signal)[Symbol.asyncIterator]();
  await events.next();
  const pending = events.next();
  abort.abort();
  assert.equal((await pending).done, true);
  const ended = reader.end();
  await store.stop();
  assert.equal(await ended, true);
});
