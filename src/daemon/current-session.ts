/** The dataplane that is there now, and those who wait for one. */
import type { Session } from '../dataplane/supervisor.ts';

export class CurrentSession {
  #latest: Session | undefined;
  readonly #waiting = new Set<() => void>();

  /** The session that was taken last, whatever has become of it. */
  get latest(): Session | undefined {
    return this.#latest;
  }

  /** The same while its connection is good. */
  get good(): Session | undefined {
    return this.#latest?.client.failure === undefined ? this.#latest : undefined;
  }

  take(session: Session): void {
    this.#latest = session;
  }

  /** Wakes those who wait: what was taken has its state. */
  announce(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** The good session, when there is one; throws when `signal` aborts. */
  async wait(signal: AbortSignal): Promise<Session> {
    for (;;) {
      signal.throwIfAborted();
      const session = this.good;
      if (session !== undefined) return session;
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        this.#waiting.add(wake);
        signal.addEventListener('abort', wake, { once: true });
      });
    }
  }
}
