import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProcessCost, SizeResult } from '../../../bench/scale/measure.ts';
import { renderScale } from '../../../bench/scale/table.ts';

test('a column for each size, a row for each figure', () => {
  const cost: ProcessCost = {
    residentMiB: 70.04,
    peakMiB: 80,
    idleCpu: 0.2,
    busyCpu: 10,
    loneMicroseconds: 1_200.4,
    changeMicroseconds: 900,
  };
  const latency = { median: 9.06, max: 70, changes: 100 };
  const result = (hosts: number, firstPacketMs: number): SizeResult => ({
    hosts,
    firstPacketMs,
    readyMs: 2_000,
    controller: cost,
    dataplane: cost,
    rate: 99.6,
    latency,
    busyLatency: latency,
  });
  const lines = renderScale([result(50, 1_500), result(5_000, 2_500)], { rate: 100, seconds: 5 }).split('\n');
  const row = (title: string) => lines.find((line) => line.startsWith(title))?.split(/ {2,}/);
  assert.deepEqual(row('hosts'), ['hosts', '50', '5000']);
  assert.deepEqual(row('start to first packet'), ['start to first packet', 'ms', '1500', '2500']);
  assert.deepEqual(row('CPU of a lone change, controller'), ['CPU of a lone change, controller us', '1200', '1200']);
  assert.deepEqual(row('a change, put to route, median'), ['a change, put to route, median', 'ms', '9.1', '9.1']);
  assert.match(lines.join('\n'), /busy: 100, 100 leases changed in a second, for 5 s/);
});
