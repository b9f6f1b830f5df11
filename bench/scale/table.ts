/** The result as a table: a column for each size, and what grows between the first and the last. */
import type { ScalePlan, SizeResult } from './measure.ts';

interface Row {
  readonly title: string;
  readonly unit: string;
  readonly decimals: number;
  readonly value: (result: SizeResult) => number;
}

export function renderScale(results: readonly SizeResult[], plan: ScalePlan): string {
  const rows: Row[] = [
    { title: 'start to first packet', unit: 'ms', decimals: 0, value: (each) => each.firstPacketMs },
    { title: 'start to ready', unit: 'ms', decimals: 0, value: (each) => each.readyMs },
    ...(['controller', 'dataplane'] as const).flatMap((name): Row[] => [
      { title: `memory, ${name}`, unit: 'MiB', decimals: 1, value: (each) => each[name].residentMiB },
      { title: `memory at most, ${name}`, unit: 'MiB', decimals: 1, value: (each) => each[name].peakMiB },
      { title: `CPU idle, ${name}`, unit: '%', decimals: 2, value: (each) => each[name].idleCpu },
      { title: `CPU busy, ${name}`, unit: '%', decimals: 2, value: (each) => each[name].busyCpu },
      { title: `CPU of a lone change, ${name}`, unit: 'us', decimals: 0, value: (each) => each[name].loneMicroseconds },
      { title: `CPU of one of many, ${name}`, unit: 'us', decimals: 0, value: (each) => each[name].changeMicroseconds },
    ]),
    { title: 'a change, put to route, median', unit: 'ms', decimals: 1, value: (each) => each.latency.median },
    { title: 'a change, put to route, longest', unit: 'ms', decimals: 1, value: (each) => each.latency.max },
    { title: 'the same while busy, median', unit: 'ms', decimals: 1, value: (each) => each.busyLatency.median },
    { title: 'the same while busy, longest', unit: 'ms', decimals: 1, value: (each) => each.busyLatency.max },
  ];
  const widths = [32, 5, ...results.map(() => 10)];
  const line = (cells: readonly string[]): string =>
    cells.map((cell, at) => (at < 2 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))).join(' ');
  const lines = [
    line(['hosts', '', ...results.map(({ hosts }) => String(hosts))]),
    ...rows.map(({ title, unit, decimals, value }) =>
      line([title, unit, ...results.map((result) => value(result).toFixed(decimals))]),
    ),
  ];
  const rates = results.map(({ rate }) => rate.toFixed(0)).join(', ');
  return `${lines.join('\n')}\n\nbusy: ${rates} leases changed in a second, for ${plan.seconds} s\n`;
}
