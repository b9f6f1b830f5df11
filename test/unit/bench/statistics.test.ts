import assert from 'node:assert/strict';
import { test } from 'node:test';
import { median, ratios, spread } from '../../../bench/report/statistics.ts';

test('the median is the middle one, or the mean of the two in the middle', () => {
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([]), undefined);
  assert.equal(median([Number.NaN, 7]), 7);
});

test('the spread keeps least and greatest', () => {
  assert.deepEqual(spread([2, 8, 3]), { median: 3, min: 2, max: 8, count: 3 });
  assert.equal(spread([]), undefined);
});

test('a ratio is taken inside a repetition, and only where both were measured', () => {
  const ours = new Map([
    [0, 5],
    [1, 8],
    [2, 9],
  ]);
  const base = new Map([
    [0, 10],
    [1, 10],
    [3, 10],
  ]);
  assert.deepEqual(ratios(ours, base), [0.5, 0.8]);
  assert.deepEqual(ratios(ours, new Map([[0, 0]])), []);
});
