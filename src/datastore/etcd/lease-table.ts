/**
 * What etcd holds below `subnets/`, read into leases. Pure: fed with listings and events, it says what changed. A key
 * that cannot be read is kept by its name, out of everybody's way, until it is corrected or deleted.
 */
import { FlannelError } from '../../flannel/errors.ts';
import { type LeaseAttributes, parseLeaseAttributes } from '../../flannel/lease.ts';
import { parseSubnetKey, type SubnetKey } from '../../flannel/subnet-key.ts';
import type { BadKey, Lease, LeaseChange } from '../types.ts';
import { type Event, Event_EventType, type KeyValue } from './proto/etcd.ts';

/** One key: as it lies in etcd, and what it says, as far as it can be read. */
export interface Entry {
  /** The key's last part, such as `10.246.81.0-24`. */
  readonly name: string;
  readonly value: string;
  /** The etcd lease it is attached to; 0 for none, which makes it a reservation. */
  readonly etcdLease: bigint;
  readonly modRevision: bigint;
  /** Present if the name can be read: the subnet is then taken, whatever the value says. */
  readonly subnetKey: SubnetKey | undefined;
  readonly attributes: LeaseAttributes | undefined;
  /** Why name or value cannot be read. */
  readonly problem: string | undefined;
}

export function readEntry(name: string, kv: KeyValue): Entry {
  const value = kv.value.toString('utf8');
  const subnetKey = attempt(() => parseSubnetKey(name));
  const attributes = attempt(() => parseLeaseAttributes(value));
  return {
    name,
    value,
    etcdLease: kv.lease,
    modRevision: kv.modRevision,
    subnetKey: subnetKey.result,
    attributes: attributes.result,
    problem: subnetKey.problem ?? attributes.problem,
  };
}

export function leaseOf(entry: Entry): Lease | undefined {
  const { name, subnetKey, attributes } = entry;
  return subnetKey === undefined || attributes === undefined ? undefined : { key: name, ...subnetKey, attributes };
}

/**
 * The PublicIP that a value names, even where the rest of it cannot be used; undefined if there is none to be read. By
 * it a host knows its own key, and leaves alone what may be another's.
 */
export function ownerOf(entry: Entry): string | undefined {
  if (entry.attributes !== undefined) return entry.attributes.publicIp;
  try {
    const value: unknown = JSON.parse(entry.value);
    if (typeof value !== 'object' || value === null || !('PublicIP' in value)) return undefined;
    return typeof value.PublicIP === 'string' ? value.PublicIP : undefined;
  } catch {
    return undefined;
  }
}

export interface TableChange {
  readonly changes: LeaseChange[];
  readonly bad: BadKey[];
}

export class LeaseTable {
  readonly #nameOf: (key: Buffer) => string;
  readonly #entries = new Map<string, Entry>();
  /** The store's revision up to which the table is complete; 0 before the first listing. */
  revision = 0n;
  /** Goes up when the store was set back: revisions from before mean nothing then. */
  epoch = 0;

  constructor(nameOf: (key: Buffer) => string) {
    this.#nameOf = nameOf;
  }

  get(name: string): Entry | undefined {
    return this.#entries.get(name);
  }

  get size(): number {
    return this.#entries.size;
  }

  leases(): Lease[] {
    return [...this.#entries.values()].map(leaseOf).filter((lease) => lease !== undefined);
  }

  bad(): BadKey[] {
    return [...this.#entries.values()].map(badOf).filter((bad) => bad !== undefined);
  }

  /** Takes a listing in the place of all that was held; says how many keys that changed. */
  replace(revision: bigint, kvs: readonly KeyValue[], setBack: boolean): number {
    const before = new Map(this.#entries);
    this.#entries.clear();
    let changed = 0;
    for (const kv of kvs) {
      const name = this.#nameOf(kv.key);
      const old = before.get(name);
      const same = old !== undefined && old.modRevision === kv.modRevision && old.value === kv.value.toString('utf8');
      // Unchanged keys are not parsed again: a listing of thousands costs what has changed.
      this.#entries.set(name, same && old.etcdLease === kv.lease ? old : readEntry(name, kv));
      if (!same) changed += 1;
      before.delete(name);
    }
    this.revision = revision;
    if (setBack) this.epoch += 1;
    return changed + before.size;
  }

  /** Takes events in order. A deleted bad key, too, gives a `delete`: who shows it drops it by that. */
  apply(revision: bigint, events: readonly Event[]): TableChange {
    const changes: LeaseChange[] = [];
    const bad: BadKey[] = [];
    for (const { type, kv } of events) {
      if (kv === undefined) continue;
      const name = this.#nameOf(kv.key);
      if (type === Event_EventType.DELETE) {
        this.#entries.delete(name);
        changes.push({ type: 'delete', key: name });
        continue;
      }
      const known = this.#entries.get(name);
      const entry = readEntry(name, kv);
      this.#entries.set(name, entry);
      const lease = leaseOf(entry);
      if (lease !== undefined) {
        changes.push({ type: 'put', lease });
      } else {
        if (known !== undefined && leaseOf(known) !== undefined) changes.push({ type: 'delete', key: name });
        bad.push({ key: name, reason: entry.problem ?? 'cannot be read' });
      }
    }
    if (revision > this.revision) this.revision = revision;
    return { changes, bad };
  }
}

function badOf(entry: Entry): BadKey | undefined {
  return entry.problem === undefined ? undefined : { key: entry.name, reason: entry.problem };
}

function attempt<T>(read: () => T): { result: T; problem: undefined } | { result: undefined; problem: string } {
  try {
    return { result: read(), problem: undefined };
  } catch (error) {
    if (error instanceof FlannelError) return { result: undefined, problem: error.message };
    throw error;
  }
}
