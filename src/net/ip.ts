/**
 * IPv4 and IPv6 addresses. Each address exists in one spelling only (dotted decimal; RFC 5952 for IPv6), so that equal
 * addresses are equal strings. Parsing is strict: what `inet_aton` guesses at (`0x7f.1`, `010.0.0.1`, `1.2.3`) is refused,
 * because two readers that guess differently are two different peers.
 */
import { AddressError } from './errors.ts';

/** An IPv4 address such as `10.245.1.3`. */
export type Ipv4 = string & { readonly __brand: 'Ipv4' };

/** An IPv6 address in the form of RFC 5952, such as `fd00:245:1::11`; never an IPv4-mapped one, never with a zone. */
export type Ipv6 = string & { readonly __brand: 'Ipv6' };

export type Ip = Ipv4 | Ipv6;

export type Family = 4 | 6;

/** Bits of an address of the family. */
export function bitsOf(family: Family): 32 | 128 {
  return family === 4 ? 32 : 128;
}

const OCTET = '(0|[1-9][0-9]{0,2})';
const IPV4 = new RegExp(`^${OCTET}\\.${OCTET}\\.${OCTET}\\.${OCTET}$`);

/** Reads exactly four decimal numbers without leading zeros. Throws `AddressError`. */
export function parseIpv4(text: string): Ipv4 {
  if (readIpv4(text) === undefined) {
    throw new AddressError('INVALID_IP', text, 'is not an IPv4 address: write four decimal numbers such as 10.245.1.3');
  }
  return text as Ipv4;
}

/** Reads any text form of RFC 4291 §2.2 but IPv4-mapped addresses and zones. Throws `AddressError`. */
export function parseIpv6(text: string): Ipv6 {
  if (text.includes('%')) {
    throw new AddressError(
      'INVALID_IP',
      text,
      'has a zone: write the address without "%" and name the interface instead',
    );
  }
  const groups = readIpv6(text);
  if (groups === undefined) {
    throw new AddressError('INVALID_IP', text, 'is not an IPv6 address: write groups such as fd00:245:1::11');
  }
  if (isMapped(groups)) {
    // ::ffff:a.b.c.d is the IPv4 address on a dual-stack socket: a second name for one peer.
    const inner = numberToIpv4((groups[6] ?? 0) * 0x10000 + (groups[7] ?? 0));
    throw new AddressError('INVALID_IP', text, `is an IPv4-mapped address: write ${inner}`);
  }
  return formatIpv6(groups);
}

/** Reads an address of either family. Throws `AddressError`. */
export function parseIp(text: string): Ip {
  if (text.includes(':')) return parseIpv6(text);
  if (readIpv4(text) === undefined) {
    throw new AddressError('INVALID_IP', text, 'is not an IP address: write one such as 10.245.1.3 or fd00:245:1::11');
  }
  return text as Ipv4;
}

export function familyOf(ip: Ip): Family {
  return ip.includes(':') ? 6 : 4;
}

/** The address as a number, first byte most significant. */
export function ipToBigInt(ip: Ip): bigint {
  if (familyOf(ip) === 4) return BigInt(ipv4ToNumber(ip as Ipv4));
  let value = 0n;
  for (const group of readIpv6(ip) ?? []) value = (value << 16n) | BigInt(group);
  return value;
}

/** The inverse of `ipToBigInt`. Throws `RangeError` on a number outside the family. */
export function bigIntToIp(value: bigint, family: Family): Ip {
  if (value < 0n || value >> BigInt(bitsOf(family)) !== 0n) {
    throw new RangeError(`${value} is no IPv${family} address`);
  }
  if (family === 4) return numberToIpv4(Number(value));
  const groups: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(Number((value >> shift) & 0xffffn));
  return formatIpv6(groups);
}

/** The address as a number below 2^32. */
export function ipv4ToNumber(ip: Ipv4): number {
  return readIpv4(ip) ?? 0;
}

/** The inverse of `ipv4ToNumber`; `value` must be an integer below 2^32. */
export function numberToIpv4(value: number): Ipv4 {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}` as Ipv4;
}

function readIpv4(text: string): number | undefined {
  const match = IPV4.exec(text);
  if (match === null) return undefined;
  let value = 0;
  for (let index = 1; index <= 4; index += 1) {
    const octet = Number(match[index]);
    if (octet > 255) return undefined;
    value = value * 256 + octet;
  }
  return value;
}

/** The longest text form: seven full groups and a dotted tail, `ffff:...:255.255.255.255`. */
const IPV6_TEXT_MAX = 45;

/** Eight 16-bit groups, or undefined. */
function readIpv6(text: string): number[] | undefined {
  if (text.length > IPV6_TEXT_MAX) return undefined;
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = readGroups(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? readGroups(halves[1] ?? '', true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  // "::" stands for one group or more (RFC 4291 §2.2).
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  return [...head, ...new Array<number>(missing).fill(0), ...tail];
}

/** The groups of one side of `::`; a dotted tail of two groups is allowed at the end of the address only. */
function readGroups(text: string, dottedTail: boolean): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const words = text.split(':');
  for (const [index, word] of words.entries()) {
    if (dottedTail && index === words.length - 1 && word.includes('.')) {
      const value = readIpv4(word);
      if (value === undefined) return undefined;
      groups.push(value >>> 16, value & 0xffff);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(word)) {
      groups.push(Number.parseInt(word, 16));
    } else {
      return undefined;
    }
  }
  return groups;
}

function isMapped(groups: readonly number[]): boolean {
  return groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
}

/** RFC 5952: lower case, no leading zeros, the first longest run of two or more zero groups as `::`. */
function formatIpv6(groups: readonly number[]): Ipv6 {
  let start = -1;
  let length = 1;
  for (let from = 0; from < groups.length; from += 1) {
    let to = from;
    while (groups[to] === 0) to += 1;
    if (to - from > length) {
      start = from;
      length = to - from;
    }
    if (to > from) from = to;
  }
  const words = groups.map((group) => group.toString(16));
  if (start < 0) return words.join(':') as Ipv6;
  return `${words.slice(0, start).join(':')}::${words.slice(start + length).join(':')}` as Ipv6;
}
