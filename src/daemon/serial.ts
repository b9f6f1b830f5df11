/** Runs jobs one after the other, in the order given. A job that fails harms its caller only. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(job: () => Promise<T>): Promise<T> {
    const result = this.#last.then(job);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

/** Runs tasks side by side; the first that fails ends the others, and its error is thrown when all have ended. */
export async function together(
  tasks: readonly ((signal: AbortSignal) => Promise<void>)[],
  signal: AbortSignal,
): Promise<void> {
  const failed = new AbortController();
  const inner = AbortSignal.any([signal, failed.signal]);
  const failures: unknown[] = [];
  await Promise.all(
    tasks.map(async (task) => {
      try {
        await task(inner);
      } catch (error) {
        // What a task says after it was told to end is no news.
        if (!inner.aborted) failures.push(error);
        failed.abort();
      }
    }),
  );
  if (failures.length > 0) throw failures[0];
}

/** Waits for a time, for the end, or for `event`. */
export function pause(ms: number, signal: AbortSignal, event?: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal.aborted) done();
    else signal.addEventListener('abort', done, { once: true });
    if (event !== undefined) void actAfter(event, done);
  });
}

async function actAfter(event: Promise<void>, act: () => void): Promise<void> {
  await event;
  act();
}
