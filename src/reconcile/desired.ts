/**
 * Leases -> desired state. `PeerState` takes a datastore's events and holds what the dataplane's tables and the host's
 * routes are to be; each event yields the difference that it makes. Which leases count is decided in election.ts, what is
 * programmed for those that do in programmed.ts.
 */
import type { BadKey, DatastoreEvent, Lease } from '../datastore/types.ts';
import { VXLAN } from '../flannel/lease.ts';
import type { Ip } from '../net/ip.ts';
import { type Prefix, prefixFamily } from '../net/prefix.ts';
import { Election } from './election.ts';
import { sorted } from './groups.ts';
import { type DesiredRoute, type DesiredTables, type Difference, Programmed, type RouteMode } from './programmed.ts';
import { type OwnIdentity, type Peer, type PeerWarning, partOf, type Scope } from './rules.ts';

export type { DesiredRoute, DesiredTables, RouteMode, TablesDelta } from './programmed.ts';
export type { OwnIdentity, Peer, PeerWarning, WarningKind } from './rules.ts';

/** What an event changed. */
export interface PeerChange extends Difference {
  /** Revision of the tables before; `tables.patch` is refused unless the dataplane holds it. */
  readonly base: number;
  /** Revision of the tables after; equal to `base` if they did not change. */
  readonly revision: number;
  /** Warnings that were not there before. */
  readonly warnings: readonly PeerWarning[];
}

/** False for a change that changes nothing, not even the revision. */
export function hasEffect(change: PeerChange): boolean {
  const { added, removed } = change.routes;
  return !change.tablesUnchanged || change.base !== change.revision || added.length > 0 || removed.length > 0;
}

/** One usable lease and whether the tables hold it. */
export interface PeerView extends Peer {
  readonly active: boolean;
}

export interface PeerStateOptions {
  readonly own: OwnIdentity;
  readonly network: Prefix;
  readonly routeMode: RouteMode;
  /** `vxlan` if left out. */
  readonly backend?: string;
}

export class PeerState {
  private readonly scope: Scope;
  private readonly election: Election;
  private readonly programmed: Programmed;
  private currentRevision = 0;
  private badKeys = new Map<string, string>();

  constructor({ own, network, routeMode, backend = VXLAN }: PeerStateOptions) {
    this.scope = { network, family: prefixFamily(network), backend };
    this.election = new Election(own, this.scope);
    this.programmed = new Programmed(this.election, this.scope, routeMode);
  }

  /** Revision of the tables: the datastore's at the last change. */
  get revision(): number {
    return this.currentRevision;
  }

  /** Usable leases of other hosts. */
  get peerCount(): number {
    return this.election.peerCount;
  }

  /** Leases of hosts with another backend: ignored, as every vxlan host ignores them. */
  get otherBackendCount(): number {
    return this.election.otherBackendCount;
  }

  /** Takes one event. After a snapshot send `tables()` whole; after other events the returned difference suffices. */
  apply(event: DatastoreEvent): PeerChange {
    switch (event.type) {
      case 'snapshot': {
        const next = new Map(event.leases.map((lease) => [lease.key, lease]));
        this.badKeys = new Map(event.bad.map((bad) => [bad.key, bad.reason]));
        const gone = [...this.election.leases.keys()].filter((key) => !next.has(key));
        return this.update(gone, next.values(), event.revision, true);
      }
      case 'changes': {
        const latest = new Map<string, Lease | undefined>();
        for (const change of event.changes) {
          const key = change.type === 'put' ? change.lease.key : change.key;
          latest.set(key, change.type === 'put' ? change.lease : undefined);
          this.badKeys.delete(key);
        }
        for (const bad of event.bad) this.badKeys.set(bad.key, bad.reason);
        const gone = [...latest].filter(([, lease]) => lease === undefined).map(([key]) => key);
        const put = [...latest.values()].filter((lease) => lease !== undefined);
        return this.update(gone, put, event.revision, false);
      }
      case 'lease-regained': {
        const part = partOf(event.lease, this.scope.family);
        const { own } = this.election;
        return this.setOwn(part === undefined ? own : { ...part, mac: part.mac ?? own.mac });
      }
      case 'stale':
      case 'fresh':
      case 'lease-lost':
        return this.update([], [], this.currentRevision, false);
    }
  }

  /** Tells who we are, after a join or when that changes: every lease is judged anew. */
  setOwn(own: OwnIdentity): PeerChange {
    this.election.own = own;
    return this.update([], [...this.election.leases.values()], this.currentRevision, false);
  }

  /** PublicIPs of all usable leases. */
  publicIps(): Ip[] {
    return this.election.publicIps;
  }

  /**
   * Tells which PublicIPs are reached without a gateway, and by which interface; `undefined`: by none. What is not named
   * stays as it is. The tables change within their revision: send them whole.
   */
  setDirect(hops: Iterable<readonly [Ip, string | undefined]>): PeerChange {
    const base = this.currentRevision;
    return { base, revision: base, ...this.programmed.setDirect(hops), warnings: [] };
  }

  /** Interface by which a PublicIP is reached without a gateway. */
  directTo(ip: Ip): string | undefined {
    return this.programmed.directTo(ip);
  }

  /** The whole desired tables, sorted. */
  tables(): DesiredTables {
    return this.programmed.tables();
  }

  /** The whole desired routes, sorted by destination. */
  routes(): DesiredRoute[] {
    return this.programmed.routes();
  }

  /** Every usable lease, sorted by key. */
  peers(): PeerView[] {
    return this.election.peers().map((peer) => ({ ...peer, active: this.isActive(peer) }));
  }

  /** All warnings that hold now, sorted by their first key. */
  warnings(): PeerWarning[] {
    return this.election.warnings();
  }

  /** Keys that could not be read, sorted. */
  bad(): BadKey[] {
    return sorted(this.badKeys).map(([key, reason]) => ({ key, reason }));
  }

  private update(gone: Iterable<string>, put: Iterable<Lease>, revision: number, force: boolean): PeerChange {
    const touched = this.election.update(gone, put);
    const changed = this.programmed.settle(touched);
    const base = this.currentRevision;
    if (force || !changed.tablesUnchanged) this.currentRevision = revision;
    return { base, revision: this.currentRevision, ...changed, warnings: this.election.warn(touched) };
  }

  private isActive(peer: Peer): boolean {
    return this.election.electedFor(peer.subnet)?.key === peer.key && this.programmed.has(peer.subnet);
  }
}
