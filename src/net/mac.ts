/**
 * Ethernet addresses. A `Mac` exists in one spelling only, six lower-case pairs joined by colons, so that equal
 * addresses are equal strings and can key a Map.
 */
import { createHash, randomBytes } from 'node:crypto';
import { AddressError } from './errors.ts';

/** A 48-bit MAC in canonical form, such as `72:55:b1:be:47:8f`. */
export type Mac = string & { readonly __brand: 'Mac' };

/** The forms that Go's `net.ParseMAC` reads, as flannel peers do, at 48 bits: two digits a byte, one separator. */
const COLONS = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/;
const HYPHENS = /^[0-9a-f]{2}(?:-[0-9a-f]{2}){5}$/;
const DOTS = /^[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}$/;

/** Reads `72:55:b1:be:47:8f`, `72-55-b1-be-47-8f` or `7255.b1be.478f`, in either case. Throws `AddressError`. */
export function parseMac(text: string): Mac {
  const lower = text.length === 17 || text.length === 14 ? text.toLowerCase() : '';
  if (COLONS.test(lower)) return lower as Mac;
  if (HYPHENS.test(lower)) return lower.replaceAll('-', ':') as Mac;
  if (DOTS.test(lower)) return join(Buffer.from(lower.replaceAll('.', ''), 'hex'));
  throw new AddressError('INVALID_MAC', text, 'is not a MAC address: write six bytes such as 02:00:5e:10:00:01');
}

/** A random, locally administered unicast MAC, as flannel makes them (`pkg/mac`). */
export function randomMac(): Mac {
  return locallyAdministered(randomBytes(6));
}

/** The same MAC for the same seed on every host: the head of its SHA-256, made locally administered and unicast. */
export function deriveMac(seed: string): Mac {
  return locallyAdministered(createHash('sha256').update(seed, 'utf8').digest().subarray(0, 6));
}

/** True for an address that one device can own: not multicast, not broadcast, not all zero. */
export function isUnicastMac(mac: Mac): boolean {
  return (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0 && mac !== ZERO_MAC;
}

/** All zero: names the flood list in an FDB and no device. */
export const ZERO_MAC = '00:00:00:00:00:00' as Mac;

function locallyAdministered(bytes: Uint8Array): Mac {
  const own = Buffer.from(bytes);
  // IEEE 802: bit 0 of the first byte is "group", bit 1 is "locally administered".
  own[0] = ((own[0] ?? 0) & 0xfe) | 0x02;
  return join(own);
}

function join(bytes: Buffer): Mac {
  return (bytes.toString('hex').match(/../g) ?? []).join(':') as Mac;
}
