/** What was looked for in vain, remembered: the latest so many MACs and addresses, however many are asked for. */
import { LRUCache } from 'lru-cache';
import type { MissEvent } from '../dataplane/protocol.ts';
import type { MissStatus } from './status-types.ts';

/** Of all networks together; about 200 bytes each. */
export const MOST_MISSES = 1_000;

export class Misses {
  readonly #seen = new LRUCache<string, MissStatus>({ max: MOST_MISSES });

  /** The dataplane tells of each key once a second at most, with how often it was looked for since. */
  note({ network, layer, key, count }: MissEvent, now: Date = new Date()): void {
    const last = now.toISOString();
    const id = `${network} ${layer} ${key}`;
    const held = this.#seen.get(id);
    const kind = layer === 'l3' ? 'l3' : 'l2';
    this.#seen.set(id, {
      network,
      layer: kind,
      key,
      count: count + (held?.count ?? 0),
      first: held?.first ?? last,
      last,
    });
  }

  /** The network is gone, or was made anew. */
  forget(network: string): void {
    for (const [id, miss] of [...this.#seen]) if (miss.network === network) this.#seen.delete(id);
  }

  /** The latest first. */
  list(): readonly MissStatus[] {
    return [...this.#seen.values()];
  }
}
