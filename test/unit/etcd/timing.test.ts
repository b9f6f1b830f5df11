import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expiryOf, NO_LEASE, renewalOf } from '../../../src/datastore/etcd/etcd-lease.ts';
import { EventQueue } from '../../../src/datastore/etcd/event-queue.ts';
import { Keys } from '../../../src/datastore/etcd/keys.ts';
import { isOtherStore } from '../../../src/datastore/etcd/list.ts';
import { Backoff, Bell, orAborted, sleep } from '../../../src/datastore/etcd/wait.ts';
import type { DatastoreEvent } from '../../../src/datastore/types.ts';

describe('etcd lease renewal', () => {
  const day = { id: 1n, ttlSeconds: 86_400, renewedAt: 1_000 };
  it('comes after a third of the TTL', () => assert.equal(renewalOf(day, 60), 1_000 + 28_800_000));
  it('comes sooner if the margin is reached sooner', () => assert.equal(renewalOf(day, 1_380), 1_000 + 3_600_000));
  it('of the greatest margin comes after a minute', () => assert.equal(renewalOf(day, 1_439), 1_000 + 60_000));
  it('does not heed a margin that is longer than the life', () =>
    assert.equal(renewalOf({ ...day, ttlSeconds: 30 }, 60), 1_000 + 10_000));
  it('of a reservation never comes, nor its end', () => {
    assert.equal(renewalOf(NO_LEASE, 60), Number.POSITIVE_INFINITY);
    assert.equal(expiryOf(NO_LEASE), Number.POSITIVE_INFINITY);
  });
});

describe('pauses', () => {
  it('double up to the limit, drawn from the upper half of the step, and start anew', () => {
    const pauses = new Backoff(100, 1_000);
    for (const step of [100, 200, 400, 800, 1_000, 1_000]) {
      const pause = pauses.next();
      assert.ok(pause >= step / 2 && pause <= step, `${pause} of ${step}`);
    }
    pauses.reset();
    assert.ok(pauses.next() <= 100);
  });

  it('end with the signal, before and during', async () => {
    await assert.rejects(sleep(60_000, AbortSignal.abort(new Error('over'))), { message: 'over' });
    const abort = new AbortController();
    const sleeping = sleep(60_000, abort.signal);
    const waiting = orAborted(new Promise<void>(() => undefined), abort.signal);
    const ringing = new Bell().wait(Number.POSITIVE_INFINITY, abort.signal);
    abort.abort(new Error('over'));
    for (const promise of [sleeping, waiting, ringing]) await assert.rejects(promise, { message: 'over' });
  });

  it('a bell that rang before is heard once', async () => {
    const { signal } = new AbortController();
    const bell = new Bell();
    bell.ring();
    await bell.wait(60_000, signal);
    let heard = false;
    const second = bell.wait(60_000, signal).then(() => {
      heard = true;
    });
    await sleep(20, signal);
    assert.equal(heard, false);
    bell.ring();
    await second;
  });
});

describe('event queue', () => {
  const snapshot: DatastoreEvent = { type: 'snapshot', revision: 9, leases: [], bad: [] };
  const change: DatastoreEvent = { type: 'changes', revision: 1, changes: [], bad: [] };
  const fresh: DatastoreEvent = { type: 'fresh' };
  const { signal } = new AbortController();

  it('gives events in order', async () => {
    const queue = new EventQueue(() => snapshot);
    for (const event of [snapshot, change, fresh]) queue.push(event);
    for (const event of [snapshot, change, fresh]) assert.equal(await queue.next(signal), event);
  });

  it('a new snapshot stands for the table events before it, not for others', async () => {
    const queue = new EventQueue(() => snapshot);
    for (const event of [change, fresh, change, snapshot]) queue.push(event);
    assert.equal(await queue.next(signal), fresh);
    assert.equal(await queue.next(signal), snapshot);
  });

  it('a reader that falls far behind gets a snapshot, and the queue stays small', async () => {
    const queue = new EventQueue(() => snapshot);
    queue.push(fresh);
    for (let n = 0; n < 1_000; n += 1) queue.push(change);
    queue.push(change);
    assert.equal(await queue.next(signal), snapshot);
    assert.equal(await queue.next(signal), fresh);
    assert.equal(await queue.next(signal), change);
  });
});

describe('keys', () => {
  it('range over what is below subnets/ and nothing beside it', () => {
    const keys = new Keys('/coreos.com/network');
    assert.equal(keys.config, '/coreos.com/network/config');
    assert.equal(keys.subnetsRange.key.toString(), '/coreos.com/network/subnets/');
    assert.equal(keys.subnetsRange.rangeEnd.toString(), '/coreos.com/network/subnets0');
    assert.equal(keys.lease('10.246.1.0-24').toString(), '/coreos.com/network/subnets/10.246.1.0-24');
    assert.equal(keys.nameOf(keys.lease('a/b')), 'a/b');
  });
  it('forgive slashes', () => assert.equal(new Keys('coreos.com/network/').config, '/coreos.com/network/config'));
});

describe('a store', () => {
  const store = { clusterId: 1n, raftTerm: 5n };
  it('is another with another cluster, or with a term gone back', () => {
    assert.equal(isOtherStore(store, { clusterId: 1n, raftTerm: 6n }), false);
    assert.equal(isOtherStore(store, { clusterId: 2n, raftTerm: 6n }), true);
    assert.equal(isOtherStore(store, { clusterId: 1n, raftTerm: 2n }), true);
  });
  it('that does not say is not another', () =>
    assert.equal(isOtherStore(store, { clusterId: 0n, raftTerm: 0n }), false));
});
