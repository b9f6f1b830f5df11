import assert from 'node:assert/strict';
import { test } from 'node:test';
import { controllerRow, entryRow, inOrder, leaseLines, leaseTable, named } from '../../../src/cli/lease-row.ts';
import { readEntry } from '../../../src/datastore/etcd/lease-table.ts';
import { KeyValue } from '../../../src/datastore/etcd/proto/etcd.ts';

const VALUE =
  '{"PublicIP":"10.245.1.9","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":3,"VtepMAC":"02:00:00:00:00:09"}}';
const DAY = 86_400;
const MARGIN = 60;

function entry(name: string, value = VALUE, lease = 7n) {
  return readEntry(name, KeyValue.fromPartial({ value: Buffer.from(value), lease }));
}

const overdue = (ttl: number, granted: number, margin = MARGIN): boolean | null =>
  entryRow(entry('10.246.9.0-24'), { ttl, granted }, margin).overdue;

test("a lease is overdue two minutes after flanneld's margin, a short one after half of its life", () => {
  assert.equal(overdue(DAY, DAY), false);
  assert.equal(overdue(3_481, DAY), false);
  assert.equal(overdue(3_479, DAY), true);
  assert.equal(overdue(299, DAY, 5), false);
  assert.equal(overdue(301, 600), false);
  assert.equal(overdue(299, 600), true);
  assert.equal(overdue(-1, DAY), true);
});

test('a key without an etcd lease is reserved, never overdue, and in use once it has a MAC', () => {
  const free = entryRow(entry('10.246.9.0-24', '{"PublicIP":"10.245.1.9","PublicIPv6":null}', 0n), undefined, MARGIN);
  assert.deepEqual([free.reserved, free.overdue, free.ttl, free.backend], [true, false, null, null]);
  assert.match(leaseTable([free]), /^10\.246\.9\.0-24 +10\.245\.1\.9 +- +- +- +reserved$/m);
  assert.match(
    leaseLines(entryRow(entry('10.246.9.0-24', VALUE, 0n), undefined, MARGIN)),
    /^state +reserved, in use$/m,
  );
});

test('what cannot be read keeps its name and owner, and comes last', () => {
  const bad = entryRow(entry('10.246.9.7-24'), { ttl: 1, granted: DAY }, MARGIN);
  assert.deepEqual([bad.subnet, bad.public_ip], [null, '10.245.1.9']);
  assert.match(leaseTable([bad]), /unreadable: key "10\.246\.9\.7-24"/);
  const good = ['10.246.100.0-24', '10.246.9.0-24'].map((name) => entryRow(entry(name), undefined, MARGIN));
  assert.deepEqual(
    inOrder([bad, ...good]).map((row) => row.key),
    ['10.246.9.0-24', '10.246.100.0-24', '10.246.9.7-24'],
  );
});

test('a lease is named by key, subnet and PublicIP, not by a part of them', () => {
  const none = { mac: null, subnet6: null, publicIpv6: null, mac6: null };
  const row = controllerRow({ key: '10.246.9.0-24', subnet: '10.246.9.0/24', publicIp: '10.245.1.9', ...none });
  for (const word of ['10.246.9.0-24', '10.246.9.0/24', '10.245.1.9']) assert.deepEqual(named([row], word), [row]);
  for (const word of ['10.246.9.0', '10.245.1', '']) assert.deepEqual(named([row], word), []);
});
