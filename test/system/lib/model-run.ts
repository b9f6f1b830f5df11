/**
 * Does the same to the model and to the real endpoint and compares all that can be seen: datagrams, frames, counters by reason,
 * tables, answers to requests.
 *
 * Frames go in in *steps*: as many at once as do not depend on each other. A step is over when the real endpoint's counters
 * have moved by what the model says, since every frame ends in exactly one of them.
 */
import { DataplaneError } from '../../../src/dataplane/client.ts';
import type { NetworkStats, TablesDump } from '../../../src/dataplane/protocol.ts';
import type { Endpoint, FromTap, FromWire } from '../../model/endpoint.ts';
import { onTheWire } from '../../model/offload.ts';
import { type Ethernet, ethernetOf, flowOf, transportOf } from '../../model/packet.ts';
import { type FdbValue, Refusal } from '../../model/tables.ts';
import { vxlanWords, words } from '../../model/words.ts';
import { type Action, actionWords, type Change } from './model-actions.ts';
import { type OuterDatagram, outerDatagrams, outerFrames } from './model-outer.ts';
import { DUT_MAC, freshModel, type ModelRig, NET_MAC, NETWORKS } from './model-rig.ts';

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
  #base: Counters = new Map();

  private constructor(rig: ModelRig, options: RunOptions) {
    this.#rig = rig;
    this.#model = freshModel();
    this.#options = options;
  }

  /** Throws `Disagreement`. */
  static async scenario(rig: ModelRig, actions: readonly Action[], options: RunOptions): Promise<void> {
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
      if (step.dependsOn(action) || (step.preceded(action) && run.#mayTeach(action))) {
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
      const outcome = this.#model.fromTap(action.network, action.frame, action.virtio);
      this.#countTap(action.network, outcome);
      for (const sent of outcome.sent) {
        step.sent.push({ ...sent, sourcePort: 0, checksum: 'right', payload: Buffer.from(sent.payload) });
      }
      step.frames.push(...outcome.replies.map((frame) => ({ network: action.network, frame, cut: false })));
    } else if (action.kind === 'wire') {
      const { outer, payload } = action;
      // The kernel's business before any socket sees it (§2.4; RFC 8200 §8.1).
      // The socket counts a wrong checksum among its drops (sk_drops) if it is long enough not to be checked before.
      if (outer.checksum === 'wrong') {
        this.#count('socket overflows');
        this.#allow('socket overflows', 1);
        return;
      }
      if (outer.checksum === 'zero' && outer.source.includes(':')) return;
      const { source, port } = outer;
      const outcome = this.#model.fromWire({ source, port, ecn: outer.tos & 3, payload });
      this.#countWire(outcome);
      const network = outcome.network ?? '';
      step.frames.push(...outcome.frames.filter(visible).map((frame) => ({ network, frame, cut: false })));
      if (outcome.learned !== undefined && outcome.learned.what !== 'full') step.learned(network, outcome.learned);
    }
  }

  #countTap(network: string, { sent, replies, drops }: FromTap): void {
    for (const { payload } of sent) this.#countTraffic(network, 'tx', payload.length - 8);
    for (const reply of replies) this.#count(`${network} ${reply.length === 42 ? 'arp' : 'nd'} replies`);
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
      ...this.#compareSent(step.sent, seen.sent),
      ...compareFrames(step.frames, seen.frames),
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
    return outerDatagrams(this.#rig.net.arrived('eth0'));
  }

  #frames(): Seen[] {
    return NETWORKS.flatMap(({ name }) =>
      this.#rig.tap.arrived(name).flatMap(({ frame, virtio }): Seen[] => {
        const whole = onTheWire(frame, virtio);
        if (whole === undefined) return [{ network: name, frame, cut: false, broken: true }];
        return whole.map((each) => ({ network: name, frame: each, cut: virtio.gso !== undefined }));
      }),
    );
  }

  #compareSent(expected: readonly OuterDatagram[], seen: readonly OuterDatagram[]): string[] {
    const flow = ({ payload, ...outer }: OuterDatagram): string =>
      `${outer.source} ${outer.to} ${outer.port} ${payload.toString('hex', 0, 8)} ${flowOf(payload.subarray(8))}`;
    const header = ({ source, to, port, tos, ttl, df, checksum }: OuterDatagram): string =>
      `${source} > ${to}:${port} tos ${tos} ttl ${ttl}${df ? ' DF' : ''} checksum ${checksum}`;
    const text = (one: OuterDatagram): string => `${header(one)}: ${vxlanWords(one.payload)} ${hex(one.payload)}`;
    const same = (a: OuterDatagram, b: OuterDatagram): boolean =>
      header(a) === header(b) && a.payload.equals(b.payload);
    const complaints = compareFlows('datagram', expected, seen, flow, text, same);
    for (const datagram of seen) {
      const key = flow(datagram);
      const before = this.#sourcePorts.get(key) ?? datagram.sourcePort;
      this.#sourcePorts.set(key, before);
      if (before !== datagram.sourcePort || before < 49_152) {
        complaints.push(`source port ${datagram.sourcePort} of a flow that left from ${before}: ${text(datagram)}`);
      }
    }
    return complaints;
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
    for (const network of stats.networks) putCounters(counters, network);
    return counters;
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

/** Bytes for a person: what is long has its headers in front. */
function hex(bytes: Buffer): string {
  return bytes.length > 200 ? `${bytes.toString('hex', 0, 200)}...` : bytes.toString('hex');
}

function text(value: unknown): string {
  return JSON.stringify(value, (_, held) => (isRecord(held) ? Object.fromEntries(Object.entries(held).sort()) : held));
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
    ...fdb.map(({ used: _, ...entry }) => `fdb ${text(entry)}`),
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
  counters.set(`${network} partial checksums`, stats.partial_checksums);
  counters.set(`${network} whole superframes`, stats.whole_superframes);
}

/** A frame on a TAP. `cut`: it is a segment of a superframe that the endpoint delivered. */
interface Seen {
  readonly network: string;
  readonly frame: Buffer;
  readonly cut: boolean;
  /** Its virtio header contradicts it. */
  readonly broken?: boolean;
}

/** The kernel's VLAN untagging drops a frame whose tag is followed by less than a header's start, before anybody sees it. */
function visible(frame: Buffer): boolean {
  const type = frame.readUInt16BE(12);
  return (type !== 0x8100 && type !== 0x88a8) || frame.length >= 14 + 6;
}

function compareFrames(expected: readonly Seen[], seen: readonly Seen[]): string[] {
  const flow = ({ network, frame }: Seen): string => `${network} ${flowOf(frame)}`;
  const text = ({ network, frame, broken }: Seen): string =>
    `on ${network}: ${words(frame)}${broken === true ? ' with an impossible virtio header' : ''} ${hex(frame)}`;
  const same = (model: Seen, real: Seen): boolean => {
    if (model.network !== real.network || real.broken === true) return false;
    return real.cut ? joined(model.frame).equals(joined(real.frame)) : model.frame.equals(real.frame);
  };
  return compareFlows('frame', expected, seen, flow, text, same);
}

/** What survives of a segment that was joined with others: not its padding, and no identification if it may not be fragmented. */
function joined(frame: Buffer): Buffer {
  const at = transportOf(frame);
  if (at === undefined) return frame;
  const bare = Buffer.from(frame.subarray(0, at.end));
  if (at.family === 4 && (bare.readUInt16BE(at.network + 6) & 0x4000) !== 0) {
    bare.writeUInt16BE(0, at.network + 4);
    bare.writeUInt16BE(0, at.network + 10);
  }
  return bare;
}

/** Flow by flow, in order. */
function compareFlows<T>(
  what: string,
  expected: readonly T[],
  seen: readonly T[],
  flow: (item: T) => string,
  text: (item: T) => string,
  same: (model: T, real: T) => boolean,
): string[] {
  const [models, reals] = [group(expected, flow), group(seen, flow)];
  const complaints: string[] = [];
  for (const key of new Set([...models.keys(), ...reals.keys()])) {
    const [wanted, got] = [models.get(key) ?? [], reals.get(key) ?? []];
    const equal = wanted.length === got.length && wanted.every((item, at) => same(item, got[at] as T));
    if (equal) continue;
    const missing = wanted.filter((item) => !got.some((other) => same(item, other)));
    const extra = got.filter((item) => !wanted.some((other) => same(other, item)));
    complaints.push(...missing.map((item) => `missing ${what} ${text(item)}`));
    complaints.push(...extra.map((item) => `unexpected ${what} ${text(item)}`));
    if (missing.length + extra.length === 0) {
      const list = (items: readonly T[]): string => items.map((item) => `\n    ${text(item)}`).join('');
      complaints.push(`another order or number of ${what}s of one flow: model${list(wanted)}\n  real${list(got)}`);
    }
  }
  return complaints;
}

function group<T>(items: readonly T[], flow: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(flow(item), [...(groups.get(flow(item)) ?? []), item]);
  return groups;
}

/** Actions whose outcome does not depend on each other, with what the model says of them. */
class Step {
  readonly actions: Action[] = [];
  readonly sent: OuterDatagram[] = [];
  readonly frames: Seen[] = [];
  /** Networks whose tables changed. */
  readonly taught = new Set<string>();
  mustEnd = false;
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
    const ethernet = innerOf(action);
    return ethernet !== undefined && (this.#macs.has(ethernet.source) || this.#macs.has(ethernet.destination));
  }

  /** Frames of the step, which may be slower, look for the MAC that a datagram comes from. */
  preceded(action: Action): boolean {
    const source = innerOf(action)?.source;
    return this.actions.some((each) => each.kind === 'tap' && innerOf(each)?.destination === source);
  }
}

function innerOf(action: Action): Ethernet | undefined {
  if (action.kind === 'change') return undefined;
  return ethernetOf(action.kind === 'tap' ? action.frame : action.payload.subarray(8));
}

/** Well within what the TAP's queue and the sockets hold. */
const STEP_MAX = 200;
