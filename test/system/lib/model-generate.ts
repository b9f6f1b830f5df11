/** Random scenarios: tables first, then frames, datagrams and table changes in any order. */
import type { Destination, EntryState, FdbEntry, Neighbour } from '../../../src/dataplane/protocol.ts';
import { vxlan } from '../../model/build.ts';
import { type PathError, portsOf } from '../../model/endpoint.ts';
import type { Virtio } from '../../model/offload.ts';
import { VLAN } from '../../model/packet.ts';
import type { Action, Change } from './model-actions.ts';
import {
  arpFrame,
  ipFrame,
  type Macs,
  ndFrame,
  noise,
  otherFrame,
  ownDatagram,
  partialFrame,
  runOfSegments,
  superframe,
  wholeSuperframe,
} from './model-inner.ts';
import type { OuterFields } from './model-outer.ts';
import type { Random } from './model-random.ts';
import { NETWORKS, OTHER_DEVICE } from './model-rig.ts';
import {
  destinationMac,
  FLOOD,
  GROUPS,
  HOSTS,
  isV6,
  networkOf,
  PREFIXES,
  peersOf,
  sourceMac,
  unicastMac,
} from './model-world.ts';

/** Networks that forbid fragmentation, for which path MTUs count. */
const LISTENING = NETWORKS.filter(({ df }) => df !== undefined).map(({ name }) => name);

export interface GenerateOptions {
  /** Frames, datagrams and changes behind the first tables. */
  readonly actions: number;
}

export function scenario(random: Random, { actions }: GenerateOptions): Action[] {
  const state = new State(random);
  const names = random.some(
    NETWORKS.map((network) => network.name),
    3,
  );
  // Errors take their time to be noticed: few scenarios have any.
  const errors = random.chance(5) ? random.pick(LISTENING) : undefined;
  const busy = [...(names.length === 0 ? ['m1'] : names), ...(errors === undefined ? [] : [errors])];
  const list: Action[] = busy.flatMap((name) => state.setUp(name)).map(asAction);
  const end = list.length + actions;
  const errorsAt = errors === undefined ? end : random.int(list.length, end - 1);
  let told = false;
  while (list.length < end) {
    const name = random.pick(busy);
    if (errors !== undefined && !told && list.length >= errorsAt) {
      list.push(pathErrors(random, errors));
      told = true;
    }
    const kind = random.weighted([
      [45, 'tap'],
      [50, 'wire'],
      [5, 'change'],
    ] as const);
    if (kind === 'tap') list.push(...fromTap(random, name, state.mtu(name)));
    else if (kind === 'wire') list.push(...fromWire(random, name, state.mtu(name)));
    else list.push(...state.change(name).map(asAction));
  }
  return list;
}

function asAction(change: Change): Action {
  return { kind: 'change', change };
}

export function fromTap(random: Random, network: string, mtu: number): Action[] {
  const macs: Macs = {
    to: destinationMac(random, network),
    from: random.chance(50) ? networkOf(network).mac : unicastMac(random),
  };
  // Longer ones no device takes; a tag may come on top (packet_snd in net/packet/af_packet.c).
  const most = (frame: Buffer): number => mtu + 14 + (frame.readUInt16BE(12) === VLAN ? 4 : 0);
  const one = (frame: Buffer, virtio: Virtio = {}): Action[] =>
    frame.length > most(frame) && virtio.gso === undefined ? [] : [{ kind: 'tap', network, frame, virtio }];
  return random.weighted([
    [18, () => one(arpFrame(random, macs))],
    [18, () => one(ndFrame(random, macs))],
    [38, () => one(ipFrame(random, macs, mtu))],
    [8, () => one(otherFrame(random, macs))],
    [
      8,
      () => {
        const { frame, virtio } = partialFrame(random, macs, mtu);
        return one(frame, virtio);
      },
    ],
    [
      5,
      () => {
        const { frame, virtio } = superframe(random, macs);
        return one(frame, virtio);
      },
    ],
    [5, () => runOfSegments(random, macs, mtu).flatMap((frame) => one(frame))],
    [1, () => one(ownDatagram(random, macs, networkOf(network), random.pick(peersOf(network))))],
  ])();
}

export function fromWire(random: Random, network: string, mtu: number): Action[] {
  const { port, local, vni } = networkOf(network);
  const source = random.pick(peersOf(network));
  const outer: OuterFields = {
    source,
    to: local,
    sourcePort: random.int(1024, 65_535),
    port,
    tos: random.chance(50) ? 0 : random.int(0, 255),
    checksum: random.weighted([
      [94, 'right'],
      [3, 'zero'],
      [3, 'wrong'],
    ] as const),
    fragments: random.weighted([
      [94, 'none'],
      [3, 'in-order'],
      [3, 'reversed'],
    ] as const),
  };
  const macs: Macs = {
    to: random.chance(40) ? networkOf(network).mac : destinationMac(random, network),
    from: random.weighted([
      [90, sourceMac(random, source)],
      [3, networkOf(network).mac],
      [3, random.pick(GROUPS)],
      [1, FLOOD],
      [3, `02:00:00:00:04:0${random.int(1, 9)}`],
    ]),
  };
  const one = (payload: Buffer): Action[] => [{ kind: 'wire', outer, payload }];
  const carried = (frame: Buffer): Action[] => one(vxlan(vni, frame));
  return random.weighted([
    [45, () => carried(ipFrame(random, macs, mtu))],
    [5, () => carried(arpFrame(random, macs))],
    [5, () => carried(ndFrame(random, macs))],
    [8, () => carried(otherFrame(random, macs))],
    [8, () => carried(partialFrame(random, macs, mtu).frame)],
    [8, () => runOfSegments(random, macs, mtu).flatMap(carried)],
    [2, () => carried(wholeSuperframe(random, macs, mtu))],
    [4, () => carried(noise(random))],
    [3, () => one(noise(random).subarray(0, random.int(0, 12)))],
    [6, () => one(strangeHeader(random, vxlan(vni, ipFrame(random, macs, 200))))],
    [6, () => one(vxlan(random.pick([0, 1, 42, 0xabcdef, 0xffffff]), ipFrame(random, macs, 200)))],
  ])();
}

/** Routers' errors about what a network could have sent, and forgeries that are a little beside it. */
export function pathErrors(random: Random, network: string): Action {
  const { local, port, vni } = networkOf(network);
  const { min, max } = portsOf(networkOf(network));
  const one = (): PathError => {
    const payload = vxlan(random.chance(85) ? vni : random.pick([1, 42, 0xffffff]), random.bytes(random.int(0, 40)));
    const strange = random.chance(10) ? strangeHeader(random, payload) : payload;
    return {
      source: local,
      sourcePort: random.chance(85) ? random.int(min, max - 1) : random.pick([port, max, 50_000]),
      to: random.pick(peersOf(network)),
      port: random.chance(90) ? port : random.pick([9998, 4789]),
      payload: random.chance(8) ? strange.subarray(0, random.int(0, 7)) : strange,
      mtu: random.pick([0, 68, 552, 1000, 1280, 1300, 1400, 1499, 1500, 9000]),
    };
  };
  return { kind: 'icmp', errors: Array.from({ length: random.int(4, 16) }, one) };
}

/** One or two bits of the VXLAN header turned over. */
function strangeHeader(random: Random, payload: Buffer): Buffer {
  const strange = Buffer.from(payload);
  for (let times = random.int(1, 2); times > 0; times -= 1) {
    const at = random.pick([0, 0, 0, 1, 2, 3, 7]);
    strange.writeUInt8((strange[at] ?? 0) ^ (1 << random.int(0, 7)), at);
  }
  return strange;
}

/** What the generator must remember to make changes that make sense. */
class State {
  readonly #random: Random;
  readonly #mtus = new Map<string, number>();
  readonly #revisions = new Map<string, number>();

  constructor(random: Random) {
    this.#random = random;
  }

  mtu(name: string): number {
    return this.#mtus.get(name) ?? networkOf(name).mtu;
  }

  setUp(name: string): Change[] {
    const random = this.#random;
    const changes: Change[] = [this.#update(name, true)];
    if (random.chance(80)) changes.push(this.#replace(name, 'etcd'));
    if (random.chance(20)) changes.push(this.#replace(name, 'file'));
    for (let count = random.int(0, 6); count > 0; count -= 1) changes.push(this.#fdb(name));
    if (random.chance(60)) changes.push(this.#neighbour(name));
    return changes;
  }

  change(name: string): Change[] {
    const random = this.#random;
    return [
      random.weighted([
        [50, () => this.#fdb(name)],
        [20, () => this.#neighbour(name)],
        [12, () => this.#patch(name)],
        [8, () => this.#replace(name, random.pick(['etcd', 'file']))],
        [5, () => this.#update(name, false)],
      ])(),
    ];
  }

  #update(network: string, whole: boolean): Change {
    const random = this.#random;
    const flag = (percent: number): boolean | null => (whole || random.chance(30) ? random.chance(percent) : null);
    const mtu = random.chance(15) ? random.pick([1280, 1450, 1500, 2000]) : null;
    if (mtu !== null) this.#mtus.set(network, mtu);
    const mac = random.chance(5) ? `02:00:00:00:fe:1${random.int(0, 9)}` : null;
    // Without the proxy, "else flood" means nothing and would go with it.
    const proxy = networkOf(network).proxy_flood === true ? null : flag(60);
    const flags = { proxy, learning: flag(50), peersonly: flag(40) };
    return { method: 'network.update', params: { network, mac, mtu, up: null, ...flags } };
  }

  #destination(network: string): Destination {
    const random = this.#random;
    const v6 = isV6(network);
    const ip = random.weighted([
      [84, random.pick(peersOf(network))],
      [3, v6 ? '::' : '0.0.0.0'],
      [3, v6 ? '2001:db8::1' : '192.0.2.1'],
      [4, v6 ? 'ff0e::1' : '239.1.1.1'],
      [2, v6 ? '10.245.1.11' : 'fd00:245::11'],
    ]);
    // The network's own, spelled out, is the same destination as where it is left out.
    const port = random.chance(8) ? random.pick([9998, 9999, 0, networkOf(network).port]) : undefined;
    const vni = random.chance(8) ? random.pick([1, 0xffffff, 2 ** 24, networkOf(network).vni]) : undefined;
    // Whoever is not there would be asked for on the other interface, and not be found.
    const via = peersOf(network).includes(ip) && random.chance(5) ? OTHER_DEVICE : undefined;
    return {
      ip,
      ...(port === undefined ? {} : { port }),
      ...(vni === undefined ? {} : { vni }),
      ...(via === undefined ? {} : { via }),
    };
  }

  #mac(): string {
    const random = this.#random;
    return random.weighted([
      [70, unicastMac(random)],
      [15, FLOOD],
      [15, random.pick(GROUPS)],
    ]);
  }

  #state(): EntryState {
    return this.#random.pick(['permanent', 'static', 'dynamic']);
  }

  #fdb(network: string): Change {
    const random = this.#random;
    const verb = random.weighted([
      [40, 'add'],
      [25, 'append'],
      [20, 'replace'],
      [15, 'del'],
    ] as const);
    const destination = random.chance(verb === 'del' ? 60 : 97) ? this.#destination(network) : null;
    const state = verb !== 'del' && random.chance(60) ? this.#state() : null;
    const router = verb !== 'del' && random.chance(30) ? { router: random.chance(70) } : {};
    return { method: 'fdb.change', params: { network, verb, mac: this.#mac(), destination, state, ...router } };
  }

  #neighbour(network: string): Change {
    const random = this.#random;
    const verb = random.weighted([
      [45, 'add'],
      [30, 'replace'],
      [20, 'del'],
      [5, 'append'],
    ] as const);
    const lladdr = verb !== 'del' && random.chance(95) ? this.#mac() : null;
    return { method: 'neigh.change', params: { network, verb, prefix: random.pick(PREFIXES), lladdr } };
  }

  #entry(network: string, mac: string): FdbEntry {
    const random = this.#random;
    const many = (mac === FLOOD || GROUPS.includes(mac)) && random.chance(70);
    const destinations = Array.from({ length: many ? random.int(1, 4) : 1 }, () => this.#destination(network));
    const empty = random.chance(1);
    const router = random.chance(25) ? { router: random.chance(80) } : {};
    const state = random.chance(90) ? 'permanent' : this.#state();
    return { mac, destinations: empty ? [] : destinations, state, ...router };
  }

  #tables(network: string, most: number): { fdb: FdbEntry[]; neighbours: Neighbour[]; peers: string[] } {
    const random = this.#random;
    // Bad entries would refuse nearly every whole table: they come by hand more often than here.
    const sound = (entry: FdbEntry): boolean =>
      random.chance(5) ||
      entry.destinations.every(
        ({ ip, port, vni }) => ip.includes(':') === isV6(network) && port !== 0 && (vni ?? 0) < 2 ** 24,
      );
    const fdb = random.some([...HOSTS, ...HOSTS, FLOOD, ...GROUPS], most).map((mac) => this.#entry(network, mac));
    const once = [...new Map(fdb.filter(sound).map((entry) => [entry.mac, entry])).values()];
    const neighbours = random.some(PREFIXES, 4).map((prefix) => ({ prefix, lladdr: unicastMac(random) }));
    return { fdb: once, neighbours, peers: random.some(peersOf(network), 2) };
  }

  #replace(network: string, source: string): Change {
    const revision = (this.#revisions.get(`${network} ${source}`) ?? 0) + this.#random.int(1, 5);
    this.#revisions.set(`${network} ${source}`, revision);
    return { method: 'tables.replace', params: { network, source, revision, ...this.#tables(network, 7) } };
  }

  #patch(network: string): Change {
    const random = this.#random;
    const source = 'etcd';
    const key = `${network} ${source}`;
    const base = random.chance(90) ? (this.#revisions.get(key) ?? 0) : 77;
    const revision = base + 1;
    const { fdb, neighbours, peers } = this.#tables(network, 2);
    const params = {
      network,
      source,
      base,
      revision,
      fdb_remove: random.some(HOSTS, 3),
      fdb_set: fdb,
      neighbours_remove: random.some(PREFIXES, 2),
      neighbours_set: neighbours,
      peers_remove: random.some(peersOf(network), 1),
      peers_add: peers,
    };
    if (base !== 77) this.#revisions.set(key, revision);
    return { method: 'tables.patch', params };
  }
}
