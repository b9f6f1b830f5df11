import assert from 'node:assert/strict';
import { test } from 'node:test';
import { othersSeconds, parseProcessStat } from '../../../bench/measure/others.ts';

test('a name with parentheses and spaces does not shift the fields', () => {
  const line = '812 (a) R (b) S 7 812 812 0 -1 4194304 1 2 3 4 50 60 700 800 20 0 1 0 99 1000 10\n';
  assert.deepEqual(parseProcessStat(line), { pid: 812, parent: 7, ticks: 1610 });
});

test('what is no such line is nothing', () => {
  assert.equal(parseProcessStat(''), undefined);
  assert.equal(parseProcessStat('812 (a) S 7'), undefined);
});

test('our own work is not that of others', () => {
  const before = othersSeconds();
  assert.ok(Number.isFinite(before) && before > 0);
});
