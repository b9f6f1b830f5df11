/**
 * Starts the dataplane as a process that outlives us: own session, no descriptor of ours, a log file instead of our
 * output (so `$(vtepd link add ...)` ends), and an environment without the store's password.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, closeSync, constants, fstatSync, mkdirSync, openSync, readFileSync, readSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Paths } from '../config/paths.ts';
import { DataplaneClient, DataplaneError } from './client.ts';
import { isConnectionLoss } from './errors.ts';
import type { Hello } from './protocol.ts';

/** What the dataplane may see of our environment. */
const PASSED_ON = ['PATH', 'HOME', 'LANG', 'TZ', 'RUST_BACKTRACE', 'RUST_LOG'];
/** Start takes about 10 ms; a busy machine is given a thousand times that. */
const START_TIMEOUT_MS = 10_000;
/** After our child has ended, the one that won the race for the lock is given this long to listen. */
const RACE_MS = 1_000;
const POLL_MS = 10;
/** It closes its sockets and TAPs within milliseconds. */
const END_TIMEOUT_MS = 5_000;

export interface Dataplane {
  readonly client: DataplaneClient;
  readonly hello: Hello;
  /** Set when the process is our child. */
  readonly child?: ChildProcess;
}

/** Connects to the dataplane that runs; rejects with `NOT_RUNNING` when none does. */
export async function adoptDataplane(paths: Paths, signal?: AbortSignal): Promise<Dataplane> {
  const client = await DataplaneClient.connect(paths.socket, { signal });
  try {
    return { client, hello: await client.hello({ signal }) };
  } catch (error) {
    client.close();
    throw error;
  }
}

/**
 * Starts a dataplane and connects to it, or to one that somebody else has started at the same moment. Rejects with `START_FAILED`
 * when it ends by itself or never listens, with `START_KILLED` when a signal ended it first.
 */
export async function startDataplane(paths: Paths, env: NodeJS.ProcessEnv, signal?: AbortSignal): Promise<Dataplane> {
  const child = spawnDataplane(paths, env);
  const ended = { how: undefined as string | undefined, killed: false };
  child.once('error', (error) => {
    ended.how = error.message;
  });
  child.once('exit', (code, deathSignal) => {
    ended.how ??= describeExit(code, deathSignal);
    ended.killed = deathSignal !== null;
  });
  let deadline = performance.now() + START_TIMEOUT_MS;
  let raced = false;
  for (;;) {
    try {
      const dataplane = await adoptDataplane(paths, signal);
      if (dataplane.hello.pid === child.pid) return { ...dataplane, child };
      return dataplane;
    } catch (error) {
      if (!(error instanceof DataplaneError) || (error.code !== 'NOT_RUNNING' && error.code !== 'CLOSED')) throw error;
    }
    if (ended.how !== undefined && !raced) {
      raced = true;
      deadline = performance.now() + RACE_MS;
    }
    if (performance.now() > deadline) {
      const how = ended.how === undefined ? `does not listen on ${paths.socket}` : ended.how;
      const code = ended.killed ? 'START_KILLED' : 'START_FAILED';
      throw new DataplaneError(code, `the dataplane could not be started: ${how}${quoteLog(paths.log)}`);
    }
    await sleep(POLL_MS, undefined, signal === undefined ? {} : { signal });
  }
}

/** Ends a dataplane and returns when its process is gone: only then its lock is free for the next one. */
export async function endDataplane(client: DataplaneClient, pid: number, deleteTaps: boolean): Promise<void> {
  try {
    await client.request('shutdown', { delete_taps: deleteTaps });
  } catch (error) {
    // It may be gone before its answer is out.
    if (!isConnectionLoss(error)) throw error;
  }
  const deadline = performance.now() + END_TIMEOUT_MS;
  while (isAlive(pid)) {
    if (performance.now() > deadline) {
      throw new DataplaneError('TIMEOUT', `the dataplane (pid ${pid}) was told to end and has not done so`);
    }
    await sleep(POLL_MS);
  }
}

/** False also for a zombie, which holds nothing. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return !stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z');
  } catch {
    return false;
  }
}

export function describeExit(code: number | null, signal: NodeJS.Signals | null): string {
  return signal === null ? `it ended with status ${code}` : `it was killed by ${signal}`;
}

/** The end of the dataplane's log, for a message. */
export function tailOfLog(path: string, bytes = 2_048): string {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return '';
  }
  try {
    const size = fstatSync(fd).size;
    const buffer = Buffer.alloc(Math.min(size, bytes));
    const read = readSync(fd, buffer, 0, buffer.length, size - buffer.length);
    const text = buffer.toString('utf8', 0, read);
    return (size > bytes ? text.slice(text.indexOf('\n') + 1) : text).trimEnd();
  } finally {
    closeSync(fd);
  }
}

function quoteLog(path: string): string {
  const tail = tailOfLog(path).split('\n').slice(-3).join('\n');
  return tail === '' ? '' : `; the end of ${path}:\n${tail}`;
}

/** `$VTEPD_DATAPLANE`, else the one that this checkout or package has built. */
export function dataplaneBinary(env: NodeJS.ProcessEnv): string {
  const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
  const path = env.VTEPD_DATAPLANE || join(root, 'native', 'target', 'release', 'vtepd-dataplane');
  try {
    accessSync(path, constants.X_OK);
  } catch {
    throw new DataplaneError(
      'NO_DATAPLANE_BINARY',
      `${path} is missing or may not be executed: run \`npm run build\`, or set VTEPD_DATAPLANE to the program's path`,
    );
  }
  return path;
}

function spawnDataplane(paths: Paths, env: NodeJS.ProcessEnv): ChildProcess {
  const binary = dataplaneBinary(env);
  mkdirSync(paths.runtimeDir, { recursive: true, mode: 0o755 });
  // It writes its log itself; what it says before it can, or when it panics, reaches the same file by its stderr.
  const log = openSync(paths.log, 'a', 0o640);
  try {
    const lanes = env.VTEPD_LANES ? ['--lanes', env.VTEPD_LANES] : [];
    const child = spawn(binary, ['--socket', paths.socket, '--log', paths.log, ...lanes], {
      detached: true,
      cwd: '/',
      env: Object.fromEntries(PASSED_ON.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]]))),
      stdio: ['ignore', log, log],
    });
    child.unref();
    return child;
  } finally {
    closeSync(log);
  }
}
