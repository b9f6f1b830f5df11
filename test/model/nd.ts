/**
 * The neighbour discovery proxy (reference §2.6, the kernel's `neigh_reduce`), with the checks of RFC 4861 §7.1.1 that the
 * kernel leaves out and the answer to duplicate address detection that §7.2.4 asks for.
 */
import type { DropReason } from '../../src/dataplane/protocol.ts';
import { complement, ipAt, macAt, macBytes, onesSum } from './bytes.ts';
import { ICMPV6, IPV6 } from './packet.ts';

export type NdVerdict =
  | { readonly ask: string; readonly answer: (lladdr: string, router: boolean) => Buffer }
  | { readonly drop: DropReason }
  /** Not for the proxy: advertisements, router discovery, what is shorter than a solicitation or has a code. */
  | 'forward';

const MALFORMED = { drop: 'tx_nd_malformed' } as const;
const ALL_NODES = Buffer.from('ff020000000000000000000000000001', 'hex');
/** ff02::1:ff00:0/104 (RFC 4291 §2.7.1) */
const SOLICITED_NODE = 'ff0200000000000000000001ff';

export function readNd(frame: Buffer): NdVerdict {
  if (frame.length < 14 + 40 + 2 || frame.readUInt16BE(12) !== IPV6) return 'forward';
  const ip = frame.subarray(14, 54);
  const length = ip.readUInt16BE(4);
  const solicitation = frame.readUInt8(54) === 135 && frame.readUInt8(55) === 0;
  if (ip.readUInt8(0) >> 4 !== 6 || ip.readUInt8(6) !== ICMPV6 || length < 24 || !solicitation) return 'forward';

  const message = frame.subarray(54, 54 + length);
  if (message.length < length || ip.readUInt8(7) !== 255 || checksum(ip, message) !== 0xffff) return MALFORMED;
  const [source, destination, target] = [ip.subarray(8, 24), ip.subarray(24, 40), message.subarray(8, 24)];
  if (isMulticast(target) || isMulticast(source) || isLoopback(destination)) return MALFORMED;
  const option = sourceLinkLayer(message.subarray(24));
  if (option === 'malformed') return MALFORMED;
  const detects = source.every((byte) => byte === 0);
  if (detects && (option.mac !== undefined || !destination.toString('hex').startsWith(SOLICITED_NODE)))
    return MALFORMED;
  const asker = option.mac ?? macAt(frame, 6);
  const trafficClass = (ip.readUInt16BE(0) >> 4) & 0xff;
  return {
    ask: ipAt(target, 0, 6),
    // Router, solicited, override.
    answer: (lladdr, router) =>
      detects
        ? advertisement('33:33:00:00:00:01', ALL_NODES, target, lladdr, trafficClass, router ? 0xa0 : 0x20)
        : advertisement(asker, source, target, lladdr, trafficClass, router ? 0xe0 : 0x60),
  };
}

function isMulticast(address: Buffer): boolean {
  return address.readUInt8(0) === 0xff;
}

function isLoopback(address: Buffer): boolean {
  return address.toString('hex') === '00000000000000000000000000000001';
}

function checksum(ip: Buffer, message: Buffer): number {
  return onesSum(
    ip.subarray(8, 40),
    Buffer.from([0, 0, message.length >> 8, message.length & 255, 0, 0, 0, 58]),
    message,
  );
}

/** The first source link-layer address; every option must have a length, and end within the message. */
function sourceLinkLayer(options: Buffer): { readonly mac?: string } | 'malformed' {
  let found: { readonly mac?: string } = {};
  for (let at = 0; at < options.length; ) {
    const units = options[at + 1] ?? 0;
    if (units === 0 || at + units * 8 > options.length) return 'malformed';
    if (options[at] === 1) {
      if (units !== 1) return 'malformed';
      if (found.mac === undefined) found = { mac: macAt(options, at + 2) };
    }
    at += units * 8;
  }
  return found;
}

/** 86 bytes: hop limit 255, traffic class copied, one target link-layer address option. */
function advertisement(
  to: string,
  destination: Buffer,
  target: Buffer,
  lladdr: string,
  trafficClass: number,
  flags: number,
): Buffer {
  const ip = Buffer.alloc(8);
  ip.writeUInt32BE(((6 << 28) | (trafficClass << 20)) >>> 0, 0);
  ip.writeUInt16BE(32, 4);
  ip.writeUInt8(ICMPV6, 6);
  ip.writeUInt8(255, 7);
  const header = Buffer.concat([ip, target, destination]);
  const message = Buffer.concat([
    Buffer.from([136, 0, 0, 0, flags, 0, 0, 0]),
    target,
    Buffer.from([2, 1]),
    macBytes(lladdr),
  ]);
  message.writeUInt16BE(complement(checksum(header, message)), 2);
  return Buffer.concat([macBytes(to), macBytes(lladdr), Buffer.from('86dd', 'hex'), header, message]);
}
