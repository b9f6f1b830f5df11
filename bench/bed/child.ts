/** A process of a system under test: started in a namespace, stopped while others are measured, pinned, ended. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from './exec.ts';
import { inNamespace, LOAD_TOOL } from './load-tool.ts';

/** What is kept of its messages for a failure's text. */
const OUTPUT_MAX = 4096;
const TERM_MS = 2_000;

export interface ChildOptions {
  readonly netns: string;
  readonly words: readonly string[];
  readonly tap?: string;
  readonly env?: NodeJS.ProcessEnv;
}

export class Child {
  readonly name: string;
  readonly #process: ChildProcess;
  readonly #ended: Promise<void>;
  #output = '';
  #end: string | undefined;

  static start(name: string, options: ChildOptions): Child {
    return new Child(name, options);
  }

  private constructor(name: string, options: ChildOptions) {
    this.name = name;
    // A session of its own: Ctrl-C reaches the benchmark only, which then ends everything in order.
    this.#process = spawn(LOAD_TOOL, inNamespace(options.netns, options.words, options.tap), {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: options.env ?? process.env,
    });
    const keep = (chunk: Buffer): void => {
      this.#output = (this.#output + chunk.toString()).slice(-OUTPUT_MAX);
    };
    this.#process.stdout?.on('data', keep);
    this.#process.stderr?.on('data', keep);
    this.#ended = new Promise((resolve) => {
      const end = (how: string) => () => {
        this.#end ??= how;
        resolve();
      };
      this.#process.once('error', (error) => end(error.message)());
      this.#process.once('exit', (code, signal) => end(`ended with ${signal ?? `status ${code}`}`)());
    });
  }

  /** Fails when the process has ended. */
  check(): void {
    if (this.#end !== undefined) throw new Error(`${this.name} ${this.#end}: ${this.#output.trim() || 'no message'}`);
  }

  pause(): void {
    this.#signal('SIGSTOP');
  }

  resume(): void {
    this.#signal('SIGCONT');
  }

  /** Keeps all of its threads on some CPUs, a list as `taskset` takes it. */
  async pin(cpus: string): Promise<void> {
    if (this.#process.pid === undefined || this.#end !== undefined) return;
    await run('taskset', ['-a', '-c', '-p', cpus, String(this.#process.pid)]);
  }

  async end(): Promise<void> {
    if (this.#end !== undefined) return;
    this.#signal('SIGTERM');
    this.#signal('SIGCONT');
    const patience = new AbortController();
    const gone = await Promise.race([
      this.#ended.then(() => true),
      sleep(TERM_MS, false, { signal: patience.signal }).catch(() => true),
    ]);
    patience.abort();
    if (gone) return;
    this.#signal('SIGKILL');
    await this.#ended;
  }

  #signal(signal: NodeJS.Signals): void {
    // Node sends nothing to a child that it has seen end, so the number cannot be another process's.
    if (this.#end === undefined) this.#process.kill(signal);
  }
}
