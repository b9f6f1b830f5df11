import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Misses, MOST_MISSES } from '../../../src/daemon/misses.ts';

const at = (second: number): Date => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
const iso = (second: number): string => at(second).toISOString();

test('each key has its count, its first and its last time; the latest comes first', () => {
  const misses = new Misses();
  misses.note({ network: 'vx0', layer: 'l2', key: '02:00:00:00:00:09', count: 3 }, at(1));
  misses.note({ network: 'vx0', layer: 'l3', key: '10.9.0.9', count: 1 }, at(2));
  misses.note({ network: 'vx1', layer: 'l3', key: '10.9.0.9', count: 1 }, at(3));
  misses.note({ network: 'vx0', layer: 'l2', key: '02:00:00:00:00:09', count: 4 }, at(5));
  assert.deepEqual(misses.list(), [
    { network: 'vx0', layer: 'l2', key: '02:00:00:00:00:09', count: 7, first: iso(1), last: iso(5) },
    { network: 'vx1', layer: 'l3', key: '10.9.0.9', count: 1, first: iso(3), last: iso(3) },
    { network: 'vx0', layer: 'l3', key: '10.9.0.9', count: 1, first: iso(2), last: iso(2) },
  ]);
  misses.forget('vx0');
  assert.deepEqual(
    misses.list().map(({ network }) => network),
    ['vx1'],
  );
});

test('however many keys are looked for, only the latest are kept', () => {
  const misses = new Misses();
  for (let number = 0; number < MOST_MISSES + 50; number++)
    misses.note({ network: 'vx0', layer: 'l3', key: `10.9.${number >> 8}.${number & 255}`, count: 1 }, at(1));
  const keys = misses.list().map(({ key }) => key);
  assert.deepEqual([keys.length, keys.includes('10.9.0.49'), keys.includes('10.9.0.50')], [MOST_MISSES, false, true]);
});
