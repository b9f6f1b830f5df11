/**
 * What tells an inner sender that its packet does not fit (reference §2.9; the kernel's `iptunnel_pmtud_build_icmp`): it seems to come
 * from the packet's destination, goes back the way that the frame came, tags included, and quotes what fits 576 or 1280 bytes.
 */
import { complement, onesSum } from './bytes.ts';
import { ethernetOf, ICMP, ICMPV6, type IpPacket, ipOf } from './packet.ts';

const FRAGMENT_HEADER = 44;
const AUTHENTICATION_HEADER = 51;
/** Hop-by-hop options, routing, destination options: their second byte counts eights behind the first. */
const EIGHTS: readonly number[] = [0, 43, 60];
const REDIRECT = 137;
/** RFC 1122 §3.2.2: messages that ask; all others are errors, or unknown, and get no error. */
const QUERIES: readonly number[] = [0, 8, 9, 10, 13, 14, 15, 16, 17, 18];

/** The answer to a frame whose IP packet may have `mtu` bytes; absent where the rules forbid one. */
export function tooBig(frame: Buffer, mtu: number): Buffer | undefined {
  const ip = ipOf(frame);
  if (ip === undefined || !mayBeAnswered(ip, mtu)) return undefined;
  const link = frame.subarray(0, ethernetOf(frame)?.network);
  const back = Buffer.concat([link.subarray(6, 12), link.subarray(0, 6), link.subarray(12)]);
  return Buffer.concat([back, ip.family === 4 ? fragmentationNeeded(ip, mtu) : packetTooBig(ip, mtu)]);
}

/** RFC 1122 §3.2.2, RFC 4443 §2.4: not to an error, not to or from a group or nobody, not about what may be fragmented. */
function mayBeAnswered({ family, source, destination, protocol, fragmentation, body }: IpPacket, mtu: number): boolean {
  if (family === 6) {
    const nobody = (address: string): boolean => address.startsWith('ff') || address === '::';
    return mtu >= 1280 && !nobody(source) && !nobody(destination) && !mayBeError6(protocol, body);
  }
  const kind = body[0];
  const first = (address: string): number => Number(address.split('.')[0]);
  const nobody = (address: string): boolean => first(address) >> 4 === 14 || address === '255.255.255.255';
  const isError = protocol === ICMP && !QUERIES.includes(kind ?? -1);
  const onlyDf = fragmentation === 0x4000;
  return onlyDf && !isError && !nobody(source) && !nobody(destination) && ![0, 127].includes(first(source));
}

/** RFC 4443 §2.4 (e.1, e.2), behind any extension headers (RFC 8200 §4); so may be a later fragment, and what is cut within them. */
function mayBeError6(protocol: number, body: Buffer): boolean {
  let [next, rest] = [protocol, body];
  for (;;) {
    const [first, second = 0] = rest;
    if (next === ICMPV6) return first === undefined || first < 128 || first === REDIRECT;
    const length = extensionLength(next, second);
    if (length === 0) return false;
    if (first === undefined || rest.length < Math.max(8, length)) return true;
    if (next === FRAGMENT_HEADER && rest.readUInt16BE(2) >= 8) return true;
    [next, rest] = [first, rest.subarray(length)];
  }
}

/** 0: no extension header, or none that leads anywhere. */
function extensionLength(protocol: number, second: number): number {
  if (EIGHTS.includes(protocol)) return (second + 1) * 8;
  if (protocol === AUTHENTICATION_HEADER) return (second + 2) * 4;
  return protocol === FRAGMENT_HEADER ? 8 : 0;
}

/** RFC 792, RFC 1191: type 3 code 4. */
function fragmentationNeeded({ packet }: IpPacket, mtu: number): Buffer {
  const message = Buffer.concat([Buffer.from([3, 4, 0, 0, 0, 0, 0, 0]), packet.subarray(0, 576 - 28)]);
  message.writeUInt16BE(Math.min(mtu, 0xffff), 6);
  message.writeUInt16BE(complement(onesSum(message)), 2);
  const header = Buffer.from('450000000000400000010000', 'hex');
  header.writeUInt16BE(20 + message.length, 2);
  // The packet's own TTL, as the kernel has it.
  header.writeUInt8(packet.readUInt8(8), 8);
  const addresses = Buffer.concat([packet.subarray(16, 20), packet.subarray(12, 16)]);
  header.writeUInt16BE(complement(onesSum(header, addresses)), 10);
  return Buffer.concat([header, addresses, message]);
}

/** RFC 4443 §3.2: type 2. */
function packetTooBig({ packet }: IpPacket, mtu: number): Buffer {
  const message = Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), packet.subarray(0, 1280 - 48)]);
  message.writeUInt32BE(mtu, 4);
  const addresses = Buffer.concat([packet.subarray(24, 40), packet.subarray(8, 24)]);
  const length = Buffer.from([0, 0, message.length >> 8, message.length & 255, 0, 0, 0, ICMPV6]);
  message.writeUInt16BE(complement(onesSum(addresses, length, message)), 2);
  const header = Buffer.from([0x60, 0, 0, 0, message.length >> 8, message.length & 255, ICMPV6, packet.readUInt8(7)]);
  return Buffer.concat([header, addresses, message]);
}
