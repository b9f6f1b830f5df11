/** Waiting: sleeps that end with a signal, and the growing pauses between tries. */

/** Resolves after `ms`; rejects with the signal's reason as soon as it is aborted. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

/** The promise's outcome, or the signal's reason if that comes first; the work itself is not stopped. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/**
 * Pauses that double from `firstMs` to `lastMs`. Each is drawn from the upper half of its step, so that a thousand
 * hosts that lost etcd together do not return together.
 */
export class Backoff {
  readonly #firstMs: number;
  readonly #lastMs: number;
  #stepMs: number;

  constructor(firstMs: number, lastMs: number) {
    this.#firstMs = firstMs;
    this.#lastMs = lastMs;
    this.#stepMs = firstMs;
  }

  next(): number {
    const step = this.#stepMs;
    this.#stepMs = Math.min(step * 2, this.#lastMs);
    return step / 2 + (Math.random() * step) / 2;
  }

  reset(): void {
    this.#stepMs = this.#firstMs;
  }
}

/** A bell: `wait` ends at the next `ring`, or at once if it rang since the last wait. One waiter. */
export class Bell {
  #rung = false;
  #wake: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Waits for a ring, at most `ms`. Rejects with the signal's reason when it is aborted. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#rung && ms > 0) {
      await new Promise<void>((resolve, reject) => {
        if (signal.aborted) {
          reject(signal.reason);
          return;
        }
        const done = (): void => {
          clearTimeout(timer);
          signal.removeEventListener('abort', onAbort);
          this.#wake = undefined;
        };
        const onAbort = (): void => {
          done();
          reject(signal.reason);
        };
        const finish = (): void => {
          done();
          resolve();
        };
        // setTimeout takes at most 2^31-1 ms; a longer wait just wakes once for nothing.
        const timer = Number.isFinite(ms) ? setTimeout(finish, Math.min(ms, 0x7fff_ffff)) : undefined;
        this.#wake = finish;
        signal.addEventListener('abort', onAbort, { once: true });
      });
    }
    this.#rung = false;
    signal.throwIfAborted();
  }
}
