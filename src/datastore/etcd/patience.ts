/** Waiting for etcd, with a log line when the waiting starts, when its reason changes, and every minute. */
import type { Logger } from 'pino';
import { isPassing } from './errors.ts';
import { Backoff, sleep } from './wait.ts';

const PAUSE_FIRST_MS = 200;
const PAUSE_LAST_MS = 10_000;
const OPERATOR_FIRST_MS = 5_000;
const OPERATOR_LAST_MS = 60_000;
const LOG_EVERY_MS = 60_000;

/** Says a thing once, again when it changes, and otherwise at most once a minute. */
export class SlowLog {
  readonly #logger: Logger;
  #said = '';
  #saidAt = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** `kind` tells repetitions; messages of one kind may differ in details such as times. */
  say(level: 'info' | 'warn' | 'error', kind: string, message: string): void {
    const now = performance.now();
    if (kind === this.#said && now - this.#saidAt < LOG_EVERY_MS) return;
    this.#said = kind;
    this.#saidAt = now;
    this.#logger[level](message);
  }

  clear(): void {
    this.#said = '';
  }
}

/** Repeats `act` until it succeeds or fails in a way that waiting does not heal. */
export async function patiently<T>(
  what: string,
  logger: Logger,
  signal: AbortSignal,
  act: () => Promise<T>,
): Promise<T> {
  const pauses = new Backoff(PAUSE_FIRST_MS, PAUSE_LAST_MS);
  const operatorPauses = new Backoff(OPERATOR_FIRST_MS, OPERATOR_LAST_MS);
  const log = new SlowLog(logger);
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (signal.aborted || !isPassing(error)) throw error;
      log.say(error.needsOperator ? 'error' : 'warn', error.code, `${what}: waiting, ${error.message}`);
      await sleep(error.needsOperator ? operatorPauses.next() : pauses.next(), signal);
    }
  }
}
