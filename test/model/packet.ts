/** Where the headers of a frame are. What is cut or contradicts itself has no facts here: the endpoint leaves it alone. */
import type { Ip } from '../../src/net/ip.ts';
import { complement, ipAt, macAt, onesSum } from './bytes.ts';

export const IPV4 = 0x0800;
export const ARP = 0x0806;
export const VLAN = 0x8100;
export const IPV6 = 0x86dd;
export const QINQ = 0x88a8;

export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMPV6 = 58;

export interface Ethernet {
  readonly destination: string;
  readonly source: string;
  /** Of what follows the tags; at most two are looked through. */
  readonly type: number;
  /** Where what follows begins. */
  readonly network: number;
  readonly tagged: boolean;
}

/** Absent: shorter than a header. */
export function ethernetOf(frame: Buffer): Ethernet | undefined {
  if (frame.length < 14) return undefined;
  let type = frame.readUInt16BE(12);
  let network = 14;
  for (let tags = 0; tags < 2 && (type === VLAN || type === QINQ) && frame.length >= network + 4; tags += 1) {
    type = frame.readUInt16BE(network + 2);
    network += 4;
  }
  return { destination: macAt(frame, 0), source: macAt(frame, 6), type, network, tagged: network > 14 };
}

/** An IP packet whose header is whole and does not contradict itself. */
export interface IpPacket {
  readonly family: 4 | 6;
  readonly source: Ip;
  readonly destination: Ip;
  readonly protocol: number;
  /** IPv4's identification of fragments and DF: the 16 bits at offset 6; IPv6: 0. */
  readonly fragmentation: number;
  /** As long as its header says, or as much as the frame holds. */
  readonly packet: Buffer;
  /** What follows the header; of IPv6 its extensions, too. */
  readonly body: Buffer;
}

export function ipOf(frame: Buffer): IpPacket | undefined {
  const ethernet = ethernetOf(frame);
  const rest = frame.subarray(ethernet?.network);
  if (ethernet?.type === IPV6 && rest.length >= 40 && rest.readUInt8(0) >> 4 === 6) {
    const packet = rest.subarray(0, 40 + rest.readUInt16BE(4));
    const [source, destination] = [ipAt(rest, 8, 6), ipAt(rest, 24, 6)];
    return {
      family: 6,
      source,
      destination,
      protocol: rest.readUInt8(6),
      fragmentation: 0,
      packet,
      body: packet.subarray(40),
    };
  }
  if (ethernet?.type !== IPV4 || rest.length < 20 || rest.readUInt8(0) >> 4 !== 4) return undefined;
  const header = (rest.readUInt8(0) & 15) * 4;
  const length = rest.readUInt16BE(2);
  if (header < 20 || header > rest.length || length < header) return undefined;
  const [packet, fragmentation] = [rest.subarray(0, length), rest.readUInt16BE(6)];
  const [source, destination] = [ipAt(rest, 12, 4), ipAt(rest, 16, 4)];
  return {
    family: 4,
    source,
    destination,
    protocol: rest.readUInt8(9),
    fragmentation,
    packet,
    body: packet.subarray(header),
  };
}

/** A whole TCP or UDP packet over IP without extension headers, no fragment. Offsets count from the frame's first byte. */
export interface Transport {
  readonly family: 4 | 6;
  readonly protocol: typeof TCP | typeof UDP;
  readonly network: number;
  readonly transport: number;
  readonly payload: number;
  /** Behind the IP packet; padding may follow. */
  readonly end: number;
  /** Of the checksum field, from the frame's first byte. */
  readonly checksum: number;
}

/** IPv6 next headers behind which another may hide. */
const EXTENSIONS: readonly number[] = [0, 43, 44, 50, 51, 60, 135, 139, 140, 253, 254];

export function transportOf(frame: Buffer): Transport | undefined {
  const ethernet = ethernetOf(frame);
  if (ethernet === undefined) return undefined;
  const { network } = ethernet;
  const ip = frame.subarray(network);
  let family: 4 | 6;
  let headerLength: number;
  let length: number;
  let protocol: number;
  if (ethernet.type === IPV4 && ip.length >= 20) {
    family = 4;
    headerLength = (ip.readUInt8(0) & 15) * 4;
    length = ip.readUInt16BE(2);
    protocol = ip.readUInt8(9);
    if (ip.readUInt8(0) >> 4 !== 4 || headerLength < 20 || (ip.readUInt16BE(6) & 0x3fff) !== 0) return undefined;
  } else if (ethernet.type === IPV6 && ip.length >= 40) {
    family = 6;
    headerLength = 40;
    length = 40 + ip.readUInt16BE(4);
    protocol = ip.readUInt8(6);
    if (ip.readUInt8(0) >> 4 !== 6 || EXTENSIONS.includes(protocol)) return undefined;
  } else {
    return undefined;
  }
  if (length > ip.length || length < headerLength || (protocol !== TCP && protocol !== UDP)) return undefined;
  const segment = ip.subarray(headerLength, length);
  if (segment.length < (protocol === TCP ? 20 : 8)) return undefined;
  const header = protocol === TCP ? (segment.readUInt8(12) >> 4) * 4 : 8;
  if (header < (protocol === TCP ? 20 : 8) || header > segment.length) return undefined;
  const transport = network + headerLength;
  const checksum = transport + (protocol === TCP ? 16 : 6);
  return { family, protocol, network, transport, payload: transport + header, end: network + length, checksum };
}

/** Source, destination, protocol and length, as the L4 checksum covers them (RFC 9293 §3.1, RFC 8200 §8.1). */
export function pseudoHeader(frame: Buffer, at: Transport, l4Length: number): Buffer {
  const addresses =
    at.family === 4
      ? frame.subarray(at.network + 12, at.network + 20)
      : frame.subarray(at.network + 8, at.network + 40);
  const rest = Buffer.alloc(8);
  rest.writeUInt32BE(l4Length, 0);
  rest.writeUInt8(at.protocol, 7);
  return Buffer.concat([addresses, rest]);
}

/** True if an IPv4 header's checksum is right; IPv6 has none. */
export function headerChecksumOk(frame: Buffer, at: Transport): boolean {
  return at.family === 6 || onesSum(frame.subarray(at.network, at.transport)) === 0xffff;
}

/** True if there is an L4 checksum and it is right. */
export function checksumOk(frame: Buffer, at: Transport): boolean {
  if (at.protocol === UDP && frame.readUInt16BE(at.checksum) === 0) return false;
  return onesSum(pseudoHeader(frame, at, at.end - at.transport), frame.subarray(at.transport, at.end)) === 0xffff;
}

/** Writes the IPv4 header's and the L4 checksum. UDP's 0 says that there is none: one that computes to 0 is sent as 0xffff. */
export function writeChecksums(frame: Buffer, at: Transport): void {
  if (at.family === 4) {
    frame.writeUInt16BE(0, at.network + 10);
    frame.writeUInt16BE(complement(onesSum(frame.subarray(at.network, at.transport))), at.network + 10);
  }
  frame.writeUInt16BE(0, at.checksum);
  const sum = onesSum(pseudoHeader(frame, at, at.end - at.transport), frame.subarray(at.transport, at.end));
  frame.writeUInt16BE(at.protocol === UDP ? complement(sum) || 0xffff : complement(sum), at.checksum);
}

/** To which flow a frame belongs: frames of one flow keep their order. What is neither TCP nor UDP is a flow of its own. */
export function flowOf(frame: Buffer): string {
  const at = transportOf(frame);
  if (at === undefined) return frame.toString('hex');
  // A pure acknowledgement says nothing that data behind it does not say: it may be overtaken.
  if (at.protocol === TCP && at.payload === at.end) return frame.toString('hex');
  const addresses = frame.toString(
    'hex',
    at.network + (at.family === 4 ? 12 : 8),
    at.network + (at.family === 4 ? 20 : 40),
  );
  return `${frame.toString('hex', 0, at.network)}/${at.protocol}/${addresses}/${frame.toString('hex', at.transport, at.transport + 4)}`;
}
