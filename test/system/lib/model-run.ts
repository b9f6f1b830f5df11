/**
 * Does the same to the model and to the real endpoint and compares all that can be seen: datagrams, frames, counters by reason,
 * tables, answers to requests.
 *
 * Frames go in in *steps* (model-step.ts): as many at once as do not depend on each other. A step is over when the real endpoint's counters
 * have moved by what the model says, since every frame ends in exactly one of them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { DataplaneError } from '../../../src/dataplane/client.ts';
import { type Endpoint, portsOf } from '../../model/endpoint.ts';
import type { Virtio } from '../../model/offload.ts';
import type { FdbValue } from '../../model/tables.ts';
import { type Action, actionWords, type Change } from './model-actions.ts';
import { compareDatagrams, compareFrames, datagramFlow, type Seen, seenFrames, visible } from './model-compare.ts';
import { Counters } from './model-counters.ts';
import { type OuterDatagram, outerDatagrams, outerFrames, pathErrorFrame } from './model-outer.ts';
import { DUT_MAC, freshModel, type ModelRig, NET_MAC, NETWORKS, OTHER_DEVICE } from './model-rig.ts';
import { handedOver, innerOf, isFromUnderlay, Step } from './model-step.ts';
import { applyToModel, type Outcome, outcomeOf, tableLines, text } from './model-tables.ts';

const RANGES = NETWORKS.map(portsOf);

/** Changes by hand are told of; what a datastore does is not. */
const TOLD_AS: Readonly<Partial<Record<string, string>>> = {
  'fdb.change': 'fdb',
  'neigh.change': 'neigh',
};

/** A lane sends no more ICMP errors (`PER_SECOND` in native/src/lane/limit.rs). */
const ANSWERS_A_SECOND = 100;
/** The control thread looks for ICMP errors once a second. */
const QUEUES_EMPTIED_MS = 1_300;

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

export class Run {
  readonly #rig: ModelRig;
  readonly #model: Endpoint;
  readonly #options: RunOptions;
  readonly #counters: Counters;
  readonly #sourcePorts = new Map<string, number>();
  readonly #events: string[] = [];

  private constructor(rig: ModelRig, counters: Counters, options: RunOptions) {
    this.#rig = rig;
    this.#counters = counters;
    this.#model = freshModel();
    this.#options = options;
  }

  /** Throws `Disagreement`. */
  static async scenario(rig: ModelRig, actions: readonly Action[], options: RunOptions): Promise<Run> {
    await rig.reset();
    const run = new Run(rig, new Counters(await rig.client.request('stats', {})), options);
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
    return this.#counters.expected;
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
    const { network } = action;
    for (const miss of outcome.misses) this.#events.push(`miss ${text({ network, ...miss })}`);
    this.#counters.fromTap(network, outcome);
    step.sent.push(...outcome.sent.map((sent) => ({ ...sent, payload: Buffer.from(sent.payload) })));
    const back = [...outcome.replies, ...outcome.tooBig];
    step.frames.push(...back.map((each) => ({ network, frame: each, cut: false })));
    step.answers += outcome.tooBig.length;
  }

  #predictWire(step: Step, action: Action & { kind: 'wire' }): void {
    const { outer, payload } = action;
    // The kernel's business before any socket sees it (§2.4; RFC 8200 §8.1).
    if (outer.checksum === 'wrong') {
      this.#counters.badChecksum();
      return;
    }
    const { source, port } = outer;
    const checksum = outer.checksum !== 'zero';
    const outcome = this.#model.fromWire({ source, port, ecn: outer.tos & 3, checksum, payload });
    this.#counters.fromWire(outcome);
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
        const wrong = this.#counters.compare(await this.#rig.client.request('stats', {}));
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
