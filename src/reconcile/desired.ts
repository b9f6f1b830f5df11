/**
 * Leases -> desired state. `PeerState` takes a datastore's events and holds what the dataplane's tables and the host's
 * routes are to be; each event yields the difference that it makes. For one peer:
 *
 *   FDB        VtepMAC -> PublicIP, permanent
 *   neighbour  subnet -> VtepMAC: every address of the subnet answers with the peer's MAC
 *   route      subnet via its base, on-link ("peer"), or one route for the whole network ("network", and the backend udp)
 *
 * A peer that is on the same link, where DirectRouting or the host-gw backend asks for it (`setDirect`), has only the route
 * `subnet via PublicIP` on the underlay, and stays among those that may send to us: it may still choose the tunnel.
 *
 * Leases that contradict each other are settled by key, in two steps, so that the order of events never matters: of
 * several keys for one subnet the lowest is elected; of the elected leases with one MAC the lowest names the PublicIP, and
 * those with another PublicIP stay out of the tables until it goes. The work for an event grows with what the event
 * changes and with the leases that contradict it, not with the number of hosts.
 */
import type { FdbEntry, Neighbour, TablesPatch } from '../dataplane/protocol.ts';
import type { BadKey, DatastoreEvent, Lease } from '../datastore/types.ts';
import { HOST_GW, UDP, VXLAN } from '../flannel/lease.ts';
import type { Ip } from '../net/ip.ts';
import type { Mac } from '../net/mac.ts';
import { type Prefix, prefixBase, prefixContains, prefixFamily } from '../net/prefix.ts';
import { compare, Groups, sorted } from './groups.ts';
import {
  contradiction,
  judge,
  type OwnIdentity,
  type Peer,
  type PeerWarning,
  partOf,
  type Scope,
  type Verdict,
} from './rules.ts';

export type { OwnIdentity, Peer, PeerWarning, WarningKind } from './rules.ts';

/** All that a datastore says of one network, for `tables.replace`. */
export interface DesiredTables {
  fdb: FdbEntry[];
  neighbours: Neighbour[];
  /** VTEPs without an FDB entry that may send; none come from leases. */
  peers: string[];
}

export interface DesiredRoute {
  readonly destination: Prefix;
  readonly via?: Ip;
  readonly onlink: boolean;
  /** The underlay interface of a direct route; absent: our own device. */
  readonly dev?: string;
}

/** `peer`: a route for each subnet, as flannel makes them. `network`: one for all. */
export type RouteMode = 'peer' | 'network';

/** The fields of `tables.patch` that carry the change. */
export type TablesDelta = Omit<TablesPatch, 'network' | 'source' | 'base' | 'revision'>;

/** What an event changed. */
export interface PeerChange {
  /** Revision of the tables before; `tables.patch` is refused unless the dataplane holds it. */
  readonly base: number;
  /** Revision of the tables after; equal to `base` if they did not change. */
  readonly revision: number;
  readonly tables: TablesDelta;
  /** True if `tables` holds nothing. */
  readonly tablesUnchanged: boolean;
  readonly routes: { readonly added: readonly DesiredRoute[]; readonly removed: readonly DesiredRoute[] };
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

/** What is programmed for one subnet. */
interface Row {
  /** Absent where traffic goes by a direct route, or by none. */
  readonly mac: Mac | undefined;
  readonly route: DesiredRoute | undefined;
}

export class PeerState {
  private own: OwnIdentity;
  private readonly scope: Scope;
  private readonly routeMode: RouteMode;
  private currentRevision = 0;

  private readonly leases = new Map<string, Lease>();
  private readonly verdicts = new Map<string, Verdict>();
  private badKeys = new Map<string, string>();
  private otherBackends = 0;
  private usable = 0;

  private readonly bySubnet = new Groups<Prefix, string>();
  private readonly byMac = new Groups<Mac, Prefix>();
  private readonly byPublicIp = new Groups<Ip, string>();
  private readonly elected = new Map<Prefix, Peer>();

  /** Interfaces by which PublicIPs are reached without a gateway. */
  private readonly direct = new Map<Ip, string>();
  /** Which PublicIP counts for a MAC. */
  private readonly winners = new Map<Mac, Ip>();
  private readonly fdb = new Map<Mac, Ip>();
  private readonly rows = new Map<Prefix, Row>();
  private readonly extraPeers = new Set<Ip>();
  private readonly warningsByCause = new Map<string, PeerWarning>();

  constructor(options: PeerStateOptions) {
    this.own = options.own;
    const { network, backend = VXLAN } = options;
    this.scope = { network, family: prefixFamily(network), backend };
    this.routeMode = backend === UDP ? 'network' : options.routeMode;
  }

  /** Revision of the tables: the datastore's at the last change. */
  get revision(): number {
    return this.currentRevision;
  }

  /** Usable leases of other hosts. */
  get peerCount(): number {
    return this.usable;
  }

  /** Leases of hosts with another backend: ignored, as every vxlan host ignores them. */
  get otherBackendCount(): number {
    return this.otherBackends;
  }

  /** Takes one event. After a snapshot send `tables()` whole; after other events the returned difference suffices. */
  apply(event: DatastoreEvent): PeerChange {
    switch (event.type) {
      case 'snapshot': {
        const next = new Map(event.leases.map((lease) => [lease.key, lease]));
        this.badKeys = new Map(event.bad.map((bad) => [bad.key, bad.reason]));
        const gone = [...this.leases.keys()].filter((key) => !next.has(key));
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
        return this.setOwn(part === undefined ? this.own : { ...part, mac: part.mac ?? this.own.mac });
      }
      case 'stale':
      case 'fresh':
      case 'lease-lost':
        return this.update([], [], this.currentRevision, false);
    }
  }

  /** Tells who we are, after a join or when that changes: every lease is judged anew. */
  setOwn(own: OwnIdentity): PeerChange {
    this.own = own;
    return this.update([], [...this.leases.values()], this.currentRevision, false);
  }

  /** PublicIPs of all usable leases. */
  publicIps(): Ip[] {
    return [...this.byPublicIp.keys()];
  }

  /**
   * Tells which PublicIPs are reached without a gateway, and by which interface; `undefined`: by none. What is not named
   * stays as it is. The tables change within their revision: send them whole.
   */
  setDirect(hops: Iterable<readonly [Ip, string | undefined]>): PeerChange {
    const touched = new Touched();
    for (const [ip, dev] of hops) {
      if (this.direct.get(ip) === dev) continue;
      if (dev === undefined) this.direct.delete(ip);
      else this.direct.set(ip, dev);
      for (const key of this.byPublicIp.members(ip)) {
        const peer = this.verdicts.get(key)?.peer;
        if (peer !== undefined) touched.add(peer);
        if (peer?.mac !== undefined) touched.macs.add(peer.mac);
      }
    }
    const base = this.currentRevision;
    return { base, revision: base, ...this.settle(touched), warnings: [] };
  }

  /** Interface by which a PublicIP is reached without a gateway. */
  directTo(ip: Ip): string | undefined {
    return this.direct.get(ip);
  }

  /** The whole desired tables, sorted. */
  tables(): DesiredTables {
    return {
      fdb: sorted(this.fdb).map(([mac, ip]) => fdbEntry(mac, ip)),
      neighbours: sorted(this.rows).flatMap(([prefix, { mac }]) =>
        mac === undefined ? [] : [{ prefix, lladdr: mac }],
      ),
      peers: [...this.extraPeers].sort(compare),
    };
  }

  /** The whole desired routes, sorted by destination. */
  routes(): DesiredRoute[] {
    const routes = sorted(this.rows).flatMap(([, { route }]) => route ?? []);
    const whole = this.routeMode === 'network' && this.scope.backend !== HOST_GW;
    return whole ? [{ destination: this.scope.network, onlink: false }, ...routes] : routes;
  }

  /** Every usable lease, sorted by key. */
  peers(): PeerView[] {
    const views: PeerView[] = [];
    for (const [, { peer }] of sorted(this.verdicts)) {
      if (peer !== undefined) views.push({ ...peer, active: this.isActive(peer) });
    }
    return views;
  }

  /** All warnings that hold now, sorted by their first key. */
  warnings(): PeerWarning[] {
    return [...this.warningsByCause.values()].sort((a, b) => compare(a.keys[0] ?? '', b.keys[0] ?? ''));
  }

  /** Keys that could not be read, sorted. */
  bad(): BadKey[] {
    return sorted(this.badKeys).map(([key, reason]) => ({ key, reason }));
  }

  private update(gone: Iterable<string>, put: Iterable<Lease>, revision: number, force: boolean): PeerChange {
    const touched = new Touched();
    for (const key of gone) {
      this.withdraw(key, touched);
      this.leases.delete(key);
    }
    for (const lease of put) {
      this.withdraw(lease.key, touched);
      this.leases.set(lease.key, lease);
      this.enter(lease, touched);
    }
    this.elect(touched);
    const changed = this.settle(touched);
    const base = this.currentRevision;
    if (force || !changed.tablesUnchanged) this.currentRevision = revision;
    return { base, revision: this.currentRevision, ...changed, warnings: this.warn(touched) };
  }

  /** Takes a lease out of the groups; the tables follow in `settle`. */
  private withdraw(key: string, touched: Touched): void {
    const verdict = this.verdicts.get(key);
    if (verdict === undefined) return;
    this.verdicts.delete(key);
    touched.keys.add(key);
    if (verdict.otherBackend) this.otherBackends -= 1;
    if (verdict.peer === undefined) return;
    this.usable -= 1;
    this.bySubnet.remove(verdict.peer.subnet, key);
    this.byPublicIp.remove(verdict.peer.publicIp, key);
    touched.add(verdict.peer);
  }

  private enter(lease: Lease, touched: Touched): void {
    const verdict = judge(lease, this.own, this.scope);
    this.verdicts.set(lease.key, verdict);
    touched.keys.add(lease.key);
    if (verdict.otherBackend) this.otherBackends += 1;
    if (verdict.peer === undefined) return;
    this.usable += 1;
    this.bySubnet.add(verdict.peer.subnet, lease.key);
    this.byPublicIp.add(verdict.peer.publicIp, lease.key);
    touched.add(verdict.peer);
  }

  /** First step: one lease a subnet. */
  private elect(touched: Touched): void {
    for (const subnet of touched.subnets) {
      const before = this.elected.get(subnet);
      if (before?.mac !== undefined) {
        this.byMac.remove(before.mac, subnet);
        touched.macs.add(before.mac);
      }
      const key = this.bySubnet.members(subnet)[0];
      const peer = key === undefined ? undefined : this.verdicts.get(key)?.peer;
      if (peer === undefined) {
        this.elected.delete(subnet);
      } else {
        this.elected.set(subnet, peer);
        if (peer.mac === undefined) continue;
        this.byMac.add(peer.mac, subnet);
        touched.macs.add(peer.mac);
      }
    }
  }

  /** Second step: one PublicIP a MAC; then brings the tables of all that was touched up to date. */
  private settle(touched: Touched): Pick<PeerChange, 'tables' | 'tablesUnchanged' | 'routes'> {
    const tables: TablesDelta = {
      fdb_remove: [],
      fdb_set: [],
      neighbours_remove: [],
      neighbours_set: [],
      peers_remove: [],
      peers_add: [],
    };
    const subnets = new Set(touched.subnets);
    for (const mac of touched.macs) {
      const winner = this.claimants(mac)[0]?.publicIp;
      if (winner === undefined) this.winners.delete(mac);
      else this.winners.set(mac, winner);
      const ip = winner === undefined || this.direct.has(winner) ? undefined : winner;
      if (ip !== this.fdb.get(mac)) {
        if (ip === undefined) {
          this.fdb.delete(mac);
          tables.fdb_remove.push(mac);
        } else {
          this.fdb.set(mac, ip);
          tables.fdb_set.push(fdbEntry(mac, ip));
        }
      }
      for (const subnet of this.byMac.members(mac)) subnets.add(subnet);
    }
    for (const ip of touched.publicIps) {
      const wanted = this.scope.backend === VXLAN && this.direct.has(ip) && this.byPublicIp.has(ip);
      if (wanted === this.extraPeers.has(ip)) continue;
      if (wanted) {
        this.extraPeers.add(ip);
        tables.peers_add.push(ip);
      } else {
        this.extraPeers.delete(ip);
        tables.peers_remove.push(ip);
      }
    }
    const added: DesiredRoute[] = [];
    const removed: DesiredRoute[] = [];
    for (const subnet of subnets) {
      const row = this.rowOf(subnet);
      const before = this.rows.get(subnet);
      if (row === undefined) this.rows.delete(subnet);
      else this.rows.set(subnet, row);
      if (row?.mac !== before?.mac) {
        if (row?.mac === undefined) tables.neighbours_remove.push(subnet);
        else tables.neighbours_set.push({ prefix: subnet, lladdr: row.mac });
      }
      if (sameRoute(row?.route, before?.route)) continue;
      if (before?.route !== undefined) removed.push(before.route);
      if (row?.route !== undefined) added.push(row.route);
    }
    const tablesUnchanged = Object.values(tables).every((list) => list.length === 0);
    return { tables, tablesUnchanged, routes: { added, removed } };
  }

  /** Elected leases with one MAC, by key. */
  private claimants(mac: Mac): Peer[] {
    return this.byMac
      .members(mac)
      .flatMap((subnet) => this.elected.get(subnet) ?? [])
      .sort((a, b) => compare(a.key, b.key));
  }

  private rowOf(subnet: Prefix): Row | undefined {
    const peer = this.elected.get(subnet);
    if (peer === undefined) return undefined;
    const { mac, publicIp } = peer;
    if (mac !== undefined && this.winners.get(mac) !== publicIp) return undefined;
    const dev = this.direct.get(publicIp);
    if (dev !== undefined) {
      return { mac: undefined, route: { destination: subnet, via: publicIp, onlink: false, dev } };
    }
    // Without a tunnel there is no other way.
    if (mac === undefined) return undefined;
    const covered = this.routeMode === 'network' && prefixContains(this.scope.network, subnet);
    if (covered) return { mac, route: undefined };
    // A TUN has no neighbours.
    const via = this.scope.backend === UDP ? { onlink: false } : { via: prefixBase(subnet), onlink: true };
    return { mac, route: { destination: subnet, ...via } };
  }

  private isActive(peer: Peer): boolean {
    return this.elected.get(peer.subnet)?.key === peer.key && this.rows.has(peer.subnet);
  }

  /** Brings the warnings about all that was touched up to date; yields the new ones. */
  private warn(touched: Touched): PeerWarning[] {
    const fresh: PeerWarning[] = [];
    const set = (cause: string, warning: PeerWarning | undefined) => {
      const before = this.warningsByCause.get(cause);
      if (warning === undefined) this.warningsByCause.delete(cause);
      else this.warningsByCause.set(cause, warning);
      if (warning !== undefined && warning.message !== before?.message) fresh.push(warning);
    };
    for (const key of touched.keys) set(`key ${key}`, this.verdicts.get(key)?.warning);
    for (const subnet of touched.subnets) {
      set(
        `subnet ${subnet}`,
        contradiction('duplicate-subnet', this.bySubnet.members(subnet), `name the subnet ${subnet}`),
      );
    }
    for (const mac of touched.macs) {
      const claimants = this.claimants(mac);
      const contradicts = claimants.some((peer) => peer.publicIp !== claimants[0]?.publicIp);
      const keys = contradicts ? claimants.map((peer) => peer.key) : [];
      set(`mac ${mac}`, contradiction('duplicate-mac', keys, `publish the VtepMAC ${mac} at different PublicIPs`));
    }
    for (const ip of touched.publicIps) {
      set(`ip ${ip}`, contradiction('duplicate-public-ip', this.byPublicIp.members(ip), `carry the PublicIP ${ip}`));
    }
    return fresh;
  }
}

/** What an event touched. */
class Touched {
  readonly keys = new Set<string>();
  readonly subnets = new Set<Prefix>();
  readonly macs = new Set<Mac>();
  readonly publicIps = new Set<Ip>();

  add(peer: Peer): void {
    this.subnets.add(peer.subnet);
    this.publicIps.add(peer.publicIp);
  }
}

function sameRoute(a: DesiredRoute | undefined, b: DesiredRoute | undefined): boolean {
  return a?.destination === b?.destination && a?.via === b?.via && a?.dev === b?.dev && a?.onlink === b?.onlink;
}

function fdbEntry(mac: Mac, ip: Ip): FdbEntry {
  return { mac, destinations: [{ ip }], state: 'permanent' };
}
