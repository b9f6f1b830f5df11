/** Underlay packets: built around datagrams for the endpoint, and read (fragments put together) from what it sends. */
import { parseIp } from '../../../src/net/ip.ts';
import { ethernet, etherTypeOf, icmpv6, ip, udp } from '../../model/build.ts';
import { complement, ipAt, onesSum } from '../../model/bytes.ts';
import type { PathError } from '../../model/endpoint.ts';
import { onTheWire } from '../../model/offload.ts';
import { ICMP, IPV4, IPV6, UDP } from '../../model/packet.ts';
import type { Captured } from './model-frames.ts';

export interface OuterFields {
  readonly source: string;
  readonly to: string;
  readonly sourcePort: number;
  readonly port: number;
  readonly tos: number;
  readonly checksum: 'right' | 'zero' | 'wrong';
  /** In the order in which they are sent; what does not fit 1500 bytes is always cut. */
  readonly fragments: 'none' | 'in-order' | 'reversed';
}

const MTU = 1500;
let identification = 1;

/** The Ethernet frames that carry one datagram. */
export function outerFrames(fields: OuterFields, payload: Buffer, macs: { to: string; from: string }): Buffer[] {
  const { source, to, tos } = fields;
  const datagram = udp([fields.sourcePort, fields.port], payload);
  const header = { source, destination: to, protocol: UDP, tos, ttl: 64 };
  const [addressAt, addressEnd] = source.includes(':') ? [8, 40] : [12, 20];
  const pseudo = Buffer.concat([ip(header, Buffer.alloc(0)).subarray(addressAt, addressEnd), Buffer.alloc(8)]);
  pseudo.writeUInt32BE(datagram.length, pseudo.length - 8);
  pseudo.writeUInt8(UDP, pseudo.length - 1);
  const right = complement(onesSum(pseudo, datagram)) || 0xffff;
  const wrong = right === 1 ? 2 : right ^ 1;
  datagram.writeUInt16BE(fields.checksum === 'right' ? right : fields.checksum === 'zero' ? 0 : wrong, 6);
  const room = MTU - (source.includes(':') ? 48 : 20);
  const size = fields.fragments === 'none' ? room : Math.min(room, Math.ceil(datagram.length / 16 + 0.5) * 8);
  const packets = datagram.length <= size ? [ip(header, datagram)] : fragments(header, datagram, size & ~7);
  if (fields.fragments === 'reversed') packets.reverse();
  return packets.map((packet) => ethernet(macs.to, macs.from, etherTypeOf(packet), packet));
}

function fragments(header: Parameters<typeof ip>[0], datagram: Buffer, size: number): Buffer[] {
  identification = (identification + 1) & 0xffff;
  const packets: Buffer[] = [];
  for (let from = 0; from < datagram.length; from += size) {
    const more = from + size < datagram.length;
    const piece = datagram.subarray(from, from + size);
    if (header.source.includes(':')) {
      const extension = Buffer.alloc(8);
      extension.writeUInt8(header.protocol, 0);
      extension.writeUInt16BE(from | (more ? 1 : 0), 2);
      extension.writeUInt32BE(identification, 4);
      packets.push(ip({ ...header, protocol: 44 }, Buffer.concat([extension, piece])));
      continue;
    }
    const packet = ip({ ...header, id: identification }, piece);
    packet.writeUInt16BE((from / 8) | (more ? 0x2000 : 0), 6);
    packet.writeUInt16BE(0, 10);
    packet.writeUInt16BE(complement(onesSum(packet.subarray(0, 20))), 10);
    packets.push(packet);
  }
  return packets;
}

/** An Ethernet frame with the ICMP error about a datagram, as a router on the way sends it. */
export function pathErrorFrame(error: PathError, macs: { to: string; from: string }): Buffer {
  const { source, sourcePort, to, port, payload, mtu } = error;
  const length = 1_400;
  const datagram = udp([sourcePort, port], payload);
  datagram.writeUInt16BE(length, 4);
  const quoted = ip({ source, destination: to, protocol: UDP }, datagram);
  const head = Buffer.alloc(8);
  if (to.includes(':')) {
    quoted.writeUInt16BE(length, 4);
    head.writeUInt8(2, 0);
    head.writeUInt32BE(mtu, 4);
    const packet = icmpv6({ source: to, destination: source, ttl: 64 }, Buffer.concat([head, quoted]));
    return ethernet(macs.to, macs.from, IPV6, packet);
  }
  quoted.writeUInt16BE(20 + length, 2);
  quoted.writeUInt16BE(0, 10);
  quoted.writeUInt16BE(complement(onesSum(quoted.subarray(0, 20))), 10);
  head.writeUInt16BE(0x0304, 0);
  head.writeUInt16BE(mtu, 6);
  const message = Buffer.concat([head, quoted]);
  message.writeUInt16BE(complement(onesSum(message)), 2);
  return ethernet(macs.to, macs.from, IPV4, ip({ source: to, destination: source, protocol: ICMP }, message));
}

/** A datagram that left the endpoint. */
export interface OuterDatagram {
  /** The interface, where that is not the first. */
  readonly via?: string;
  readonly flowlabel: number;
  readonly source: string;
  readonly to: string;
  readonly sourcePort: number;
  readonly port: number;
  readonly tos: number;
  readonly ttl: number;
  readonly df: boolean;
  readonly checksum: 'right' | 'zero' | 'wrong';
  readonly payload: Buffer;
}

interface Packet {
  readonly source: string;
  readonly to: string;
  readonly tos: number;
  readonly ttl: number;
  readonly df: boolean;
  readonly flowlabel: number;
  readonly fragment: { readonly key: string; readonly at: number; readonly more: boolean } | undefined;
  readonly protocol: number;
  readonly body: Buffer;
}

/** All whole UDP datagrams among captured frames; everything else on the underlay is the kernel's own business. */
export function outerDatagrams(captured: readonly Captured[]): OuterDatagram[] {
  const pieces = new Map<string, Packet[]>();
  const datagrams: OuterDatagram[] = [];
  for (const { frame, virtio } of captured) {
    for (const whole of onTheWire(frame, virtio) ?? []) {
      const packet = readPacket(whole);
      if (packet === undefined || packet.protocol !== UDP) continue;
      const { fragment } = packet;
      if (fragment === undefined) {
        datagrams.push(readDatagram(packet, packet.body));
        continue;
      }
      const known = [...(pieces.get(fragment.key) ?? []), packet].sort((a, b) => offset(a) - offset(b));
      pieces.set(fragment.key, known);
      const body = assemble(known);
      if (body === undefined) continue;
      datagrams.push(readDatagram(packet, body));
      pieces.delete(fragment.key);
    }
  }
  return datagrams;
}

function offset(packet: Packet): number {
  return packet.fragment?.at ?? 0;
}

function assemble(sorted: readonly Packet[]): Buffer | undefined {
  let length = 0;
  for (const packet of sorted) {
    if (offset(packet) !== length) return undefined;
    length += packet.body.length;
  }
  return sorted.at(-1)?.fragment?.more === false ? Buffer.concat(sorted.map((packet) => packet.body)) : undefined;
}

function readPacket(frame: Buffer): Packet | undefined {
  const type = frame.readUInt16BE(12);
  const packet = frame.subarray(14);
  if (type === IPV4) {
    const flags = packet.readUInt16BE(6);
    const key = `4/${packet.toString('hex', 12, 20)}/${packet.readUInt16BE(4)}`;
    const more = (flags & 0x2000) !== 0;
    return {
      source: ipAt(packet, 12, 4),
      to: ipAt(packet, 16, 4),
      tos: packet.readUInt8(1),
      ttl: packet.readUInt8(8),
      df: (flags & 0x4000) !== 0,
      flowlabel: 0,
      fragment: (flags & 0x3fff) === 0 ? undefined : { key, at: (flags & 0x1fff) * 8, more },
      protocol: packet.readUInt8(9),
      body: packet.subarray((packet.readUInt8(0) & 15) * 4, packet.readUInt16BE(2)),
    };
  }
  if (type !== IPV6) return undefined;
  const next = packet.readUInt8(6);
  const body = packet.subarray(40, 40 + packet.readUInt16BE(4));
  const where = next === 44 ? body.readUInt16BE(2) : 0;
  const key = `6/${packet.toString('hex', 8, 40)}/${next === 44 ? body.readUInt32BE(4) : 0}`;
  return {
    source: ipAt(packet, 8, 6),
    to: ipAt(packet, 24, 6),
    tos: (packet.readUInt16BE(0) >> 4) & 0xff,
    ttl: packet.readUInt8(7),
    df: false,
    flowlabel: packet.readUInt32BE(0) & 0xfffff,
    fragment: next === 44 ? { key, at: where & ~7, more: (where & 1) === 1 } : undefined,
    protocol: next === 44 ? body.readUInt8(0) : next,
    body: next === 44 ? body.subarray(8) : body,
  };
}

function readDatagram(packet: Packet, datagram: Buffer): OuterDatagram {
  const { source, to, tos, ttl, df, flowlabel } = packet;
  const [addressAt, addressEnd] = source.includes(':') ? [8, 40] : [12, 20];
  const addresses = ip({ source, destination: to, protocol: UDP }, Buffer.alloc(0)).subarray(addressAt, addressEnd);
  const rest = Buffer.alloc(8);
  rest.writeUInt32BE(datagram.length, 0);
  rest.writeUInt8(UDP, 7);
  const right = onesSum(addresses, rest, datagram) === 0xffff;
  return {
    source: parseIp(source),
    to: parseIp(to),
    sourcePort: datagram.readUInt16BE(0),
    port: datagram.readUInt16BE(2),
    tos,
    ttl,
    df,
    flowlabel,
    checksum: datagram.readUInt16BE(6) === 0 ? 'zero' : right ? 'right' : 'wrong',
    payload: datagram.subarray(8),
  };
}
