import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LeaseTable, ownerOf, readEntry } from '../../../src/datastore/etcd/lease-table.ts';
import { Event, KeyValue } from '../../../src/datastore/etcd/proto/etcd.ts';

const PREFIX = '/net/subnets/';
const VALUE =
  '{"PublicIP":"10.245.1.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":3,"VtepMAC":"72:55:b1:be:47:8f"}}';

function kv(name: string, value: string, modRevision: number, lease = 7): KeyValue {
  return KeyValue.fromPartial({
    key: Buffer.from(PREFIX + name),
    value: Buffer.from(value),
    modRevision: BigInt(modRevision),
    lease: BigInt(lease),
  });
}
const put = (name: string, value: string, revision: number): Event =>
  Event.fromPartial({ type: 0, kv: kv(name, value, revision) });
const del = (name: string, revision: number): Event =>
  Event.fromPartial({ type: 1, kv: { key: Buffer.from(PREFIX + name), modRevision: BigInt(revision) } });
const table = (): LeaseTable => new LeaseTable((key) => key.toString().slice(PREFIX.length));

describe('lease table', () => {
  it('reads listings, and says how many keys differ from what was held', () => {
    const held = table();
    assert.equal(
      held.replace(10n, [kv('10.246.1.0-24', VALUE, 5), kv('10.246.2.0-24', VALUE, 6), kv('junk', VALUE, 7)], false),
      3,
    );
    assert.deepEqual(
      held.leases().map((lease) => [lease.key, lease.subnet, lease.attributes.publicIp]),
      [
        ['10.246.1.0-24', '10.246.1.0/24', '10.245.1.11'],
        ['10.246.2.0-24', '10.246.2.0/24', '10.245.1.11'],
      ],
    );
    assert.deepEqual(
      held.bad().map((bad) => bad.key),
      ['junk'],
    );
    // One unchanged, one changed, one gone, one new.
    assert.equal(
      held.replace(
        20n,
        [kv('10.246.1.0-24', VALUE, 5), kv('10.246.2.0-24', VALUE, 15), kv('10.246.3.0-24', VALUE, 16)],
        false,
      ),
      3,
    );
    assert.deepEqual([held.revision, held.size, held.epoch, held.bad().length], [20n, 3, 0, 0]);
  });

  it('a store that was set back starts a new epoch, at a lower revision', () => {
    const held = table();
    held.replace(100n, [], false);
    held.replace(10n, [], true);
    assert.deepEqual([held.revision, held.epoch], [10n, 1]);
  });

  it('reads events in order: put, change, unreadable, readable, delete', () => {
    const held = table();
    held.replace(1n, [], false);
    const changed = VALUE.replace('.11', '.12');
    const { changes, bad } = held.apply(6n, [
      put('10.246.1.0-24', VALUE, 2),
      put('10.246.1.0-24', changed, 3),
      put('10.246.1.0-24', '{', 4),
      put('10.246.1.0-24', '{', 5),
      put('10.246.1.0-24', VALUE, 6),
    ]);
    assert.deepEqual(
      changes.map((change) => change.type),
      ['put', 'put', 'delete', 'put'],
    );
    assert.deepEqual(
      bad.map(({ key }) => key),
      ['10.246.1.0-24', '10.246.1.0-24'],
    );
    assert.deepEqual(held.apply(7n, [del('10.246.1.0-24', 7)]).changes, [{ type: 'delete', key: '10.246.1.0-24' }]);
    assert.deepEqual([held.size, held.revision], [0, 7n]);
  });

  it('keeps etcd leases of 64 bits and values that are no UTF-8', () => {
    const entry = readEntry(
      '10.246.1.0-24',
      KeyValue.fromPartial({ lease: 0x7587_8f3c_91e2_0a1dn, value: Buffer.of(0xff, 0x00) }),
    );
    assert.equal(entry.etcdLease, 0x7587_8f3c_91e2_0a1dn);
    assert.notEqual(entry.problem, undefined);
  });

  it('knows the owner even of a lease that cannot be used, and guesses none', () => {
    const owner = (value: string): string | undefined =>
      ownerOf(readEntry('10.246.1.0-24', kv('10.246.1.0-24', value, 1)));
    assert.equal(owner(VALUE), '10.245.1.11');
    assert.equal(owner('{"PublicIP":"10.245.1.11","BackendType":"vxlan"}'), '10.245.1.11');
    for (const text of ['', '{', 'null', '7', '{"PublicIP":7}', '{"publicip":null}', '[]'])
      assert.equal(owner(text), undefined);
  });
});
