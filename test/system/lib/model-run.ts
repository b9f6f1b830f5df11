/**
 * Does the same to the model and to the real endpoint and compares all that can be seen: datagrams, frames, counters by reason,
 * tables, answers to requests.
 *
 * Frames go in in *steps*: as many at once as do not depend on each other. A step is over when the real endpoint's counters
 * have moved by what the model says, since every frame ends in exactly one of them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { DataplaneError } from '../../../src/dataplane/client.ts';
import type { NetworkStats, TablesDump } from '../../../src/dataplane/protocol.ts';
import { type Endpoint, type FromTap, type FromWire, portsOf } from '../../model/endpoint.ts';
import { GSO_ECN, GSO_UDP_L4, onTheWire, type Virtio } from '../../model/offload.ts';
import { type Ethernet, ethernetOf, ipOf, transportOf } from '../../model/packet.ts';
import { type FdbValue, Refusal } from '../../model/tables.ts';
import { type Action, actionWords, type Change } from './model-actions.ts';
import {
  compareDatagrams,
  compareFrames,
  datagramFlow,
  type Expected,
  type Seen,
  seenFrames,
  visible,
} from './model-compare.ts';
import { type OuterDatagram, outerDatagrams, outerFrames, pathErrorFrame } from './model-outer.ts';
import {
  DUT_MAC,
  freshModel,
  LOCAL4,
  LOCAL6,
  type ModelRig,
  NET_MAC,
  NETWORKS,
  OFFLOADS_OFF,
  OTHER_DEVICE,
} from './model-rig.ts';

const RANGES = NETWORKS.map(portsOf);

/** Changes by hand are told of; what a datastore does is not. */
const TOLD_AS: Readonly<Partial<Record<string, string>>> = {
  'fdb.change': 'fdb',
  'neigh.change': 'neigh',
};

/** The model and the real endpoint disagree. */
export class Disagreement extends Error {
  constructor(lines: readonly string[]) {
    super(lines.join('\n'));
    this.name = 'Disagreement';
  }
}

export interface RunOptions {
  /** How long the real endpoint may take for a step. */
  readonly patienceMs: number;
}

/** Counters by name, such as `m1 rx packets` or `drop rx_short`. */
type Counters = Map<string, number>;

export class Run {
  readonly #rig: ModelRig;
  readonly #model: Endpoint;
  readonly #options: RunOptions;
  readonly #expected: Counters = new Map();
  /** By how much a counter may be less than expected. */
  readonly #slack: Counters = new Map();
  readonly #sourcePorts = new Map<string, number>();
  readonly #events: string[] = [];
  #base: Counters = new Map();

  private constructor(rig: ModelRig, options: RunOptions) {
    this.#rig = rig;
    this.#model = freshModel();
    this.#options = options;
  }

  /** Throws `Disagreement`. */
  static async scenario(rig: ModelRig, actions: readonly Action[], options: RunOptions): Promise<Run> {
    await rig.reset();
    const run = new Run(rig, options);
    run.#base = await run.#counters();
    let step = new Step();
    for (const action of actions) {
      if (action.kind === 'change') {
        await run.#finish(step);
        step = new Step();
        await run.#change(action.change);
        continue;
      }
      if (action.kind === 'icmp') {
        await run.#finish(step);
        step = new Step();
        await run.#pathErrors(action);
        continue;
      }
      if (step.dependsOn(action) || ((step.shortcuts || step.preceded(action)) && run.#mayTeach(action))) {
        await run.#finish(step);
        step = new Step();
      }
      run.#predict(step, action);
      if (step.mustEnd) {
        await run.#finish(step);
        step = new Step();
      }
    }
    await run.#finish(step);
    for (const { name } of NETWORKS) await run.#compareTables(name);
    return run;
  }

  /** By how much each counter moved. */
  get counters(): ReadonlyMap<string, number> {
    return this.#expected;
  }

  /** The notifications that the model expects, as text; misses once for each. */
  get events(): readonly string[] {
    return this.#events;
  }

  /** Could a datagram change where a MAC is? */
  #mayTeach(action: Action): boolean {
    if (action.kind !== 'wire') return false;
    const mac = innerOf(action)?.source ?? '';
    const isThere = (entry: FdbValue | undefined): boolean =>
      entry?.destinations.some((to) => to.ip === action.outer.source) ?? false;
    return this.#model.networks.some(({ options, tables }) => options.learning && !isThere(tables.entry(mac)));
  }

  // What the model says.

  #predict(step: Step, action: Action): void {
    step.actions.push(action);
    if (action.kind === 'tap') {
      if (this.#model.network(action.network).options.rsc === true) step.shortcuts = true;
      for (const [frame, virtio] of handedOver(action)) this.#predictTap(step, action, frame, virtio);
      // Whether it comes from this tunnel depends on who is a peer.
      if (step.answers >= ANSWERS_A_SECOND / 2 || isFromUnderlay(action)) step.mustEnd = true;
    } else if (action.kind === 'wire') {
      this.#predictWire(step, action);
    }
  }

  #predictTap(step: Step, action: Action & { kind: 'tap' }, frame: Buffer, virtio: Virtio): void {
    const outcome = this.#model.fromTap(action.network, frame, virtio);
    this.#countTap(action.network, outcome);
    step.sent.push(...outcome.sent.map((sent) => ({ ...sent, payload: Buffer.from(sent.payload) })));
    const back = [...outcome.replies, ...outcome.tooBig];
    step.frames.push(...back.map((each) => ({ network: action.network, frame: each, cut: false })));
    step.answers += outcome.tooBig.length;
  }

  #predictWire(step: Step, action: Action & { kind: 'wire' }): void {
    const { outer, payload } = action;
    // The kernel's business before any socket sees it (§2.4; RFC 8200 §8.1).
    // The socket counts a wrong checksum among its drops (sk_drops) if it is long enough not to be checked before.
    if (outer.checksum === 'wrong') {
      this.#count('bad checksums');
      this.#allow('bad checksums', 1);
      return;
    }
    const { source, port } = outer;
    const checksum = outer.checksum !== 'zero';
    const outcome = this.#model.fromWire({ source, port, ecn: outer.tos & 3, checksum, payload });
    this.#countWire(outcome);
    const network = outcome.network ?? '';
    step.frames.push(...outcome.frames.filter(visible).map((frame) => ({ network, frame, cut: false })));
    if (outcome.learned !== undefined && outcome.learned.what !== 'full') {
      const { what, mac, ip } = outcome.learned;
      const from = outcome.learned.what === 'moved' ? outcome.learned.from : null;
      this.#events.push(`${what} ${text({ network, mac, ip, from })}`);
      step.learned(network, outcome.learned);
      // Which of two MACs gets the last place depends on the lane that is faster; with `rsc` any frame may be for the new one.
      const { maxaddress, rsc } = this.#model.network(network).options;
      if (maxaddress > 0 || rsc === true) step.mustEnd = true;
    }
  }

  #countTap(network: string, { sent, replies, tooBig, drops, misses }: FromTap): void {
    for (const miss of misses) this.#events.push(`miss ${text({ network, ...miss })}`);
    for (const { payload } of sent) this.#countTraffic(network, 'tx', payload.length - 8);
    for (const reply of replies) this.#count(`${network} ${reply.length === 42 ? 'arp' : 'nd'} replies`);
    if (tooBig.length > 0) this.#count(`${network} too big replies`, tooBig.length);
    for (const reason of drops) this.#count(`${network} drop ${reason}`);
  }

  #countWire({ network, frames, drop, partialChecksum, superframe }: FromWire): void {
    if (drop !== undefined) this.#count(`${network === undefined ? '' : `${network} `}drop ${drop}`);
    if (network === undefined) return;
    for (const frame of frames) {
      this.#countTraffic(network, 'rx', frame.length);
      // A segment that is joined with others leaves its padding behind.
      const padding = frame.length - (transportOf(frame)?.end ?? frame.length);
      this.#allow(`${network} rx bytes`, padding);
    }
    if (partialChecksum === true) this.#count(`${network} partial checksums`);
    if (superframe === true) this.#count(`${network} whole superframes`);
  }

  #countTraffic(network: string, way: 'rx' | 'tx', frameLength: number): void {
    this.#count(`${network} ${way} packets`);
    this.#count(`${network} ${way} bytes`, frameLength - 14);
  }

  #count(name: string, by = 1): void {
    this.#expected.set(name, (this.#expected.get(name) ?? 0) + by);
  }

  #allow(name: string, less: number): void {
    this.#slack.set(name, (this.#slack.get(name) ?? 0) + less);
  }

  // What the real one does.

  async #finish(step: Step): Promise<void> {
    if (step.actions.length === 0) return;
    const { tap, net } = this.#rig;
    await this.#rig.mayAnswer(step.answers, ANSWERS_A_SECOND);
    for (const action of step.actions) {
      if (action.kind === 'tap') tap.queue(action.network, action.frame, action.virtio);
      if (action.kind !== 'wire') continue;
      for (const frame of outerFrames(action.outer, action.payload, { to: DUT_MAC, from: NET_MAC })) {
        net.queue('eth0', frame);
      }
    }
    tap.flush();
    net.flush();
    const counted = await this.#settle(step);
    const seen = { sent: this.#sent(), frames: this.#frames() };
    tap.forget();
    net.forget();
    const complaints = [
      ...compareDatagrams(step.sent, seen.sent, this.#rig.ordered),
      ...this.#comparePorts(seen.sent),
      ...compareFrames(step.frames, seen.frames, this.#rig.ordered),
      ...counted,
    ];
    if (complaints.length > 0) {
      const more = complaints.length > 20 ? [`and ${complaints.length - 20} more differences`] : [];
      const at = step.actions.map((action) => `  ${actionWords(action).split('\n')[0]}`);
      throw new Disagreement([...complaints.slice(0, 20), ...more, 'after these at once:', ...at]);
    }
    for (const name of step.taught) await this.#compareTables(name);
  }

  /** Waits until everything that is to come came, and gives what the counters say otherwise. */
  async #settle(step: Step): Promise<string[]> {
    const { tap, net } = this.#rig;
    const until = Date.now() + this.#options.patienceMs;
    for (;;) {
      const here = this.#frames().length >= step.frames.length && this.#sent().length >= step.sent.length;
      const late = Date.now() >= until;
      if (here || late) {
        const wrong = this.#compareCounters(await this.#counters());
        if (wrong.length === 0 || late) return wrong;
      }
      await Promise.race([tap.activity(here ? 1 : 20), net.activity(here ? 1 : 20)]);
    }
  }

  #sent(): OuterDatagram[] {
    const { net } = this.#rig;
    const other = outerDatagrams(net.arrived(OTHER_DEVICE));
    return [...outerDatagrams(net.arrived('eth0')), ...other.map((each) => ({ ...each, via: OTHER_DEVICE }))];
  }

  #frames(): Seen[] {
    return NETWORKS.flatMap(({ name }) => seenFrames(name, this.#rig.tap.arrived(name)));
  }

  #comparePorts(seen: readonly OuterDatagram[]): string[] {
    return seen.flatMap((datagram) => {
      const { sourcePort } = datagram;
      const range = RANGES.find(({ min, max }) => sourcePort >= min && sourcePort < max);
      const key = `${range?.min} ${datagramFlow(datagram)}`;
      const before = this.#sourcePorts.get(key) ?? sourcePort;
      this.#sourcePorts.set(key, before);
      if (before === sourcePort) return [];
      return [`source port ${datagram.sourcePort} of a flow that left from ${before}: ${key}`];
    });
  }

  #compareCounters(now: Counters): string[] {
    const names = new Set([...this.#expected.keys(), ...now.keys()]);
    return [...names].flatMap((name) => {
      const [expected, moved] = [this.#expected.get(name) ?? 0, (now.get(name) ?? 0) - (this.#base.get(name) ?? 0)];
      const least = expected - (this.#slack.get(name) ?? 0);
      return moved <= expected && moved >= least
        ? []
        : [`counter "${name}" moved by ${moved}, the model says ${expected}`];
    });
  }

  async #counters(): Promise<Counters> {
    const stats = await this.#rig.client.request('stats', {});
    const counters: Counters = new Map();
    for (const [reason, count] of Object.entries(stats.drops)) counters.set(`drop ${reason}`, count ?? 0);
    counters.set('socket overflows', stats.socket_overflows);
    counters.set('bad checksums', stats.bad_checksums ?? 0);
    for (const network of stats.networks) putCounters(counters, network);
    return counters;
  }

  /**
   * ICMP errors about the underlay. They wait in queues that the real endpoint empties once a second, or when a send meets them; what
   * must not change anything is given that time.
   */
  async #pathErrors({ errors }: Action & { kind: 'icmp' }): Promise<void> {
    const { net, client } = this.#rig;
    const before = this.#pathMtus();
    for (const error of errors) {
      this.#model.pathError(error);
      net.queue('eth0', pathErrorFrame(error, { to: DUT_MAC, from: NET_MAC }));
    }
    const expected = this.#pathMtus();
    net.flush();
    await net.sync();
    const least = Date.now() + (expected === before ? QUEUES_EMPTIED_MS : 0);
    const until = least + Math.max(this.#options.patienceMs, QUEUES_EMPTIED_MS);
    for (;;) {
      const { peers } = await client.request('stats', {});
      const held = peers.flatMap(({ network, ip, path_mtu: mtu }) =>
        mtu === undefined ? [] : [`${network} ${ip} ${mtu}`],
      );
      const real = held.sort().join(', ');
      if (real === expected && Date.now() >= least) return;
      if (Date.now() > until)
        throw new Disagreement([`path MTUs: ${real || 'none'}, the model says ${expected || 'none'}`]);
      await sleep(20);
    }
  }

  #pathMtus(): string {
    return this.#model.networks
      .flatMap(({ options, tables }) => [...tables.pathMtus].map(([ip, mtu]) => `${options.name} ${ip} ${mtu}`))
      .sort()
      .join(', ');
  }

  // Requests and tables.

  async #change(change: Change): Promise<void> {
    const modelled = outcomeOf(() => applyToModel(this.#model, change));
    let real: Outcome;
    try {
      real = { result: await this.#rig.client.request(change.method, change.params) };
    } catch (error) {
      if (!(error instanceof DataplaneError)) throw error;
      real = { refused: error.code };
    }
    const counted = change.method === 'tables.replace' || change.method === 'tables.patch';
    const same = modelled.refused === real.refused && (!counted || text(modelled.result) === text(real.result));
    if (!same) {
      const said = (outcome: Outcome): string =>
        outcome.refused === undefined ? text(outcome.result) : outcome.refused;
      throw new Disagreement([
        `answer to ${change.method} ${JSON.stringify(change.params)}: ${said(real)}, the model says ${said(modelled)}`,
      ]);
    }
    const what = TOLD_AS[change.method];
    if (modelled.refused === undefined && what !== undefined) {
      this.#events.push(`changed ${text({ network: change.params.network, what })}`);
    }
    await this.#compareTables(change.params.network);
  }

  /** Learning reaches the tables a moment after the frame was delivered. */
  async #compareTables(network: string): Promise<void> {
    const expected = tableLines(this.#model.network(network).tables.dump());
    const until = Date.now() + this.#options.patienceMs;
    for (;;) {
      const real = tableLines(await this.#rig.client.request('tables.dump', { network }));
      if (real.join('\n') === expected.join('\n')) return;
      if (Date.now() < until) continue;
      const missing = expected.filter((line) => !real.includes(line)).map((line) => `  missing: ${line}`);
      const extra = real.filter((line) => !expected.includes(line)).map((line) => `  not in the model: ${line}`);
      const order = missing.length + extra.length === 0 ? ['  in another order:', ...real] : [];
      throw new Disagreement([`tables of ${network} differ`, ...missing, ...extra, ...order]);
    }
  }
}

export function text(value: unknown): string {
  return JSON.stringify(value, (_key, held) =>
    isRecord(held) ? Object.fromEntries(Object.entries(held).sort(byName)) : held,
  );
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

interface Outcome {
  readonly result?: unknown;
  readonly refused?: string;
}

function outcomeOf(act: () => unknown): Outcome {
  try {
    return { result: act() };
  } catch (error) {
    if (error instanceof Refusal) return { refused: error.code };
    throw error;
  }
}

export function applyToModel(model: Endpoint, { method, params }: Change): unknown {
  const network = model.network(params.network);
  switch (method) {
    case 'network.update':
      return network.update(params);
    case 'fdb.change':
      return network.tables.changeFdb(params);
    case 'neigh.change':
      return network.tables.changeNeighbour(params);
    case 'tables.replace':
      return network.tables.replace(params);
    case 'tables.patch':
      return network.tables.patch(params);
  }
}

function tableLines({ revisions, fdb, neighbours, peers }: TablesDump): string[] {
  return [
    `revisions ${text(revisions)}`,
    ...fdb.map((entry) => `fdb ${text({ ...entry, used: null })}`),
    ...neighbours.map((entry) => `neighbour ${text(entry)}`),
    `peers ${text(peers)}`,
  ];
}

function putCounters(counters: Counters, stats: NetworkStats): void {
  const { network } = stats;
  for (const [reason, count] of Object.entries(stats.drops)) counters.set(`${network} drop ${reason}`, count ?? 0);
  counters.set(`${network} rx packets`, stats.rx.packets);
  counters.set(`${network} rx bytes`, stats.rx.bytes);
  counters.set(`${network} tx packets`, stats.tx.packets);
  counters.set(`${network} tx bytes`, stats.tx.bytes);
  counters.set(`${network} arp replies`, stats.arp_replies);
  counters.set(`${network} nd replies`, stats.nd_replies);
  counters.set(`${network} too big replies`, stats.too_big_replies ?? 0);
  counters.set(`${network} partial checksums`, stats.partial_checksums);
  counters.set(`${network} whole superframes`, stats.whole_superframes);
}

/** Actions whose outcome does not depend on each other, with what the model says of them. */
class Step {
  readonly actions: Action[] = [];
  readonly sent: Expected[] = [];
  readonly frames: Seen[] = [];
  /** ICMP errors to the host. */
  answers = 0;
  /** Networks whose tables changed. */
  readonly taught = new Set<string>();
  mustEnd = false;
  /** A frame is among them that may have got another destination, which somebody may teach. */
  shortcuts = false;
  readonly #macs = new Set<string>();

  learned(network: string, { mac, what }: { mac: string; what: string }): void {
    this.taught.add(network);
    this.#macs.add(mac);
    // Whoever is left behind may no longer be a known peer.
    if (what === 'moved') this.mustEnd = true;
  }

  /** The tables reach the lanes only after the step: nothing in it may look for what it taught. */
  dependsOn(action: Action): boolean {
    if (this.actions.length >= STEP_MAX) return true;
    if (this.taught.size === 0) return false;
    if (isFromUnderlay(action)) return true;
    const ethernet = innerOf(action);
    return ethernet !== undefined && (this.#macs.has(ethernet.source) || this.#macs.has(ethernet.destination));
  }

  /** Others of the step, which may be slower or on another lane, look for the MAC that a datagram comes from, or come from it. */
  preceded(action: Action): boolean {
    const mac = innerOf(action)?.source;
    return this.actions.some((each) => innerOf(each)?.[each.kind === 'tap' ? 'destination' : 'source'] === mac);
  }
}

/** What the endpoint reads from its TAP: without the offload, the kernel cuts superframes before. */
function handedOver({ frame, virtio }: Action & { kind: 'tap' }): [Buffer, Virtio][] {
  if (virtio.gso === undefined) return [[frame, virtio]];
  const offload = (virtio.gso.kind & ~GSO_ECN) === GSO_UDP_L4 ? 'tap_uso' : 'tap_tso';
  if (!OFFLOADS_OFF.includes(offload)) return [[frame, virtio]];
  return (onTheWire(frame, virtio) ?? []).map((segment) => [segment, {}]);
}

function isFromUnderlay(action: Action): boolean {
  const source = action.kind === 'tap' ? ipOf(action.frame)?.source : undefined;
  return source === LOCAL4 || source === LOCAL6;
}

function innerOf(action: Action): Ethernet | undefined {
  if (action.kind === 'change' || action.kind === 'icmp') return undefined;
  return ethernetOf(action.kind === 'tap' ? action.frame : action.payload.subarray(8));
}

/** A lane sends no more ICMP errors (`PER_SECOND` in native/src/lane/limit.rs). */
const ANSWERS_A_SECOND = 100;
/** The control thread looks for ICMP errors once a second. */
const QUEUES_EMPTIED_MS = 1_300;

/** Well within what the TAP's queue and the sockets hold. */
const STEP_MAX = 200;
