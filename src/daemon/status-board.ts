/** What the controller knows of itself, kept by its parts and shown as one value. */
import type { BadKey, Lease } from '../datastore/types.ts';
import type { ControllerStatus, LeaseStatus } from './status-types.ts';

export interface Identity {
  readonly version: string;
  readonly instance: string;
  readonly source: 'etcd' | 'file';
}

/** What changes; every field is set by whoever knows it. */
export class StatusBoard {
  phase: ControllerStatus['phase'] = 'dataplane';
  ready = false;
  lease: Lease | undefined;
  leaseLost: string | undefined;
  network: ControllerStatus['network'] = null;
  peers: readonly LeaseStatus[] = [];
  warnings: readonly string[] = [];
  badKeys: readonly BadKey[] = [];
  revision: number | undefined;
  readonly #identity: Identity;
  readonly #started = new Date();
  #plane: ControllerStatus['plane'];
  #datastore: Pick<ControllerStatus['datastore'], 'state' | 'since' | 'reason'>;

  constructor(identity: Identity) {
    this.#identity = identity;
    const since = this.#started.toISOString();
    this.#plane = { state: 'down', pid: null, since, deaths: 0, lastGapMs: null };
    this.#datastore = { state: 'starting', since, reason: null };
  }

  planeUp(pid: number, gapMs: number | undefined): void {
    const since = new Date().toISOString();
    this.#plane = { ...this.#plane, state: 'up', pid, since, lastGapMs: gapMs ?? this.#plane.lastGapMs };
  }

  planeDown(): void {
    if (this.#plane.state === 'up') this.#plane = { ...this.#plane, state: 'down', since: new Date().toISOString() };
  }

  planeDied(): void {
    this.planeDown();
    this.#plane = { ...this.#plane, pid: null, deaths: this.#plane.deaths + 1 };
  }

  fresh(): void {
    if (this.#datastore.state === 'fresh') return;
    this.#datastore = { state: 'fresh', since: new Date().toISOString(), reason: null };
  }

  stale(since: Date, reason: string): void {
    this.#datastore = { state: 'stale', since: since.toISOString(), reason };
  }

  show(): ControllerStatus {
    return {
      pid: process.pid,
      version: this.#identity.version,
      instance: this.#identity.instance,
      started: this.#started.toISOString(),
      phase: this.phase,
      ready: this.ready,
      plane: this.#plane,
      datastore: {
        source: this.#identity.source,
        ...this.#datastore,
        revision: this.revision ?? null,
        badKeys: this.badKeys.map(({ key, reason }) => ({ key, reason })),
      },
      lease: this.lease === undefined ? null : leaseStatus(this.lease),
      leaseLost: this.leaseLost ?? null,
      network: this.network,
      peers: this.peers.length,
      warnings: this.warnings,
    };
  }
}

export function leaseStatus({ key, subnet, attributes }: Lease): LeaseStatus {
  return { key, subnet, publicIp: attributes.publicIp, mac: attributes.vtepMac ?? null };
}
