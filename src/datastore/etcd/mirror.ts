/**
 * Our copy of `subnets/`, kept up to date by a watch, and the word on whether it is up to date. One mirror serves the
 * daemon's tables and the guard of our own lease.
 */
import type { Logger } from 'pino';
import type { DatastoreEvent } from '../types.ts';
import { EtcdError } from './errors.ts';
import type { Keys } from './keys.ts';
import { LeaseTable } from './lease-table.ts';
import { SlowLog } from './patience.ts';
import type { Session } from './session.ts';
import { follow } from './watch.ts';

/**
 * A broken watch that is back within this time (another endpoint, new certificates) is not worth a word. With the
 * 14 s that a black hole takes to be noticed, `stale` is said within 15 s.
 */
const GRACE_MS = 1_000;

export interface Staleness {
  readonly since: Date;
  readonly reason: string;
}

export class Mirror {
  readonly table: LeaseTable;
  readonly #session: Session;
  readonly #keys: Keys;
  readonly #logger: Logger;
  readonly #emit: (event: DatastoreEvent) => void;
  readonly #changed: () => void;
  readonly #log: SlowLog;
  #listed = false;
  #brokenSince: Date | undefined;
  #lastError: EtcdError | undefined;
  #grace: NodeJS.Timeout | undefined;
  #stale: Staleness | undefined;

  constructor(
    session: Session,
    keys: Keys,
    logger: Logger,
    emit: (event: DatastoreEvent) => void,
    changed: () => void,
  ) {
    this.table = new LeaseTable((key) => keys.nameOf(key));
    this.#session = session;
    this.#keys = keys;
    this.#logger = logger;
    this.#emit = emit;
    this.#changed = changed;
    this.#log = new SlowLog(logger);
  }

  /** True once there was a listing. */
  get listed(): boolean {
    return this.#listed;
  }

  /** Set while etcd is out of reach. */
  get stale(): Staleness | undefined {
    return this.#stale;
  }

  snapshot(): DatastoreEvent {
    return {
      type: 'snapshot',
      revision: Number(this.table.revision),
      leases: this.table.leases(),
      bad: this.table.bad(),
    };
  }

  /** Follows etcd until the signal is aborted, which rejects with its reason. */
  async run(signal: AbortSignal): Promise<never> {
    try {
      for await (const event of follow(this.#session, this.#keys.subnetsRange, this.#logger, signal)) {
        switch (event.type) {
          case 'list': {
            const changed = this.table.replace(event.listing.revision, event.listing.kvs, event.setBack);
            this.#listed = true;
            this.#logger.info(
              { keys: this.table.size, changed, bad: this.table.bad(), revision: Number(this.table.revision) },
              'leases listed',
            );
            this.#emit(this.snapshot());
            this.#changed();
            break;
          }
          case 'events': {
            const { changes, bad } = this.table.apply(event.revision, event.events);
            for (const { key, reason } of bad) this.#logger.warn({ key }, `lease skipped: ${reason}`);
            if (changes.length > 0 || bad.length > 0) {
              this.#emit({ type: 'changes', revision: Number(this.table.revision), changes, bad });
            }
            this.#changed();
            break;
          }
          case 'contact':
            this.#inContact();
            break;
          case 'broken':
            this.#broken(event.error);
            break;
        }
      }
    } finally {
      clearTimeout(this.#grace);
      this.#grace = undefined;
    }
    throw new EtcdError('STOPPED', 'the watch ended by itself');
  }

  #inContact(): void {
    clearTimeout(this.#grace);
    this.#grace = undefined;
    this.#brokenSince = undefined;
    this.#log.clear();
    if (this.#stale === undefined) return;
    this.#logger.info({ staleSince: this.#stale.since }, `in contact with etcd at ${this.#session.endpoint} again`);
    this.#stale = undefined;
    this.#emit({ type: 'fresh' });
  }

  #broken(error: EtcdError): void {
    this.#lastError = error;
    this.#brokenSince ??= new Date();
    if (this.#stale !== undefined) {
      this.#log.say('warn', error.code, `leases are out of date: ${error.message}`);
      return;
    }
    this.#grace ??= setTimeout(() => this.#sayStale(), GRACE_MS);
  }

  #sayStale(): void {
    this.#grace = undefined;
    const reason = this.#lastError?.message ?? '';
    this.#stale = { since: this.#brokenSince ?? new Date(), reason };
    this.#log.say(
      'warn',
      this.#lastError?.code ?? '',
      `leases may be out of date, traffic goes on with what is known: ${reason}`,
    );
    this.#emit({ type: 'stale', ...this.#stale });
  }
}
