/**
 * Keeps a dataplane there: adopts the one that runs, starts one where none does, notices its death and starts it again
 * with growing pauses. Each dataplane that is reached is yielded as a session; the consumer puts its state into it, and
 * the next session comes when this one has ended.
 */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Paths } from '../config/paths.ts';
import { type DataplaneClient, DataplaneError } from './client.ts';
import type { Hello } from './protocol.ts';
import { adoptDataplane, type Dataplane, describeExit, startDataplane, tailOfLog } from './spawn.ts';

export interface Session {
  readonly client: DataplaneClient;
  readonly hello: Hello;
  /** True where the process ran before us, or where only the connection to it was lost. */
  readonly adopted: boolean;
  /** `performance.now()` of the death that this session follows. */
  readonly diedAt?: number;
}

export interface SupervisorOptions {
  readonly paths: Paths;
  readonly env: NodeJS.ProcessEnv;
  readonly logger: Logger;
  /** For tests. */
  readonly adopt?: typeof adoptDataplane;
  readonly start?: typeof startDataplane;
}

/** The first restart is at once, because traffic stands still meanwhile; the next ones wait, each longer. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** One that has lived this long is not in a loop of dying. */
const SETTLED_MS = 30_000;
/** The socket closes a moment before the process can be waited for. */
const EXIT_WAIT_MS = 200;

/** Failures that no second try mends; at the start they end the daemon, so that its message is seen. */
const HOPELESS = ['PROTOCOL_MISMATCH', 'NO_DATAPLANE_BINARY', 'EACCES', 'START_FAILED'];

/** A dataplane that a signal ends before it listens (the kernel short of memory, an operator) is started so often. */
const STARTS_THAT_MAY_BE_KILLED = 3;

/** Sessions until `signal` aborts. Throws if the first dataplane cannot be had. */
export async function* superviseDataplane(options: SupervisorOptions, signal: AbortSignal): AsyncGenerator<Session> {
  let failures = 0;
  let killed = 0;
  let before: { readonly pid: number; readonly endedAt: number } | undefined;
  while (!signal.aborted) {
    try {
      if (failures > 1) await sleep(pauseAfter(failures), undefined, { signal });
      const dataplane = await reach(options, signal);
      const connectedAt = performance.now();
      yield toSession(dataplane, before, options.logger);
      await Promise.race([dataplane.client.closed, aborted(signal)]);
      if (signal.aborted) return;
      before = { pid: dataplane.hello.pid, endedAt: performance.now() };
      failures = before.endedAt - connectedAt > SETTLED_MS ? 1 : failures + 1;
      await tellEnd(dataplane, options);
    } catch (error) {
      if (signal.aborted) return;
      killed += error instanceof DataplaneError && error.code === 'START_KILLED' ? 1 : 0;
      if (before === undefined && (isHopeless(error) || killed >= STARTS_THAT_MAY_BE_KILLED)) throw error;
      options.logger.error({ err: error }, 'no dataplane; trying again');
      failures = Math.max(2, failures + 1);
    }
  }
}

function isHopeless(error: unknown): boolean {
  return error instanceof DataplaneError && HOPELESS.includes(error.code);
}

interface Reached extends Dataplane {
  /** It was started by us just now. */
  readonly ours: boolean;
}

async function reach(options: SupervisorOptions, signal: AbortSignal): Promise<Reached> {
  const adopt = options.adopt ?? adoptDataplane;
  const start = options.start ?? startDataplane;
  try {
    return { ...(await adopt(options.paths, signal)), ours: false };
  } catch (error) {
    if (!(error instanceof DataplaneError && error.code === 'NOT_RUNNING')) throw error;
  }
  const dataplane = await start(options.paths, options.env, signal);
  return { ...dataplane, ours: dataplane.child !== undefined };
}

function toSession(reached: Reached, before: { pid: number; endedAt: number } | undefined, logger: Logger): Session {
  const { client, hello, ours } = reached;
  const { pid, version, lanes, capabilities, networks } = hello;
  logger.info(
    { dataplane: pid, version, lanes, capabilities, networks },
    ours ? 'dataplane started' : 'dataplane adopted',
  );
  const samePid = before?.pid === pid;
  return {
    client,
    hello,
    adopted: before === undefined ? !ours : samePid,
    ...(before === undefined || samePid ? {} : { diedAt: before.endedAt }),
  };
}

async function tellEnd({ child, client, hello }: Reached, { logger, paths }: SupervisorOptions): Promise<void> {
  const how = child === undefined ? undefined : await exitOf(child);
  if (how === undefined) {
    logger.error({ dataplane: hello.pid, reason: client.failure?.message }, 'the connection to the dataplane ended');
  } else {
    logger.error({ dataplane: hello.pid, how, log: tailOfLog(paths.log) }, `the dataplane died: ${how}`);
  }
}

async function exitOf(child: ChildProcess): Promise<string | undefined> {
  if (child.exitCode === null && child.signalCode === null) {
    const done = new AbortController();
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    await Promise.race([exited, sleep(EXIT_WAIT_MS, undefined, { signal: done.signal }).catch(() => undefined)]);
    done.abort();
  }
  if (child.exitCode === null && child.signalCode === null) return undefined;
  return describeExit(child.exitCode, child.signalCode);
}

function pauseAfter(failures: number): number {
  return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 2, 10));
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
