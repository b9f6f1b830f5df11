/** The machine that everything shares: is it quiet, which CPUs may be used, what is it. */
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

/** Between two looks. /proc/stat counts in 10 ms: 5 % of two CPUs over 200 ms are two of them. */
const WINDOW_MS = 200;
/** Busy share of the machine up to which it is called quiet. */
const QUIET = 0.05;

interface Ticks {
  readonly idle: number;
  readonly all: number;
}

function readTicks(): Ticks {
  const fields = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '').trim().split(/\s+/).slice(1, 9).map(Number);
  const idle = (fields[3] ?? 0) + (fields[4] ?? 0);
  return { idle, all: fields.reduce((sum, field) => sum + field, 0) };
}

/** Waits until the machine is quiet, at most so long; returns the busy share of the last look. */
export async function waitUntilQuiet(limitSeconds: number, signal: AbortSignal): Promise<number> {
  const deadline = performance.now() + limitSeconds * 1000;
  for (;;) {
    const before = readTicks();
    await sleep(WINDOW_MS, undefined, { signal });
    const after = readTicks();
    const all = after.all - before.all;
    const busy = all > 0 ? Math.max(0, 1 - (after.idle - before.idle) / all) : 0;
    if (busy <= QUIET || performance.now() + WINDOW_MS > deadline) return busy;
  }
}

export interface MachineFacts {
  readonly kernel: string;
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryGiB: number;
  readonly node: string;
}

export function machineFacts(): MachineFacts {
  return {
    kernel: release(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cpus: allowedCpus().length,
    memoryGiB: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    node: process.version,
  };
}

/** Numbers of the CPUs that this process may use. */
export function allowedCpus(): readonly number[] {
  const text = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return text.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}
