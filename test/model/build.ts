/** Builds frames from what they are to say; every field that matters to the endpoint can be wrong on request. */
import { ipToBigInt, parseIp } from '../../src/net/ip.ts';
import { complement, macBytes, onesSum } from './bytes.ts';
import { ICMPV6, IPV4, IPV6, pseudoHeader, TCP, transportOf, UDP, writeChecksums } from './packet.ts';

export function ipBytes(ip: string): Buffer {
  const address = parseIp(ip);
  const size = address.includes(':') ? 16 : 4;
  return Buffer.from(
    ipToBigInt(address)
      .toString(16)
      .padStart(size * 2, '0'),
    'hex',
  );
}

export interface Tag {
  readonly kind: number;
  readonly id: number;
}

/** Ethernet header, tags, ethertype. */
export function ethernet(to: string, from: string, type: number, payload: Buffer, tags: readonly Tag[] = []): Buffer {
  const head = Buffer.alloc(tags.length * 4 + 2);
  for (const [at, { kind, id }] of tags.entries()) {
    head.writeUInt16BE(kind, at * 4);
    head.writeUInt16BE(id, at * 4 + 2);
  }
  head.writeUInt16BE(type, tags.length * 4);
  return Buffer.concat([macBytes(to), macBytes(from), head, payload]);
}

export interface IpFields {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly tos?: number;
  readonly ttl?: number;
  readonly id?: number;
  readonly df?: boolean;
}

/** An IP packet of the addresses' family, its header checksum right. */
export function ip(fields: IpFields, payload: Buffer): Buffer {
  const { source, destination, protocol, tos = 0, ttl = 64, id = 0, df = false } = fields;
  if (source.includes(':')) {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(((6 << 28) | (tos << 20)) >>> 0, 0);
    head.writeUInt16BE(payload.length, 4);
    head.writeUInt8(protocol, 6);
    head.writeUInt8(ttl, 7);
    return Buffer.concat([head, ipBytes(source), ipBytes(destination), payload]);
  }
  const head = Buffer.alloc(12);
  head.writeUInt8(0x45, 0);
  head.writeUInt8(tos, 1);
  head.writeUInt16BE(20 + payload.length, 2);
  head.writeUInt16BE(id, 4);
  head.writeUInt16BE(df ? 0x4000 : 0, 6);
  head.writeUInt8(ttl, 8);
  head.writeUInt8(protocol, 9);
  const header = Buffer.concat([head, ipBytes(source), ipBytes(destination)]);
  header.writeUInt16BE(complement(onesSum(header)), 10);
  return Buffer.concat([header, payload]);
}

export interface TcpFields {
  readonly sequence: number;
  readonly flags: number;
  /** In units of four bytes. */
  readonly options?: number;
}

export function tcp(ports: readonly [number, number], fields: TcpFields, payload: Buffer): Buffer {
  const head = Buffer.alloc(20 + (fields.options ?? 0) * 4, 1);
  head.writeUInt16BE(ports[0], 0);
  head.writeUInt16BE(ports[1], 2);
  head.writeUInt32BE(fields.sequence >>> 0, 4);
  head.writeUInt32BE(0x01020304, 8);
  head.writeUInt8((head.length / 4) << 4, 12);
  head.writeUInt8(fields.flags, 13);
  head.writeUInt16BE(0xfff0, 14);
  head.writeUInt32BE(0, 16);
  return Buffer.concat([head, payload]);
}

export function udp(ports: readonly [number, number], payload: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt16BE(ports[0], 0);
  head.writeUInt16BE(ports[1], 2);
  head.writeUInt16BE(8 + payload.length, 4);
  return Buffer.concat([head, payload]);
}

/** The type of the Ethernet frame that holds such a packet. */
export function etherTypeOf(packet: Buffer): number {
  return (packet[0] ?? 0) >> 4 === 6 ? IPV6 : IPV4;
}

/** Completes the checksums of a TCP or UDP frame, or leaves the L4 one partial as a sender does that counts on offload. */
export function sign(frame: Buffer, how: 'whole' | 'partial' = 'whole'): Buffer {
  const at = transportOf(frame);
  if (at === undefined) return frame;
  writeChecksums(frame, at);
  if (how === 'partial') frame.writeUInt16BE(onesSum(pseudoHeader(frame, at, at.end - at.transport)), at.checksum);
  return frame;
}

export interface ArpFields {
  readonly operation: number;
  readonly sender: readonly [mac: string, ip: string];
  readonly target: readonly [mac: string, ip: string];
  /** Hardware type, protocol type, lengths. */
  readonly kind?: string;
}

export function arp({ operation, sender, target, kind = '000108000604' }: ArpFields): Buffer {
  const head = Buffer.concat([Buffer.from(kind, 'hex'), Buffer.from([operation >> 8, operation & 255])]);
  return Buffer.concat([head, macBytes(sender[0]), ipBytes(sender[1]), macBytes(target[0]), ipBytes(target[1])]);
}

/** An ICMPv6 message with its checksum. */
export function icmpv6(fields: Omit<IpFields, 'protocol'>, message: Buffer): Buffer {
  const packet = ip({ ttl: 255, ...fields, protocol: ICMPV6 }, message);
  const body = packet.subarray(40);
  const length = Buffer.from([0, 0, body.length >> 8, body.length & 255, 0, 0, 0, ICMPV6]);
  if (body.length >= 4) {
    body.writeUInt16BE(0, 2);
    body.writeUInt16BE(complement(onesSum(packet.subarray(8, 40), length, body)), 2);
  }
  return packet;
}

/** Neighbour solicitation or, with another type, advertisement. */
export function neighbourMessage(type: number, code: number, target: string, options: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, code, 0, 0, 0, 0, 0, 0]), ipBytes(target), options]);
}

/** ff02::1:ffXX:XXXX of an address (RFC 4291 §2.7.1). */
export function solicitedNode(target: string): string {
  const last = ipBytes(target).subarray(13).toString('hex');
  return parseIp(`ff02::1:ff${last.slice(0, 2)}:${last.slice(2)}`);
}

export function vxlan(vni: number, frame: Buffer): Buffer {
  const header = Buffer.from('0800000000000000', 'hex');
  header.writeUIntBE(vni, 4, 3);
  return Buffer.concat([header, frame]);
}

export { TCP, UDP };
