/** `vtepd link add`: the words of `ip link add NAME type vxlan ...` to what the dataplane is asked for. */
import { checkDeviceName } from '../config/device-name.ts';
import type { NetworkSpec } from '../dataplane/protocol.ts';
import { familyOf, type Ip, parseIp } from '../net/ip.ts';
import { isUnicastMac, parseMac, ZERO_MAC } from '../net/mac.ts';
import type { UsageError } from './errors.ts';
import {
  LINK_ADD_NO_EFFECT,
  LINK_ADD_NO_EFFECT_VALUES,
  LINK_ADD_UNSERVED,
  LINK_ADD_WORDS,
  type WordRow,
} from './vocabulary.ts';
import { Once, WordReader } from './words.ts';

/** IANA's VXLAN port. The kernel device defaults to 8472 for the sake of its own history. */
const DEFAULT_PORT = 4789;
/** As the kernel device: `ageing 300`. */
const DEFAULT_AGEING = 300;
const HIGHEST_VNI = 0xff_ffff;
/** Least MTU of IPv4 (RFC 791) up to 65535 less the smallest overhead, 50. */
const LEAST_MTU = 68;
const MOST_MTU = 65_485;
const HIGHEST_U32 = 0xffff_ffff;

export function parseLinkAdd(words: readonly string[]): NetworkSpec {
  const reader = new WordReader('link add', words);
  const name = new Once<string>(reader, 'the name');
  const type = new Once<string>(reader, 'type');
  const vni = new Once<number>(reader, 'id');
  const local = new Once<Ip>(reader, 'local');
  const remote = new Once<Ip>(reader, 'remote');
  const port = new Once<number>(reader, 'dstport');
  const dev = new Once<string>(reader, 'dev');
  const mac = new Once<string>(reader, 'address');
  const mtu = new Once<number>(reader, 'mtu');
  const netns = new Once<string>(reader, 'netns');
  const ageing = new Once<number>(reader, 'ageing');
  const maxaddress = new Once<number>(reader, 'maxaddress');
  const switches = { learning: true, proxy: false, peersonly: false };

  while (!reader.done) {
    const word = reader.next();
    if ((word === 'name' || word === 'dev') && name.value === undefined) {
      name.set(reader.parsed(word, 'a name', checkDeviceName));
    } else if (word === 'dev') dev.set(reader.parsed(word, 'an interface', checkDeviceName));
    else if (word === 'type') {
      type.set(reader.valueOf(word, 'vxlan'));
      if (type.value !== 'vxlan') throw reader.refuse(`type ${type.value}: this program makes vxlan networks only`);
    } else if (word === 'id' || word === 'vni') vni.set(reader.number(word, 0, HIGHEST_VNI));
    else if (word === 'local') local.set(reader.parsed(word, 'an address', parseIp));
    else if (word === 'remote') remote.set(reader.parsed(word, 'an address', parseIp));
    else if (word === 'dstport') port.set(reader.number(word, 1, 65_535));
    else if (word === 'address') mac.set(reader.parsed(word, 'a MAC', parseUnicastMac));
    else if (word === 'mtu') mtu.set(reader.number(word, LEAST_MTU, MOST_MTU));
    else if (word === 'netns') netns.set(reader.valueOf(word, 'a namespace'));
    else if (word === 'ageing') ageing.set(numberOrZero(reader, word, 'none'));
    else if (word === 'maxaddress') maxaddress.set(numberOrZero(reader, word, 'unlimited'));
    else if (word in SWITCHES) {
      const [key, value] = SWITCHES[word as keyof typeof SWITCHES];
      switches[key] = value;
    } else if (!takesNoEffect(reader, word)) {
      if (name.value !== undefined || isKeyword(word)) throw unserved(reader, word);
      name.set(checkName(reader, word));
    }
  }

  if (name.value === undefined) throw reader.refuse('a name is needed: vtepd link add NAME id VNI ...');
  if (vni.value === undefined) throw reader.refuse(`id is needed: vtepd link add ${name.value} id VNI ...`);
  if (remote.value !== undefined && isMulticast(remote.value)) {
    throw reader.unserved(`a multicast remote (${remote.value})`, LINK_ADD_UNSERVED.group);
  }
  if (local.value !== undefined && isMulticast(local.value))
    throw reader.refuse(`local ${local.value}: not an address of a host`);
  if (local.value !== undefined && remote.value !== undefined && familyOf(local.value) !== familyOf(remote.value)) {
    throw reader.refuse(`local ${local.value} and remote ${remote.value} must be of one family`);
  }
  return {
    name: name.value,
    vni: vni.value,
    owner: 'hand',
    netns: netns.value ?? null,
    local: local.value ?? null,
    port: port.value ?? DEFAULT_PORT,
    dev: dev.value ?? null,
    remote: remote.value ?? null,
    mac: mac.value ?? null,
    mtu: mtu.value ?? null,
    ...switches,
    ageing: ageing.value ?? DEFAULT_AGEING,
    maxaddress: maxaddress.value ?? 0,
  };
}

const SWITCHES = {
  learning: ['learning', true],
  nolearning: ['learning', false],
  proxy: ['proxy', true],
  noproxy: ['proxy', false],
  peersonly: ['peersonly', true],
  nopeersonly: ['peersonly', false],
} as const;

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

function checkName(reader: WordReader, word: string): string {
  try {
    return checkDeviceName(word);
  } catch (error) {
    throw reader.refuse(error instanceof Error ? error.message : String(error));
  }
}

function takesNoEffect(reader: WordReader, word: string): boolean {
  if (LINK_ADD_NO_EFFECT.includes(word)) return true;
  const values = Object.hasOwn(LINK_ADD_NO_EFFECT_VALUES, word) ? LINK_ADD_NO_EFFECT_VALUES[word] : undefined;
  if (values === undefined || !values.every((value, index) => reader.rest[index] === value)) return false;
  for (const _ of values) reader.next();
  return true;
}

/** Words that ip knows, with and without `no`: never a name by accident. */
function isKeyword(word: string): boolean {
  return Object.hasOwn(LINK_ADD_UNSERVED, word) || knownWords().includes(word);
}

function unserved(reader: WordReader, word: string): UsageError {
  if (Object.hasOwn(LINK_ADD_UNSERVED, word)) return reader.unserved(word, LINK_ADD_UNSERVED[word]);
  return reader.unknown(word, knownWords());
}

function knownWords(): string[] {
  return [...firstWords(LINK_ADD_WORDS), ...Object.keys(SWITCHES), ...LINK_ADD_NO_EFFECT];
}

/** The bare words of a help table. */
export function firstWords(rows: readonly WordRow[]): string[] {
  return rows.flatMap(([word]) => {
    const first = word.split(' ')[0] ?? '';
    return first.startsWith('[no]') ? [first.slice(4), `no${first.slice(4)}`] : [first];
  });
}

/** 224.0.0.0/4 and ff00::/8. */
export function isMulticast(ip: Ip): boolean {
  if (familyOf(ip) === 6) return /^ff[0-9a-f]{2}:/.test(ip);
  const first = Number(ip.slice(0, ip.indexOf('.')));
  return first >= 224 && first <= 239;
}
