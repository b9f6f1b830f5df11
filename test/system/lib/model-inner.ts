/** Random inner frames: mostly sound, with everything that an endpoint may look at varied, and some of it wrong. */
import {
  arp,
  ethernet,
  etherTypeOf,
  icmpv6,
  ip,
  neighbourMessage,
  sign,
  solicitedNode,
  type Tag,
  tcp,
  udp,
} from '../../model/build.ts';
import { macBytes } from '../../model/bytes.ts';
import { GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, type Virtio } from '../../model/offload.ts';
import { ARP, ICMP, ICMPV6, IPV4, IPV6, QINQ, TCP, transportOf, UDP, VLAN } from '../../model/packet.ts';
import type { Random } from './model-random.ts';
import { BROADCAST, INNER4, INNER6 } from './model-world.ts';

export interface Macs {
  readonly to: string;
  readonly from: string;
}

export interface Inner {
  readonly frame: Buffer;
  readonly virtio: Virtio;
}

function tagsOf(random: Random): Tag[] {
  const count = random.weighted([
    [85, 0],
    [10, 1],
    [4, 2],
    [1, 3],
  ]);
  return Array.from({ length: count }, () => ({ kind: random.pick([VLAN, QINQ]), id: random.int(0, 4094) }));
}

export function arpFrame(random: Random, macs: Macs): Buffer {
  const sender = random.pick(INNER4);
  const target = random.pick([...INNER4, ...INNER4, ...INNER4, sender, '127.0.0.1', '224.0.0.5']);
  const message = arp({
    operation: random.weighted([
      [80, 1],
      [14, 2],
      [6, random.int(3, 9)],
    ]),
    sender: [random.chance(90) ? macs.from : '02:00:00:00:03:01', random.chance(90) ? sender : '0.0.0.0'],
    target: ['00:00:00:00:00:00', target],
    kind: random.weighted([
      [88, '000108000604'],
      [4, '000608000604'],
      [8, random.pick(['000108000602', '000186dd0604', '001808000604', '000108000806'])],
    ]),
  });
  const cut = random.chance(8) ? message.subarray(0, random.int(0, 27)) : message;
  const padded = random.chance(20) ? Buffer.concat([cut, Buffer.alloc(random.int(1, 18))]) : cut;
  const type = random.chance(96) ? ARP : 0x8035;
  return ethernet(random.chance(70) ? BROADCAST : macs.to, macs.from, type, padded, tagsOf(random));
}

/** A solicitation, or something that looks like one. */
export function ndFrame(random: Random, macs: Macs): Buffer {
  const target = random.pick([...INNER6, ...INNER6, 'ff02::1']);
  const detects = random.chance(15);
  const source = detects ? '::' : random.pick([...INNER6, ...INNER6, ...INNER6, 'ff02::9']);
  const destination = random.weighted([
    [80, target.startsWith('ff') ? 'ff02::1' : solicitedNode(target)],
    [12, target],
    [4, '::1'],
    [4, 'ff02::1'],
  ]);
  const [type, code] = [random.chance(85) ? 135 : random.pick([133, 134, 136, 128]), random.chance(95) ? 0 : 1];
  let message = neighbourMessage(type, code, target, ndOptions(random, macs.from, detects));
  if (random.chance(5)) message = message.subarray(0, random.int(4, message.length));
  const packet = icmpv6({ source, destination, tos: random.chance(30) ? random.int(0, 255) : 0 }, message);
  if (random.chance(4)) packet.writeUInt8(random.int(0, 254), 7);
  if (random.chance(4)) packet.writeUInt16BE(random.int(0, 0xffff), 42);
  if (random.chance(3)) packet.writeUInt16BE(random.int(0, packet.length), 4);
  const cut = random.chance(3) ? packet.subarray(0, random.int(0, packet.length)) : packet;
  const padded = random.chance(10) ? Buffer.concat([cut, random.bytes(random.int(1, 8))]) : cut;
  return ethernet(random.chance(70) ? '33:33:ff:00:00:05' : macs.to, macs.from, IPV6, padded, tagsOf(random));
}

function ndOptions(random: Random, from: string, detects: boolean): Buffer {
  const lladdr = Buffer.concat([Buffer.from([1, 1]), macBytes(from)]);
  const choices: Buffer[] = [
    Buffer.alloc(0),
    Buffer.concat([Buffer.from([14, 1]), random.bytes(6), lladdr]),
    Buffer.concat([lladdr, Buffer.from([1, 1]), macBytes(BROADCAST)]),
    Buffer.concat([Buffer.from([1, 2]), random.bytes(14)]),
    Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]),
    Buffer.from([14, 0, 0, 0, 0, 0, 0, 0]),
    Buffer.from([1, 9, 0, 0, 0, 0, 0, 0]),
    lladdr.subarray(0, 5),
    Buffer.concat([lladdr, Buffer.from([9])]),
  ];
  return random.chance(65) ? (detects ? Buffer.alloc(0) : lladdr) : random.pick(choices);
}

interface Ends {
  readonly source: string;
  readonly destination: string;
}

function ends(random: Random): Ends {
  const pool = random.chance(60) ? INNER4 : INNER6;
  return { source: random.pick(pool), destination: random.pick(pool) };
}

/** Short, or as long as the MTU lets it be. */
function payloadOf(random: Random, room: number): Buffer {
  const length = random.weighted([
    [75, random.int(0, 80)],
    [15, random.int(0, room)],
    [10, room],
  ]);
  return random.bytes(Math.min(length, room));
}

/** Any IP packet of up to `mtu` bytes, or something near to one. */
export function ipFrame(random: Random, macs: Macs, mtu: number): Buffer {
  const fields = {
    ...ends(random),
    tos: random.chance(50) ? random.int(0, 255) : 0,
    ttl: random.int(0, 255),
    id: random.int(0, 0xffff),
    df: random.chance(50),
  };
  const ports = [random.int(1, 40), random.int(1, 40)] as const;
  const room = mtu - (fields.source.includes(':') ? 40 : 20);
  const packet = random.weighted([
    [40, () => ip({ ...fields, protocol: UDP }, udp(ports, payloadOf(random, room - 8)))],
    [30, () => ip({ ...fields, protocol: TCP }, tcp(ports, tcpFields(random), payloadOf(random, room - 32)))],
    [25, () => ip({ ...fields, protocol: random.int(0, 255) }, payloadOf(random, room))],
    [5, () => ip({ ...fields, protocol: fields.source.includes(':') ? ICMPV6 : ICMP }, payloadOf(random, room))],
    [fields.source.includes(':') ? 8 : 0, () => extended(random, fields, room)],
  ])();
  const frame = sign(ethernet(macs.to, macs.from, etherTypeOf(packet), packet, tagsOf(random)));
  return random.chance(15) ? damaged(random, frame) : frame;
}

/** IPv6 with up to three extension headers before what they lead to; one may say that it is longer than the packet. */
function extended(random: Random, fields: Ends, room: number): Buffer {
  const headers = Array.from({ length: random.int(1, 3) }, () => random.pick([0, 43, 44, 51, 60]));
  const last = random.pick([ICMPV6, UDP, 59]);
  const bytes = headers.map((kind, at) => {
    const more = random.chance(3) ? 255 : random.int(0, 2);
    const header = random.bytes(kind === 44 ? 8 : kind === 51 ? (more + 2) * 4 : (more + 1) * 8);
    header.writeUInt8(headers[at + 1] ?? last, 0);
    header.writeUInt8(more, 1);
    // Most fragments are first ones.
    if (kind === 44 && random.chance(80)) header.writeUInt16BE(random.int(0, 7), 2);
    return header;
  });
  const content = Buffer.concat([...bytes, payloadOf(random, room)]).subarray(0, room);
  return ip({ ...fields, protocol: headers[0] ?? last }, content);
}

function tcpFields(random: Random): { sequence: number; flags: number; options: number } {
  return {
    sequence: random.int(0, 0xffffffff),
    flags: random.pick([0x10, 0x18, 0x02, 0x11, 0xd0]),
    options: random.pick([0, 3]),
  };
}

/** Padded, cut, or one byte changed. */
function damaged(random: Random, frame: Buffer): Buffer {
  const way = random.int(0, 2);
  if (way === 0) return Buffer.concat([frame, random.bytes(random.int(1, 20))]);
  if (way === 1) return frame.subarray(0, random.int(14, frame.length));
  const changed = Buffer.from(frame);
  changed.writeUInt8(random.int(0, 255), random.int(12, Math.min(frame.length - 1, 60)));
  return changed;
}

/** What this endpoint sends to a peer, or nearly, routed into the tunnel. */
export function ownDatagram(random: Random, macs: Macs, tunnel: { local: string; port: number }, peer: string): Buffer {
  const port = random.chance(80) ? tunnel.port : random.int(1, 40);
  const fields = { source: tunnel.local, destination: peer, protocol: UDP };
  const packet = ip(fields, udp([50_000, port], Buffer.from('0800000000002a00', 'hex')));
  return sign(ethernet(macs.to, macs.from, etherTypeOf(packet), packet, tagsOf(random)));
}

/** Neither ARP nor IP, or an IP ethertype with no IP behind it. */
export function otherFrame(random: Random, macs: Macs): Buffer {
  const type = random.pick([0x88cc, 0x0026, 0x1234, 0x8847, IPV4, IPV6, VLAN, QINQ]);
  return ethernet(macs.to, macs.from, type, random.bytes(random.int(0, 60)), tagsOf(random));
}

/** Segments of one TCP connection or datagrams of one UDP flow, as a sender makes them of one superframe, mostly. */
export function runOfSegments(random: Random, macs: Macs, mtu: number): Buffer[] {
  const where = ends(random);
  const room = mtu - (where.source.includes(':') ? 40 : 20) - 32;
  const size = random.weighted([
    [60, random.int(1, 64)],
    [40, room],
  ]);
  const ports = [random.int(1, 40), random.int(1, 40)] as const;
  const isTcp = random.chance(65);
  const [df, tos, tags] = [random.chance(50), random.pick([0, 0, 0xb8, 2]), random.chance(10) ? tagsOf(random) : []];
  let sequence = random.int(0, 0xffffffff);
  let id = random.int(0, 0xffff);
  const count = random.int(2, 12);
  return Array.from({ length: count }, (_, at) => {
    const length = at === count - 1 || random.chance(5) ? random.int(0, size) : size;
    const payload = random.bytes(length);
    const odd = random.chance(6);
    const flags = odd ? random.pick([0x18, 0x11, 0x90, 0x50, 0x30]) : 0x10;
    const inside = isTcp ? tcp(ports, { sequence, flags, options: 3 }, payload) : udp(ports, payload);
    const protocol = isTcp ? TCP : UDP;
    const packet = ip({ ...where, protocol, df, id, tos: random.chance(4) ? tos ^ 1 : tos }, inside);
    const frame = sign(ethernet(macs.to, macs.from, etherTypeOf(packet), packet, tags));
    sequence = (sequence + (random.chance(4) ? 1 : length)) >>> 0;
    id = (id + (random.chance(4) ? 3 : 1)) & 0xffff;
    if (random.chance(3)) frame.writeUInt8((frame.readUInt8(frame.length - 1) + 1) & 255, frame.length - 1);
    return random.chance(4) ? Buffer.concat([frame, Buffer.alloc(random.int(1, 6))]) : frame;
  });
}

/** A frame that counts on its way through "hardware": its L4 checksum partial. */
export function partialFrame(random: Random, macs: Macs, mtu: number): Inner {
  const where = ends(random);
  const isTcp = random.chance(50);
  const ports = [random.int(1, 40), random.int(1, 40)] as const;
  const payload = payloadOf(random, mtu - 72);
  const inside = isTcp ? tcp(ports, tcpFields(random), payload) : udp(ports, payload);
  const tags = random.chance(15) ? [{ kind: VLAN, id: 7 }] : [];
  const packet = ip({ ...where, protocol: isTcp ? TCP : UDP, tos: random.int(0, 255) }, inside);
  const frame = sign(ethernet(macs.to, macs.from, etherTypeOf(packet), packet, tags), 'partial');
  return { frame, virtio: virtioOf(frame) };
}

/** A TCP or UDP superframe with a virtio header, its checksum partial. */
export function superframe(random: Random, macs: Macs): Inner {
  const where = ends(random);
  const v6 = where.source.includes(':');
  const isTcp = random.chance(60);
  const ports = [random.int(1, 40), random.int(1, 40)] as const;
  const size = random.weighted([
    [60, random.int(40, 300)],
    [40, random.int(1000, 1380)],
  ]);
  const payload = random.bytes(random.int(size + 1, Math.min(size * 20, 20_000)));
  const flags = random.pick([0x10, 0x18, 0x11, 0x90, 0xd8]);
  const inside = isTcp
    ? tcp(ports, { sequence: random.int(0, 0xffffffff), flags, options: 3 }, payload)
    : udp(ports, payload);
  const fields = {
    ...where,
    protocol: isTcp ? TCP : UDP,
    tos: random.pick([0, 2, 0xb9]),
    id: random.int(0, 0xffff),
    df: random.chance(70),
  };
  const packet = ip(fields, inside);
  const frame = sign(ethernet(macs.to, macs.from, etherTypeOf(packet), packet), 'partial');
  const kind = isTcp ? (v6 ? GSO_TCPV6 : GSO_TCPV4) : GSO_UDP_L4;
  return { frame, virtio: { ...virtioOf(frame), gso: { kind, size } } };
}

function virtioOf(frame: Buffer): Virtio {
  const at = transportOf(frame);
  return at === undefined ? {} : { checksum: { start: at.transport, offset: at.checksum - at.transport } };
}

/** Just bytes. */
export function noise(random: Random): Buffer {
  return random.bytes(random.int(0, 120));
}

/** A large TCP frame that a sender who shares our kernel did not cut. */
export function wholeSuperframe(random: Random, macs: Macs, mtu: number): Buffer {
  const where = ends(random);
  const payload = random.bytes(random.int(mtu, mtu * 6));
  const segment = tcp(
    [random.int(1, 40), random.int(1, 40)],
    { sequence: random.int(0, 0xffffffff), flags: 0x18 },
    payload,
  );
  const packet = ip(
    { ...where, protocol: TCP, id: random.int(0, 0xffff), df: true, tos: random.pick([0, 2]) },
    segment,
  );
  return sign(ethernet(macs.to, macs.from, etherTypeOf(packet), packet), random.chance(60) ? 'partial' : 'whole');
}
