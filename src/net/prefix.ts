/**
 * Subnets. A `Prefix` exists in one spelling only, `base/length` with no host bits, so that equal subnets are equal
 * strings.
 */
import { AddressError } from './errors.ts';
import { bigIntToIp, bitsOf, type Family, familyOf, type Ip, ipToBigInt, parseIp } from './ip.ts';

/** A subnet such as `10.246.30.0/24` or `fd00:246::/64`. */
export type Prefix = string & { readonly __brand: 'Prefix' };

/** Reads `base/length`; host bits, signs and leading zeros are refused. Throws `AddressError`. */
export function parsePrefix(text: string): Prefix {
  const { ip, length } = split(text);
  const prefix = cut(ip, length);
  if (prefixBase(prefix) !== ip) {
    throw new AddressError('INVALID_PREFIX', text, `has host bits set: the subnet is ${prefix}`);
  }
  return prefix;
}

/** Reads `address/length` and cuts the host bits off: the subnet that the address lies in. Throws `AddressError`. */
export function parseNetworkOf(text: string): Prefix {
  const { ip, length } = split(text);
  return cut(ip, length);
}

/** The prefix of `length` bits that `ip` lies in. `length` must suit the family. */
export function prefixOf(ip: Ip, length: number): Prefix {
  return cut(ip, length);
}

/** The subnet's own address: its first. */
export function prefixBase(prefix: Prefix): Ip {
  return prefix.slice(0, prefix.indexOf('/')) as Ip;
}

export function prefixLength(prefix: Prefix): number {
  return Number(prefix.slice(prefix.indexOf('/') + 1));
}

export function prefixFamily(prefix: Prefix): Family {
  return familyOf(prefixBase(prefix));
}

/** True if the address, or every address of the inner prefix, lies in `prefix`. */
export function prefixContains(prefix: Prefix, inner: Ip | Prefix): boolean {
  const address = inner.includes('/') ? prefixBase(inner as Prefix) : (inner as Ip);
  const family = prefixFamily(prefix);
  if (familyOf(address) !== family) return false;
  const length = prefixLength(prefix);
  if (inner.includes('/') && prefixLength(inner as Prefix) < length) return false;
  return ipToBigInt(prefixBase(prefix)) === mask(ipToBigInt(address), length, family);
}

/** True if some address lies in both: one then contains the other. */
export function prefixesOverlap(a: Prefix, b: Prefix): boolean {
  return prefixLength(a) <= prefixLength(b) ? prefixContains(a, b) : prefixContains(b, a);
}

/** The first address after the base, which flannel gives to the bridge: `10.246.30.1` of `10.246.30.0/24`. */
export function firstAddress(prefix: Prefix): Ip {
  const family = prefixFamily(prefix);
  if (prefixLength(prefix) === bitsOf(family)) return prefixBase(prefix);
  return bigIntToIp(ipToBigInt(prefixBase(prefix)) + 1n, family);
}

const LENGTH = /^(?:0|[1-9][0-9]{0,2})$/;

function split(text: string): { ip: Ip; length: number } {
  const slash = text.indexOf('/');
  const word = text.slice(slash + 1);
  if (slash < 0 || !LENGTH.test(word)) {
    throw new AddressError('INVALID_PREFIX', text, 'is not a subnet: write address/length such as 10.246.30.0/24');
  }
  const ip = address(text, text.slice(0, slash));
  const length = Number(word);
  const bits = bitsOf(familyOf(ip));
  if (length > bits) {
    throw new AddressError('INVALID_PREFIX', text, `has a length above ${bits}: write one from 0 to ${bits}`);
  }
  return { ip, length };
}

function address(text: string, part: string): Ip {
  try {
    return parseIp(part);
  } catch (error) {
    if (error instanceof AddressError)
      throw new AddressError('INVALID_PREFIX', text, `is not a subnet: ${error.message}`);
    throw error;
  }
}

function cut(ip: Ip, length: number): Prefix {
  const family = familyOf(ip);
  return `${bigIntToIp(mask(ipToBigInt(ip), length, family), family)}/${length}` as Prefix;
}

function mask(value: bigint, length: number, family: Family): bigint {
  const host = BigInt(bitsOf(family) - length);
  return (value >> host) << host;
}
