/** Reading and writing header fields, and the Internet checksum (RFC 1071). Slow and plain. */
import { bigIntToIp, type Ip } from '../../src/net/ip.ts';

/** `02:00:00:00:00:0a` from six bytes. */
export function macAt(bytes: Buffer, at: number): string {
  return bytes
    .toString('hex', at, at + 6)
    .replace(/..(?=.)/g, '$&:')
    .toLowerCase();
}

export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

export function ipAt(bytes: Buffer, at: number, family: 4 | 6): Ip {
  const size = family === 4 ? 4 : 16;
  return bigIntToIp(BigInt(`0x${bytes.toString('hex', at, at + size)}`), family);
}

/** IEEE 802 I/G bit: multicast and broadcast. */
export function isMulticastMac(mac: string): boolean {
  return (Number.parseInt(mac.slice(1, 2), 16) & 1) === 1;
}

export const ZERO_MAC = '00:00:00:00:00:00';

/** One's complement sum of 16-bit words, folded; an odd last byte counts as the high half of a word. */
export function onesSum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let at = 0; at < part.length; at += 2) sum += ((part[at] ?? 0) << 8) | (part[at + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

export function complement(word: number): number {
  return ~word & 0xffff;
}

/** The checksum after one word of what it covers changed from `before` to `after` (RFC 1624 equation 3). */
export function updateChecksum(checksum: number, before: number, after: number): number {
  const words = Buffer.alloc(6);
  words.writeUInt16BE(complement(checksum), 0);
  words.writeUInt16BE(complement(before), 2);
  words.writeUInt16BE(after, 4);
  return complement(onesSum(words));
}
