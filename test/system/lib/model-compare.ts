/** What was expected against what came, flow by flow. */
import { DYNAMIC_PORTS } from '../../model/endpoint.ts';
import { onTheWire } from '../../model/offload.ts';
import { flowOf, transportOf } from '../../model/packet.ts';
import { vxlanWords, words } from '../../model/words.ts';
import type { Captured } from './model-frames.ts';
import type { OuterDatagram } from './model-outer.ts';

/** A frame on a TAP. `cut`: it is a segment of a superframe that the endpoint delivered. */
export interface Seen {
  readonly network: string;
  readonly frame: Buffer;
  readonly cut: boolean;
  /** Its virtio header contradicts it. */
  readonly broken?: boolean;
}

/** The kernel's VLAN untagging drops a frame whose tag is followed by less than a header's start, before anybody sees it. */
export function visible(frame: Buffer): boolean {
  const type = frame.readUInt16BE(12);
  return (type !== 0x8100 && type !== 0x88a8) || frame.length >= 14 + 6;
}

export function compareFrames(expected: readonly Seen[], seen: readonly Seen[], ordered: boolean): string[] {
  const flow = ({ network, frame }: Seen): string => `${network} ${flowOf(frame)}`;
  const text = ({ network, frame, broken }: Seen): string =>
    `on ${network}: ${words(frame)}${broken === true ? ' with an impossible virtio header' : ''} ${hex(frame)}`;
  const same = (model: Seen, real: Seen): boolean => {
    if (model.network !== real.network || real.broken === true) return false;
    return real.cut ? joined(model.frame).equals(joined(real.frame)) : model.frame.equals(real.frame);
  };
  return compareFlows('frame', expected, seen, ordered ? flow : (item) => `${flow(item)} ${hexOf(item)}`, text, same);
}

/** Tells the frames of one flow apart where their order does not count. */
function hexOf({ frame }: Seen): string {
  return joined(frame).toString('hex');
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

/** The frames that a host's stack would see. */
export function seenFrames(network: string, captured: readonly Captured[]): Seen[] {
  return captured.flatMap(({ frame, virtio }): Seen[] => {
    const whole = onTheWire(frame, virtio);
    if (whole === undefined) return [{ network, frame, cut: false, broken: true }];
    return whole.map((each) => ({ network, frame: each, cut: virtio.gso !== undefined }));
  });
}

/** Without its source port: a flow of one network keeps one. */
export function datagramFlow({ via, payload, source, to, port }: Either): string {
  return `${via ?? ''} ${source} ${to} ${port} ${payload.toString('hex', 0, 8)} ${flowOf(payload.subarray(8))}`;
}

/** What the model expects: of the source port only in which range it is. */
export type Expected = Omit<OuterDatagram, 'sourcePort'> & {
  readonly ports: { readonly min: number; readonly max: number };
};

type Either = Omit<OuterDatagram, 'sourcePort'> & { readonly sourcePort?: number; readonly ports?: Expected['ports'] };

/** Everything, but of the source port only its range. */
export function compareDatagrams(
  expected: readonly Expected[],
  seen: readonly OuterDatagram[],
  ordered: boolean,
): string[] {
  const header = ({ via, source, to, port, tos, ttl, df, flowlabel, checksum }: Either): string => {
    const where = `${source} > ${to}:${port}${via === undefined ? '' : ` by ${via}`}`;
    const label = flowlabel === 0 ? '' : ` label 0x${flowlabel.toString(16)}`;
    return `${where} tos ${tos} ttl ${ttl}${df ? ' DF' : ''}${label} checksum ${checksum}`;
  };
  const bytes = (one: Either): string => `${header(one)}: ${vxlanWords(one.payload)} ${hex(one.payload)}`;
  const from = ({ sourcePort, ports }: Either): string =>
    sourcePort === undefined ? `one of ${ports?.min}-${(ports?.max ?? 0) - 1}` : `${sourcePort}`;
  const text = (one: Either): string => `from ${from(one)}, ${bytes(one)}`;
  const isFrom = (port = 0, { min, max }: Expected['ports'] = DYNAMIC_PORTS): boolean => port >= min && port < max;
  // Networks with source ports of their own have their own order.
  const ranges = expected.map(({ ports }) => ports);
  const pool = ({ sourcePort, ports }: Either): Expected['ports'] | undefined =>
    ports ?? ranges.find((range) => isFrom(sourcePort, range));
  const flow = (one: Either): string => `${pool(one)?.min} ${datagramFlow(one)}`;
  const same = (model: Either, real: Either): boolean =>
    header(model) === header(real) && isFrom(real.sourcePort, model.ports) && model.payload.equals(real.payload);
  return compareFlows<Either>('datagram', expected, seen, ordered ? flow : bytes, text, same);
}

/** Bytes for a person: what is long has its headers in front. */
function hex(bytes: Buffer): string {
  return bytes.length > 200 ? `${bytes.toString('hex', 0, 200)}...` : bytes.toString('hex');
}
