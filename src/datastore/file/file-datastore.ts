/**
 * Leases from a file: every host reads the same list, nobody writes it. Edits take effect within a second; an edit that
 * cannot be used leaves the tables as they are and is reported as `stale`, with its line, until it is mended.
 *
 * Readers of `watch` are given what differs between the table they saw last and the current one. So a slow reader misses
 * states in between, never the last one, and nothing queues up.
 */
import { EventEmitter, once } from 'node:events';
import type { Logger } from 'pino';
import type { NetworkConfig } from '../../flannel/config.ts';
import { formatLeaseAttributes } from '../../flannel/lease.ts';
import type { Datastore, DatastoreEvent, Lease, LeaseChange, OwnHost } from '../types.ts';
import { HostsFileError, type HostsFileErrorCode } from './errors.ts';
import type { FileContent } from './file-reader.ts';
import { FileWatcher } from './file-watcher.ts';
import { type HostsTable, NETWORK_CHANGED, readHostsTable } from './hosts-table.ts';

export interface FileDatastoreOptions {
  readonly path: string;
  readonly logger: Logger;
  /** Time between two looks at the file, beside the watch on its directory. */
  readonly pollMs?: number;
  /** How long a file must have been at rest before it is read. */
  readonly settleMs?: number;
}

/** 160 bytes for each of the 100,000 hosts that a file may list. */
const FILE_BYTES_MAX = 16 * 1024 * 1024;

/** Why the tables may be out of date. */
interface Trouble {
  readonly reason: string;
  readonly since: Date;
  /** What to reject with before there was a usable file; absent where there is no file at all, which is waited for. */
  readonly code: HostsFileErrorCode | undefined;
}

export class FileDatastore implements Datastore {
  readonly source = 'file';
  private readonly path: string;
  private readonly logger: Logger;
  private readonly watcher: FileWatcher;
  private readonly emitter = new EventEmitter().setMaxListeners(0);
  private started: Promise<void> | undefined;
  private readonly stopping = new AbortController();

  private running: NetworkConfig | undefined;
  private table: HostsTable | undefined;
  /** The text that was last read with success, so that a file that was only touched is not read anew. */
  private usable: { readonly text: string; readonly table: HostsTable } | undefined;
  private trouble: Trouble | undefined;
  private joined: Lease | undefined;
  /** Counts on from the clock, so that it exceeds what an earlier run of the daemon gave to the dataplane. */
  private revision = Date.now();

  constructor(options: FileDatastoreOptions) {
    this.path = options.path;
    this.logger = options.logger;
    this.watcher = new FileWatcher({
      path: options.path,
      maxBytes: FILE_BYTES_MAX,
      logger: options.logger,
      onContent: (content) => this.accept(content),
      ...(options.pollMs === undefined ? {} : { pollMs: options.pollMs }),
      ...(options.settleMs === undefined ? {} : { settleMs: options.settleMs }),
    });
  }

  async config(signal: AbortSignal): Promise<NetworkConfig> {
    return (await this.loaded(signal)).running;
  }

  async ownLease(publicIp: string, signal: AbortSignal): Promise<Lease | undefined> {
    return (await this.loaded(signal)).table.byPublicIp.get(publicIp);
  }

  /** Nothing is published: the entry is in the file already, or the file has to be mended first. */
  async join(own: OwnHost, signal: AbortSignal): Promise<Lease> {
    const { publicIp } = own.attributes;
    const lease = await this.ownLease(publicIp, signal);
    if (lease === undefined) {
      throw new HostsFileError(
        'HOSTS_FILE_NO_OWN_HOST',
        `${this.path} lists no host with our PublicIP ${publicIp}: add it under hosts, or set --public-ip to the one that is listed`,
      );
    }
    const { publicIpv6 } = own.attributes;
    if (publicIpv6 !== lease.attributes.publicIpv6) {
      throw new HostsFileError(
        'HOSTS_FILE_NO_OWN_HOST',
        `${this.path}: our host has the publicIPv6 ${lease.attributes.publicIpv6}, and this host's is ${publicIpv6}: correct the file, or set --public-ipv6`,
      );
    }
    this.joined = lease;
    return lease;
  }

  async *watch(signal: AbortSignal): AsyncGenerator<DatastoreEvent, void, undefined> {
    const ended = AbortSignal.any([signal, this.stopping.signal]);
    let table: HostsTable | undefined;
    let trouble: Trouble | undefined;
    let own: Lease | undefined;
    let ownKnown = false;
    await this.begin();
    while (!ended.aborted) {
      if (this.table !== undefined) {
        if (!ownKnown) own = this.joined;
        ownKnown = this.joined !== undefined;
        const events = this.eventsSince(table, trouble, own);
        table = this.table;
        trouble = this.trouble;
        own = this.joined === undefined ? undefined : table.byPublicIp.get(this.joined.attributes.publicIp);
        yield* events;
        if (table !== this.table || trouble !== this.trouble) continue;
      }
      await this.change(ended).catch(() => undefined);
    }
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.watcher.stop();
  }

  private begin(): Promise<void> {
    this.started ??= this.watcher.start();
    return this.started;
  }

  /** Waits for a file; a file that cannot be used is an error until there was one that could. */
  private async loaded(signal: AbortSignal): Promise<{ running: NetworkConfig; table: HostsTable }> {
    const ended = AbortSignal.any([signal, this.stopping.signal]);
    await this.begin();
    for (;;) {
      ended.throwIfAborted();
      if (this.table !== undefined && this.running !== undefined) return { running: this.running, table: this.table };
      if (this.trouble?.code !== undefined) throw new HostsFileError(this.trouble.code, this.trouble.reason);
      await this.change(ended);
    }
  }

  private async change(signal: AbortSignal): Promise<void> {
    await once(this.emitter, 'change', { signal });
  }

  private accept(content: FileContent): void {
    switch (content.type) {
      case 'missing': {
        const waiting = this.table === undefined ? 'waiting for it' : 'the hosts read before are kept; put it back';
        this.distrust(undefined, `${this.path} does not exist; ${waiting}`);
        break;
      }
      case 'unreadable':
        this.distrust('HOSTS_FILE_UNREADABLE', content.reason);
        break;
      case 'text':
        this.read(content.text);
        break;
    }
    this.emitter.emit('change');
  }

  private read(text: string): void {
    let next: HostsTable;
    try {
      next = text === this.usable?.text ? this.usable.table : readHostsTable(text, this.path, this.running);
    } catch (error) {
      if (!(error instanceof HostsFileError)) throw error;
      this.distrust(error.code, error.message);
      return;
    }
    this.running ??= next.config;
    this.table = next;
    this.usable = { text, table: next };
    if (next.networkChanged) {
      this.distrust('HOSTS_FILE_INVALID', `${this.path}: ${NETWORK_CHANGED}`);
    } else if (this.trouble !== undefined) {
      this.logger.info(`${this.path} is in use again with ${next.leases.size} hosts`);
      this.trouble = undefined;
    }
  }

  private distrust(code: HostsFileErrorCode | undefined, reason: string): void {
    if (this.trouble?.reason === reason) return;
    this.trouble = { reason, since: this.trouble?.since ?? new Date(), code };
    this.logger.warn(reason);
  }

  /** What a reader has to be told who saw `table`, `trouble` and `own` last. */
  private eventsSince(
    table: HostsTable | undefined,
    trouble: Trouble | undefined,
    own: Lease | undefined,
  ): DatastoreEvent[] {
    const current = this.table;
    if (current === undefined) return [];
    const events: DatastoreEvent[] = [];
    if (trouble !== undefined && this.trouble === undefined) events.push({ type: 'fresh' });
    if (table === undefined) {
      events.push({ type: 'snapshot', revision: this.nextRevision(), leases: [...current.leases.values()], bad: [] });
    } else if (table !== current) {
      const changes = difference(table, current);
      if (changes.length > 0) events.push({ type: 'changes', revision: this.nextRevision(), changes, bad: [] });
    }
    events.push(...this.ownEvents(current, own));
    if (this.trouble !== undefined && this.trouble !== trouble) {
      events.push({ type: 'stale', since: this.trouble.since, reason: this.trouble.reason });
    }
    return events;
  }

  private ownEvents(current: HostsTable, before: Lease | undefined): DatastoreEvent[] {
    if (this.joined === undefined) return [];
    const { publicIp } = this.joined.attributes;
    const now = current.byPublicIp.get(publicIp);
    if (now === undefined) {
      if (before === undefined) return [];
      const reason = `${this.path} no longer lists our PublicIP ${publicIp}: other hosts stop sending to us; put the entry back`;
      return [{ type: 'lease-lost', reason }];
    }
    return before !== undefined && sameLease(before, now) ? [] : [{ type: 'lease-regained', lease: now }];
  }

  private nextRevision(): number {
    this.revision += 1;
    return this.revision;
  }
}

function difference(before: HostsTable, after: HostsTable): LeaseChange[] {
  const changes: LeaseChange[] = [];
  for (const key of before.leases.keys()) {
    if (!after.leases.has(key)) changes.push({ type: 'delete', key });
  }
  for (const [key, lease] of after.leases) {
    const held = before.leases.get(key);
    if (held === undefined || !sameLease(held, lease)) changes.push({ type: 'put', lease });
  }
  return changes;
}

function sameLease(a: Lease, b: Lease): boolean {
  return a.key === b.key && formatLeaseAttributes(a.attributes) === formatLeaseAttributes(b.attributes);
}
