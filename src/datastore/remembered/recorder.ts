/** Keeps the memory of a datastore up to date on disk: soon after the first change, then seldom, and at the end. */
import type { NetworkConfig } from '../../flannel/config.ts';
import { removeIfThere } from '../../host/files.ts';
import type { KeptFiles } from '../../host/kept-files.ts';
import type { DatastoreEvent, Lease } from '../types.ts';
import { writeMemory } from './memory.ts';

export interface RecorderOptions {
  readonly path: string;
  readonly place: string;
  readonly files: KeptFiles;
}

const FIRST_MS = 1_000;
/** 5,000 leases are 1.5 MB: at this pace 100 changes a second cost 50 kB/s of disk. */
const PAUSE_MS = 30_000;
/** How old `asOf` may grow while nothing changes. */
const REFRESH_MS = 600_000;

export class Recorder {
  config: NetworkConfig | undefined;
  own: Lease | undefined;
  readonly #options: RecorderOptions;
  readonly #leases = new Map<string, Lease>();
  #revision = 0;
  /** Since when the datastore is out of reach. */
  #staleSince: Date | undefined;
  #listed = false;
  #dirty = false;
  #writtenAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  /** What the timer is for: a change. */
  #planned = false;

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  take(event: DatastoreEvent): void {
    switch (event.type) {
      case 'snapshot':
        this.#leases.clear();
        for (const lease of event.leases) this.#leases.set(lease.key, lease);
        this.#listed = true;
        this.#revision = event.revision;
        this.#staleSince = undefined;
        break;
      case 'changes':
        for (const change of event.changes) {
          if (change.type === 'put') this.#leases.set(change.lease.key, change.lease);
          else this.#leases.delete(change.key);
        }
        this.#revision = event.revision;
        break;
      case 'lease-regained':
        this.own = event.lease;
        break;
      case 'stale':
        this.#staleSince = event.since;
        break;
      case 'fresh':
        this.#staleSince = undefined;
        break;
      case 'lease-lost':
        return;
    }
    this.#dirty = true;
    this.#plan();
  }

  /** What is on disk is no longer true. */
  forget(): void {
    this.#listed = false;
    removeIfThere(this.#options.path);
  }

  /** Writes what is not written yet, and ends. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#dirty || this.#staleSince === undefined) this.#write();
    this.#listed = false;
  }

  /** Plans the next write: for a change, or else for the age. */
  #plan(): void {
    if (this.#timer !== undefined && this.#planned === this.#dirty) return;
    clearTimeout(this.#timer);
    this.#planned = this.#dirty;
    const pause = this.#dirty ? PAUSE_MS : REFRESH_MS;
    const wait = Math.max(FIRST_MS, this.#writtenAt + pause - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#dirty || this.#staleSince === undefined) this.#write();
      this.#plan();
    }, wait);
    this.#timer.unref();
  }

  #write(): void {
    const { config, own } = this;
    if (!this.#listed || config === undefined || own === undefined) return;
    const { path, place, files } = this.#options;
    const asOf = this.#staleSince ?? new Date();
    try {
      const leases = [...this.#leases.values()];
      writeMemory(path, { place, asOf, revision: this.#revision, config, own, leases });
      this.#dirty = false;
      files.written(path);
    } catch (error) {
      files.failed(path, 'a start without etcd would know less', error);
    }
    this.#writtenAt = performance.now();
  }
}
