/**
 * ICMP echo as bytes, of both families: requests built, answers and errors read. Pure. Sizes are those of whole IP packets.
 */
import { type Family, familyOf, type Ip, parseIp } from '../net/ip.ts';

/** ICMP header, RFC 792 and RFC 4443. */
const ICMP_HEADER = 8;
const HEADER = { 4: 20, 6: 40 } as const;

/** Type numbers of RFC 792 and RFC 4443. */
const TYPES = {
  4: { request: 8, reply: 0, unreachable: 3, exceeded: 11 },
  6: { request: 128, reply: 129, unreachable: 1, exceeded: 3 },
} as const;
/** RFC 1191: a code of `unreachable`. RFC 4443: a type. */
const FRAGMENTATION_NEEDED = 4;
const PACKET_TOO_BIG = 2;

/** Of all echo requests that somebody on this host may be sending, ours. */
export interface EchoId {
  readonly to: Ip;
  readonly id: number;
}

export type EchoMessage =
  | { readonly kind: 'reply'; readonly sequence: number; readonly size: number }
  /** `mtu` 0: the router does not say it (RFC 1191 section 5). */
  | { readonly kind: 'too-big'; readonly sequence: number; readonly mtu: number }
  | { readonly kind: 'unreachable'; readonly sequence: number; readonly reason: string };

/** The shortest IP packet that carries an echo request. */
export function leastSize(family: Family): number {
  return HEADER[family] + ICMP_HEADER;
}

/** The largest IP packet there is. */
export function mostSize(family: Family): number {
  return family === 4 ? 65_535 : 65_535 + HEADER[6];
}

/** The ICMP part of a packet of `size` bytes. The kernel fills in the checksum of ICMPv6 (RFC 3542 section 3.1). */
export function echoRequest({ to, id }: EchoId, sequence: number, size: number): Buffer {
  const family = familyOf(to);
  const message = Buffer.alloc(size - HEADER[family]);
  message.writeUInt8(TYPES[family].request, 0);
  message.writeUInt16BE(id, 4);
  message.writeUInt16BE(sequence, 6);
  if (family === 4) message.writeUInt16BE(checksum(message), 2);
  return message;
}

/** Reads what a raw socket gives: over IPv4 with the IP header, over IPv6 without. `undefined`: it is not about ours. */
export function readEcho(of: EchoId, bytes: Buffer, source: string): EchoMessage | undefined {
  const family = familyOf(of.to);
  const message = family === 4 ? payloadOf(bytes) : bytes;
  if (message === undefined || message.length < ICMP_HEADER) return undefined;
  const type = message.readUInt8(0);
  const code = message.readUInt8(1);
  const types = TYPES[family];
  if (type === types.reply) {
    if (!isFrom(source, of.to) || message.readUInt16BE(4) !== of.id) return undefined;
    return { kind: 'reply', sequence: message.readUInt16BE(6), size: HEADER[family] + message.length };
  }
  const sequence = quotedSequence(of, message.subarray(ICMP_HEADER));
  if (sequence === undefined) return undefined;
  if (family === 4 && type === types.unreachable && code === FRAGMENTATION_NEEDED)
    return { kind: 'too-big', sequence, mtu: message.readUInt16BE(6) };
  if (family === 6 && type === PACKET_TOO_BIG) return { kind: 'too-big', sequence, mtu: message.readUInt32BE(4) };
  if (type === types.exceeded) return { kind: 'unreachable', sequence, reason: `${source}: time exceeded (a loop?)` };
  if (type !== types.unreachable) return undefined;
  const why = (family === 4 ? UNREACHABLE4 : UNREACHABLE6)[code] ?? `unreachable, code ${code}`;
  return { kind: 'unreachable', sequence, reason: `${source}: ${why}` };
}

const UNREACHABLE4: Readonly<Record<number, string>> = {
  0: 'network unreachable',
  1: 'host unreachable',
  2: 'protocol unreachable',
  9: 'network administratively prohibited',
  10: 'host administratively prohibited',
  13: 'administratively prohibited',
};

const UNREACHABLE6: Readonly<Record<number, string>> = {
  0: 'no route',
  1: 'administratively prohibited',
  3: 'address unreachable',
  5: 'source address refused',
  6: 'route rejected',
};

/** Only an error that quotes our request counts: anybody can send one. */
function quotedSequence({ to, id }: EchoId, quoted: Buffer): number | undefined {
  const family = familyOf(to);
  if (quoted.length < HEADER[family]) return undefined;
  const inner = family === 4 ? payloadOf(quoted) : quoted.subarray(HEADER[6]);
  const protocol = family === 4 ? quoted.readUInt8(9) : quoted.readUInt8(6);
  const destination = family === 4 ? quoted.subarray(16, 20).join('.') : groups(quoted.subarray(24, 40));
  if (inner === undefined || inner.length < ICMP_HEADER || protocol !== (family === 4 ? 1 : 58)) return undefined;
  if (!isFrom(destination, to) || inner.readUInt8(0) !== TYPES[family].request) return undefined;
  return inner.readUInt16BE(4) === id ? inner.readUInt16BE(6) : undefined;
}

/** What follows an IPv4 header. */
function payloadOf(packet: Buffer): Buffer | undefined {
  if (packet.length < HEADER[4]) return undefined;
  const header = (packet.readUInt8(0) & 0x0f) * 4;
  return header < HEADER[4] ? undefined : packet.subarray(header);
}

function groups(bytes: Buffer): string {
  return Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16)).join(':');
}

function isFrom(text: string, ip: Ip): boolean {
  try {
    return parseIp(text.split('%', 1)[0] ?? '') === ip;
  } catch {
    return false;
  }
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at + 1 < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  if (bytes.length % 2 === 1) sum += (bytes.at(-1) ?? 0) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
