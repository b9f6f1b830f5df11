/**
 * What a test or demo made is taken down in reverse order: at the end, after a failure, and on SIGINT or SIGTERM.
 * A step that fails does not stop the others; all failures are reported together.
 */
import { constants } from 'node:os';

type Step = { readonly what: string; readonly act: () => Promise<void> | void };

const open = new Set<Teardown>();

export class Teardown {
  #steps: Step[] = [];
  #running: Promise<void> | undefined;

  constructor() {
    open.add(this);
    watchSignals();
  }

  defer(what: string, act: Step['act']): void {
    this.#steps.push({ what, act });
  }

  /** Runs everything once; later calls wait for the same run. */
  run(): Promise<void> {
    this.#running ??= this.#runSteps();
    return this.#running;
  }

  /** Leaves everything in place (`npm run demo -- --keep`). */
  abandon(): void {
    this.#steps = [];
    open.delete(this);
  }

  async #runSteps(): Promise<void> {
    const errors: Error[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.act();
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause);
        errors.push(new Error(`cleaning up ${step.what} failed: ${why}`, { cause }));
      }
    }
    open.delete(this);
    if (errors.length > 0) throw new AggregateError(errors, errors.map((error) => error.message).join('\n'));
  }
}

let watching = false;

function watchSignals(): void {
  if (watching) return;
  watching = true;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      process.stderr.write(`${signal}: cleaning up\n`);
      void Promise.allSettled([...open].map((teardown) => teardown.run())).then((results) => {
        for (const result of results) if (result.status === 'rejected') process.stderr.write(`${result.reason}\n`);
        process.exit(128 + constants.signals[signal]);
      });
    });
  }
}
