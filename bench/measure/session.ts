/** One profile, measured: all systems built first, then repetitions in which every test visits every system in turn. */
import { checksumErrors } from '../bed/checksum-errors.ts';
import { Pair } from '../bed/pair.ts';
import type { Options } from '../options.ts';
import type { Progress } from '../report/progress.ts';
import type { Installed, System } from '../systems/system.ts';
import type { Profile, Sample, TestName } from '../vocabulary.ts';
import { allowedCpus, waitUntilQuiet } from './machine.ts';
import { othersSeconds } from './others.ts';
import { runTest } from './tests.ts';

/** A measurement in which the hypervisor took more than this share of the CPUs, or other processes used more, is made again. */
const STEAL_MAX = 0.02;
const NOISE_MAX = 0.05;

interface Candidate {
  readonly system: System;
  readonly pair: Pair;
  readonly installed: Installed;
}

export interface ProfileResult {
  readonly samples: readonly Sample[];
  /** Why a system was left out. */
  readonly skipped: Readonly<Record<string, string>>;
  /** Each system's own counters after the last measurement. */
  readonly counters: Readonly<Record<string, unknown>>;
  /** Packets with a wrong checksum that the two hosts' stacks have counted. */
  readonly checksumErrors: Readonly<Record<string, number>>;
  /** True when time ran out first. */
  readonly cut: boolean;
}

export interface Session {
  readonly options: Options;
  readonly systems: readonly System[];
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** `performance.now()` after which nothing is begun. */
  readonly deadline: number;
}

export async function measureProfile(session: Session, profile: Profile): Promise<ProfileResult> {
  const candidates: Candidate[] = [];
  const skipped: Record<string, string> = {};
  const samples: Sample[] = [];
  const counters: Record<string, unknown> = {};
  const wrong: Record<string, number> = {};
  let cut = false;
  try {
    for (const system of session.systems) {
      session.signal.throwIfAborted();
      session.progress.say(`${profile}: setting up ${system.name}`);
      const reason = await install(system, profile, candidates);
      if (reason === undefined) continue;
      skipped[system.name] = reason;
      session.progress.note(`${profile}: ${system.name} is left out: ${reason}`);
    }
    for (const { pair } of candidates) pair.pause();
    for (const turn of turns(session.options, candidates)) {
      if (session.signal.aborted) break;
      if (performance.now() > session.deadline) {
        cut = true;
        break;
      }
      const sample = await measure(session, profile, turn);
      if (sample === undefined) break;
      samples.push(sample);
      session.progress.sample(sample);
    }
    for (const { system, pair, installed } of candidates) {
      pair.resume();
      if (installed.counters !== undefined) counters[system.name] = await installed.counters().catch(String);
      wrong[system.name] = await checksumErrors(pair.ends);
    }
  } finally {
    session.progress.say(`${profile}: taking everything down`);
    await Promise.all(candidates.map(takeDown));
  }
  return { samples, skipped, counters, checksumErrors: wrong, cut };
}

/** Adds the system to `candidates`, or returns why not. */
async function install(system: System, profile: Profile, candidates: Candidate[]): Promise<string | undefined> {
  const reason = await system.unavailable();
  if (reason !== undefined) return reason;
  const pair = await Pair.create(system.name, profile);
  let installed: Installed | undefined;
  try {
    installed = await system.install(pair);
    await pair.verify(installed.address);
    // The others must not work while the next one is set up, either.
    pair.pause();
  } catch (error) {
    await takeDown({ pair, installed });
    return error instanceof Error ? error.message : String(error);
  }
  candidates.push({ system, pair, installed });
  return undefined;
}

async function takeDown(candidate: { readonly pair: Pair; readonly installed: Installed | undefined }): Promise<void> {
  await candidate.pair.destroy();
  await candidate.installed?.close?.();
}

interface Turn {
  readonly repetition: number;
  readonly test: TestName;
  readonly candidate: Candidate;
}

/** Test by test, so that the two sides of a ratio are as near in time as can be; who comes first goes round. */
function turns(options: Options, candidates: readonly Candidate[]): readonly Turn[] {
  return Array.from({ length: options.repetitions }, (_, repetition) => repetition).flatMap((repetition) => {
    const first = candidates.length === 0 ? 0 : repetition % candidates.length;
    const order = [...candidates.slice(first), ...candidates.slice(0, first)];
    return options.tests.flatMap((test) => order.map((candidate) => ({ repetition, test, candidate })));
  });
}

/** Nothing when the benchmark was told to end meanwhile. */
async function measure(session: Session, profile: Profile, turn: Turn): Promise<Sample | undefined> {
  const { pair, system } = turn.candidate;
  const { timing } = session.options;
  const about = { profile, repetition: turn.repetition, system: system.name, test: turn.test };
  session.progress.begin(about);
  pair.resume();
  let best: Attempt | undefined;
  let attempts = 0;
  try {
    do {
      attempts += 1;
      const attempt = await attemptOnce(session, turn);
      if (best === undefined || attempt.steal + attempt.noise < best.steal + best.noise) best = attempt;
    } while (isDoubtful(best) && attempts < timing.attempts && performance.now() < session.deadline);
    return { ...about, ...best, attempts };
  } catch (error) {
    if (session.signal.aborted) return undefined;
    const message = error instanceof Error ? error.message : String(error);
    return { ...about, values: {}, steal: 0, attempts, noise: 0, error: message, raw: [] };
  } finally {
    pair.pause();
  }
}

type Attempt = Pick<Sample, 'values' | 'raw' | 'steal' | 'noise'>;

function isDoubtful(attempt: Attempt): boolean {
  return attempt.steal > STEAL_MAX || attempt.noise > NOISE_MAX;
}

async function attemptOnce(session: Session, turn: Turn): Promise<Attempt> {
  const { pair, installed } = turn.candidate;
  const { timing } = session.options;
  const before = await waitUntilQuiet(timing.quiet, session.signal);
  const others = startWatch();
  const { signal } = session;
  const { values, raw, stolen, whole } = await runTest(turn.test, { pair, address: installed.address, signal }, timing);
  return { values, raw, steal: whole > 0 ? stolen / whole : 0, noise: Math.max(before, others()) };
}

/** Returns a function that says what share of the machine others have used since. */
function startWatch(): () => number {
  const [started, used] = [performance.now(), othersSeconds()];
  return () => {
    const whole = ((performance.now() - started) / 1000) * allowedCpus().length;
    return Math.min(1, Math.max(0, (othersSeconds() - used) / whole));
  };
}
