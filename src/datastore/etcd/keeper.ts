/**
 * Keeps our lease ours: alive in etcd, with our value in it, and won back when it was lost. One loop does one thing at a
 * time; what it knows of the key comes from its own writes and from the mirror, whichever is newer.
 *
 * - every third of the TTL, or when the renewal margin is reached: LeaseKeepAlive
 * - 5 s and 60 s after joining: the same value once more. flanneld up to v0.21.2 loses events when several keys change
 *   at once; the repetition heals it and means nothing to others
 * - our key with another value of ours, or garbage: our value again
 * - our key gone, or with another host's PublicIP: another claim, the same subnet if it is free
 */
import type { Logger } from 'pino';
import type { NetworkConfig } from '../../flannel/config.ts';
import type { DatastoreEvent, Lease, OwnHost } from '../types.ts';
import type { Claim, Claimer } from './claim.ts';
import { EtcdError } from './errors.ts';
import { type EtcdLease, expiryOf, keepAlive, NO_LEASE, renewalOf } from './etcd-lease.ts';
import { replaceKey } from './fenced.ts';
import type { Keys } from './keys.ts';
import { type Entry, ownerOf, readEntry } from './lease-table.ts';
import { getKey } from './list.ts';
import type { Mirror } from './mirror.ts';
import { SlowLog } from './patience.ts';
import type { Session } from './session.ts';
import { Backoff, Bell, sleep } from './wait.ts';

export interface KeeperParts {
  readonly session: Session;
  readonly keys: Keys;
  readonly claimer: Claimer;
  readonly mirror: Mirror;
  readonly config: NetworkConfig;
  readonly own: OwnHost;
  readonly renewMarginMinutes: number;
  readonly logger: Logger;
  readonly emit: (event: DatastoreEvent) => void;
}

const ANNOUNCE_AFTER_MS = [5_000, 60_000] as const;

/** Pauses after a failed act; a lost lease with no free subnet is asked for at the longest. */
const PAUSE_FIRST_MS = 300;
const PAUSE_LAST_MS = 10_000;

/**
 * Pauses between repairs of our value. The first is done at once; but a second daemon with our PublicIP would repair as
 * eagerly as we do, and the two must not fight at the speed of the network.
 */
const REPAIR_FIRST_MS = 1_000;
const REPAIR_LAST_MS = 60_000;
const REPAIR_QUIET_MS = 300_000;

export class LeaseKeeper {
  readonly #parts: KeeperParts;
  readonly #bell = new Bell();
  readonly #log: SlowLog;
  readonly #pauses = new Backoff(PAUSE_FIRST_MS, PAUSE_LAST_MS);
  readonly #repairPauses = new Backoff(REPAIR_FIRST_MS, REPAIR_LAST_MS);
  #claim: Claim;
  /** The mirror's epoch in which `#claim.modRevision` counts. */
  #epoch: number;
  #lost: string | undefined;
  #repair: string | undefined;
  #repairedAt = Number.NEGATIVE_INFINITY;
  #repairNotBefore = 0;
  #announceAt: number[] = [];

  constructor(parts: KeeperParts, claim: Claim) {
    this.#parts = parts;
    this.#log = new SlowLog(parts.logger);
    this.#claim = claim;
    this.#epoch = parts.mirror.table.epoch;
    this.#planAnnouncements();
  }

  /** Our lease as last known. */
  get lease(): Lease {
    return this.#claim.lease;
  }

  /** Why our lease is not ours at the moment; undefined while it is. */
  get lost(): string | undefined {
    return this.#lost;
  }

  /** The etcd lease our key hangs on; its id is 0 for a reservation. */
  get etcdLease(): EtcdLease {
    return this.#claim.etcdLease;
  }

  /** To be called after every change of the mirror. */
  mirrorChanged(): void {
    this.#bell.ring();
  }

  /** Keeps the lease until the signal is aborted, which rejects with its reason. */
  async run(signal: AbortSignal): Promise<never> {
    for (;;) {
      try {
        const wait = await this.#step(signal);
        if (wait > 0) await this.#bell.wait(wait, signal);
      } catch (error) {
        if (signal.aborted || !(error instanceof EtcdError)) throw error;
        this.#log.say(
          error.needsOperator ? 'error' : 'warn',
          error.code,
          `our lease ${this.lease.key}: ${error.message}`,
        );
        await sleep(this.#pauses.next(), signal);
      }
    }
  }

  /** Does what is due; returns for how long nothing will be, in ms. */
  async #step(signal: AbortSignal): Promise<number> {
    this.#judge();
    const now = performance.now();
    const { etcdLease } = this.#claim;
    const renewAt = renewalOf(etcdLease, this.#parts.renewMarginMinutes);
    const announceAt = this.#announceAt[0] ?? Number.POSITIVE_INFINITY;
    if (this.#lost !== undefined) {
      await this.#regain(signal);
    } else if (this.#repair !== undefined && now >= this.#repairNotBefore) {
      await this.#repairValue(this.#repair, signal);
    } else if (now >= renewAt) {
      await this.#keepAlive(signal);
    } else if (now >= announceAt) {
      await this.#putValue(true, signal);
      this.#announceAt.shift();
    } else {
      const repairAt = this.#repair === undefined ? Number.POSITIVE_INFINITY : this.#repairNotBefore;
      return Math.min(renewAt, announceAt, repairAt, expiryOf(etcdLease)) - now;
    }
    this.#pauses.reset();
    this.#log.clear();
    return 0;
  }

  /** Compares what we hold with the clock and with the mirror. */
  #judge(): void {
    if (this.#lost !== undefined) return;
    const { table, listed } = this.#parts.mirror;
    if (performance.now() > expiryOf(this.#claim.etcdLease)) {
      this.#lose('it could not be renewed before its TTL ran out');
      return;
    }
    const setBack = table.epoch !== this.#epoch;
    // A mirror that has not yet seen our last write knows nothing about us.
    if (!listed || (!setBack && table.revision < this.#claim.modRevision)) return;
    const entry = table.get(this.lease.key);
    if (!setBack && entry?.modRevision === this.#claim.modRevision) return;
    this.#epoch = table.epoch;
    this.#judgeEntry(entry, 'seen in the watch');
  }

  /** Takes in the state of our key: still ours, to be repaired, or lost. */
  #judgeEntry(entry: Entry | undefined, where: string): void {
    if (entry === undefined) {
      this.#lose(`its key was deleted or expired (${where})`);
      return;
    }
    const owner = ownerOf(entry);
    const ours = this.#parts.own.attributes.publicIp;
    if (owner !== undefined && owner !== ours) {
      this.#lose(`its key now belongs to the host with PublicIP ${owner} (${where})`);
      return;
    }
    // Somebody took the etcd lease off our key: that is how a subnet is reserved, and so it stays.
    const reserved = entry.etcdLease === 0n && this.#claim.etcdLease.id !== 0n;
    if (reserved)
      this.#parts.logger.info({ key: entry.name }, 'our lease has become a reservation: it no longer expires');
    const etcdLease = reserved ? NO_LEASE : this.#claim.etcdLease;
    this.#claim = { ...this.#claim, etcdLease, modRevision: entry.modRevision };
    const mac = entry.attributes?.vtepMac;
    const { ourMacs } = this.#parts.own;
    if (ourMacs !== undefined && mac !== undefined && !ourMacs.includes(mac)) {
      this.#repair = `another host uses our PublicIP ${ours} and has written its VtepMAC ${mac}; give one of the two another --public-ip`;
    } else if (entry.value !== this.#claim.value) this.#repair = 'its value was changed';
    else if (entry.etcdLease !== etcdLease.id) this.#repair = 'it was put on another etcd lease';
    else this.#repair = undefined;
  }

  #lose(reason: string): void {
    this.#lost = reason;
    this.#repair = undefined;
    this.#announceAt = [];
    this.#parts.logger.warn({ key: this.lease.key }, `our lease was lost: ${reason}; winning it back`);
    this.#parts.emit({ type: 'lease-lost', reason });
  }

  async #regain(signal: AbortSignal): Promise<void> {
    const { claimer, config, own, mirror, logger, emit } = this.#parts;
    const before = this.lease;
    const epoch = mirror.table.epoch;
    const claim = await claimer.claim(
      config,
      { ...own, previousSubnet: before.subnet, previousSubnet6: before.subnet6 },
      signal,
    );
    this.#claim = claim;
    this.#epoch = epoch;
    this.#lost = undefined;
    this.#planAnnouncements();
    if (claim.lease.subnet === before.subnet) logger.info({ key: claim.lease.key }, 'our lease was won back');
    else
      logger.error(
        { key: claim.lease.key, before: before.key },
        'our subnet was taken meanwhile: another one was leased, containers must be renumbered',
      );
    emit({ type: 'lease-regained', lease: claim.lease });
  }

  async #keepAlive(signal: AbortSignal): Promise<void> {
    const etcdLease = await keepAlive(this.#parts.session, this.#claim.etcdLease.id, signal);
    if (etcdLease === undefined) this.#lose('etcd no longer knows its lease (expired or revoked)');
    else this.#claim = { ...this.#claim, etcdLease };
  }

  async #repairValue(reason: string, signal: AbortSignal): Promise<void> {
    this.#parts.logger.warn({ key: this.lease.key }, `our lease is put right: ${reason}`);
    await this.#putValue(false, signal);
    this.#repair = undefined;
    const now = performance.now();
    if (now - this.#repairedAt > REPAIR_QUIET_MS) this.#repairPauses.reset();
    this.#repairedAt = now;
    this.#repairNotBefore = now + this.#repairPauses.next();
  }

  /** Writes our value if the key is still ours to write; `even` if it is already there. */
  async #putValue(even: boolean, signal: AbortSignal): Promise<void> {
    const { session, keys } = this.#parts;
    const key = keys.lease(this.lease.key);
    const epoch = this.#parts.mirror.table.epoch;
    const kv = await getKey(session, key, signal);
    this.#judgeEntry(kv === undefined ? undefined : readEntry(this.lease.key, kv), 'read');
    if (this.#lost !== undefined || (this.#repair === undefined && !even)) return;
    const { modRevision, value, etcdLease } = this.#claim;
    const written = await replaceKey(session, key, modRevision, value, etcdLease.id, signal);
    // Changed between reading and writing: the mirror will bring the new state and the judgement starts over.
    if (written === undefined) return;
    this.#epoch = epoch;
    this.#claim = { ...this.#claim, modRevision: written };
  }

  #planAnnouncements(): void {
    const now = performance.now();
    this.#announceAt = ANNOUNCE_AFTER_MS.map((after) => now + after);
  }
}
