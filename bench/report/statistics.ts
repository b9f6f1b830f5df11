/** Medians and ratios. Pure. */

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly count: number;
}

/** Of an even number, the mean of the two in the middle. Nothing for nothing. */
export function median(values: readonly number[]): number | undefined {
  const sorted = values.filter(Number.isFinite).toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  return upper === undefined || lower === undefined ? undefined : (upper + lower) / 2;
}

export function spread(values: readonly number[]): Spread | undefined {
  const finite = values.filter(Number.isFinite);
  const middle = median(finite);
  if (middle === undefined) return undefined;
  return { median: middle, min: Math.min(...finite), max: Math.max(...finite), count: finite.length };
}

/** By repetition: the value over that of the base in the same repetition, where both are. */
export function ratios(values: ReadonlyMap<number, number>, base: ReadonlyMap<number, number>): readonly number[] {
  return [...values].flatMap(([repetition, value]) => {
    const under = base.get(repetition);
    return under === undefined || under === 0 ? [] : [value / under];
  });
}

/** For people: two decimals, more for the very small and fewer for the large, which have no more significant digits than that. */
export function formatRatio(value: number): string {
  if (value >= 9.95) return value.toFixed(0);
  return value < 0.0995 ? value.toFixed(3) : value.toFixed(2);
}
