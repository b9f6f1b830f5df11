/**
 * A ping of any length of which no answer may be missing. It runs in pieces, each counted to the last packet and each begun
 * before the one before it ends: what ping says of one piece fits into memory.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BedHost } from './bed.ts';
import { startPing } from './traffic.ts';

const PIECE_MS = 20_000;

export class SteadyPing {
  readonly name: string;
  readonly #from: BedHost;
  readonly #to: BedHost;
  readonly #end = new AbortController();
  readonly #running: Promise<void>;
  sent = 0;
  received = 0;
  /** What was lost, and when. */
  readonly losses: string[] = [];

  constructor(from: BedHost, to: BedHost) {
    this.name = `${from.label} -> ${to.label}`;
    this.#from = from;
    this.#to = to;
    this.#running = this.#run();
  }

  /** Ends it; gives what was lost. */
  async stop(): Promise<readonly string[]> {
    this.#end.abort();
    await this.#running;
    return this.losses;
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    for (let ping = this.#start(); ; ) {
      await sleep(PIECE_MS, undefined, { signal }).catch(() => undefined);
      const next = signal.aborted ? undefined : this.#start();
      const began = new Date(Date.now() - PIECE_MS).toISOString();
      const { sent, received, text } = await ping.stop();
      this.sent += sent;
      this.received += received;
      if (received < sent || received === 0) this.losses.push(`${this.name}, begun about ${began}: ${text}`);
      if (next === undefined) return;
      ping = next;
    }
  }

  #start(): ReturnType<typeof startPing> {
    return startPing(this.#from.container, this.#to.address);
  }
}
