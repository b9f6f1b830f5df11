/**
 * Where the endpoint differs from the kernel's device on purpose: one list, which docs/semantics.md repeats in words. The
 * judge (model-kernel.ts) holds the kernel to `kernel` in these cases, and to the model in all others.
 */
import type { FromTap, FromWire } from '../../model/endpoint.ts';
import { GSO_UDP_L4 } from '../../model/offload.ts';
import { ethernetOf, ICMP, ICMPV6, IPV4, IPV6, ipOf, QINQ, VLAN } from '../../model/packet.ts';
import type { Action } from './model-actions.ts';
import { networkOf } from './model-world.ts';

/** What the model said of an action. */
export type Ours =
  | { readonly kind: 'tap'; readonly outcome: FromTap }
  | { readonly kind: 'wire'; readonly outcome: FromWire };

/** What came out of the kernel for it. */
export interface KernelOutcome {
  /** Inner frames that left, one for each datagram. */
  readonly sent: readonly Buffer[];
  /** Frames on the device itself. */
  readonly frames: readonly Buffer[];
}

type FromHost = Action & { readonly kind: 'tap' };

export interface Difference {
  readonly name: string;
  /** Section of the reference. */
  readonly section: string;
  readonly reason: string;
  applies(action: Action, ours: Ours): boolean;
  /** True if the kernel did what it is known to do. */
  kernel(outcome: KernelOutcome, action: Action, ours: Ours): boolean;
}

function silent({ sent, frames }: KernelOutcome): boolean {
  return sent.length === 0 && frames.length === 0;
}

function isForwarded({ sent, frames }: KernelOutcome, action: Action): boolean {
  return frames.length === 0 && action.kind === 'tap' && sent.every((frame) => frame.equals(action.frame));
}

/** As it came, but for its MACs. */
function isRedirected({ sent, frames }: KernelOutcome, action: Action): boolean {
  return (
    frames.length === 0 &&
    action.kind === 'tap' &&
    sent.every((frame) => frame.subarray(12).equals(action.frame.subarray(12)))
  );
}

/** A frame from the host that we drop because it does not fit. */
function isTooBig(action: Action, ours: Ours): action is FromHost {
  return action.kind === 'tap' && ours.kind === 'tap' && ours.outcome.drops[0] === 'tx_too_big';
}

/** Its sender gets our ICMP error. */
function isTold(action: Action, ours: Ours): action is FromHost {
  return action.kind === 'tap' && ours.kind === 'tap' && ours.outcome.tooBig.length > 0;
}

/** With our ICMP error, any number of times. */
function isAnswered({ sent, frames }: KernelOutcome, action: Action, ours: Ours): boolean {
  return (
    sent.length === 0 &&
    ours.kind === 'tap' &&
    frames.every((frame) => isSameAnswer(frame, ours.outcome.tooBig[0], action))
  );
}

/** With ICMP errors that we do not send, any number of them. */
function isToldAnyhow({ sent, frames }: KernelOutcome): boolean {
  return sent.length === 0 && frames.every((frame) => [ICMP, ICMPV6].includes(ipOf(frame)?.protocol ?? -1));
}

function isAdvertisement(frame: Buffer | undefined): boolean {
  return frame?.length === 86 && frame.readUInt16BE(12) === 0x86dd && frame[54] === 136;
}

/** Exactly the inner frame, whatever its checksums are. */
function verbatim({ sent, frames }: KernelOutcome, action: Action): boolean {
  if (action.kind !== 'wire' || sent.length > 0 || frames.length !== 1) return false;
  const inner = action.payload.subarray(8);
  const at = ethernetOf(inner)?.network ?? 0;
  // The congestion mark may have been carried over: the first two bytes and the header checksum of an IPv4 packet.
  const bare = (frame: Buffer): string => frame.toString('hex', at + 12);
  return frames[0]?.length === inner.length && bare(frames[0]) === bare(inner);
}

/** What the kernel walks over: hop-by-hop, routing, fragment, authentication, none, destination options (ipv6_ext_hdr). */
const EXTENSIONS = [0, 43, 44, 51, 59, 60];

export const DIFFERENCES: readonly Difference[] = [
  {
    name: 'a frame from the host without its whole IP header is carried like any other',
    section: '2.1',
    reason:
      'The kernel drops it since it must read the header for itself (skb_vlan_inet_prepare); for us it is payload.',
    applies: (action, ours) =>
      action.kind === 'tap' && ours.kind === 'tap' && ours.outcome.sent.length > 0 && hasCutHeader(action.frame),
    kernel: silent,
  },
  {
    name: 'a packet of the tunnel itself is not carried again',
    section: '2.1',
    reason:
      'A route of the underlay into the overlay would make one packet many, each longer than the last (RFC 2473 §4.1).',
    applies: (_action, ours) => ours.kind === 'tap' && ours.outcome.drops[0] === 'tx_recursion',
    // With `rsc` it may have got other addresses.
    kernel: isRedirected,
  },
  {
    name: 'only IP packets are short-circuited',
    section: '2.7',
    reason:
      'The kernel reads the address behind an IP type whatever the version and the lengths say (route_shortcircuit); for us it is payload.',
    applies: (action) => action.kind === 'tap' && networkOf(action.network).rsc === true && isNoPacket(action.frame),
    // It may know nobody at the new MAC, or find that it does not fit.
    kernel: (outcome, action) => isRedirected(outcome, action) || isToldAnyhow(outcome),
  },
  {
    name: 'the sender of a tagged frame is told, too, that it does not fit',
    section: '2.9',
    reason: 'The kernel does not look behind a tag that is part of the frame: its sender would wait for ever.',
    applies: (action, ours) => isTold(action, ours) && ethernetOf(action.frame)?.tagged === true,
    kernel: silent,
  },
  {
    name: 'a sender is told once that its frame does not fit',
    section: '2.9',
    reason: 'Of the narrowest way. The kernel tells it for each destination that the frame has.',
    applies: (action, ours) => ours.kind === 'tap' && isTold(action, ours) && ours.outcome.drops.length > 1,
    kernel: isAnswered,
  },
  {
    name: 'ICMP messages of unknown types get no ICMP error',
    section: '2.9',
    reason:
      'They may be errors (RFC 1122 §3.2.2; RFC 4443 §2.1: types below 128). The kernel asks for the ones that it knows.',
    applies: (action, ours) =>
      isTooBig(action, ours) && [ICMP, ICMPV6].includes(ipOf(action.frame)?.protocol ?? -1) && !isTold(action, ours),
    kernel: isToldAnyhow,
  },
  {
    name: 'only IP packets get an ICMP error',
    section: '2.9',
    reason:
      'The kernel answers what has an IP type whatever the version and the lengths say (skb_tunnel_check_pmtu); for us it is payload.',
    applies: (action, ours) => isTooBig(action, ours) && isNoPacket(action.frame),
    kernel: isToldAnyhow,
  },
  {
    name: 'whether an ICMP error may answer IPv6 extension headers is asked where they are',
    section: '2.9',
    reason:
      'The kernel looks for them 14 bytes too early, within the destination address (iptunnel_pmtud_check_icmpv6), and answers or not.',
    applies: (action, ours) =>
      isTooBig(action, ours) &&
      ethernetOf(action.frame)?.type === IPV6 &&
      EXTENSIONS.includes(ipOf(action.frame)?.protocol ?? -1),
    kernel: (outcome, action, ours) =>
      isTold(action, ours)
        ? isAnswered(outcome, action, ours)
        : outcome.sent.length === 0 && outcome.frames.every((frame) => ipOf(frame)?.protocol === ICMPV6),
  },
  {
    name: 'an ICMP error quotes what a wire would have carried',
    section: '2.9',
    reason:
      'The kernel quotes a checksum that the sender left to "hardware" as it is, and a superframe with its own length.',
    applies: (action, ours) => isTold(action, ours) && action.virtio.checksum !== undefined,
    kernel: (outcome, action, ours) => outcome.frames.length === 1 && isAnswered(outcome, action, ours),
  },
  {
    name: 'an ICMP error quotes no padding',
    section: '2.9',
    reason: 'What follows the packet in its frame is no part of it. The kernel quotes the frame to its end.',
    applies: (action, ours) => isTold(action, ours) && isPadded(action.frame),
    kernel: isToldAnyhow,
  },
  {
    name: 'a third VLAN tag is not looked through',
    section: '2.8',
    reason: 'Two are all that 802.1Q stacks in practice; only the outer congestion mark depends on it.',
    applies: (action, ours) =>
      action.kind === 'tap' && ours.kind === 'tap' && ours.outcome.sent.length > 0 && hasThreeTags(action.frame),
    kernel: isForwarded,
  },
  {
    name: 'where there is no TTL to inherit, a group gets one hop',
    section: '2.8',
    reason:
      'One hop is what a group gets where nobody said anything; the kernel sends 64 if it was told to inherit and cannot.',
    applies: (action, ours) =>
      action.kind === 'tap' &&
      ours.kind === 'tap' &&
      networkOf(action.network).ttl === 'inherit' &&
      ours.outcome.sent.some(({ to, ttl }) => to.startsWith('239.') && ttl === 1),
    kernel: isForwarded,
  },
  {
    name: 'an ARP announcement is never answered',
    section: '2.5',
    reason: 'It is no question. The kernel looks the address up like any other, and answers where it has a neighbour.',
    applies: (action, ours) =>
      action.kind === 'tap' &&
      ours.kind === 'tap' &&
      ours.outcome.drops[0] === 'tx_arp_swallowed' &&
      isAnnouncement(action.frame),
    kernel: ({ sent, frames }) => sent.length === 0 && frames.every((frame) => frame.length === 42),
  },
  {
    name: 'solicitations are checked',
    section: '2.6',
    reason:
      'RFC 4861 §7.1.1: hop limit 255, checksum, addresses, every option. The kernel answers what an attacker routed here, and parses ' +
      'what is cut (CVE-2026-31738).',
    applies: (_action, ours) => ours.kind === 'tap' && ours.outcome.drops[0] === 'tx_nd_malformed',
    // One that the frame cuts short it forwards.
    kernel: (outcome, action) =>
      silent(outcome) ||
      isForwarded(outcome, action) ||
      (outcome.sent.length === 0 && isAdvertisement(outcome.frames[0])),
  },
  {
    name: 'a message is as long as its IPv6 header says',
    section: '2.6',
    reason:
      'The kernel takes padding behind the packet for options, and for the message itself where the packet is too short for one.',
    applies: (action, ours) => action.kind === 'tap' && ours.kind === 'tap' && isSolicitationBehindItsEnd(action),
    kernel: (outcome) => silent(outcome) || (outcome.sent.length === 0 && isAdvertisement(outcome.frames[0])),
  },
  {
    name: 'duplicate address detection is answered to all nodes',
    section: '2.6',
    reason:
      'RFC 4861 §7.2.4. The kernel answers to "::" with the solicited flag, which hosts discard: duplicates go unnoticed.',
    applies: (action, ours) =>
      ours.kind === 'tap' &&
      isAdvertisement(ours.outcome.replies[0]) &&
      action.kind === 'tap' &&
      isFromNobody(action.frame),
    kernel: ({ sent, frames }) =>
      sent.length === 0 && isAdvertisement(frames[0]) && frames[0]?.toString('hex', 38, 54) === '0'.repeat(32),
  },
  {
    name: 'the whole traffic class is copied into an advertisement',
    section: '2.6',
    reason: 'The kernel copies its upper four bits (the old "priority" field), which cuts a DSCP in two.',
    applies: (action, ours) =>
      action.kind === 'tap' &&
      ours.kind === 'tap' &&
      isAdvertisement(ours.outcome.replies[0]) &&
      (action.frame.readUInt16BE(14) & 0xf0) !== 0,
    kernel: ({ sent, frames }) => sent.length === 0 && isAdvertisement(frames[0]) && frames[0]?.[15] === 0,
  },
  {
    name: 'only delivered frames teach',
    section: '2.3',
    reason:
      'The kernel learns before it looks at the congestion mark and the IP header: a frame that is dropped can still move an entry.',
    applies: (_action, ours) =>
      ours.kind === 'wire' && (ours.outcome.drop === 'rx_ecn' || ours.outcome.drop === 'rx_inner_truncated'),
    kernel: silent,
  },
  {
    name: 'an IPv4 checksum of zero is written as zero',
    section: '2.8',
    reason:
      'The kernel patches it for the congestion mark and may write 0xffff, the other zero of ones complement (IP_ECN_set_ce).',
    applies: (_action, ours) =>
      ours.kind === 'wire' &&
      ours.outcome.partialChecksum !== true &&
      ours.outcome.superframe !== true &&
      ours.outcome.frames.some((frame) => zeroChecksum(frame) !== undefined),
    kernel: ({ sent, frames }, _action, ours) =>
      sent.length === 0 &&
      ours.kind === 'wire' &&
      frames.length === ours.outcome.frames.length &&
      frames.every(
        (frame, at) =>
          frame.equals(ours.outcome.frames[at] ?? frame) ||
          frame.equals(zeroChecksum(ours.outcome.frames[at]) ?? frame),
      ),
  },
  {
    name: 'partial checksums are completed',
    section: '2.11',
    reason:
      'The kernel device knows from its own metadata what a socket must guess; a frame with a partial checksum is lost at the host.',
    applies: (_action, ours) =>
      ours.kind === 'wire' && ours.outcome.partialChecksum === true && ours.outcome.superframe !== true,
    kernel: verbatim,
  },
  {
    name: 'TCP frames longer than the MTU are cut',
    section: '2.11',
    reason: 'They are superframes of a sender that shares our kernel; the host takes them as segments of its MTU.',
    applies: (_action, ours) => ours.kind === 'wire' && ours.outcome.superframe === true,
    kernel: verbatim,
  },
];

/** A frame whose IPv4 checksum is zero, with 0xffff there. */
function zeroChecksum(frame: Buffer | undefined): Buffer | undefined {
  const { type, network = 14 } = (frame === undefined ? undefined : ethernetOf(frame)) ?? {};
  if (frame === undefined || type !== IPV4 || frame.length < network + 20 || frame.readUInt16BE(network + 10) !== 0)
    return;
  const other = Buffer.from(frame);
  other.writeUInt16BE(0xffff, network + 10);
  return other;
}

/** Equal where both must be. */
function isSameAnswer(one: Buffer | undefined, other: Buffer | undefined, action: Action): boolean {
  if (one === undefined || other === undefined || action.kind !== 'tap') return false;
  return comparable(one, action).equals(comparable(other, action));
}

/**
 * An ICMP error with zeros for the quoted L4 checksum and its own, and of a superframe, whose first segment we quote, also for the quoted
 * lengths, IPv4 checksum and TCP flags.
 */
function comparable(answer: Buffer, { frame, virtio }: FromHost): Buffer {
  const bytes = Buffer.from(answer);
  const blank = (at: number, length: number): unknown => bytes.subarray(at, at + length).fill(0);
  const { network = 14, type } = ethernetOf(bytes) ?? {};
  const icmp = network + (type === IPV6 ? 40 : 20);
  const quoted = icmp + 8;
  blank(icmp + 2, 2);
  if (virtio.checksum === undefined) return bytes;
  const { start, offset } = virtio.checksum;
  const transport = quoted + start - (ethernetOf(frame)?.network ?? 14);
  blank(transport + offset, 2);
  if (virtio.gso === undefined) return bytes;
  blank(quoted + (type === IPV6 ? 4 : 2), 2);
  if (type === IPV4) blank(quoted + 10, 2);
  if (virtio.gso.kind === GSO_UDP_L4) blank(transport + 4, 2);
  else blank(transport + 13, 1);
  return bytes;
}

/** Tags are looked through, any number. */
function hasCutHeader(frame: Buffer): boolean {
  let at = 12;
  while (at + 4 <= frame.length && (frame.readUInt16BE(at) === VLAN || frame.readUInt16BE(at) === QINQ)) at += 4;
  if (at + 2 > frame.length) return false;
  const room = frame.length - at - 2;
  const type = frame.readUInt16BE(at);
  return (type === IPV4 && room < 20) || (type === IPV6 && room < 40);
}

/** Of an IP type, but not with a header that makes sense. */
function isNoPacket(frame: Buffer): boolean {
  const { type, tagged } = ethernetOf(frame) ?? { type: 0, tagged: true };
  return !tagged && (type === IPV4 || type === IPV6) && ipOf(frame) === undefined;
}

function isPadded(frame: Buffer): boolean {
  const packet = ipOf(frame)?.packet.length ?? frame.length;
  return packet < frame.length - (ethernetOf(frame)?.network ?? 0);
}

/** A request whose sender asks for its own address. */
function isAnnouncement(frame: Buffer): boolean {
  return frame.readUInt16BE(20) === 1 && frame.readUInt32BE(28) === frame.readUInt32BE(38);
}

function hasThreeTags(frame: Buffer): boolean {
  const isTag = (type: number): boolean => type === VLAN || type === QINQ;
  return frame.length >= 26 && [12, 16, 20].every((at) => isTag(frame.readUInt16BE(at)));
}

function isSolicitationBehindItsEnd({ network, frame }: Action & { kind: 'tap' }): boolean {
  if (!networkOf(network).proxy || frame.length < 14 + 40 + 24 || frame.readUInt16BE(12) !== IPV6) return false;
  return frame[20] === 58 && frame.readUInt16BE(18) < frame.length - 54 && frame[54] === 135 && frame[55] === 0;
}

function isFromNobody(frame: Buffer): boolean {
  return frame.toString('hex', 22, 38) === '0'.repeat(32);
}
