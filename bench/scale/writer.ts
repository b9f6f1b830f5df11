/** Writes leases to the bed's etcd, many a second: by a child inside the underlay's namespace, over one connection. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Bed } from '../../test/system/lib/bed.ts';

export type Request =
  | { readonly id: number; readonly put: readonly Pair[] }
  | { readonly id: number; readonly delete: string };
export type Answer = { readonly id: number; readonly error?: string };
type Pair = readonly [key: string, value: string];

const CHILD = fileURLToPath(new URL('writer-child.ts', import.meta.url));

export class LeaseWriter {
  readonly #bed: Bed;
  readonly #waiting = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  #child: ChildProcess | undefined;
  #last = 0;

  constructor(bed: Bed) {
    this.#bed = bed;
  }

  /** Starts the child and waits until it has etcd. */
  async start(): Promise<void> {
    const argv = [`--net=${this.#bed.underlay.path}`, '--', process.execPath, '--import', 'tsx', CHILD];
    // The channel's descriptor passes through nsenter.
    const child = spawn('nsenter', argv, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#child = child;
    child.on('message', ({ id, error }: Answer) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve();
      else waiting?.reject(new Error(error));
    });
    child.on('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the writer of leases has ended'));
      this.#waiting.clear();
    });
    await this.put([]);
  }

  /** Each in a revision of its own; resolves when etcd has all. */
  put(pairs: readonly Pair[]): Promise<void> {
    return this.#ask((id) => ({ id, put: pairs }));
  }

  delete(key: string): Promise<void> {
    return this.#ask((id) => ({ id, delete: key }));
  }

  close(): void {
    this.#child?.kill('SIGKILL');
  }

  #ask(request: (id: number) => Request): Promise<void> {
    this.#last += 1;
    const id = this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child?.send(request(id));
    });
  }
}
