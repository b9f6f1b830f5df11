/** Leases in etcd for an operator's commands: one reading, one fenced write, no watch and no waiting. */
import type { EtcdSettings } from '../config/settings.ts';
import { EtcdError } from '../datastore/etcd/errors.ts';
import { createKey, deleteKey } from '../datastore/etcd/fenced.ts';
import { Keys } from '../datastore/etcd/keys.ts';
import { type Entry, readEntry } from '../datastore/etcd/lease-table.ts';
import { getKey, list } from '../datastore/etcd/list.ts';
import { LeaseTimeToLiveRequest } from '../datastore/etcd/proto/etcd.ts';
import { Session } from '../datastore/etcd/session.ts';
import { createLogger } from '../observe/log.ts';

/** Life of an etcd lease in seconds. */
export interface Life {
  /** Left; -1 once it has ended. */
  readonly ttl: number;
  readonly granted: number;
}

/** Questions for a lease's life that are under way at one time. */
const AT_ONCE = 32;

export class EtcdLeases {
  readonly #session: Session;
  readonly #keys: Keys;
  readonly #endpoints: number;
  readonly #signal = new AbortController().signal;

  constructor(settings: EtcdSettings) {
    this.#session = new Session({ ...settings, logger: createLogger({ level: 'silent', instance: '' }) });
    this.#keys = new Keys(settings.prefix);
    this.#endpoints = settings.endpoints.length;
  }

  /** Where the leases lie, for messages. */
  get place(): string {
    return `${this.#keys.subnets} at ${this.#session.endpoint}`;
  }

  get configKey(): string {
    return this.#keys.config;
  }

  async entries(): Promise<Entry[]> {
    const { kvs } = await this.#anywhere(() => list(this.#session, this.#keys.subnetsRange, this.#signal));
    return kvs.map((kv) => readEntry(this.#keys.nameOf(kv.key), kv));
  }

  /** The network configuration's text; undefined where there is none. */
  async configText(): Promise<string | undefined> {
    const key = Buffer.from(this.#keys.config);
    const kv = await this.#anywhere(() => getKey(this.#session, key, this.#signal));
    return kv?.value.toString('utf8');
  }

  /** The life of each etcd lease that a key hangs on. */
  async lives(entries: readonly Entry[]): Promise<Map<bigint, Life>> {
    const ids = [...new Set(entries.map((entry) => entry.etcdLease))].filter((id) => id !== 0n);
    const lives = new Map<bigint, Life>();
    for (let at = 0; at < ids.length; at += AT_ONCE) {
      const some = ids.slice(at, at + AT_ONCE);
      await Promise.all(some.map(async (id) => lives.set(id, await this.#life(id))));
    }
    return lives;
  }

  /** Writes a key without an etcd lease; false if there is one of that name. */
  async create(name: string, value: string): Promise<boolean> {
    return (await createKey(this.#session, this.#keys.lease(name), value, 0n, this.#signal)) !== undefined;
  }

  /** Deletes exactly what was read; false if it changed meanwhile. */
  async delete(entry: Entry): Promise<boolean> {
    const key = this.#keys.lease(entry.name);
    return (await deleteKey(this.#session, key, entry.modRevision, this.#signal)) !== undefined;
  }

  close(): void {
    this.#session.close();
  }

  async #life(id: bigint): Promise<Life> {
    const request = LeaseTimeToLiveRequest.fromPartial({ ID: id });
    const answer = await this.#session.call(({ lease }) => lease.leaseTimeToLive.bind(lease), request, this.#signal);
    return { ttl: Number(answer.TTL), granted: Number(answer.grantedTTL) };
  }

  /** Tries each endpoint once: the session goes to the next one by itself. */
  async #anywhere<T>(ask: () => Promise<T>): Promise<T> {
    for (let left = this.#endpoints - 1; ; left -= 1) {
      try {
        return await ask();
      } catch (error) {
        if (left <= 0 || !(error instanceof EtcdError) || !error.changesEndpoint) throw error;
      }
    }
  }
}
