/**
 * The words that `link add` and `link set` share, as `ip link ... type vxlan` spells them. A word read gives the fields
 * of the protocol that it stands for.
 */
import { checkDeviceName } from '../config/device-name.ts';
import type { NetworkSpec, NetworkUpdate, OuterField } from '../dataplane/protocol.ts';
import { type Family, familyOf, type Ip, parseIp } from '../net/ip.ts';
import { isUnicastMac, parseMac, ZERO_MAC } from '../net/mac.ts';
import { acceptedFromReserved } from './link-reserved.ts';
import type { WordReader } from './words.ts';

type Updatable = Omit<NetworkUpdate, 'network' | 'up'>;

/** Fields of a specification or of an update, those that were given. */
export type LinkFields = { -readonly [Key in keyof Updatable]?: NonNullable<Updatable[Key]> } & {
  udp6zerocsumrx?: boolean;
};

/** Least MTU of IPv4 (RFC 791) up to 65535 less the smallest overhead, 50. */
const LEAST_MTU = 68;
const MOST_MTU = 65_485;
const HIGHEST_U32 = 0xffff_ffff;
/** RFC 8200: 20 bits. */
const HIGHEST_FLOWLABEL = 0xf_ffff;

/** What an absent field means for a network by hand; `link add` leaves out what equals it. */
export const LINK_DEFAULTS = {
  ttl: 'auto',
  tos: 'auto',
  df: 'unset',
  flowlabel: 0,
  srcport: { min: 0, max: 0 },
  udpcsum: true,
  udp6zerocsumtx: false,
  udp6zerocsumrx: false,
  reserved_bits: acceptedFromReserved('0xf7ffffff000000ff'),
  gbp: false,
  l2miss: false,
  rsc: false,
  proxy_flood: false,
  maxperpeer: 0,
  maxmoves: 0,
} as const satisfies LinkFields;

type Read = (reader: WordReader, word: string) => LinkFields;

const VALUES: Readonly<Record<string, Read>> = {
  local: (reader, word) => ({ local: readHost(reader, word) }),
  remote: (reader, word) => ({ remote: readHost(reader, word) }),
  group: (reader, word) => {
    const group = reader.parsed(word, 'a multicast address', parseIp);
    if (!isMulticast(group))
      throw reader.refuse(`group ${group}: not a multicast address; a unicast one is \`remote\``);
    return { group };
  },
  dev: (reader, word) => ({ dev: reader.parsed(word, 'an interface', checkDeviceName) }),
  address: (reader, word) => ({ mac: reader.parsed(word, 'a MAC', parseUnicastMac) }),
  mtu: (reader, word) => ({ mtu: reader.number(word, LEAST_MTU, MOST_MTU) }),
  ageing: (reader, word) => ({ ageing: numberOrZero(reader, word, 'none') }),
  maxaddress: (reader, word) => ({ maxaddress: numberOrZero(reader, word, 'unlimited') }),
  maxperpeer: (reader, word) => ({ maxperpeer: numberOrZero(reader, word, 'unlimited') }),
  maxmoves: (reader, word) => ({ maxmoves: numberOrZero(reader, word, 'unlimited') }),
  ttl: (reader, word) => ({ ttl: readTtl(reader, word) }),
  hoplimit: (reader, word) => ({ ttl: readTtl(reader, word) }),
  tos: (reader, word) => ({ tos: readTos(reader, word) }),
  dsfield: (reader, word) => ({ tos: readTos(reader, word) }),
  df: (reader, word) => {
    const df = reader.valueOf(word, 'unset, set or inherit');
    if (df === 'unset' || df === 'set' || df === 'inherit') return { df };
    throw reader.refuse(`df ${df}: must be unset, set or inherit`);
  },
  flowlabel: (reader, word) => {
    if (reader.rest[0] === 'inherit') throw reader.unserved('flowlabel inherit', 'give a number');
    return { flowlabel: integer(reader, word, 0, HIGHEST_FLOWLABEL, `a number from 0 to ${HIGHEST_FLOWLABEL}`) };
  },
  srcport: readSourcePorts,
  port: readSourcePorts,
  reserved_bits: (reader, word) => ({
    reserved_bits: reader.parsed(word, 'a 64-bit number such as 0xf7ffffff000000ff', acceptedFromReserved),
  }),
};

const SWITCHES = {
  learning: 'learning',
  proxy: 'proxy',
  peersonly: 'peersonly',
  udpcsum: 'udpcsum',
  udp6zerocsumtx: 'udp6zerocsumtx',
  udp6zerocsumrx: 'udp6zerocsumrx',
  l2miss: 'l2miss',
  l3miss: 'l3miss',
  rsc: 'rsc',
  gbp: 'gbp',
  'proxy-flood': 'proxy_flood',
} as const satisfies Record<string, keyof LinkFields>;

/** Every bare word that is read here. */
export const LINK_OPTION_WORDS: readonly string[] = [
  ...Object.keys(VALUES),
  ...Object.keys(SWITCHES).flatMap((word) => [word, `no${word}`]),
];

/** Collects the fields of a command line. A switch may be given again, the last one counts; a value may not. */
export class LinkOptions {
  readonly fields: LinkFields = {};
  readonly #reader: WordReader;

  constructor(reader: WordReader) {
    this.#reader = reader;
  }

  /** Reads what belongs to `word`; false if it is none of these words. */
  take(word: string): boolean {
    const read = Object.hasOwn(VALUES, word) ? VALUES[word] : undefined;
    if (read !== undefined) {
      const given = read(this.#reader, word);
      if (Object.keys(given).some((key) => Object.hasOwn(this.fields, key)))
        throw this.#reader.refuse(`${word} is given twice`);
      Object.assign(this.fields, given);
      return true;
    }
    const bare = word.startsWith('no') ? word.slice(2) : word;
    if (!isSwitch(bare)) return false;
    this.fields[SWITCHES[bare]] = bare === word;
    return true;
  }

  /** Refuses what cannot go together, whatever the network is. */
  check(): void {
    const { local, remote, group } = this.fields;
    if (group !== undefined && remote !== undefined)
      throw this.#reader.refuse(
        `group ${group} and remote ${remote} are both the default destination: say one, and append the other to the flood list`,
      );
    const far = group ?? remote;
    // parseIp has made them all.
    if (local !== undefined && far !== undefined && familyOf(local as Ip) !== familyOf(far as Ip)) {
      const word = group === undefined ? 'remote' : 'group';
      throw this.#reader.refuse(`local ${local} and ${word} ${far} must be of one family`);
    }
    // The dataplane knows the family where no address says it.
    if (far !== undefined || local !== undefined) this.#checkFamily(familyOf((far ?? local) as Ip));
    if (this.fields.proxy_flood === true && this.fields.proxy === false)
      throw this.#reader.refuse('proxy-flood says what becomes of what the proxy cannot answer: it needs proxy');
  }

  #checkFamily(family: Family): void {
    const { udpcsum, udp6zerocsumtx, udp6zerocsumrx, flowlabel = 0 } = this.fields;
    if (family === 6 && udpcsum === false)
      throw this.#reader.refuse('noudpcsum is about an IPv4 underlay; over IPv6 it is udp6zerocsumtx');
    if (family === 6) return;
    if (flowlabel !== 0) throw this.#reader.refuse(`flowlabel ${flowlabel} needs an IPv6 underlay: IPv4 has none`);
    if (udp6zerocsumtx === true)
      throw this.#reader.refuse('udp6zerocsumtx is about an IPv6 underlay; over IPv4 it is noudpcsum');
    if (udp6zerocsumrx === true)
      throw this.#reader.refuse('udp6zerocsumrx is about an IPv6 underlay; over IPv4 zero checksums are always taken');
  }
}

function isSwitch(word: string): word is keyof typeof SWITCHES {
  return Object.hasOwn(SWITCHES, word);
}

function readHost(reader: WordReader, word: string): Ip {
  const ip = reader.parsed(word, 'an address', parseIp);
  if (!isMulticast(ip)) return ip;
  const instead = word === 'remote' ? '; a multicast group is `group`, with `dev`' : '';
  throw reader.refuse(`${word} ${ip}: not an address of a host${instead}`);
}

function readTtl(reader: WordReader, word: string): OuterField {
  const next = reader.rest[0];
  if (next === 'auto' || next === 'inherit') return reader.next() as 'auto' | 'inherit';
  return integer(reader, word, 1, 255, 'a number from 1 to 255, auto or inherit');
}

function readTos(reader: WordReader, word: string): OuterField {
  if (reader.rest[0] === 'inherit') return reader.next() as 'inherit';
  const tos = integer(reader, word, 0, 255, 'a number from 0 to 255 (0x00 to 0xff) or inherit');
  // To the kernel device 1 is `inherit`; no TOS is lost by it, as its lower two bits are ECN's.
  if (tos === 1) return 'inherit';
  return tos === 0 ? 'auto' : tos;
}

function readSourcePorts(reader: WordReader, word: string): LinkFields {
  if (word === 'port' && !/^[0-9]+$/.test(reader.rest[1] ?? ''))
    throw reader.refuse(
      'port needs the source ports, MIN and MAX; the UDP port to listen on and to send to is `dstport`',
    );
  const min = reader.number(word, 0, 65_535);
  const max = reader.number(word, 0, 65_535);
  if ((min !== 0 || max !== 0) && (min === 0 || min >= max)) {
    throw reader.refuse(
      `${word} ${min} ${max}: the first port must be at least 1 and below the second, which is exclusive and at most 65535`,
    );
  }
  return { srcport: { min, max } };
}

/** A whole number, decimal or with 0x. */
function integer(reader: WordReader, word: string, low: number, high: number, what: string): number {
  const text = reader.valueOf(word, what);
  const value = /^(0|[1-9][0-9]{0,9}|0x[0-9a-f]{1,8})$/i.test(text) ? Number(text) : Number.NaN;
  if (!(value >= low && value <= high)) throw reader.refuse(`${word} ${text}: must be ${what}`);
  return value;
}

function numberOrZero(reader: WordReader, word: string, zero: string): number {
  if (reader.rest[0] !== zero) return reader.number(word, 0, HIGHEST_U32);
  reader.next();
  return 0;
}

function parseUnicastMac(text: string): string {
  const mac = parseMac(text);
  if (!isUnicastMac(mac) || mac === ZERO_MAC) throw new Error(`${mac} cannot be the MAC of a device`);
  return mac;
}

/** 224.0.0.0/4 and ff00::/8. */
export function isMulticast(ip: Ip): boolean {
  if (familyOf(ip) === 6) return /^ff[0-9a-f]{2}:/.test(ip);
  const first = Number(ip.slice(0, ip.indexOf('.')));
  return first >= 224 && first <= 239;
}

/** What an owner's network does where its specification says nothing. */
export function effective(spec: NetworkSpec) {
  const hand = spec.owner === 'hand';
  const l2miss = spec.l2miss ?? !hand;
  return {
    l2miss,
    l3miss: spec.l3miss ?? l2miss,
    maxperpeer: spec.maxperpeer ?? (hand ? 0 : 16_384),
    maxmoves: spec.maxmoves ?? (hand ? 0 : 60),
  };
}
