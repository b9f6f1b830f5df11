/** Congestion marks through the tunnel (reference §2.8, RFC 6040). */
import type { DropReason } from '../../src/dataplane/protocol.ts';
import { updateChecksum } from './bytes.ts';
import { ethernetOf, IPV4, IPV6 } from './packet.ts';

/** Rows: inner; columns: outer Not-ECT, ECT(1), ECT(0), CE. */
const DECAPSULATION: readonly (readonly (number | 'drop')[])[] = [
  [0, 0, 0, 'drop'],
  [1, 1, 1, 3],
  [2, 1, 2, 3],
  [3, 3, 3, 3],
];

/** The outer ECN bits: the inner ones, CE as ECT(0); VLAN tags are looked through, what is no IP has none. */
export function outerEcn(frame: Buffer): number {
  const ethernet = ethernetOf(frame);
  if (ethernet === undefined || frame.length < ethernet.network + 2) return 0;
  const word = frame.readUInt16BE(ethernet.network);
  const inner = ethernet.type === IPV4 ? word & 3 : ethernet.type === IPV6 ? (word >> 4) & 3 : 0;
  return inner === 3 ? 2 : inner;
}

/** The frame as it is delivered. Only untagged IP is looked at; an IPv4 header checksum that was right stays right. */
export function decapsulate(frame: Buffer, outer: number): Buffer | { readonly drop: DropReason } {
  const ethernet = ethernetOf(frame);
  if (ethernet === undefined || ethernet.tagged) return frame;
  if (ethernet.type !== IPV4 && ethernet.type !== IPV6) return frame;
  const at = ethernet.network;
  const shift = ethernet.type === IPV4 ? 0 : 4;
  const before = frame.readUInt16BE(at);
  const mark = DECAPSULATION[(before >> shift) & 3]?.[outer];
  if (mark === 'drop' || mark === undefined) return { drop: 'rx_ecn' };
  const after = (before & ~(3 << shift)) | (mark << shift);
  if (after === before) return frame;
  const marked = Buffer.from(frame);
  marked.writeUInt16BE(after, at);
  if (ethernet.type === IPV4) marked.writeUInt16BE(updateChecksum(frame.readUInt16BE(at + 10), before, after), at + 10);
  return marked;
}
