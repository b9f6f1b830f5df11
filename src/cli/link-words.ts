/** `vtepd link add|set`: the words of `ip link add|set NAME ... type vxlan` to what the dataplane is asked for. */
import { isDeepStrictEqual } from 'node:util';
import { checkDeviceName } from '../config/device-name.ts';
import type { NetworkSpec, NetworkUpdate } from '../dataplane/protocol.ts';
import type { UsageError } from './errors.ts';
import { LINK_DEFAULTS, LINK_OPTION_WORDS, type LinkFields, LinkOptions } from './link-options.ts';
import {
  LINK_ADD_NO_EFFECT,
  LINK_ADD_UNSERVED,
  LINK_ADD_WORDS,
  LINK_SET_FIXED,
  LINK_SET_WORDS,
  type WordRow,
} from './vocabulary.ts';
import { Once, WordReader } from './words.ts';

/** IANA's VXLAN port. The kernel device defaults to 8472 for the sake of its own history. */
const DEFAULT_PORT = 4789;
/** As the kernel device: `ageing 300`. */
const DEFAULT_AGEING = 300;
const HIGHEST_VNI = 0xff_ffff;

/** `command`: what a message is to begin with. */
export function parseLinkAdd(words: readonly string[], command = 'link add'): NetworkSpec {
  const reader = new WordReader(command, words);
  const name = new Once<string>(reader, 'the name');
  const type = new Once<string>(reader, 'type');
  const vni = new Once<number>(reader, 'id');
  const port = new Once<number>(reader, 'dstport');
  const netns = new Once<string>(reader, 'netns');
  const options = new LinkOptions(reader);
  const known = [...firstWords(LINK_ADD_WORDS), ...LINK_OPTION_WORDS, ...LINK_ADD_NO_EFFECT];
  while (!reader.done) {
    const word = reader.next();
    if (takeName(reader, word, name)) continue;
    if (word === 'type') readType(reader, type);
    else if (word === 'id' || word === 'vni') vni.set(reader.number(word, 0, HIGHEST_VNI));
    else if (word === 'dstport') port.set(reader.number(word, 1, 65_535));
    else if (word === 'netns') netns.set(reader.valueOf(word, 'a namespace'));
    else if (!options.take(word) && !LINK_ADD_NO_EFFECT.includes(word)) {
      if (name.value !== undefined || isUnserved(word)) throw notTaken(reader, word, known);
      name.set(checkName(reader, word));
    }
  }
  if (name.value === undefined) throw reader.refuse('a name is needed, as in `vtepd link add NAME id VNI ...`');
  if (vni.value === undefined) throw reader.refuse(`id is needed, as in \`vtepd link add ${name.value} id VNI ...\``);
  options.check();
  const { local, dev, remote, mac, mtu, learning, proxy, peersonly, ageing, maxaddress, ...others } = options.fields;
  if (others.group !== undefined && dev === undefined)
    throw reader.refuse(`group ${others.group} needs dev: the interface on which it is joined`);
  return {
    name: name.value,
    vni: vni.value,
    owner: 'hand',
    netns: netns.value ?? null,
    local: local ?? null,
    port: port.value ?? DEFAULT_PORT,
    dev: dev ?? null,
    remote: remote ?? null,
    mac: mac ?? null,
    mtu: mtu ?? null,
    learning: learning ?? true,
    proxy: proxy ?? false,
    peersonly: peersonly ?? false,
    ageing: ageing ?? DEFAULT_AGEING,
    maxaddress: maxaddress ?? 0,
    ...withoutDefaults(others),
  };
}

export function parseLinkSet(words: readonly string[]): NetworkUpdate {
  const reader = new WordReader('link set', words);
  const name = new Once<string>(reader, 'the name');
  const type = new Once<string>(reader, 'type');
  const up = new Once<boolean>(reader, 'up or down');
  const options = new LinkOptions(reader);
  const known = [...firstWords(LINK_SET_WORDS), ...LINK_OPTION_WORDS];
  while (!reader.done) {
    const word = reader.next();
    // `name` is how ip renames a device.
    if (word !== 'name' && takeName(reader, word, name)) continue;
    if (word === 'type') readType(reader, type);
    else if (word === 'up' || word === 'down') up.set(word === 'up');
    else if (Object.hasOwn(LINK_SET_FIXED, word))
      throw reader.refuse(`${word} cannot change while the network is there: ${LINK_SET_FIXED[word]}`);
    else if (!options.take(word)) {
      if (name.value !== undefined || isUnserved(word)) throw notTaken(reader, word, known);
      name.set(checkName(reader, word));
    }
  }
  if (name.value === undefined) throw reader.refuse('a name is needed: vtepd link set NAME WORDS...');
  options.check();
  const { udp6zerocsumrx: _, ...fields } = options.fields;
  if (up.value === undefined && Object.keys(fields).length === 0)
    throw reader.refuse(`what to change is needed: vtepd link set ${name.value} WORDS...`);
  if (fields.srcport?.min === 0)
    throw reader.refuse(
      'srcport 0 0 names no ports: 49152 65535 are those of a network that was added without srcport',
    );
  return { ...NO_UPDATE, ...fields, network: name.value, up: up.value ?? null };
}

/** Changes nothing. */
export const NO_UPDATE = { mac: null, mtu: null, learning: null, proxy: null, peersonly: null, up: null };

/**
 * What equals the default is left to the dataplane, which refuses a word about IPv6 on an IPv4 underlay: `ip -d link`
 * prints them all, whatever the underlay. There `l2miss` does not bring `l3miss` along, in the protocol it does.
 */
function withoutDefaults(fields: LinkFields): LinkFields {
  const defaults: LinkFields = fields.l2miss === true ? LINK_DEFAULTS : { ...LINK_DEFAULTS, l3miss: false };
  const alone: LinkFields = fields.l2miss === true ? { l3miss: false, ...fields } : fields;
  return Object.fromEntries(
    Object.entries(alone).filter(([key, value]) => !isDeepStrictEqual(value, defaults[key as keyof LinkFields])),
  );
}

/** The name as ip takes it: behind `name`, or behind the first `dev`. */
function takeName(reader: WordReader, word: string, name: Once<string>): boolean {
  if ((word !== 'name' && word !== 'dev') || name.value !== undefined) return false;
  name.set(reader.parsed(word, 'a name', checkDeviceName));
  return true;
}

function readType(reader: WordReader, type: Once<string>): void {
  type.set(reader.valueOf('type', 'vxlan'));
  if (type.value !== 'vxlan') throw reader.refuse(`type ${type.value}: this program makes vxlan networks only`);
}

function checkName(reader: WordReader, word: string): string {
  try {
    return checkDeviceName(word);
  } catch (error) {
    throw reader.refuse(error instanceof Error ? error.message : String(error));
  }
}

/** Words that ip knows: never a name by accident. */
function isUnserved(word: string): boolean {
  return Object.hasOwn(LINK_ADD_UNSERVED, word);
}

export function notTaken(reader: WordReader, word: string, known: readonly string[]): UsageError {
  return isUnserved(word) ? reader.unserved(word, LINK_ADD_UNSERVED[word]) : reader.unknown(word, known);
}

/** The bare words of a help table. */
export function firstWords(rows: readonly WordRow[]): string[] {
  return rows.flatMap(([word]) => {
    const first = word.split(' ')[0] ?? '';
    return first.startsWith('[no]') ? [first.slice(4), `no${first.slice(4)}`] : [first];
  });
}
