/**
 * What the dataplane's tables and the host's routes are to hold for the leases that count. For one peer:
 *
 *   FDB        VtepMAC -> PublicIP, permanent
 *   neighbour  subnet -> VtepMAC: every address of the subnet answers with the peer's MAC
 *   route      subnet via its base, on-link ("peer"), or one route for the whole network ("network", and the backend udp)
 *
 * A peer that is on the same link, where DirectRouting or the host-gw backend asks for it (`setDirect`), has only the route
 * `subnet via PublicIP` on the underlay, and stays among those that may send to us: it may still choose the tunnel.
 */
import type { FdbEntry, Neighbour, TablesPatch } from '../dataplane/protocol.ts';
import { HOST_GW, UDP, VXLAN } from '../flannel/lease.ts';
import type { Ip } from '../net/ip.ts';
import type { Mac } from '../net/mac.ts';
import { type Prefix, prefixBase, prefixContains } from '../net/prefix.ts';
import { type Election, Touched } from './election.ts';
import { compare, sorted } from './groups.ts';
import type { Scope } from './rules.ts';

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

/** What is to be programmed otherwise than before. */
export interface Difference {
  readonly tables: TablesDelta;
  /** True if `tables` holds nothing. */
  readonly tablesUnchanged: boolean;
  readonly routes: { readonly added: readonly DesiredRoute[]; readonly removed: readonly DesiredRoute[] };
}

/** What is programmed for one subnet. */
interface Row {
  /** Absent where traffic goes by a direct route, or by none. */
  readonly mac: Mac | undefined;
  readonly route: DesiredRoute | undefined;
}

export class Programmed {
  private readonly election: Election;
  private readonly scope: Scope;
  private readonly routeMode: RouteMode;

  /** Interfaces by which PublicIPs are reached without a gateway. */
  private readonly direct = new Map<Ip, string>();
  /** Which PublicIP counts for a MAC. */
  private readonly winners = new Map<Mac, Ip>();
  private readonly fdb = new Map<Mac, Ip>();
  private readonly rows = new Map<Prefix, Row>();
  private readonly extraPeers = new Set<Ip>();

  constructor(election: Election, scope: Scope, routeMode: RouteMode) {
    this.election = election;
    this.scope = scope;
    this.routeMode = scope.backend === UDP ? 'network' : routeMode;
  }

  /** The whole tables, sorted. */
  tables(): DesiredTables {
    return {
      fdb: sorted(this.fdb).map(([mac, ip]) => fdbEntry(mac, ip)),
      neighbours: sorted(this.rows).flatMap(([prefix, { mac }]) =>
        mac === undefined ? [] : [{ prefix, lladdr: mac }],
      ),
      peers: [...this.extraPeers].sort(compare),
    };
  }

  /** The whole routes, sorted by destination. */
  routes(): DesiredRoute[] {
    const routes = sorted(this.rows).flatMap(([, { route }]) => route ?? []);
    const whole = this.routeMode === 'network' && this.scope.backend !== HOST_GW;
    return whole ? [{ destination: this.scope.network, onlink: false }, ...routes] : routes;
  }

  /** True if traffic to a subnet has a way. */
  has(subnet: Prefix): boolean {
    return this.rows.has(subnet);
  }

  /** Interface by which a PublicIP is reached without a gateway. */
  directTo(ip: Ip): string | undefined {
    return this.direct.get(ip);
  }

  /** What is not named stays as it is. */
  setDirect(hops: Iterable<readonly [Ip, string | undefined]>): Difference {
    const touched = new Touched();
    for (const [ip, dev] of hops) {
      if (this.direct.get(ip) === dev) continue;
      if (dev === undefined) this.direct.delete(ip);
      else this.direct.set(ip, dev);
      this.election.touch(ip, touched);
    }
    return this.settle(touched);
  }

  /** Brings all that was touched up to date. */
  settle(touched: Touched): Difference {
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
      this.settleMac(mac, tables);
      for (const subnet of this.election.subnetsOf(mac)) subnets.add(subnet);
    }
    for (const ip of touched.publicIps) this.settlePeer(ip, tables);
    const routes = this.settleRows(subnets, tables);
    const tablesUnchanged = Object.values(tables).every((list) => list.length === 0);
    return { tables, tablesUnchanged, routes };
  }

  private settleMac(mac: Mac, tables: TablesDelta): void {
    const winner = this.election.winner(mac);
    if (winner === undefined) this.winners.delete(mac);
    else this.winners.set(mac, winner);
    const ip = winner === undefined || this.direct.has(winner) ? undefined : winner;
    if (ip === this.fdb.get(mac)) return;
    if (ip === undefined) {
      this.fdb.delete(mac);
      tables.fdb_remove.push(mac);
    } else {
      this.fdb.set(mac, ip);
      tables.fdb_set.push(fdbEntry(mac, ip));
    }
  }

  /** Who is reached directly has no FDB entry, and may send nevertheless. */
  private settlePeer(ip: Ip, tables: TablesDelta): void {
    const wanted = this.scope.backend === VXLAN && this.direct.has(ip) && this.election.hasPublicIp(ip);
    if (wanted === this.extraPeers.has(ip)) return;
    if (wanted) {
      this.extraPeers.add(ip);
      tables.peers_add.push(ip);
    } else {
      this.extraPeers.delete(ip);
      tables.peers_remove.push(ip);
    }
  }

  private settleRows(subnets: ReadonlySet<Prefix>, tables: TablesDelta): Difference['routes'] {
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
    return { added, removed };
  }

  private rowOf(subnet: Prefix): Row | undefined {
    const peer = this.election.electedFor(subnet);
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
}

function sameRoute(a: DesiredRoute | undefined, b: DesiredRoute | undefined): boolean {
  return a?.destination === b?.destination && a?.via === b?.via && a?.dev === b?.dev && a?.onlink === b?.onlink;
}

function fdbEntry(mac: Mac, ip: Ip): FdbEntry {
  return { mac, destinations: [{ ip }], state: 'permanent' };
}
