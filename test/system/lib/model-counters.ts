/**
 * Counters by name, such as `m1 rx packets` or `drop rx_short`: by how much the model says that each moves, against how much
 * the real endpoint's have moved since the start.
 */
import type { NetworkStats, Stats } from '../../../src/dataplane/protocol.ts';
import type { FromTap, FromWire } from '../../model/endpoint.ts';
import { transportOf } from '../../model/packet.ts';

type Values = Map<string, number>;

export class Counters {
  readonly #base: ReadonlyMap<string, number>;
  readonly #expected: Values = new Map();
  /** By how much a counter may be less than expected. */
  readonly #slack: Values = new Map();

  /** From what the real endpoint's are now. */
  constructor(stats: Stats) {
    this.#base = valuesOf(stats);
  }

  /** By how much each is to move. */
  get expected(): ReadonlyMap<string, number> {
    return this.#expected;
  }

  fromTap(network: string, { sent, replies, tooBig, drops }: FromTap): void {
    for (const { payload } of sent) this.#traffic(network, 'tx', payload.length - 8);
    for (const reply of replies) this.#count(`${network} ${reply.length === 42 ? 'arp' : 'nd'} replies`);
    if (tooBig.length > 0) this.#count(`${network} too big replies`, tooBig.length);
    for (const reason of drops) this.#count(`${network} drop ${reason}`);
  }

  fromWire({ network, frames, drop, partialChecksum, superframe }: FromWire): void {
    if (drop !== undefined) this.#count(`${network === undefined ? '' : `${network} `}drop ${drop}`);
    if (network === undefined) return;
    for (const frame of frames) {
      this.#traffic(network, 'rx', frame.length);
      // A segment that is joined with others leaves its padding behind.
      const padding = frame.length - (transportOf(frame)?.end ?? frame.length);
      this.#allow(`${network} rx bytes`, padding);
    }
    if (partialChecksum === true) this.#count(`${network} partial checksums`);
    if (superframe === true) this.#count(`${network} whole superframes`);
  }

  /** The socket counts a wrong checksum among its drops (sk_drops) if it is long enough not to be checked before. */
  badChecksum(): void {
    this.#count('bad checksums');
    this.#allow('bad checksums', 1);
  }

  /** What the real endpoint's say otherwise. */
  compare(stats: Stats): string[] {
    const now = valuesOf(stats);
    const names = new Set([...this.#expected.keys(), ...now.keys()]);
    return [...names].flatMap((name) => {
      const [expected, moved] = [this.#expected.get(name) ?? 0, (now.get(name) ?? 0) - (this.#base.get(name) ?? 0)];
      const least = expected - (this.#slack.get(name) ?? 0);
      return moved <= expected && moved >= least
        ? []
        : [`counter "${name}" moved by ${moved}, the model says ${expected}`];
    });
  }

  #traffic(network: string, way: 'rx' | 'tx', frameLength: number): void {
    this.#count(`${network} ${way} packets`);
    this.#count(`${network} ${way} bytes`, frameLength - 14);
  }

  #count(name: string, by = 1): void {
    this.#expected.set(name, (this.#expected.get(name) ?? 0) + by);
  }

  #allow(name: string, less: number): void {
    this.#slack.set(name, (this.#slack.get(name) ?? 0) + less);
  }
}

function valuesOf(stats: Stats): Values {
  const values: Values = new Map();
  for (const [reason, count] of Object.entries(stats.drops)) values.set(`drop ${reason}`, count ?? 0);
  values.set('socket overflows', stats.socket_overflows);
  values.set('bad checksums', stats.bad_checksums ?? 0);
  for (const network of stats.networks) putNetwork(values, network);
  return values;
}

function putNetwork(values: Values, stats: NetworkStats): void {
  const { network } = stats;
  for (const [reason, count] of Object.entries(stats.drops)) values.set(`${network} drop ${reason}`, count ?? 0);
  values.set(`${network} rx packets`, stats.rx.packets);
  values.set(`${network} rx bytes`, stats.rx.bytes);
  values.set(`${network} tx packets`, stats.tx.packets);
  values.set(`${network} tx bytes`, stats.tx.bytes);
  values.set(`${network} arp replies`, stats.arp_replies);
  values.set(`${network} nd replies`, stats.nd_replies);
  values.set(`${network} too big replies`, stats.too_big_replies ?? 0);
  values.set(`${network} partial checksums`, stats.partial_checksums);
  values.set(`${network} whole superframes`, stats.whole_superframes);
}
