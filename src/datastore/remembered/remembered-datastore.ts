/**
 * A datastore that is remembered: what it says is kept on disk with its age, and where it does not answer at the start,
 * the host starts on that memory, so that a host that reboots while etcd is away has its network. The memory counts until
 * the datastore tells otherwise: the lease is then taken in earnest and everything listed anew, as at any start.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { NetworkConfig } from '../../flannel/config.ts';
import { formatLeaseAttributes } from '../../flannel/lease.ts';
import type { KeptFiles } from '../../host/kept-files.ts';
import type { Datastore, DatastoreEvent, Lease, OwnHost } from '../types.ts';
import { type Memory, readMemory } from './memory.ts';
import { Recorder } from './recorder.ts';

export interface RememberedOptions {
  readonly inner: Datastore;
  /** The memory's file. */
  readonly path: string;
  /** What the memory is of; another place's is not used. */
  readonly place: string;
  /** Start on the memory; off, it is only kept. */
  readonly offlineStart: boolean;
  readonly files: KeptFiles;
  readonly logger: Logger;
  /** How long the datastore may be silent before the memory is used. */
  readonly patienceMs?: number;
}

/** An endpoint that refuses is found out at once, a black hole after two tries of 2 s. */
const PATIENCE_MS = 5_000;

/** The datastore is back and its network is not the one that we started on. */
export class ConfigChangedError extends Error {
  readonly code = 'CONFIG_CHANGED';
}

export class RememberedDatastore implements Datastore {
  readonly source: Datastore['source'];
  readonly #options: RememberedOptions;
  readonly #inner: Datastore;
  readonly #recorder: Recorder;
  #config: Promise<NetworkConfig> | undefined;
  /** Set while we run on it. */
  #memory: Memory | undefined;
  /** The lease that the datastore gives when it is back. */
  #earnest: Promise<Lease> | undefined;

  constructor(options: RememberedOptions) {
    this.#options = options;
    this.#inner = options.inner;
    this.source = options.inner.source;
    this.#recorder = new Recorder(options);
  }

  async config(signal: AbortSignal): Promise<NetworkConfig> {
    const { offlineStart, path, place, logger, patienceMs = PATIENCE_MS } = this.#options;
    const config = this.#inner.config(signal);
    // Awaited by whoever needs it; until then its failure is not lost, but nobody's.
    config.catch(() => undefined);
    this.#config = config;
    const memory = offlineStart
      ? readMemory(path, place, (reason) => logger.warn({ path }, `the leases kept on disk are not usable: ${reason}`))
      : undefined;
    const patience = new AbortController();
    const slow = sleep(patienceMs, 'slow' as const, { signal: AbortSignal.any([signal, patience.signal]) });
    slow.catch(() => undefined);
    const first = memory === undefined ? await config : await Promise.race([config, slow]);
    patience.abort();
    if (first !== 'slow' || memory === undefined) {
      this.#recorder.config = await config;
      return this.#recorder.config;
    }
    this.#memory = memory;
    logger.warn({ asOf: memory.asOf, leases: memory.leases.length }, `${this.source} does not answer: ${age(memory)}`);
    return memory.config;
  }

  async ownLease(publicIp: string, signal: AbortSignal): Promise<Lease | undefined> {
    const own = this.#memory?.own;
    if (own?.attributes.publicIp === publicIp) return own;
    if (own !== undefined) {
      this.#options.logger.warn(
        { publicIp, before: own.attributes.publicIp },
        `our PublicIP is not the one of the leases kept on disk: waiting for ${this.source}`,
      );
      this.#memory = undefined;
    }
    return this.#inner.ownLease(publicIp, signal);
  }

  async join(own: OwnHost, signal: AbortSignal): Promise<Lease> {
    const memory = this.#memory;
    if (memory === undefined) {
      this.#recorder.config ??= await this.#config;
      const lease = await this.#inner.join(own, signal);
      this.#recorder.own = lease;
      return lease;
    }
    this.#earnest = this.#joinInEarnest(memory, own, signal);
    this.#earnest.catch(() => undefined);
    return { ...memory.own, attributes: own.attributes };
  }

  async *watch(signal: AbortSignal): AsyncGenerator<DatastoreEvent, void> {
    const memory = this.#memory;
    if (memory !== undefined && this.#earnest !== undefined) {
      yield { type: 'snapshot', remembered: true, revision: memory.revision, leases: memory.leases, bad: [] };
      yield {
        type: 'stale',
        since: memory.asOf,
        reason: `${this.source} has not answered since the start: ${age(memory)}`,
      };
      let lease: Lease;
      try {
        lease = await this.#earnest;
      } catch (error) {
        if (signal.aborted) return;
        throw error;
      }
      this.#memory = undefined;
      this.#options.logger.info(`${this.source} is back; what it says counts from here on`);
      if (!sameLease(lease, memory.own)) yield { type: 'lease-regained', lease };
    }
    for await (const event of this.#inner.watch(signal)) {
      this.#recorder.take(event);
      yield event;
    }
  }

  leaseExpires(): Date | undefined {
    return this.#memory === undefined ? this.#inner.leaseExpires?.() : undefined;
  }

  async stop(): Promise<void> {
    this.#recorder.stop();
    await this.#inner.stop();
  }

  async #joinInEarnest(memory: Memory, own: OwnHost, signal: AbortSignal): Promise<Lease> {
    const config = await this.#config;
    if (config === undefined) throw new Error('join was called before config');
    // Both come out of one constructor, with their fields in one order.
    if (JSON.stringify(config) !== JSON.stringify(memory.config)) {
      this.#recorder.forget();
      throw new ConfigChangedError(
        'the network configuration was changed while we ran on the one kept on disk: start vtepd again to apply it (traffic goes on)',
      );
    }
    const lease = await this.#inner.join({ ...own, previousSubnet: memory.own.subnet }, signal);
    this.#recorder.config = config;
    this.#recorder.own = lease;
    return lease;
  }
}

function age({ asOf, leases }: Memory): string {
  return `running on the ${leases.length} leases known at ${asOf.toISOString()}`;
}

function sameLease(a: Lease, b: Lease): boolean {
  return a.key === b.key && formatLeaseAttributes(a.attributes) === formatLeaseAttributes(b.attributes);
}
