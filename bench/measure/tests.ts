/** The tests: each turns one installed system into the values of its metrics. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Timing } from '../options.ts';
import { median } from '../report/statistics.ts';
import type { TestName, Values } from '../vocabulary.ts';
import { DEFAULT_SEARCH, highestRate } from './highest-rate.ts';
import { type BulkResult, bulk, type PingResult, paced, ping, type Where } from './load.ts';
import { allowedCpus } from './machine.ts';

export interface Outcome {
  readonly values: Values;
  /** CPU seconds that the hypervisor took, and CPU seconds that there were. */
  readonly stolen: number;
  readonly whole: number;
  readonly raw: readonly unknown[];
}

const LOAD_FLOWS = 4;
/** The bulk load runs this long before and after the round trips beside it. */
const LOAD_MARGIN = 0.5;
const PING_PORT = 5301;

export function runTest(test: TestName, where: Where, timing: Timing): Promise<Outcome> {
  switch (test) {
    case 'tcp1':
      return tcp(where, timing, 1, false, (result) => ({
        tcp1: gigabits(result),
        cpu: result.busy / ((result.bytes_out + result.bytes_back) / 1e9),
      }));
    case 'tcp4':
      return tcp(where, timing, 4, false, (result) => ({ tcp4: gigabits(result) }));
    case 'both':
      return tcp(where, timing, 1, true, (result) => ({ both: gigabits(result) }));
    case 'udp64':
      return udp(where, timing, 64, (rate) => ({ udp64: rate }));
    case 'udp1400':
      return udp(where, timing, 1400, (rate) => ({ udp1400: rate }));
    case 'rr2':
      return roundTrips(where, timing, 2, false, (p50, p99) => ({ rr2_p50: p50, rr2_p99: p99 }));
    case 'rr1':
      return roundTrips(where, timing, 1, false, (p50, p99) => ({ rr1_p50: p50, rr1_p99: p99 }));
    case 'rr2-tcp':
      return roundTrips(where, timing, 2, true, (p50, p99) => ({ rr2_tcp_p50: p50, rr2_tcp_p99: p99 }));
    case 'rr1-tcp':
      return roundTrips(where, timing, 1, true, (p50, p99) => ({ rr1_tcp_p50: p50, rr1_tcp_p99: p99 }));
    case 'load':
      return besideLoad(where, timing);
  }
}

function gigabits(result: BulkResult): number {
  return ((result.bytes_out + result.bytes_back) * 8) / result.seconds / 1e9;
}

async function tcp(
  where: Where,
  timing: Timing,
  flows: number,
  both: boolean,
  values: (result: BulkResult) => Values,
): Promise<Outcome> {
  const result = await bulk(where, { flows, both, seconds: timing.bulk, warm: timing.warm });
  if (result.bytes_out === 0) throw new Error('no byte of TCP arrived');
  return outcome(values(result), [{ ...result, length: result.seconds }], [result]);
}

async function udp(where: Where, timing: Timing, size: number, values: (rate: number) => Values): Promise<Outcome> {
  const parts: Part[] = [];
  const { rate, trials } = await highestRate(
    async (offered) => {
      const result = await paced(where, { size, rate: offered, seconds: timing.rate });
      parts.push({ ...result, length: result.receiving });
      return {
        offered,
        sent: result.sent / result.sending,
        received: result.received / result.receiving,
        loss: result.sent === 0 ? 1 : 1 - result.received / result.sent,
      };
    },
    { ...DEFAULT_SEARCH, maxTrials: timing.rateSteps },
  );
  return outcome(values(rate / 1e6), parts, trials);
}

async function roundTrips(
  where: Where,
  timing: Timing,
  places: 1 | 2,
  tcp: boolean,
  values: (p50: number, p99: number) => Values,
): Promise<Outcome> {
  const allowed = allowedCpus();
  const near = allowed[0] ?? 0;
  const far = places === 1 ? near : allowed[1];
  if (far === undefined) throw new Error('each side on its own CPU: this machine has one only');
  // Each side's forwarder runs where its program does.
  await where.pair.pin(String(near), String(far));
  try {
    const results: PingResult[] = [];
    for (let run = 0; run < timing.pingRuns; run += 1) {
      results.push(await ping(where, { seconds: timing.ping, tcp, cpus: { near, far } }));
    }
    const at = (pick: (result: PingResult) => number): number => median(results.map(pick)) ?? Number.NaN;
    const parts = results.map((result) => ({ ...result, length: result.seconds }));
    return outcome(
      values(
        at((result) => result.p50_us),
        at((result) => result.p99_us),
      ),
      parts,
      results,
    );
  } finally {
    await where.pair.pin(allowed.join(','), allowed.join(','));
  }
}

async function besideLoad(where: Where, timing: Timing): Promise<Outcome> {
  const seconds = timing.bulk;
  const [stream, result] = await Promise.all([
    bulk(where, { flows: LOAD_FLOWS, seconds: seconds + LOAD_MARGIN, warm: LOAD_MARGIN }),
    sleep(LOAD_MARGIN * 1000, undefined, { signal: where.signal }).then(() =>
      ping(where, { seconds, port: PING_PORT }),
    ),
  ]);
  const values = { load_p50: result.p50_us, load_p99: result.p99_us };
  return outcome(values, [{ ...result, length: result.seconds }], [result, stream]);
}

interface Part {
  readonly steal: number;
  readonly length: number;
}

function outcome(values: Values, parts: readonly Part[], raw: readonly unknown[]): Outcome {
  const sum = (pick: (part: Part) => number): number => parts.reduce((total, part) => total + pick(part), 0);
  const processors = allowedCpus().length;
  return { values, stolen: sum((part) => part.steal), whole: sum((part) => part.length) * processors, raw };
}
