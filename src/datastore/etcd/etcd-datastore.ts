/**
 * The datastore in etcd v3, in flannel's layout (`<prefix>/config`, `<prefix>/subnets/<subnet>`), shared with flanneld
 * hosts. One session, one mirror of the leases, one keeper of our own; all end with `stop`.
 */
import type { Logger } from 'pino';
import { type NetworkConfig, parseNetworkConfig } from '../../flannel/config.ts';
import type { Datastore, DatastoreEvent, Lease, OwnHost } from '../types.ts';
import { Claimer } from './claim.ts';
import { EtcdError } from './errors.ts';
import { expiryOf } from './etcd-lease.ts';
import { EventQueue } from './event-queue.ts';
import { LeaseKeeper } from './keeper.ts';
import { Keys } from './keys.ts';
import { leaseOf } from './lease-table.ts';
import { getKey } from './list.ts';
import { Mirror, type Staleness } from './mirror.ts';
import { patiently, SlowLog } from './patience.ts';
import { Session } from './session.ts';
import { Backoff, sleep } from './wait.ts';

/** A day, as flanneld's: a host may be away for a night and keep its subnet. */
export const DEFAULT_LEASE_TTL_SECONDS = 86_400;

export interface EtcdDatastoreOptions {
  /** `http://host:port`, `https://host:port`, or bare `host:port`; tried in turn. */
  readonly endpoints: readonly string[];
  readonly prefix: string;
  /** Alone it is enough for TLS: only a client certificate needs both other files. */
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** The lease is kept alive at the latest when this much of its life remains (and after a third of it anyway). */
  readonly renewMarginMinutes: number;
  readonly logger: Logger;
  readonly leaseTtlSeconds?: number | undefined;
}

/** What an operator wants to know of the datastore. */
export interface EtcdStatus {
  readonly endpoint: string;
  /** Set while etcd is out of reach. */
  readonly stale: Staleness | undefined;
  readonly revision: number;
  readonly keys: number;
  /** Keys that cannot be read and are skipped. */
  readonly badKeys: number;
  readonly lease: Lease | undefined;
  /** Why our lease is lost at the moment. */
  readonly leaseLost: string | undefined;
  /** True if our key has no etcd lease and never expires. */
  readonly reservation: boolean;
}

/** Pauses between looks for a configuration that is not there yet. */
const CONFIG_FIRST_MS = 500;
const CONFIG_LAST_MS = 5_000;

/** Pause before a task that ended by a fault of ours is started again. */
const RESTART_MS = 2_000;

export class EtcdDatastore implements Datastore {
  readonly source = 'etcd' as const;
  readonly #options: EtcdDatastoreOptions;
  readonly #logger: Logger;
  readonly #keys: Keys;
  readonly #session: Session;
  readonly #claimer: Claimer;
  readonly #mirror: Mirror;
  readonly #stopping = new AbortController();
  readonly #queues = new Set<EventQueue>();
  readonly #tasks = new Set<Promise<void>>();
  #mirroring = false;
  #config: NetworkConfig | undefined;
  #keeper: LeaseKeeper | undefined;
  #endKeeper: AbortController | undefined;
  /** What happened to our lease while nobody was watching. */
  #unheard: DatastoreEvent[] = [];

  /** Throws `EtcdError` if an endpoint cannot be read; touches no network. */
  constructor(options: EtcdDatastoreOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#keys = new Keys(options.prefix);
    this.#session = new Session(options);
    this.#claimer = new Claimer(
      this.#session,
      this.#keys,
      options.leaseTtlSeconds ?? DEFAULT_LEASE_TTL_SECONDS,
      this.#logger,
    );
    this.#mirror = new Mirror(
      this.#session,
      this.#keys,
      this.#logger,
      (event) => this.#emit(event),
      () => this.#keeper?.mirrorChanged(),
    );
  }

  async config(signal: AbortSignal): Promise<NetworkConfig> {
    const until = this.#until(signal);
    const pauses = new Backoff(CONFIG_FIRST_MS, CONFIG_LAST_MS);
    const log = new SlowLog(this.#logger);
    const key = Buffer.from(this.#keys.config);
    for (;;) {
      const kv = await patiently('network configuration', this.#logger, until, () => getKey(this.#session, key, until));
      if (kv !== undefined) {
        this.#config = parseNetworkConfig(kv.value.toString('utf8'));
        return this.#config;
      }
      log.say(
        'warn',
        'absent',
        `etcd at ${this.#session.endpoint} has no key ${this.#keys.config}: waiting for it; write the network configuration there, or correct --etcd-prefix`,
      );
      await sleep(pauses.next(), until);
    }
  }

  async ownLease(publicIp: string, signal: AbortSignal): Promise<Lease | undefined> {
    const until = this.#until(signal);
    const entries = await patiently('own lease', this.#logger, until, () => this.#claimer.list(until));
    return entries.map(leaseOf).find((lease) => lease?.attributes.publicIp === publicIp);
  }

  /** A second call publishes other attributes (a new MAC or address) in the place of the first one's. */
  async join(own: OwnHost, signal: AbortSignal): Promise<Lease> {
    const until = this.#until(signal);
    this.#endKeeper?.abort(new EtcdError('STOPPED', 'joined anew'));
    this.#keeper = undefined;
    const config = this.#config ?? (await this.config(signal));
    const claim = await patiently('lease', this.#logger, until, () => this.#claimer.claim(config, own, until));
    this.#logger.info({ key: claim.lease.key, reservation: claim.etcdLease.id === 0n }, 'lease published');
    const keeper = new LeaseKeeper(
      {
        session: this.#session,
        keys: this.#keys,
        claimer: this.#claimer,
        mirror: this.#mirror,
        config,
        own,
        renewMarginMinutes: this.#options.renewMarginMinutes,
        logger: this.#logger,
        emit: (event) => this.#emit(event),
      },
      claim,
    );
    this.#keeper = keeper;
    this.#endKeeper = new AbortController();
    this.#supervise('lease keeper', AbortSignal.any([this.#endKeeper.signal, this.#stopping.signal]), (s) =>
      keeper.run(s),
    );
    this.#startMirror();
    return claim.lease;
  }

  /** Ends, without an error, when the signal is aborted or the datastore stopped. */
  async *watch(signal: AbortSignal): AsyncGenerator<DatastoreEvent, void> {
    const until = this.#until(signal);
    const queue = new EventQueue(() => this.#mirror.snapshot());
    if (this.#mirror.listed) queue.push(this.#mirror.snapshot());
    if (this.#mirror.stale !== undefined) queue.push({ type: 'stale', ...this.#mirror.stale });
    for (const event of this.#unheard.splice(0)) queue.push(event);
    this.#queues.add(queue);
    try {
      this.#startMirror();
      for (;;) yield await queue.next(until);
    } catch (error) {
      if (!until.aborted) throw error;
    } finally {
      this.#queues.delete(queue);
    }
  }

  status(): EtcdStatus {
    const { table } = this.#mirror;
    return {
      endpoint: this.#session.endpoint,
      stale: this.#mirror.stale,
      revision: Number(table.revision),
      keys: table.size,
      badKeys: table.bad().length,
      lease: this.#keeper?.lease,
      leaseLost: this.#keeper?.lost,
      reservation: this.#keeper?.etcdLease.id === 0n,
    };
  }

  leaseExpires(): Date | undefined {
    const keeper = this.#keeper;
    if (keeper === undefined || keeper.lost !== undefined) return undefined;
    const ms = expiryOf(keeper.etcdLease) - performance.now();
    return Number.isFinite(ms) ? new Date(Date.now() + ms) : undefined;
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new EtcdError('STOPPED', 'the etcd datastore was stopped'));
    this.#session.close();
    await Promise.all(this.#tasks);
  }

  #until(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([signal, this.#stopping.signal]);
  }

  #startMirror(): void {
    if (this.#mirroring || this.#stopping.signal.aborted) return;
    this.#mirroring = true;
    this.#supervise('watch', this.#stopping.signal, (signal) => this.#mirror.run(signal));
  }

  #emit(event: DatastoreEvent): void {
    for (const queue of this.#queues) queue.push(event);
    if (this.#queues.size > 0) return;
    if (event.type === 'lease-lost') this.#unheard = [event];
    if (event.type === 'lease-regained') this.#unheard.push(event);
  }

  /** Runs a task until its signal ends it. It has no other way to end: one that does is a fault, told and restarted. */
  #supervise(name: string, signal: AbortSignal, run: (signal: AbortSignal) => Promise<never>): void {
    const task = this.#restarting(name, signal, run).finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
  }

  async #restarting(name: string, signal: AbortSignal, run: (signal: AbortSignal) => Promise<never>): Promise<void> {
    while (!signal.aborted) {
      try {
        await run(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#logger.error({ err: error }, `etcd ${name} failed and is started again`);
        await sleep(RESTART_MS, signal).catch(() => undefined);
      }
    }
  }
}
