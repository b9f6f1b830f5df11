import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GOALS, leads, verdict } from '../../../bench/report/goals.ts';
import { renderPlot } from '../../../bench/report/plot.ts';
import { cellOf, summarize } from '../../../bench/report/summary.ts';
import { renderTable } from '../../../bench/report/table.ts';
import { METRIC_NAMES, metricFacts, type Sample, type TestName, type Values } from '../../../bench/vocabulary.ts';

function sample(
  system: string,
  repetition: number,
  test: TestName,
  values: Values,
  more: Partial<Sample> = {},
): Sample {
  return { profile: 'nic', repetition, system, test, values, steal: 0, attempts: 1, noise: 0.01, raw: [], ...more };
}

const SAMPLES: readonly Sample[] = [
  sample('kernel', 0, 'tcp1', { tcp1: 10, cpu: 1 }),
  sample('vtepd', 0, 'tcp1', { tcp1: 9, cpu: 1.2 }),
  sample('ovs', 0, 'tcp1', { tcp1: 1, cpu: 10 }),
  sample('kernel', 1, 'tcp1', { tcp1: 20, cpu: 0.8 }),
  sample('vtepd', 1, 'tcp1', { tcp1: 20, cpu: 1.2 }),
  sample('ovs', 1, 'tcp1', { tcp1: 2, cpu: 9 }),
  sample('kernel', 0, 'rr1', { rr1_p50: 10, rr1_p99: 12 }),
  sample('vtepd', 0, 'rr1', { rr1_p50: 25, rr1_p99: 30 }),
  sample('ovs', 0, 'rr1', {}, { error: 'no round trip was answered' }),
];
const SUMMARY = summarize('nic', ['kernel', 'vtepd', 'ovs'], SAMPLES);

test('the ratio shown is the median of the ratios of the repetitions, not the ratio of medians', () => {
  const cell = cellOf(SUMMARY, 'vtepd', 'tcp1');
  assert.deepEqual(cell?.ratio, { median: 0.95, min: 0.9, max: 1, count: 2 });
  assert.equal(cell?.absolute.median, 14.5);
});

test('goals are judged in the direction of their metric', () => {
  assert.deepEqual(verdict(SUMMARY, 'tcp1'), { goal: '>= 0.95', met: true });
  assert.deepEqual(verdict(SUMMARY, 'cpu'), { goal: '<= 1.3', met: false }, '1.2 and 1.5 have the median 1.35');
  assert.deepEqual(verdict(SUMMARY, 'rr1_p50'), { goal: '<= 2', met: false });
  assert.equal(verdict(SUMMARY, 'udp64')?.met, undefined, 'not measured');
  assert.equal(verdict(SUMMARY, 'rr1_p99'), undefined, 'no goal');
  for (const goal of GOALS) assert.ok(METRIC_NAMES.includes(goal.metric));
});

test('the lead over another userspace endpoint counts in every row', () => {
  assert.deepEqual(leads(SUMMARY), ['against ovs: 9.7x its TCP (goal >= 8x: met); ahead in every row: met']);
  const behind = summarize('nic', ['kernel', 'vtepd', 'ovs'], [...SAMPLES, sample('ovs', 0, 'rr1', { rr1_p50: 5 })]);
  assert.match(leads(behind)[0] ?? '', /behind in: round trip, 1 CPU, p50: not met/);
});

test("vtepd's udp backend is held against flannel's own proxy, with or without the kernel beside them", () => {
  const samples = [
    sample('flannel-udp', 0, 'tcp1', { tcp1: 0.5 }),
    sample('vtepd-udp', 0, 'tcp1', { tcp1: 11 }),
    sample('flannel-udp', 0, 'tcp4', { tcp4: 0.5 }),
    sample('vtepd-udp', 0, 'tcp4', { tcp4: 9 }),
  ];
  const line = 'vtepd-udp against flannel-udp: 22.0x, 18.0x its TCP (goal >= 20x: not met); ahead in every row: met';
  const summary = summarize('nic', ['flannel-udp', 'vtepd-udp'], samples);
  assert.deepEqual(leads(summary), [line]);
  assert.ok(renderTable(summary).split('\n').includes(line));
});

test('the table has one row a metric, what failed, and how quiet it was', () => {
  const lines = renderTable(SUMMARY).split('\n');
  const row = (title: string): string => lines.find((line) => line.startsWith(title)) ?? '';
  assert.match(
    row('TCP, 1 flow'),
    /15\.00 \(10\.00 - 20\.00\) Gbit\/s +0\.95 \(0\.90 - 1\.00\) +0\.10 .*>= 0\.95 {2}met/,
  );
  assert.match(row('round trip, 1 CPU, p50'), /10\.0 us +2\.50 +- +<= 2 {2}NOT MET/);
  assert.ok(lines.includes('failed: ovs, rr1: no round trip was answered'));
  assert.ok(lines.some((line) => line.startsWith('nothing else disturbed the 9')));
  assert.ok(!lines.some((line) => line.startsWith('UDP')), 'tests that were not run have no rows');
});

test('without the kernel the table shows absolute figures and no goals', () => {
  const alone = renderTable(summarize('nic', ['vtepd'], SAMPLES));
  assert.match(alone, /absolute figures, as the kernel was not measured/);
  assert.match(alone, /14\.50 \(9\.00 - 20\.00\) Gbit\/s/);
  assert.doesNotMatch(alone, /goal/);
});

test('noise is said loudly', () => {
  const noisy = summarize('nic', ['kernel'], [sample('kernel', 0, 'tcp1', { tcp1: 1 }, { noise: 0.5, steal: 0.031 })]);
  assert.match(renderTable(noisy), /NOISE: .*during 1 of 1 measurements.*at most 3\.1 %/);
});

test('the plot is well-formed, escapes text and has a bar for each ratio', () => {
  const svg = renderPlot([SUMMARY], 'a < b & c');
  assert.match(svg, /a &lt; b &amp; c/);
  const open = svg.match(/<(svg|rect|text|line)\b/g)?.length ?? 0;
  const closed = svg.match(/\/>|<\/(svg|text)>/g)?.length ?? 0;
  assert.equal(open, closed);
  assert.doesNotMatch(svg, /NaN|Infinity|undefined/);
  // Background, two in the legend, vtepd in four rows, ovs in two.
  assert.equal(svg.match(/<rect/g)?.length, 9);
});

test('a plot of nothing is still a plot', () => {
  assert.doesNotMatch(renderPlot([summarize('jumbo', ['kernel', 'vtepd'], [])], ''), /NaN|Infinity/);
});

test('every metric belongs to a test and has a unit', () => {
  for (const metric of METRIC_NAMES) assert.ok(metricFacts(metric).unit.length > 0);
});
