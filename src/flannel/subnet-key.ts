/**
 * Names below `<prefix>/subnets/`: `10.246.81.0-24`, and with both families `10.246.18.0-24&fd00:246:0:f::-64`. Flannel
 * reads them with an unanchored expression; here only what flannel writes is read, because a name with host bits or
 * trailing text is one subnet to one peer and another to the next.
 */
import { AddressError, quote } from '../net/errors.ts';
import { familyOf, type Ip, parseIpv4, parseIpv6 } from '../net/ip.ts';
import { type Prefix, parsePrefix, prefixBase, prefixFamily, prefixLength } from '../net/prefix.ts';
import { FlannelError } from './errors.ts';

export interface SubnetKey {
  readonly subnet: Prefix;
  /** Present in the name of a host that serves both families. */
  readonly subnet6?: Prefix;
}

const KEY = /^([0-9.]{7,15})-([0-9]{1,2})(?:&([0-9a-f:]{2,45})-([0-9]{1,3}))?$/;

/** Flannel parses the lengths in 5 and 7 bits: /32 and /128 make a peer's parser fail. */
const LENGTH_MAX = 31;
const LENGTH6_MAX = 127;

/** Reads the last part of a lease's key. Throws `FlannelError`. */
export function parseSubnetKey(name: string): SubnetKey {
  const match = KEY.exec(name);
  if (match === null) throw refuse(name, 'is not a lease: its name is to be such as 10.246.81.0-24');
  const [, base = '', length = '', base6, length6] = match;
  const subnet = readPart(name, base, length, LENGTH_MAX, parseIpv4);
  if (prefixLength(subnet) === 0) {
    throw refuse(name, 'has no IPv4 subnet: hosts without IPv4 are not served yet');
  }
  if (base6 === undefined || length6 === undefined) return { subnet };
  return { subnet, subnet6: readPart(name, base6, length6, LENGTH6_MAX, parseIpv6) };
}

/** The name for a subnet, with `subnet6` the form for both families. */
export function formatSubnetKey(subnet: Prefix, subnet6?: Prefix): string {
  const name = formatPart(subnet, 4);
  return subnet6 === undefined ? name : `${name}&${formatPart(subnet6, 6)}`;
}

function formatPart(prefix: Prefix, family: 4 | 6): string {
  if (prefixFamily(prefix) !== family) throw new RangeError(`${prefix} is no IPv${family} subnet`);
  return `${prefixBase(prefix)}-${prefixLength(prefix)}`;
}

function readPart(name: string, base: string, length: string, max: number, parse: (text: string) => Ip): Prefix {
  try {
    const ip = parse(base);
    if (ip !== base) throw refuse(name, `spells ${ip} in another way than flannel: ${ip}-${length}`);
    if (Number(length) > max) {
      throw refuse(name, `has a length above ${max}, which flannel cannot read in an IPv${familyOf(ip)} subnet`);
    }
    return parsePrefix(`${base}/${length}`);
  } catch (error) {
    if (error instanceof AddressError) throw refuse(name, `is not a lease: ${error.message}`);
    throw error;
  }
}

function refuse(name: string, reason: string): FlannelError {
  return new FlannelError('INVALID_KEY', '', `key ${quote(name)} ${reason}`);
}
