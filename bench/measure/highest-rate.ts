/** The highest rate at which less than so much is lost, found by trying. Pure but for the trial that it is given. */

export interface Trial {
  /** Datagrams a second that were offered; 0 = as fast as the sender goes. */
  readonly offered: number;
  /** What the sender really sent a second. */
  readonly sent: number;
  /** What the receiver got a second. */
  readonly received: number;
  /** Share that did not arrive. */
  readonly loss: number;
}

export interface Search {
  readonly maxLoss: number;
  /** Ends when the lowest failed rate is within this factor of the highest good one. */
  readonly precision: number;
  readonly maxTrials: number;
}

export const DEFAULT_SEARCH: Search = { maxLoss: 0.01, precision: 1.04, maxTrials: 12 };

/** With no good rate known yet, each try is this much below the last. */
const DESCENT = 3;

export interface HighestRate {
  /** Received a second in the best trial that lost less than the limit; 0 when there was none. */
  readonly rate: number;
  readonly trials: readonly Trial[];
}

/**
 * Bisection by the geometric mean between the highest rate that passed and the lowest that failed. The first trial is unpaced:
 * its sending rate is the upper end, and what came through of it the first guess. One hiccup of the machine fails a trial that
 * should have passed and would cap the search for good, so a failed rate that the search has closed in on is tried once more.
 */
export async function highestRate(trial: (offered: number) => Promise<Trial>, search: Search): Promise<HighestRate> {
  const trials: Trial[] = [];
  let best = 0;
  const passes = async (offered: number): Promise<boolean> => {
    const result = await trial(offered);
    trials.push(result);
    const passed = result.loss < search.maxLoss;
    if (passed) best = Math.max(best, result.received);
    return passed;
  };

  if (await passes(0)) return { rate: best, trials };
  const unpaced = trials[0];
  if (unpaced === undefined || unpaced.sent <= 0) return { rate: 0, trials };

  let low = 0;
  let failed = [unpaced.sent];
  const retried = new Set<number>(failed);
  let next = Math.min(unpaced.received, unpaced.sent * 0.9);
  if (next <= 0) next = unpaced.sent / DESCENT;
  while (trials.length < search.maxTrials) {
    if (await passes(next)) {
      low = next;
      failed = failed.filter((rate) => rate > low);
    } else if (!failed.includes(next)) {
      failed.push(next);
    }
    const high = Math.min(...failed);
    if (!Number.isFinite(high)) break;
    if (low > 0 && high / low <= search.precision) {
      if (retried.has(high)) break;
      retried.add(high);
      next = high;
    } else {
      next = low > 0 ? Math.sqrt(low * high) : high / DESCENT;
    }
  }
  return { rate: best, trials };
}
