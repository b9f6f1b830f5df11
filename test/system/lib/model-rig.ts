/**
 * The real endpoint with its wires in our hands:
 *
 *     namespace "tap"            "dut"                           "net"
 *     TAPs  <--- one device ---> vtepd-dataplane, eth0 <--veth--> eth0
 *     frames go in and come out                      packets go in and come out
 *
 * Every other voice is silenced: the TAPs are in a namespace without addresses, the underlay's neighbours are fixed, and what
 * arrives is dropped behind the place where it is watched.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DataplaneClient } from '../../../src/dataplane/client.ts';
import type { NetworkSpec } from '../../../src/dataplane/protocol.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { Endpoint, type Options, type Underlay } from '../../model/endpoint.ts';
import { eventually } from './exec.ts';
import { Frames } from './model-frames.ts';
import { Netns } from './netns.ts';
import { Teardown } from './teardown.ts';
import { DATAPLANE } from './vtepd.ts';

export const LOCAL4 = '10.245.1.3';
export const LOCAL6 = 'fd00:245::3';
export const DUT_MAC = '02:00:00:00:dd:01';
export const NET_MAC = '02:00:00:00:dd:02';
/** What the underlay can reach. */
const ROUTES = ['10.245.1.0/24', '239.0.0.0/8', 'fd00:245::/64', 'ff00::/8'] as Prefix[];
/** A second interface that reaches the same peers, for destinations that name it. */
export const OTHER_DEVICE = 'eth1';
export const UNDERLAY: Underlay = { routes: ROUTES, mtu: 1500 };
export const PEERS4 = [11, 12, 13, 14, 15].map((last) => `10.245.1.${last}`);
export const PEERS6 = [11, 12, 13, 14].map((last) => `fd00:245::${last}`);

const PLAIN = { maxaddress: 0, mtu: 1450, proxy: false, learning: false, peersonly: false } as const;

/** Several VNIs on one port, one VNI on two ports, both underlay families, one small table, outer fields as they can be told. */
export const NETWORKS: readonly Options[] = [
  { ...PLAIN, name: 'm1', vni: 42, port: 8472, local: LOCAL4, mac: '02:00:00:00:fe:01' },
  { ...PLAIN, name: 'm2', vni: 0xabcdef, port: 8472, local: LOCAL4, mac: '02:00:00:00:fe:02' },
  { ...PLAIN, name: 'm3', vni: 42, port: 4789, local: LOCAL4, mac: '02:00:00:00:fe:03', maxaddress: 9 },
  { ...PLAIN, name: 'm4', vni: 42, port: 8472, local: LOCAL6, mac: '02:00:00:00:fe:04' },
  {
    ...PLAIN,
    name: 'm5',
    vni: 43,
    port: 8472,
    local: LOCAL4,
    mac: '02:00:00:00:fe:05',
    ttl: 'inherit',
    tos: 'inherit',
  },
  { ...PLAIN, name: 'm6', vni: 43, port: 8472, local: LOCAL6, mac: '02:00:00:00:fe:06', ttl: 7, tos: 0xb9 },
  {
    ...PLAIN,
    name: 'm7',
    vni: 44,
    port: 8472,
    local: LOCAL4,
    mac: '02:00:00:00:fe:07',
    mtu: 1500,
    df: 'set',
    srcport: { min: 40_000, max: 40_004 },
    rsc: true,
    reserved_bits: '0x0400000000000081',
  },
  {
    ...PLAIN,
    name: 'm8',
    vni: 45,
    port: 8472,
    local: LOCAL4,
    mac: '02:00:00:00:fe:08',
    mtu: 1500,
    df: 'inherit',
    srcport: { min: 41_000, max: 41_003 },
    udpcsum: false,
    gbp: true,
    proxy_flood: true,
    // Proxy, else flood, needs the proxy.
    proxy: true,
  },
  {
    ...PLAIN,
    name: 'm9',
    vni: 44,
    port: 4790,
    local: LOCAL6,
    mac: '02:00:00:00:fe:09',
    df: 'inherit',
    srcport: { min: 42_000, max: 42_002 },
    flowlabel: 0x12345,
    udp6zerocsumtx: true,
    udp6zerocsumrx: true,
    rsc: true,
  },
];

/** What may not be fragmented can be too long; answers go to the host where the device is the port of a bridge. */
const OUTER: readonly Partial<Options>[] = [
  { ttl: 'inherit', tos: 'inherit', df: 'inherit', mtu: 1500 },
  { ttl: 7, tos: 0xb9, df: 'set', mtu: 1500 },
  { rsc: true },
  { rsc: true, df: 'inherit', mtu: 1500, udpcsum: false, srcport: { min: 43_000, max: 43_004 } },
];

/**
 * The same for the kernel's own device (model-kernel.ts): every combination of what it cannot change while it is up, and some of
 * what the outer header can be told.
 */
export const KERNEL_NETWORKS: readonly Options[] = [0, 1, 2, 3, 4, 5, 6, 7].map((number) => ({
  ...PLAIN,
  ...OUTER[number - 4],
  name: `k${number}`,
  vni: 50 + number,
  port: 8472,
  local: LOCAL4,
  mac: `02:00:00:00:fe:2${number}`,
  proxy: (number & 1) !== 0,
  // Where the kernel answers with ICMP it learns the answer's source MAC to be at 127.0.0.1.
  learning: (number & 2) !== 0 && number < 4,
}));

/** In a run of scripts/nightly.sh: what the dataplane is to do without. */
export const OFFLOADS_OFF = process.env.VTEPD_TEST_OFFLOADS_OFF?.split(' ').filter((word) => word !== '') ?? [];

export interface RigOptions {
  readonly lanes: number;
  /**
   * `wire`: whoever sends cuts and checksums, as on a network card. `veth`: trains and partial checksums cross as they are, and
   * the receiving side merges datagrams to trains.
   */
  readonly underlay: 'wire' | 'veth';
}

const WIRE = ['tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off'];

const SILENT = `
echo 0 >/proc/sys/net/ipv4/ip_forward
for c in all default; do echo 1 >/proc/sys/net/ipv6/conf/$c/disable_ipv6; done
`;

/** Ends a frame's way behind the packet sockets. */
export async function deafen(ns: Netns, device: string): Promise<void> {
  const chain = `chain ${device} { type filter hook ingress device ${device} priority 0; policy drop; }`;
  await ns.exec(['nft', '-f', '-'], { input: `table netdev deaf {\n${chain}\n}\n` });
}

/** The underlay between two namespaces, of which the second has no voice. */
export async function addUnderlay(dut: Netns, net: Netns, mode: RigOptions['underlay']): Promise<void> {
  await dut.ip(
    `link add eth0 address ${DUT_MAC} type veth peer name eth0 address ${NET_MAC} netns ${net.name}`,
    'link set eth0 up',
    `addr add ${LOCAL4}/24 dev eth0`,
    `addr add ${LOCAL6}/64 dev eth0`,
    'route add 239.0.0.0/8 dev eth0',
    ...[...PEERS4, ...PEERS6].map((peer) => `neigh replace ${peer} lladdr ${NET_MAC} dev eth0 nud permanent`),
  );
  await dut.ip(
    `link add ${OTHER_DEVICE} address ${DUT_MAC} type veth peer name ${OTHER_DEVICE} address ${NET_MAC} netns ${net.name}`,
    `link set ${OTHER_DEVICE} up`,
    `route add 10.245.1.0/24 dev ${OTHER_DEVICE} metric 5000`,
    // Over IPv6 a socket with an address prefers the interface that it is told, among routes of one metric, and no more.
    `route add fd00:245::/64 dev ${OTHER_DEVICE} table 245`,
    ...[...PEERS4, ...PEERS6].map(
      (peer) => `neigh replace ${peer} lladdr ${NET_MAC} dev ${OTHER_DEVICE} nud permanent`,
    ),
  );
  await dut.exec(['ip', '-6', 'rule', 'add', 'oif', OTHER_DEVICE, 'lookup', '245']);
  await net.ip('link set eth0 up', `link set ${OTHER_DEVICE} up`);
  for (const device of ['eth0', OTHER_DEVICE]) {
    await dut.exec(['ethtool', '-K', device, ...(mode === 'wire' ? WIRE : ['gro', 'on'])]);
    if (mode === 'wire') await net.exec(['ethtool', '-K', device, ...WIRE]);
    await deafen(net, device);
  }
}

export async function silentNamespace(label: string, teardown: Teardown): Promise<Netns> {
  const ns = await Netns.create(label);
  teardown.defer(ns.name, () => ns.delete());
  await ns.exec(['sh', '-ec', SILENT]);
  return ns;
}

let rigs = 0;

export class ModelRig {
  readonly client: DataplaneClient;
  /** Where the dataplane runs. */
  readonly dut: Netns;
  /** On the TAPs. */
  readonly tap: Frames;
  /** On the underlay. */
  readonly net: Frames;
  /** A TAP with several queues may move a flow from one to another. */
  readonly ordered: boolean;
  readonly #teardown: Teardown;
  /** When ICMP errors were asked for. */
  #answers: number[] = [];

  private constructor(
    dut: Netns,
    client: DataplaneClient,
    tap: Frames,
    net: Frames,
    teardown: Teardown,
    ordered: boolean,
  ) {
    this.dut = dut;
    this.ordered = ordered;
    this.client = client;
    this.tap = tap;
    this.net = net;
    this.#teardown = teardown;
  }

  static async create(options: RigOptions): Promise<ModelRig> {
    const teardown = new Teardown();
    try {
      return await ModelRig.#create(teardown, options);
    } catch (error) {
      await teardown.run();
      throw error;
    }
  }

  static async #create(teardown: Teardown, { lanes, underlay }: RigOptions): Promise<ModelRig> {
    rigs += 1;
    const dir = await mkdtemp(join(tmpdir(), 'vtepd-model-'));
    teardown.defer(dir, () => rm(dir, { recursive: true, force: true }));
    const tapNs = await silentNamespace(`m-tap${rigs}`, teardown);
    const netNs = await silentNamespace(`m-net${rigs}`, teardown);
    const dut = await Netns.create(`m-dut${rigs}`);
    teardown.defer(dut.name, () => dut.delete());
    await addUnderlay(dut, netNs, underlay);

    const socket = join(dir, 'dataplane.sock');
    const argv = [process.env.VTEPD_DATAPLANE ?? DATAPLANE, '--socket', socket, '--lanes', String(lanes)];
    const dataplane = dut.background(argv);
    teardown.defer('vtepd-dataplane', () => dataplane.stop().then(() => undefined));
    const client = await eventually('the dataplane listens', async () => {
      if (!dataplane.running) throw new Error(`vtepd-dataplane ended:\n${dataplane.output}`);
      return DataplaneClient.connect(socket);
    });
    teardown.defer('connection', () => client.close());
    for (const options of NETWORKS) {
      const spec: NetworkSpec = { ...options, owner: 'hand', netns: tapNs.name, ageing: 0, ...UNSET };
      await client.request('network.create', spec);
      await deafen(tapNs, options.name);
    }
    await eventually('the offloads of this run are off', async () => {
      const states = await client.request('offloads.show', {});
      return OFFLOADS_OFF.every((name) => states.find(({ offload }) => offload === name)?.active === false);
    });
    const tap = await Frames.on(
      tapNs,
      NETWORKS.map((network) => network.name),
    );
    teardown.defer('frames on the TAPs', () => tap.close());
    const net = await Frames.on(netNs, ['eth0', OTHER_DEVICE]);
    teardown.defer('frames on the underlay', () => net.close());
    return new ModelRig(dut, client, tap, net, teardown, lanes === 1);
  }

  destroy(): Promise<void> {
    return this.#teardown.run();
  }

  /** Waits until so many ICMP errors may be sent, of a number in any second. */
  async mayAnswer(count: number, perSecond: number): Promise<void> {
    for (;;) {
      const now = Date.now();
      // A little more than a second: the endpoint's begins when it likes.
      this.#answers = this.#answers.filter((at) => at > now - 1_100);
      if (count === 0 || this.#answers.length + count <= perSecond) break;
      await sleep((this.#answers[0] ?? now) + 1_101 - now);
    }
    this.#answers.push(...Array.from({ length: count }, () => Date.now()));
  }

  /** Brings the real endpoint to where `freshModel` begins. */
  async reset(): Promise<void> {
    await Promise.all(NETWORKS.map((network) => this.#resetOne(network)));
    this.tap.forget();
    this.net.forget();
  }

  async #resetOne({ name, mac, mtu, proxy, learning, peersonly }: Options): Promise<void> {
    const { client } = this;
    await client.request('network.update', { network: name, mac, mtu, proxy, learning, peersonly, up: true });
    for (const source of ['etcd', 'file']) {
      await client.request('tables.replace', { ...EMPTY, network: name, source });
    }
    const { fdb, neighbours } = await client.request('tables.dump', { network: name });
    const nothing = { destination: null, state: null };
    for (const { mac: entry } of fdb) {
      await client.request('fdb.change', { network: name, verb: 'del', mac: entry, ...nothing });
    }
    for (const { prefix } of neighbours) {
      await client.request('neigh.change', { network: name, verb: 'del', prefix, lladdr: null });
    }
  }
}

const UNSET = { dev: null, remote: null, l2miss: true, l3miss: true };
const EMPTY = { revision: 0, fdb: [], neighbours: [], peers: [] };

/** The model of the rig: all networks, nothing in the tables. */
export function freshModel(): Endpoint {
  const endpoint = new Endpoint(UNDERLAY);
  for (const options of NETWORKS) {
    const network = endpoint.create(options);
    for (const source of ['etcd', 'file']) network.tables.replace({ ...EMPTY, network: options.name, source });
  }
  return endpoint;
}
