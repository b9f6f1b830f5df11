/**
 * The tables of one network: every key has at most one value from each source, and the strongest source's value is in use.
 * The verbs are those of `bridge fdb` (reference §1.2), with an error where the kernel says nothing and does nothing.
 */
import type {
  Destination,
  EntryState,
  FdbChange,
  FdbEntry,
  Neighbour,
  NeighChange,
  TablesChanged,
  TablesDump,
  TablesPatch,
  TablesReplace,
} from '../../src/dataplane/protocol.ts';
import { familyOf, ipToBigInt, parseIp } from '../../src/net/ip.ts';
import { parseNetworkOf, prefixBase, prefixContains, prefixLength } from '../../src/net/prefix.ts';
import { vxlan } from './build.ts';
import { isMulticastMac, ZERO_MAC } from './bytes.ts';

/** Stronger ones first. */
export const SOURCES = ['hand', 'etcd', 'file', 'learned'] as const;
export type Source = (typeof SOURCES)[number];

/** A request that is refused; `code` is the name that the protocol gives it. */
export class Refusal extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.name = 'Refusal';
    this.code = code;
  }
}

export interface FdbValue {
  readonly destinations: readonly Destination[];
  readonly state: EntryState;
  /** The MAC is a router's. */
  readonly router?: true;
}

/** Learned entries at most, where `maxaddress` sets no limit. */
const MAX_LEARNED = 65_536;

/** What learning did. */
export type Learning =
  | { readonly what: 'learned' }
  | { readonly what: 'moved'; readonly from: string }
  | { readonly what: 'full' };

/** Keys with their values by source. */
class Layers<T> {
  readonly #keys = new Map<string, Map<Source, T>>();

  get size(): number {
    return this.#keys.size;
  }

  keys(): string[] {
    return [...this.#keys.keys()];
  }

  has(key: string): boolean {
    return this.#keys.has(key);
  }

  get(key: string, source: Source): T | undefined {
    return this.#keys.get(key)?.get(source);
  }

  /** All values of a key, the one in use first. */
  all(key: string): [Source, T][] {
    const values = this.#keys.get(key);
    return SOURCES.flatMap((source): [Source, T][] => {
      const value = values?.get(source);
      return value === undefined ? [] : [[source, value]];
    });
  }

  set(key: string, source: Source, value: T): void {
    const values = this.#keys.get(key) ?? new Map<Source, T>();
    this.#keys.set(key, values.set(source, value));
  }

  delete(key: string, source: Source): boolean {
    const values = this.#keys.get(key);
    const was = values?.delete(source) ?? false;
    if (values?.size === 0) this.#keys.delete(key);
    return was;
  }
}

export interface TablesOptions {
  readonly family: 4 | 6;
  /** The network's own: what a destination without them means. */
  readonly port: number;
  readonly vni: number;
  /** 0 = no limit. */
  readonly maxaddress: number;
}

export class Tables {
  readonly #options: TablesOptions;
  readonly #fdb = new Layers<FdbValue>();
  readonly #neighbours = new Layers<string>();
  readonly #peers = new Map<Source, Set<string>>();
  readonly #revisions = new Map<Source, number>();
  /** Largest IP packet to a peer, where ICMP said that it is less than the interface's. */
  readonly #pathMtus = new Map<string, number>();

  constructor(options: TablesOptions) {
    this.#options = options;
  }

  // What packets look up.

  /** The entry of a MAC: the strongest source's. */
  entry(mac: string): FdbValue | undefined {
    return this.#fdb.all(mac)[0]?.[1];
  }

  /** §2.1: exact match, multicast and broadcast MACs included; then the flood list. */
  destinations(mac: string): readonly Destination[] | undefined {
    return (this.entry(mac) ?? this.entry(ZERO_MAC))?.destinations;
  }

  /** The MAC that answers for an address: longest prefix first. */
  neighbour(address: string): string | undefined {
    const ip = parseIp(address);
    const covering = this.#neighbours.keys().filter((prefix) => prefixContains(parseNetworkOf(prefix), ip));
    covering.sort((a, b) => prefixLength(parseNetworkOf(b)) - prefixLength(parseNetworkOf(a)));
    return covering[0] === undefined ? undefined : this.#neighbours.all(covering[0])[0]?.[1];
  }

  /** May it send to a `peersonly` network: does any table name it? */
  isPeer(ip: string): boolean {
    const named = this.#fdb
      .keys()
      .some((mac) => this.#fdb.all(mac).some(([, { destinations }]) => names(destinations, ip)));
    return named || [...this.#peers.values()].some((peers) => peers.has(ip));
  }

  // Path MTUs (§2.9): of a peer, for as long as some table names it.

  pathMtu(ip: string): number | undefined {
    return this.#pathMtus.get(ip);
  }

  get pathMtus(): ReadonlyMap<string, number> {
    return this.#pathMtus;
  }

  /** Could this network have sent a datagram with this VXLAN header to this port of this VTEP? */
  couldHaveSent({ ip, port, header }: { ip: string; port: number; header: Buffer }): boolean {
    const own = this.#options;
    const all = this.#fdb.keys().flatMap((mac) => this.#fdb.all(mac).flatMap(([, { destinations }]) => destinations));
    const sends = all.some(
      (to) => (to.port ?? own.port) === port && vxlan(to.vni ?? own.vni, Buffer.alloc(0)).equals(header),
    );
    return sends && this.isPeer(ip);
  }

  lowerPathMtu(ip: string, mtu: number): void {
    this.#pathMtus.set(ip, Math.min(mtu, this.#pathMtus.get(ip) ?? mtu));
  }

  #forgetPaths(): void {
    for (const ip of this.#pathMtus.keys()) if (!this.isPeer(ip)) this.#pathMtus.delete(ip);
  }

  // Learning (§2.3). Whoever calls this has refused what contradicts a fixed entry.

  learn(mac: string, ip: string): Learning | undefined {
    const strongest = this.#fdb.all(mac)[0];
    if (strongest === undefined) {
      const learned = this.#fdb.keys().filter((key) => this.#fdb.get(key, 'learned') !== undefined).length;
      if (this.#full(1) || learned >= MAX_LEARNED) return { what: 'full' };
      this.#fdb.set(mac, 'learned', { destinations: [{ ip }], state: 'dynamic' });
      return { what: 'learned' };
    }
    const [source, { destinations, state, router }] = strongest;
    if (state !== 'dynamic' || names(destinations, ip)) return undefined;
    // Port, VNI and interface that were said of it stay.
    const moved = [{ ...destinations[0], ip }];
    this.#fdb.set(mac, source, { destinations: moved, state: 'dynamic', ...(router === true ? { router } : {}) });
    this.#forgetPaths();
    return { what: 'moved', from: destinations[0]?.ip ?? '' };
  }

  // By hand.

  changeFdb(change: FdbChange): void {
    if (change.verb === 'del') this.#deleteFdb(change.mac, change.destination ?? undefined);
    else this.#setFdb(change);
    this.#forgetPaths();
  }

  #setFdb({ verb, mac, destination, state, router }: FdbChange): void {
    const held = this.#fdb.get(mac, 'hand');
    if (destination === undefined || destination === null) throw new Refusal('EINVAL');
    this.#checkDestination(destination);
    const list = isList(mac);
    if (verb === 'add' && held !== undefined) throw new Refusal('EEXIST');
    if (verb === 'replace' && list) throw new Refusal('EOPNOTSUPP');
    if (verb === 'append' && held !== undefined) {
      if (!list) throw new Refusal('EOPNOTSUPP');
      if (held.destinations.some((to) => this.#same(to, destination))) throw new Refusal('EEXIST');
      this.#fdb.set(mac, 'hand', entryOf([...held.destinations, destination], held.state, router ?? held.router));
      return;
    }
    if (!this.#fdb.has(mac) && this.#full(1)) throw new Refusal('ENOSPC');
    this.#fdb.set(mac, 'hand', entryOf([destination], state ?? 'static', router));
  }

  #deleteFdb(mac: string, destination: Destination | undefined): void {
    const held = this.#fdb.get(mac, 'hand');
    if (held === undefined) {
      // What was learned may be taken away by hand; what a datastore says may not.
      if (!this.#fdb.delete(mac, 'learned')) throw new Refusal('ENOENT');
      return;
    }
    const left = destination === undefined ? [] : held.destinations.filter((to) => !this.#matches(to, destination));
    if (left.length === held.destinations.length) throw new Refusal('ENOENT');
    if (left.length === 0) this.#fdb.delete(mac, 'hand');
    else this.#fdb.set(mac, 'hand', { ...held, destinations: left });
  }

  changeNeighbour({ verb, prefix, lladdr }: NeighChange): void {
    const key = parseNetworkOf(prefix);
    const held = this.#neighbours.get(key, 'hand');
    if (verb === 'del') {
      if (!this.#neighbours.delete(key, 'hand')) throw new Refusal('ENOENT');
      return;
    }
    if (lladdr === undefined || lladdr === null || isList(lladdr)) throw new Refusal('EINVAL');
    if (verb === 'append') throw new Refusal('EOPNOTSUPP');
    if (verb === 'add' && held !== undefined) throw new Refusal('EEXIST');
    this.#neighbours.set(key, 'hand', lladdr);
  }

  // From a datastore: whole, or as a difference. Checked whole before anything changes.

  replace(request: TablesReplace): TablesChanged {
    const source = datastore(request.source);
    const macs = new Set(request.fdb.map((entry) => entry.mac));
    const prefixes = new Set<string>(request.neighbours.map((entry) => parseNetworkOf(entry.prefix)));
    const peers = new Set(request.peers);
    return this.#apply(source, request.revision, {
      fdb: request.fdb,
      neighbours: request.neighbours,
      peers: request.peers,
      withoutMacs: this.#fdb.keys().filter((mac) => !macs.has(mac)),
      withoutPrefixes: this.#neighbours.keys().filter((prefix) => !prefixes.has(prefix)),
      withoutPeers: [...(this.#peers.get(source) ?? [])].filter((ip) => !peers.has(ip)),
    });
  }

  patch(request: TablesPatch): TablesChanged {
    const source = datastore(request.source);
    if (this.#revisions.get(source) !== request.base) throw new Refusal('REVISION_MISMATCH');
    const set = new Set(request.fdb_set.map((entry) => entry.mac));
    const prefixes = new Set<string>(request.neighbours_set.map((entry) => parseNetworkOf(entry.prefix)));
    const peers = new Set(request.peers_add);
    return this.#apply(source, request.revision, {
      fdb: request.fdb_set,
      neighbours: request.neighbours_set,
      peers: request.peers_add,
      withoutMacs: request.fdb_remove.filter((mac) => !set.has(mac)),
      withoutPrefixes: request.neighbours_remove
        .map((prefix) => parseNetworkOf(prefix))
        .filter((p) => !prefixes.has(p)),
      withoutPeers: request.peers_remove.filter((ip) => !peers.has(ip)),
    });
  }

  #apply(source: Source, revision: number, change: Change): TablesChanged {
    for (const entry of change.fdb) this.#checkEntry(entry);
    const fresh = change.fdb.filter((entry) => !this.#fdb.has(entry.mac));
    const gone = new Set(change.withoutMacs.filter((mac) => this.#fdb.all(mac).every(([holder]) => holder === source)));
    if (this.#full(fresh.length - [...gone].filter((mac) => this.#fdb.has(mac)).length)) throw new Refusal('ENOSPC');
    const counts = { added: 0, changed: 0, removed: 0 };
    for (const ip of change.peers) {
      const held = this.#peers.get(source) ?? new Set();
      if (!held.has(ip)) counts.added += 1;
      this.#peers.set(source, held.add(ip));
    }
    const put = <T>(layers: Layers<T>, key: string, value: T): void => {
      const held = layers.get(key, source);
      if (held === undefined) counts.added += 1;
      else if (JSON.stringify(held) !== JSON.stringify(value)) counts.changed += 1;
      layers.set(key, source, value);
    };
    for (const { mac, destinations, state, router } of change.fdb)
      put(this.#fdb, mac, entryOf(destinations, state, router));
    for (const { prefix, lladdr } of change.neighbours) put(this.#neighbours, parseNetworkOf(prefix), lladdr);
    for (const mac of change.withoutMacs) if (this.#fdb.delete(mac, source)) counts.removed += 1;
    for (const prefix of change.withoutPrefixes) if (this.#neighbours.delete(prefix, source)) counts.removed += 1;
    for (const ip of change.withoutPeers) if (this.#peers.get(source)?.delete(ip) === true) counts.removed += 1;
    this.#revisions.set(source, revision);
    this.#forgetPaths();
    return { revision, ...counts };
  }

  // What is refused.

  #full(more: number): boolean {
    return this.#options.maxaddress > 0 && more > 0 && this.#fdb.size + more > this.#options.maxaddress;
  }

  #checkDestination({ ip, port, vni }: Destination): void {
    if (familyOf(parseIp(ip)) !== this.#options.family) throw new Refusal('EAFNOSUPPORT');
    if (port === 0 || (vni ?? 0) >= 2 ** 24) throw new Refusal('EINVAL');
  }

  #checkEntry({ mac, destinations }: FdbEntry): void {
    if (destinations.length === 0 || (destinations.length > 1 && !isList(mac))) throw new Refusal('EINVAL');
    for (const destination of destinations) this.#checkDestination(destination);
  }

  /** The same place, whether its port and VNI are said or left to the network. */
  #same(a: Destination, b: Destination): boolean {
    const { port, vni } = this.#options;
    const same = a.ip === b.ip && a.via === b.via;
    return same && (a.port ?? port) === (b.port ?? port) && (a.vni ?? vni) === (b.vni ?? vni);
  }

  /** What `del` means: every destination that agrees with all that was said. */
  #matches(held: Destination, said: Destination): boolean {
    const { port, vni } = this.#options;
    if (held.ip !== said.ip || (said.via !== undefined && said.via !== held.via)) return false;
    const otherPort = said.port !== undefined && said.port !== null && said.port !== (held.port ?? port);
    const otherVni = said.vni !== undefined && said.vni !== null && said.vni !== (held.vni ?? vni);
    return !otherPort && !otherVni;
  }

  /** As `tables.dump`, without ages. */
  dump(): TablesDump {
    const rows = <T, R>(layers: Layers<T>, key: string, row: (source: Source, value: T, active: boolean) => R): R[] =>
      layers.all(key).map(([source, value], position) => row(source, value, position === 0));
    const fdb = this.#fdb
      .keys()
      .sort()
      .flatMap((mac) =>
        rows(this.#fdb, mac, (source, { destinations, ...value }, active) => ({
          mac,
          destinations: [...destinations],
          ...value,
          source,
          used: null,
          active,
        })),
      );
    const neighbours = this.#neighbours
      .keys()
      .sort(byPrefix)
      .flatMap((prefix) =>
        rows(this.#neighbours, prefix, (source, lladdr, active) => ({ prefix, lladdr, source, active })),
      );
    const peers = Object.fromEntries(
      [...this.#peers].filter(([, ips]) => ips.size > 0).map(([source, ips]) => [source, [...ips].sort(byAddress)]),
    );
    return { revisions: Object.fromEntries(this.#revisions), fdb, neighbours, peers };
  }
}

interface Change {
  readonly fdb: readonly FdbEntry[];
  readonly neighbours: readonly Neighbour[];
  readonly peers: readonly string[];
  readonly withoutMacs: readonly string[];
  readonly withoutPrefixes: readonly string[];
  readonly withoutPeers: readonly string[];
}

function entryOf(destinations: readonly Destination[], state: EntryState, router: boolean | undefined): FdbValue {
  return { destinations, state, ...(router === true ? { router } : {}) };
}

function names(destinations: readonly Destination[], ip: string): boolean {
  return destinations.some((to) => to.ip === ip);
}

/** What may have several destinations: the flood list and group addresses. */
function isList(mac: string): boolean {
  return mac === ZERO_MAC || isMulticastMac(mac);
}

function datastore(source: string): Source {
  if (source !== 'etcd' && source !== 'file') throw new Refusal('EINVAL');
  return source;
}

/** IPv4 before IPv6, then by number. */
function byAddress(a: string, b: string): number {
  const [one, other] = [parseIp(a), parseIp(b)];
  const families = familyOf(one) - familyOf(other);
  if (families !== 0) return families;
  return ipToBigInt(one) < ipToBigInt(other) ? -1 : 1;
}

function byPrefix(a: string, b: string): number {
  const [one, other] = [parseNetworkOf(a), parseNetworkOf(b)];
  const bases = prefixBase(one) === prefixBase(other) ? 0 : byAddress(prefixBase(one), prefixBase(other));
  return bases === 0 ? prefixLength(one) - prefixLength(other) : bases;
}
