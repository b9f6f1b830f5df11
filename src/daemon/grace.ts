/**
 * A grace for deleted leases. A host whose key is deleted by mistake, or whose controller repairs it, has it back within tens
 * of milliseconds; whoever took its entries away meanwhile loses packets for nothing. So a delete is passed on a second
 * later, and not at all if the key comes back before. At once it goes where it matters: when another lease takes the
 * subnet, a MAC or an address over, and with every full listing.
 */
import type { DatastoreEvent, Lease, LeaseChange } from '../datastore/types.ts';
import { Groups } from '../reconcile/groups.ts';

/** flannel's repair is a new start of the daemon and takes longer; vtepd's is two round trips to etcd. */
export const GRACE_MS = 1_000;

/** A lease whose key is gone, for the moment. */
interface Held {
  readonly lease: Lease;
  readonly due: number;
}

export class Grace {
  readonly #graceMs: number;
  readonly #known = new Map<string, Lease>();
  /** In the order of `due`, which is that of the insertions. */
  readonly #held = new Map<string, Held>();
  /** Keys of held leases by what another lease may take over from them. */
  readonly #claims = new Groups<string, string>();
  #revision = 0;

  constructor(graceMs: number) {
    this.#graceMs = graceMs;
  }

  /** When the next held delete has to be passed on. */
  get due(): number | undefined {
    for (const { due } of this.#held.values()) return due;
    return undefined;
  }

  /** The event without the deletes that are held, and with those that it makes certain. */
  take(event: DatastoreEvent, now: number): DatastoreEvent {
    if (event.type === 'snapshot') {
      this.#known.clear();
      for (const lease of event.leases) this.#known.set(lease.key, lease);
      for (const key of [...this.#held.keys()]) this.#release(key);
      this.#revision = event.revision;
      return event;
    }
    if (event.type !== 'changes') return event;
    this.#revision = event.revision;
    // A key that is there, and cannot be read, is no key that is gone for a moment.
    const unreadable = new Set(event.bad.map(({ key }) => key));
    const changes = event.changes.flatMap((change) => {
      if (change.type === 'put') return this.#put(change);
      return unreadable.has(change.key) ? this.#pass(change) : this.#hold(change, now);
    });
    return { ...event, changes };
  }

  /** The deletes whose time has come, as one event. */
  expire(now: number): DatastoreEvent | undefined {
    const changes: LeaseChange[] = [];
    for (const [key, { due }] of this.#held) {
      if (due > now) break;
      this.#release(key);
      changes.push({ type: 'delete', key });
    }
    return changes.length === 0 ? undefined : { type: 'changes', revision: this.#revision, changes, bad: [] };
  }

  #put(change: LeaseChange & { type: 'put' }): LeaseChange[] {
    const { lease } = change;
    this.#known.set(lease.key, lease);
    this.#release(lease.key);
    const certain = new Set(claimsOf(lease).flatMap((claim) => this.#claims.members(claim)));
    for (const key of certain) this.#release(key);
    return [...[...certain].map((key): LeaseChange => ({ type: 'delete', key })), change];
  }

  #hold(change: LeaseChange & { type: 'delete' }, now: number): LeaseChange[] {
    const { key } = change;
    const lease = this.#known.get(key);
    if (lease === undefined) return this.#held.has(key) ? [] : [change];
    this.#known.delete(key);
    this.#held.set(key, { lease, due: now + this.#graceMs });
    for (const claim of claimsOf(lease)) this.#claims.add(claim, key);
    return [];
  }

  #pass(change: LeaseChange & { type: 'delete' }): LeaseChange[] {
    this.#known.delete(change.key);
    this.#release(change.key);
    return [change];
  }

  #release(key: string): void {
    const held = this.#held.get(key);
    if (held === undefined) return;
    this.#held.delete(key);
    for (const claim of claimsOf(held.lease)) this.#claims.remove(claim, key);
  }
}

function claimsOf({ subnet, subnet6, attributes }: Lease): string[] {
  const { publicIp, publicIpv6, vtepMac, vtepMac6 } = attributes;
  return [subnet, subnet6, publicIp, publicIpv6, vtepMac, vtepMac6].filter((claim) => claim !== undefined);
}

/** The events with a grace for deletes. */
export async function* withGrace(
  events: AsyncIterable<DatastoreEvent>,
  graceMs = GRACE_MS,
): AsyncGenerator<DatastoreEvent, void> {
  const grace = new Grace(graceMs);
  const iterator = events[Symbol.asyncIterator]();
  let next: Promise<IteratorResult<DatastoreEvent>> | undefined;
  try {
    for (;;) {
      next ??= iterator.next();
      const result = await untilDue(next, grace.due);
      const expired = grace.expire(performance.now());
      if (expired !== undefined) yield expired;
      if (result === undefined) continue;
      next = undefined;
      if (result.done === true) return;
      yield grace.take(result.value, performance.now());
    }
  } finally {
    // Not waited for: a source that waits for its next event ends when its signal is aborted.
    next?.catch(() => undefined);
    iterator.return?.().catch(() => undefined);
  }
}

/** What comes, or undefined at the time given. */
async function untilDue<T>(next: Promise<T>, due: number | undefined): Promise<T | undefined> {
  if (due === undefined) return await next;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), Math.max(0, due - performance.now()));
  });
  try {
    return await Promise.race([next, late]);
  } finally {
    clearTimeout(timer);
  }
}
