/**
 * A dataplane without packets, for tests of who speaks to it: it listens on a socket, holds networks and tables as the
 * real one does as far as the control plane can tell, and writes down what it was asked.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type {
  FdbChange,
  FdbDump,
  HostChange,
  HostFacts,
  HostOperation,
  Methods,
  NeighbourDump,
  NeighChange,
  NetworkSpec,
  NetworkState,
  Notifications,
  TablesPatch,
  TablesReplace,
} from '../../../src/dataplane/protocol.ts';
import { PROTOCOL, ROUTE_PROTOCOL } from '../../../src/dataplane/protocol.ts';

export interface Call {
  readonly method: string;
  readonly params: unknown;
}

interface Held {
  state: NetworkState;
  fdb: FdbDump[];
  neighbours: NeighbourDump[];
}

class Refusal extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

let nextPid = 1_000;

export class FakeDataplane {
  readonly calls: Call[] = [];
  readonly pid = nextPid++;
  readonly networks = new Map<string, Held>();
  readonly facts: HostFacts;
  /** Answers to give in place of the real ones. */
  readonly refuse = new Map<string, string>();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(facts: HostFacts) {
    this.facts = facts;
    this.#server = createServer((socket) => this.#converse(socket));
  }

  /** `facts` are the host's: they outlive a dataplane, as TAPs, addresses and routes do. */
  static async listen(path: string, facts: HostFacts): Promise<FakeDataplane> {
    const fake = new FakeDataplane(facts);
    await new Promise<void>((resolve) => fake.#server.listen(path, resolve));
    return fake;
  }

  /** As SIGKILL would end it. */
  async die(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  notify<N extends keyof Notifications>(method: N, params: Notifications[N]): void {
    for (const socket of this.#sockets) socket.write(`${JSON.stringify({ jsonrpc: '2.0', method, params })}\n`);
  }

  /** Names of the methods called, in order. */
  methods(): string[] {
    return this.calls.map((call) => call.method);
  }

  calledWith<M extends keyof Methods>(method: M): Methods[M]['params'][] {
    return this.calls.filter((call) => call.method === method).map((call) => call.params as Methods[M]['params']);
  }

  #converse(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => undefined);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('utf8');
      const lines = text.split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) {
        const { id, method, params } = JSON.parse(line);
        this.calls.push({ method, params });
        socket.write(`${JSON.stringify({ jsonrpc: '2.0', id, ...this.#answer(method, params) })}\n`);
      }
    });
  }

  #answer(method: string, params: unknown): object {
    try {
      const refusal = this.refuse.get(method);
      if (refusal !== undefined) throw new Refusal(refusal, `${method}: refused by the test`);
      return { result: this.#handle(method as keyof Methods, params) };
    } catch (error) {
      const name = error instanceof Refusal ? error.code : 'EINVAL';
      const message = String(error);
      return { error: { code: -32000, message, data: { name, message } } };
    }
  }

  #handle(method: keyof Methods, params: unknown): unknown {
    switch (method) {
      case 'hello':
        return {
          version: 'fake',
          protocol: PROTOCOL,
          pid: this.pid,
          uptime: 1,
          lanes: 1,
          spin_us: 50,
          capabilities: { tap_tso: true, tap_uso: true, udp_segment: true, udp_gro: true },
          networks: [...this.networks.keys()],
        } satisfies Methods['hello']['result'];
      case 'network.list':
        return [...this.networks.values()].map(({ state }) => state);
      case 'network.create':
        return this.#create(params as NetworkSpec);
      case 'network.delete': {
        const { network } = params as { network: string };
        this.#held(network);
        this.networks.delete(network);
        this.facts.links = this.facts.links.filter((link) => link.name !== network);
        this.facts.routes = this.facts.routes.filter((route) => route.dev !== network);
        return {};
      }
      case 'network.update': {
        const { network, ...changes } = params as Methods['network.update']['params'];
        const held = this.#held(network);
        const { mac, mtu, up } = changes;
        held.state = { ...held.state, mac: mac ?? held.state.mac, mtu: mtu ?? held.state.mtu, up: up ?? held.state.up };
        const link = this.facts.links.find((candidate) => candidate.name === network);
        if (link !== undefined) Object.assign(link, { mac: held.state.mac, mtu: held.state.mtu, up: held.state.up });
        return held.state;
      }
      case 'tables.replace':
        return this.#replace(params as TablesReplace);
      case 'tables.patch':
        return this.#patch(params as TablesPatch);
      case 'tables.dump': {
        const { fdb, neighbours, state } = this.#held((params as { network: string }).network);
        return { revisions: state.revisions, fdb, neighbours, peers: {} };
      }
      case 'fdb.change':
        return this.#changeFdb(params as FdbChange);
      case 'neigh.change': {
        const { network, prefix, lladdr } = params as NeighChange;
        const held = this.#held(network);
        held.neighbours = held.neighbours.filter((entry) => entry.prefix !== prefix || entry.source !== 'hand');
        if (lladdr !== null) held.neighbours.push({ prefix, lladdr, source: 'hand', active: true });
        return {};
      }
      case 'host.read':
        return this.facts;
      case 'host.change': {
        const { operations } = params as HostChange;
        for (const operation of operations) this.#changeHost(operation);
        return { errors: operations.map(() => null) };
      }
      case 'events.subscribe':
        return {};
      default:
        throw new Refusal('METHOD_NOT_FOUND', method);
    }
  }

  #held(network: string): Held {
    const held = this.networks.get(network);
    if (held === undefined) throw new Refusal('ENOENT', `no network ${network}`);
    return held;
  }

  #create(spec: NetworkSpec): NetworkState {
    if (this.networks.has(spec.name)) throw new Refusal('EEXIST', `network ${spec.name} exists`);
    const ifindex = this.facts.links.find((link) => link.name === spec.name)?.index ?? this.facts.links.length + 10;
    const mac = spec.mac ?? '02:00:00:00:00:01';
    const mtu = spec.mtu ?? 1450;
    const state = { spec, ifindex, mac, mtu, up: true, queues: 1, revisions: {} };
    const fdb: FdbDump[] =
      spec.remote === null
        ? []
        : [
            {
              mac: '00:00:00:00:00:00',
              destinations: [{ ip: spec.remote }],
              state: 'permanent',
              source: 'hand',
              used: null,
              active: true,
            },
          ];
    this.networks.set(spec.name, { state, fdb, neighbours: [] });
    if (!this.facts.links.some((link) => link.name === spec.name)) {
      this.facts.links.push({
        index: ifindex,
        name: spec.name,
        kind: 'tun',
        mac,
        mtu,
        up: true,
        carrier: true,
        addresses: [],
      });
    }
    return state;
  }

  #replace({ network, source, revision, fdb, neighbours }: TablesReplace): Methods['tables.replace']['result'] {
    const held = this.#held(network);
    held.fdb = [
      ...held.fdb.filter((entry) => entry.source !== source),
      ...fdb.map((entry) => ({ ...entry, source, used: null, active: true })),
    ];
    held.neighbours = [
      ...held.neighbours.filter((entry) => entry.source !== source),
      ...neighbours.map((entry) => ({ ...entry, source, active: true })),
    ];
    held.state.revisions[source] = revision;
    return { revision, added: 0, changed: 0, removed: 0 };
  }

  #patch(patch: TablesPatch): Methods['tables.patch']['result'] {
    const held = this.#held(patch.network);
    if (held.state.revisions[patch.source] !== patch.base)
      throw new Refusal('REVISION_MISMATCH', 'another revision is held');
    const { network, source, revision } = patch;
    const fdb = held.fdb.filter((entry) => entry.source === source && !patch.fdb_remove.includes(entry.mac));
    const neighbours = held.neighbours.filter(
      (entry) => entry.source === source && !patch.neighbours_remove.includes(entry.prefix),
    );
    return this.#replace({
      network,
      source,
      revision,
      fdb: [...fdb.map(({ mac, destinations, state }) => ({ mac, destinations, state })), ...patch.fdb_set],
      neighbours: [...neighbours.map(({ prefix, lladdr }) => ({ prefix, lladdr })), ...patch.neighbours_set],
      peers: [],
    });
  }

  #changeFdb({ network, verb, mac, destination, state }: FdbChange): object {
    const held = this.#held(network);
    const entry = held.fdb.find((candidate) => candidate.mac === mac && candidate.source === 'hand');
    const without = held.fdb.filter((candidate) => candidate !== entry);
    if (verb === 'del') {
      if (entry === undefined) throw new Refusal('ENOENT', `${mac} has no entry`);
      const left = entry.destinations.filter(({ ip }) => destination !== null && ip !== destination.ip);
      held.fdb = left.length === 0 ? without : [...without, { ...entry, destinations: left }];
      return {};
    }
    if (destination === null) throw new Refusal('EINVAL', 'a destination is needed');
    const destinations = verb === 'append' ? [...(entry?.destinations ?? []), destination] : [destination];
    held.fdb = [...without, { mac, destinations, state: state ?? 'static', source: 'hand', used: null, active: true }];
    return {};
  }

  #changeHost(operation: HostOperation): void {
    if (operation.op === 'blackhole.add' || operation.op === 'blackhole.del') {
      const { op, destination, metric } = operation;
      this.facts.blackholes = this.facts.blackholes.filter((blackhole) => blackhole.destination !== destination);
      if (op === 'blackhole.add') this.facts.blackholes.push({ destination, metric, protocol: ROUTE_PROTOCOL });
      return;
    }
    const link = this.facts.links.find((candidate) => candidate.name === operation.dev);
    if (link === undefined) return;
    if (operation.op === 'address.add') {
      link.addresses.push({
        address: operation.address,
        scope: 'global',
        permanent: true,
        deprecated: false,
        temporary: false,
      });
    } else if (operation.op === 'address.del') {
      link.addresses = link.addresses.filter(({ address }) => address !== operation.address);
    } else if (operation.op === 'route.replace') {
      const { destination, via, dev, onlink } = operation;
      this.facts.routes = this.facts.routes.filter((route) => route.destination !== destination);
      this.facts.routes.push({ destination, via, dev, onlink, source: null, metric: 0, protocol: ROUTE_PROTOCOL });
    } else if (operation.op === 'route.del') {
      this.facts.routes = this.facts.routes.filter((route) => route.destination !== operation.destination);
    } else if (operation.op === 'link.del') {
      this.facts.links = this.facts.links.filter((candidate) => candidate !== link);
    } else {
      link.up = operation.up;
    }
  }
}

/** A host with one underlay interface, eth0 at 10.245.1.3. */
export function hostFacts(): HostFacts {
  const address = { address: '10.245.1.3/24', scope: 'global', permanent: true, deprecated: false, temporary: false };
  return {
    links: [
      { index: 1, name: 'lo', kind: null, mac: null, mtu: 65536, up: true, carrier: true, addresses: [] },
      {
        index: 2,
        name: 'eth0',
        kind: 'veth',
        mac: '0e:00:00:00:00:ee',
        mtu: 1500,
        up: true,
        carrier: true,
        addresses: [address],
      },
    ],
    routes: [
      { destination: '0.0.0.0/0', via: '10.245.1.1', dev: 'eth0', onlink: false, source: null, metric: 0, protocol: 3 },
    ],
    blackholes: [],
  };
}
