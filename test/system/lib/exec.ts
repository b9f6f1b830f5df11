/**
 * Commands of the system tests: run to the end with a time limit, or kept in the background with their output at hand.
 * Nothing here outlives the process: what is still running at exit is killed by its pid.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

export interface RunOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface RunResult {
  /** Exit status, or 128 + n after signal n, as a shell says it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that failed; the message carries the command, its status and what it said. */
export class CommandError extends Error {
  readonly code = 'COMMAND_FAILED';
  readonly result: RunResult;

  constructor(argv: readonly string[], result: RunResult, note = '') {
    const said = [result.stderr.trim(), result.stdout.trim()].filter((text) => text !== '').join('\n');
    super(`${shellWords(argv)}: exit status ${result.status}${note}${said === '' ? '' : `\n${said}`}`);
    this.name = 'CommandError';
    this.result = result;
  }
}

/** The command as a person would type it. */
export function shellWords(argv: readonly string[]): string {
  return argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(' ');
}

const SIGNALS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGKILL: 9,
  SIGTERM: 15,
  SIGABRT: 6,
  SIGSEGV: 11,
};

function statusOf(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (signal === null ? 0 : (SIGNALS[signal] ?? 0));
}

const alive = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});

function start(argv: readonly string[], options: RunOptions): ChildProcess {
  const [command, ...rest] = argv;
  if (command === undefined) throw new TypeError('a command needs at least one word');
  const child = spawn(command, rest, {
    env: { ...process.env, ...options.env },
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  alive.add(child);
  child.once('close', () => alive.delete(child));
  return child;
}

/** Runs a command to its end, whatever its exit status. Rejects when it cannot be started or exceeds its time. */
export function tryRun(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const timeoutMs = options.timeoutMs ?? 30_000;
  return new Promise((resolve, reject) => {
    const child = start(argv, options);
    let stdout = '';
    let stderr = '';
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      const result = { status: statusOf(code, signal), stdout, stderr };
      if (late) reject(new CommandError(argv, result, ` (killed: longer than ${timeoutMs} ms)`));
      else resolve(result);
    });
    // A command that ends without reading its input closes the pipe: that is told by its exit status.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input);
  });
}

/** Runs a command that must succeed; gives what it printed. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await tryRun(argv, options);
  if (result.status !== 0) throw new CommandError(argv, result);
  return result.stdout;
}

/** Most text kept of a background process; the beginning is dropped first. */
const KEPT_OUTPUT = 1 << 20;

/** A process that runs beside the test; stdout and stderr end up in one text. */
export class Background {
  readonly argv: readonly string[];
  readonly exited: Promise<number>;
  #child: ChildProcess;
  #output = '';
  #ended = false;
  #wake = new Set<() => void>();

  constructor(argv: readonly string[], options: RunOptions = {}) {
    this.argv = argv;
    this.#child = start(argv, options);
    const take = (text: string): void => {
      this.#output = (this.#output + text).slice(-KEPT_OUTPUT);
      this.#wakeAll();
    };
    this.#child.stdout?.setEncoding('utf8').on('data', take);
    this.#child.stderr?.setEncoding('utf8').on('data', take);
    this.#child.stdin?.on('error', () => undefined);
    this.#child.stdin?.end(options.input);
    this.exited = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        take(`${error.message}\n`);
        this.#ended = true;
        this.#wakeAll();
        resolve(127);
      });
      this.#child.once('close', (code, signal) => {
        this.#ended = true;
        this.#wakeAll();
        resolve(statusOf(code, signal));
      });
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`${shellWords(this.argv)} did not start:\n${this.#output}`);
    return this.#child.pid;
  }

  get output(): string {
    return this.#output;
  }

  get running(): boolean {
    return !this.#ended;
  }

  /** Waits for a line in the output; fails when the process ends first or the time is over. */
  async waitFor(pattern: RegExp, timeoutMs = 15_000): Promise<RegExpExecArray> {
    const until = Date.now() + timeoutMs;
    for (;;) {
      const match = pattern.exec(this.#output);
      if (match !== null) return match;
      const left = until - Date.now();
      if (this.#ended || left <= 0) {
        const why = this.#ended ? 'ended' : `said nothing like it for ${timeoutMs} ms`;
        throw new Error(`${shellWords(this.argv)} ${why}; waited for ${pattern}. Its output:\n${this.#output}`);
      }
      await this.#change(left);
    }
  }

  /** Sends a signal and waits for the end; SIGKILL after the time is over. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 10_000): Promise<number> {
    if (!this.#ended) {
      this.#child.kill(signal);
      const timer = setTimeout(() => this.#child.kill('SIGKILL'), timeoutMs);
      await this.exited;
      clearTimeout(timer);
    }
    return this.exited;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  #wakeAll(): void {
    for (const wake of this.#wake) wake();
    this.#wake.clear();
  }

  #change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake.add(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

/** Tries until `attempt` gives something other than undefined or false; fails with `what` when the time is over. */
export async function eventually<T>(
  what: string,
  attempt: () => Promise<T | undefined | false>,
  { timeoutMs = 10_000, everyMs = 50 }: { timeoutMs?: number; everyMs?: number } = {},
): Promise<T> {
  const until = Date.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await attempt();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      last = error;
    }
    if (Date.now() >= until) {
      throw new Error(`${what}: not within ${timeoutMs} ms`, last === undefined ? undefined : { cause: last });
    }
    await sleep(everyMs);
  }
}
