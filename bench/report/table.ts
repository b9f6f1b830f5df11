/** The table of one profile as text. Pure. */
import { BASE, type Metric, metricFacts, PROFILE_TITLES } from '../vocabulary.ts';
import { leads, verdict } from './goals.ts';
import { formatRatio, type Spread } from './statistics.ts';
import { type Cell, cellOf, type Summary } from './summary.ts';

export function renderTable(summary: Summary): string {
  const based = summary.systems.includes(BASE);
  const withGoals = based && summary.systems.includes('vtepd');
  const head = ['', ...summary.systems, ...(withGoals ? ['goal for vtepd'] : [])];
  const rows = summary.metrics.map((metric) => [
    metricFacts(metric).title,
    ...summary.systems.map((system) => renderCell(cellOf(summary, system, metric), metric, system === BASE || !based)),
    ...(withGoals ? [renderGoal(summary, metric)] : []),
  ]);
  const lines = [
    `profile ${summary.profile}: ${PROFILE_TITLES[summary.profile]}`,
    based
      ? 'kernel: absolute figures; the others: ratio to the kernel in the same repetition; median (least - greatest)'
      : 'absolute figures, as the kernel was not measured; median (least - greatest)',
    '',
    ...align([head, ...rows]),
    '',
    ...leads(summary),
    ...summary.failures.map((failure) => `failed: ${failure}`),
    noise(summary),
  ];
  return `${lines.join('\n')}\n`;
}

function renderCell(cell: Cell | undefined, metric: Metric, absolute: boolean): string {
  const { unit, decimals } = metricFacts(metric);
  const shown = absolute ? cell?.absolute : cell?.ratio;
  if (shown === undefined) return '-';
  return absolute ? `${range(shown, (value) => value.toFixed(decimals))} ${unit}` : range(shown, formatRatio);
}

function range(spread: Spread, format: (value: number) => string): string {
  const middle = format(spread.median);
  return spread.count < 2 ? middle : `${middle} (${format(spread.min)} - ${format(spread.max)})`;
}

function renderGoal(summary: Summary, metric: Metric): string {
  const found = verdict(summary, metric);
  if (found === undefined) return '';
  return found.met === undefined ? `${found.goal}  ?` : `${found.goal}  ${found.met ? 'met' : 'NOT MET'}`;
}

function noise(summary: Summary): string {
  const steal = `stolen by the hypervisor: at most ${(summary.stealMax * 100).toFixed(1)} % of a measurement`;
  if (summary.noisy === 0) return `nothing else disturbed the ${summary.measured} measurements; ${steal}`;
  return (
    `NOISE: something else used the machine before or during ${summary.noisy} of ${summary.measured} measurements, ` +
    `so these figures say little; ${steal}`
  );
}

function align(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((text, column) => text.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
