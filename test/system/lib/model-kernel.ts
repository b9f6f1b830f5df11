/**
 * The second judge: the kernel's own vxlan device, given the same tables, frames and datagrams as the model. Where they disagree
 * and model-differences.ts does not say so, the model (and with it the endpoint) is wrong, or the list is short.
 *
 * The kernel counts too little to tell when it is done, so every step ends with a marker each way: it handles what one processor
 * sends in order.
 */

import { ethernet, vxlan } from '../../model/build.ts';
import { macAt } from '../../model/bytes.ts';
import { Endpoint, type FromTap, type Network } from '../../model/endpoint.ts';
import { type Action, actionWords } from './model-actions.ts';
import { compareDatagrams, compareFrames, type Expected, type Seen, seenFrames, visible } from './model-compare.ts';
import { DIFFERENCES, type Difference, type Ours } from './model-differences.ts';
import { Frames } from './model-frames.ts';
import { type OuterDatagram, outerDatagrams, outerFrames } from './model-outer.ts';
import {
  addUnderlay,
  DUT_MAC,
  deafen,
  KERNEL_NETWORKS,
  NET_MAC,
  PEERS4,
  silentNamespace,
  UNDERLAY,
} from './model-rig.ts';
import { Disagreement } from './model-run.ts';
import { Netns } from './netns.ts';
import { Teardown } from './teardown.ts';

const MARKER = 0x88b5; // IEEE 802 local experimental ethertype
const MARKER_TO = '02:00:00:00:ff:01';
const MARKER_FROM = '02:00:00:00:ff:02';
const MARKER_PEER = PEERS4[0] ?? '';
const PATIENCE_MS = 2_000;
/** `ip_local_port_range`. */
const KERNEL_PORTS = { min: 32_768, max: 61_000 };

/** A device with IPv6, so that it has a neighbour table, but without an address of its own and with nothing to say. */
const NO_VOICE = `
cd /proc/sys/net/ipv6/conf
echo 0 >all/forwarding
echo 1 >default/addr_gen_mode
`;

/** One line of a table, for both. */
export interface KernelTables {
  readonly fdb: readonly {
    readonly mac: string;
    readonly ips: readonly string[];
    readonly state: 'permanent' | 'static';
    readonly router?: boolean;
  }[];
  readonly neighbours: readonly { readonly ip: string; readonly mac: string }[];
}

export class KernelRig {
  readonly #dut: Netns;
  readonly #tap: Frames;
  readonly #net: Frames;
  readonly #teardown: Teardown;
  /** How often each difference showed. */
  readonly differences = new Map<Difference, number>();
  #marker = 0;

  private constructor(dut: Netns, tap: Frames, net: Frames, teardown: Teardown) {
    this.#dut = dut;
    this.#tap = tap;
    this.#net = net;
    this.#teardown = teardown;
  }

  static async create(): Promise<KernelRig> {
    const teardown = new Teardown();
    try {
      const netNs = await silentNamespace('k-net', teardown);
      const dut = await Netns.create('k-dut');
      teardown.defer(dut.name, () => dut.delete());
      await addUnderlay(dut, netNs, 'wire');
      await dut.exec(['sh', '-ec', NO_VOICE]);
      for (const { name, vni, port, local, mac, mtu, proxy, learning, ...outer } of KERNEL_NETWORKS) {
        const { ttl = 'auto', tos = 0, df = 'unset', rsc = false, udpcsum = true, srcport } = outer;
        const no = (on: boolean): string => (on ? '' : 'no');
        const flags = [
          `${no(learning)}learning ${no(proxy)}proxy ${no(rsc)}rsc ${no(udpcsum)}udpcsum`,
          `ttl ${ttl} tos ${typeof tos === 'number' ? `0x${tos.toString(16)}` : tos} df ${df}`,
          srcport === undefined ? '' : `srcport ${srcport.min} ${srcport.max}`,
        ].join(' ');
        await dut.ip(
          `link add ${name} address ${mac} mtu ${mtu} type vxlan id ${vni} local ${local} dstport ${port} ageing 3600 ${flags}`,
          `link set ${name} up`,
          // What comes back from a bridge's port is an ICMP error; what goes on to the bridge is dropped before.
          ...(df === 'unset' ? [] : [`link add br-${name} type bridge`, `link set ${name} master br-${name}`]),
        );
        await dut.exec(['ethtool', '-K', name, 'gro', 'off']);
        await deafen(dut, name);
      }
      const tap = await Frames.on(
        dut,
        KERNEL_NETWORKS.map((network) => network.name),
      );
      teardown.defer('frames on the devices', () => tap.close());
      const net = await Frames.on(netNs, ['eth0']);
      teardown.defer('frames on the underlay', () => net.close());
      return new KernelRig(dut, tap, net, teardown);
    } catch (error) {
      await teardown.run();
      throw error;
    }
  }

  destroy(): Promise<void> {
    return this.#teardown.run();
  }

  /** Puts the tables into kernel and model, then plays the actions; throws `Disagreement`. */
  async scenario(name: string, tables: KernelTables, actions: readonly Action[]): Promise<void> {
    const model = new Endpoint(UNDERLAY);
    const networks = KERNEL_NETWORKS.map((options) => model.create(options));
    const network = model.network(name);
    for (const each of networks) await this.#empty(each.options.name);
    await this.#fill(network, tables);
    let step: Action[] = [];
    for (const action of actions) {
      // Both ways at once would run on two processors.
      if (step.length > 0 && step[0]?.kind !== action.kind) step = await this.#flush(model, network, step);
      step.push(action);
    }
    await this.#flush(model, network, step);
    await this.#compareFdb(network);
  }

  async #empty(name: string): Promise<void> {
    const entries = await this.#fdbLines(name);
    if (entries.length > 0)
      await this.#dut.bridge(...entries.map(({ mac, dst }) => `fdb del ${mac} dev ${name} dst ${dst} self`));
    await this.#dut.exec(['ip', 'neigh', 'flush', 'dev', name, 'nud', 'permanent']);
  }

  /** The device's own entries, not those of a bridge that it is a port of. */
  async #fdbLines(name: string): Promise<FdbLine[]> {
    const lines = JSON.parse(await this.#dut.exec(['bridge', '-j', 'fdb', 'show', 'dev', name])) as Partial<FdbLine>[];
    return lines.flatMap(({ mac, dst }) => (mac === undefined || dst === undefined ? [] : [{ mac, dst }]));
  }

  async #fill(network: Network, { fdb, neighbours }: KernelTables): Promise<void> {
    const { name } = network.options;
    const commands: string[] = [];
    const marker = { mac: MARKER_TO, ips: [MARKER_PEER], state: 'static', router: false } as const;
    for (const { mac, ips, state, router = false } of [...fdb, marker]) {
      for (const ip of ips) {
        commands.push(`fdb append ${mac} dev ${name} dst ${ip} self ${state}${router ? ' router' : ''}`);
        network.tables.changeFdb({ network: name, verb: 'append', mac, destination: { ip }, state, router });
      }
    }
    await this.#dut.bridge(...commands);
    for (const { ip, mac } of neighbours) {
      network.tables.changeNeighbour({
        network: name,
        verb: 'replace',
        prefix: ip.includes(':') ? `${ip}/128` : `${ip}/32`,
        lladdr: mac,
      });
    }
    if (neighbours.length > 0) {
      await this.#dut.ip(
        ...neighbours.map(({ ip, mac }) => `neigh replace ${ip} lladdr ${mac} dev ${name} nud permanent`),
      );
    }
  }

  /** Plays one step; what differs on purpose is played alone, so that what comes out of it is known to be its. */
  async #flush(model: Endpoint, network: Network, actions: readonly Action[]): Promise<Action[]> {
    let together: { action: Action; ours: Ours }[] = [];
    for (const action of actions) {
      const ours = judge(model, action);
      const difference = DIFFERENCES.find((each) => each.applies(action, ours));
      if (difference === undefined) {
        together.push({ action, ours });
        continue;
      }
      await this.#together(model, network, together);
      together = [];
      this.differences.set(difference, (this.differences.get(difference) ?? 0) + 1);
      const { sent, frames } = await this.#play(model, network, [action]);
      const outcome = {
        sent: sent.map(({ payload }) => payload.subarray(8)),
        frames: frames.map(({ frame }) => frame),
      };
      if (action.kind === 'wire') await this.#unteach(network, action);
      if (!difference.kernel(outcome, action, ours)) {
        throw new Disagreement([
          `the kernel does something else than "${difference.name}" says (model-differences.ts): ${actionWords(action)}`,
          ...outcome.sent.map((frame) => `  sent ${frame.toString('hex')}`),
          ...outcome.frames.map((frame) => `  delivered ${frame.toString('hex')}`),
        ]);
      }
    }
    await this.#together(model, network, together);
    return [];
  }

  /** Takes back what the kernel learned and the model did not, so that it does no more harm. */
  async #unteach(network: Network, { payload, outer }: Action & { kind: 'wire' }): Promise<void> {
    const mac = macAt(payload, 8 + 6);
    const entry = network.tables.entry(mac);
    const how =
      entry === undefined ? `del ${mac} dst ${outer.source}` : `replace ${mac} dst ${entry.destinations[0]?.ip}`;
    if (!network.options.learning || (entry !== undefined && entry.state !== 'dynamic')) return;
    const state = entry === undefined ? [] : ['dynamic'];
    // Nothing to delete: the kernel had not learned it either.
    await this.#dut.tryExec(['bridge', 'fdb', ...how.split(' '), 'dev', network.options.name, 'self', ...state]);
  }

  async #together(model: Endpoint, network: Network, list: readonly { action: Action; ours: Ours }[]): Promise<void> {
    if (list.length === 0) return;
    const sent: Expected[] = [];
    const ports = network.options.srcport ?? KERNEL_PORTS;
    const frames: Seen[] = [];
    for (const { ours } of list) {
      if (ours.kind === 'tap') {
        sent.push(...ours.outcome.sent.map((each) => ({ ...each, ports })));
      }
      const back = (outcome: FromTap): Buffer[] => [...outcome.replies, ...outcome.tooBig];
      const here = ours.kind === 'tap' ? back(ours.outcome) : ours.outcome.frames.filter(visible);
      frames.push(...here.map((frame) => ({ network: network.options.name, frame, cut: false })));
    }
    const actions = list.map(({ action }) => action);
    const seen = await this.#play(model, network, actions);
    const complaints = [...compareDatagrams(sent, seen.sent, true), ...compareFrames(frames, seen.frames, true)];
    if (complaints.length === 0) return;
    const words = actions.map((action) => `  ${actionWords(action).split('\n')[0]}`);
    throw new Disagreement([
      'the kernel disagrees with the model ("missing": only the model, "unexpected": only the kernel)',
      ...complaints.slice(0, 12),
      `on ${network.options.name} after these:`,
      ...words,
    ]);
  }

  /** Sends, and gives what came out of it. */
  async #play(
    model: Endpoint,
    network: Network,
    actions: readonly Action[],
  ): Promise<{ sent: OuterDatagram[]; frames: Seen[] }> {
    const { name, vni, port, local } = network.options;
    this.#tap.forget();
    this.#net.forget();
    const put = (outer: Parameters<typeof outerFrames>[0], payload: Buffer): void => {
      for (const frame of outerFrames(outer, payload, { to: DUT_MAC, from: NET_MAC })) this.#net.queue('eth0', frame);
    };
    for (const action of actions) {
      if (action.kind === 'tap') this.#tap.queue(name, action.frame, action.virtio);
      if (action.kind === 'wire') put(action.outer, action.payload);
    }
    this.#marker += 1;
    const body = Buffer.alloc(8);
    body.writeUInt32BE(this.#marker, 0);
    const marker = ethernet(MARKER_TO, MARKER_FROM, MARKER, body);
    this.#tap.queue(name, marker);
    const plain = { sourcePort: 40_000, tos: 0, checksum: 'right', fragments: 'none' } as const;
    put({ ...plain, source: MARKER_PEER, to: local, port }, vxlan(vni, marker));
    model.fromWire({ source: MARKER_PEER, port, ecn: 0, checksum: true, payload: vxlan(vni, marker) });
    this.#tap.flush();
    this.#net.flush();
    const isMarker = (frame: Buffer): boolean => frame.equals(marker);
    const isCarried = ({ payload }: OuterDatagram): boolean => isMarker(payload.subarray(8));
    for (const until = Date.now() + PATIENCE_MS; ; ) {
      if (this.#sent().some(isCarried) && this.#frames().some(({ frame }) => isMarker(frame))) break;
      if (Date.now() > until) throw new Error(`a marker did not come through ${name}`);
      await Promise.race([this.#tap.activity(10), this.#net.activity(10)]);
    }
    // What came before the markers is in the helpers' sockets by now.
    await Promise.all([this.#tap.sync(), this.#net.sync()]);
    const sent = this.#sent().filter((each) => !isCarried(each));
    return { sent, frames: this.#frames().filter(({ frame }) => !isMarker(frame)) };
  }

  #sent(): OuterDatagram[] {
    return outerDatagrams(this.#net.arrived('eth0'));
  }

  #frames(): Seen[] {
    return KERNEL_NETWORKS.flatMap((each) => seenFrames(each.name, this.#tap.arrived(each.name)));
  }

  /** Which MAC is where. The kernel's list also has the state and more. */
  async #compareFdb(network: Network): Promise<void> {
    const { name } = network.options;
    const entries = await this.#fdbLines(name);
    const real = entries.map(({ mac, dst }) => `${mac} ${dst}`).sort();
    const ours = network.tables
      .dump()
      .fdb.flatMap(({ mac, destinations }) => destinations.map(({ ip }) => `${mac} ${ip}`))
      .sort();
    const complaints = [
      ...ours.filter((line) => !real.includes(line)).map((line) => `  only in the model: ${line}`),
      ...real.filter((line) => !ours.includes(line)).map((line) => `  only in the kernel: ${line}`),
    ];
    if (complaints.length > 0) throw new Disagreement([`the FDB of ${name} differs at the end`, ...complaints]);
  }
}

interface FdbLine {
  readonly mac: string;
  readonly dst: string;
}

function judge(model: Endpoint, action: Action): Ours {
  if (action.kind === 'tap') {
    return { kind: 'tap', outcome: model.fromTap(action.network, action.frame, action.virtio) };
  }
  if (action.kind !== 'wire') throw new Error('tables are set up before');
  const { source, port, tos, checksum } = action.outer;
  if (checksum === 'wrong') return { kind: 'wire', outcome: { frames: [] } };
  const datagram = { source, port, ecn: tos & 3, checksum: checksum === 'right', payload: action.payload };
  return { kind: 'wire', outcome: model.fromWire(datagram) };
}
