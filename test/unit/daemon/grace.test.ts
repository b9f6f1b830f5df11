import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Grace, withGrace } from '../../../src/daemon/grace.ts';
import type { DatastoreEvent, Lease, LeaseChange } from '../../../src/datastore/types.ts';
import { parseIpv4 } from '../../../src/net/ip.ts';
import { parseMac } from '../../../src/net/mac.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';

function lease(third: number, more: { ip?: string; mac?: string } = {}): Lease {
  const { ip = `10.245.1.${third}`, mac = `02:00:00:00:00:${third}` } = more;
  return {
    key: `10.246.${third}.0-24`,
    subnet: parsePrefix(`10.246.${third}.0/24`),
    attributes: { publicIp: parseIpv4(ip), backendType: 'vxlan', vtepMac: parseMac(mac) },
  };
}

const put = (of: Lease): LeaseChange => ({ type: 'put', lease: of });
const gone = (of: Lease): LeaseChange => ({ type: 'delete', key: of.key });
const changes = (...list: LeaseChange[]): DatastoreEvent => ({ type: 'changes', revision: 7, changes: list, bad: [] });
const snapshot = (...leases: Lease[]): DatastoreEvent => ({ type: 'snapshot', revision: 6, leases, bad: [] });

const [ONE, TWO] = [lease(11), lease(22)];

/** One that has heard of both leases and then, at 100, that the first is gone. */
function holding(): Grace {
  const grace = new Grace(1_000);
  grace.take(snapshot(ONE, TWO), 0);
  assert.deepEqual(grace.take(changes(gone(ONE)), 100), changes());
  assert.equal(grace.due, 1_100);
  return grace;
}

test('a delete comes a grace later', () => {
  const grace = holding();
  assert.equal(grace.expire(1_099), undefined);
  assert.deepEqual(grace.expire(1_100), changes(gone(ONE)));
  assert.equal(grace.due, undefined);
});

test('a key that is back in time was never gone, with another value too', () => {
  for (const back of [ONE, lease(11, { mac: '02:00:00:00:00:99' })]) {
    const grace = holding();
    assert.deepEqual(grace.take(changes(put(back)), 150), changes(put(back)));
    assert.equal(grace.due, undefined);
    assert.equal(grace.expire(5_000), undefined);
  }
});

test('gone and back within one event', () => {
  const grace = new Grace(1_000);
  grace.take(snapshot(ONE), 0);
  assert.deepEqual(grace.take(changes(gone(ONE), put(ONE)), 100), changes(put(ONE)));
});

test('what another lease takes over is gone before it', () => {
  const successors = [
    { ...lease(22), subnet: ONE.subnet },
    lease(33, { ip: ONE.attributes.publicIp }),
    lease(33, { mac: ONE.attributes.vtepMac ?? '' }),
  ];
  for (const successor of successors) {
    const event = holding().take(changes(put(successor)), 150);
    assert.deepEqual(event, changes(gone(ONE), put(successor)));
  }
  const stranger = lease(33);
  assert.deepEqual(holding().take(changes(put(stranger)), 150), changes(put(stranger)));
});

test('a listing counts as it is', () => {
  const grace = holding();
  assert.deepEqual(grace.take(snapshot(TWO), 150), snapshot(TWO));
  assert.equal(grace.due, undefined);
});

test('a key that became unreadable is told at once, and one that was never known', () => {
  const grace = new Grace(1_000);
  grace.take(snapshot(ONE), 0);
  const event: DatastoreEvent = { ...changes(gone(ONE)), bad: [{ key: ONE.key, reason: 'no JSON' }] } as DatastoreEvent;
  assert.deepEqual(grace.take(event, 100), event);
  assert.deepEqual(grace.take(changes(gone(TWO)), 100), changes(gone(TWO)));
  assert.equal(grace.due, undefined);
});

test('deletes that are held come out one after the other, while nothing else comes', async () => {
  const end = new AbortController();
  async function* source(): AsyncGenerator<DatastoreEvent> {
    yield snapshot(ONE, TWO);
    yield changes(gone(ONE));
    yield changes(gone(TWO));
    await new Promise<void>((resolve) => end.signal.addEventListener('abort', () => resolve()));
  }
  const heard: string[] = [];
  for await (const event of withGrace(source(), 20)) {
    if (event.type === 'changes') heard.push(...event.changes.map((change) => `${change.type}`));
    if (heard.length === 2) break;
  }
  assert.deepEqual(heard, ['delete', 'delete']);
  end.abort();
});

test('a source that fails, or ends, does so here', async () => {
  async function* source(): AsyncGenerator<DatastoreEvent> {
    yield snapshot(ONE);
    throw new Error('broken');
  }
  await assert.rejects(async () => {
    for await (const event of withGrace(source())) assert.equal(event.type, 'snapshot');
  }, /broken/);
});
