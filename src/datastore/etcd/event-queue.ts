/** Events on their way to one reader of `watch`. A reader that falls far behind gets one snapshot for all it missed. */
import type { DatastoreEvent } from '../types.ts';
import { Bell } from './wait.ts';

/** Waiting events; above it the changes among them are worth less than a snapshot. */
const WAITING_MAX = 1_000;

export class EventQueue {
  readonly #snapshot: () => DatastoreEvent;
  readonly #bell = new Bell();
  #waiting: DatastoreEvent[] = [];

  constructor(snapshot: () => DatastoreEvent) {
    this.#snapshot = snapshot;
  }

  push(event: DatastoreEvent): void {
    // A snapshot says all that the tables' events before it said.
    if (event.type === 'snapshot') this.#waiting = this.#waiting.filter(isNoTableEvent);
    this.#waiting.push(event);
    if (this.#waiting.length > WAITING_MAX) {
      this.#waiting = [this.#snapshot(), ...this.#waiting.filter(isNoTableEvent).slice(-WAITING_MAX / 2)];
    }
    this.#bell.ring();
  }

  /** The next event; rejects with the signal's reason when it is aborted. */
  async next(signal: AbortSignal): Promise<DatastoreEvent> {
    for (;;) {
      signal.throwIfAborted();
      const event = this.#waiting.shift();
      if (event !== undefined) return event;
      await this.#bell.wait(Number.POSITIVE_INFINITY, signal);
    }
  }
}

function isNoTableEvent(event: DatastoreEvent): boolean {
  return event.type !== 'snapshot' && event.type !== 'changes';
}
