/** From samples to what the table, the plot and the goals show. Pure. */
import { BASE, METRIC_NAMES, type Metric, metricFacts, type Profile, type Sample } from '../vocabulary.ts';
import { ratios, type Spread, spread } from './statistics.ts';

export interface Cell {
  /** In the metric's unit. */
  readonly absolute: Spread;
  /** To the kernel's, taken repetition by repetition; absent where the kernel was not measured. */
  readonly ratio: Spread | undefined;
}

export interface Summary {
  readonly profile: Profile;
  readonly systems: readonly string[];
  /** Those of the tests that were run. */
  readonly metrics: readonly Metric[];
  readonly cells: ReadonlyMap<string, Cell>;
  readonly failures: readonly string[];
  /** How many of the measurements others disturbed, and the largest share stolen. */
  readonly noisy: number;
  readonly measured: number;
  readonly stealMax: number;
}

/** Others that use more of the machine than this make a figure doubtful. */
const NOISY = 0.05;

export function summarize(profile: Profile, systems: readonly string[], all: readonly Sample[]): Summary {
  const samples = all.filter((sample) => sample.profile === profile);
  const tests = new Set(samples.map((sample) => sample.test));
  const metrics = METRIC_NAMES.filter((metric) => tests.has(metricFacts(metric).test));
  const cells = new Map<string, Cell>();
  for (const metric of metrics) {
    const base = byRepetition(samples, BASE, metric);
    for (const system of systems) {
      const values = byRepetition(samples, system, metric);
      const absolute = spread([...values.values()]);
      if (absolute !== undefined) cells.set(key(system, metric), { absolute, ratio: spread(ratios(values, base)) });
    }
  }
  return {
    profile,
    systems,
    metrics,
    cells,
    failures: failures(samples),
    noisy: samples.filter((sample) => sample.noise > NOISY).length,
    measured: samples.length,
    stealMax: Math.max(0, ...samples.map((sample) => sample.steal)),
  };
}

export function cellOf(summary: Summary, system: string, metric: Metric): Cell | undefined {
  return summary.cells.get(key(system, metric));
}

function key(system: string, metric: Metric): string {
  return `${system}/${metric}`;
}

function byRepetition(samples: readonly Sample[], system: string, metric: Metric): ReadonlyMap<number, number> {
  return new Map(
    samples.flatMap((sample) => {
      const value = sample.system === system ? sample.values[metric] : undefined;
      return value === undefined ? [] : [[sample.repetition, value] as const];
    }),
  );
}

/** One line for each way in which a test of a system failed. */
function failures(samples: readonly Sample[]): readonly string[] {
  const counts = new Map<string, number>();
  for (const sample of samples) {
    if (sample.error === undefined) continue;
    const line = `${sample.system}, ${sample.test}: ${sample.error}`;
    counts.set(line, (counts.get(line) ?? 0) + 1);
  }
  return [...counts].map(([line, count]) => (count === 1 ? line : `${line} (${count} times)`));
}
