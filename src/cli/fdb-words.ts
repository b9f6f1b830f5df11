/** `vtepd fdb add|append|replace|del|show`: the words of `bridge fdb`, in any order. */
import { checkDeviceName } from '../config/device-name.ts';
import type { EntryState, EntryVerb, FdbChange } from '../dataplane/protocol.ts';
import { type Ip, parseIp } from '../net/ip.ts';
import { type Mac, parseMac } from '../net/mac.ts';
import { firstWords } from './link-words.ts';
import { FDB_UNSERVED, FDB_WORDS } from './vocabulary.ts';
import { Once, WordReader } from './words.ts';

const STATES: Readonly<Record<string, EntryState>> = {
  static: 'static',
  temp: 'static',
  permanent: 'permanent',
  local: 'permanent',
  dynamic: 'dynamic',
};

/** What was asked; the network may be left out where only one is held. */
export type FdbRequest = Omit<FdbChange, 'network'> & { readonly network: string | undefined };

export function parseFdbChange(verb: EntryVerb, words: readonly string[]): FdbRequest {
  const reader = new WordReader(`fdb ${verb}`, words);
  const mac = new Once<Mac>(reader, 'the MAC');
  const dst = new Once<Ip>(reader, 'dst');
  const dev = new Once<string>(reader, 'dev');
  const port = new Once<number>(reader, 'port');
  const vni = new Once<number>(reader, 'vni');
  const state = new Once<EntryState>(reader, 'the state');
  while (!reader.done) {
    const word = reader.next();
    if (word === 'dst') dst.set(reader.parsed(word, 'an address', parseIp));
    else if (word === 'dev') dev.set(reader.parsed(word, 'a network', checkDeviceName));
    else if (word === 'port') port.set(reader.number(word, 1, 65_535));
    else if (word === 'vni') vni.set(reader.number(word, 0, 0xff_ffff));
    else if (word === 'self') continue;
    else if (word === 'lladdr') mac.set(reader.parsed(word, 'a MAC', parseMac));
    else if (Object.hasOwn(STATES, word)) {
      const found = STATES[word];
      if (found !== undefined) state.set(found);
    } else if (Object.hasOwn(FDB_UNSERVED, word)) throw reader.unserved(word, FDB_UNSERVED[word]);
    else if (word.includes(':') || mac.value === undefined) mac.set(readMac(reader, word));
    else throw reader.unknown(word, [...firstWords(FDB_WORDS), ...Object.keys(STATES)]);
  }
  if (mac.value === undefined) throw reader.refuse(`a MAC is needed: vtepd fdb ${verb} MAC dst VTEP dev NAME`);
  if (dst.value === undefined) {
    if (verb !== 'del') throw reader.refuse(`dst is needed: vtepd fdb ${verb} ${mac.value} dst VTEP dev NAME`);
    if (port.value !== undefined || vni.value !== undefined) throw reader.refuse('port and vni belong to a dst');
  }
  return {
    network: dev.value,
    verb,
    mac: mac.value,
    destination: dst.value === undefined ? null : { ip: dst.value, port: port.value ?? null, vni: vni.value ?? null },
    state: verb === 'del' ? null : (state.value ?? 'static'),
  };
}

/** `fdb show [dev NAME]`. */
export function parseFdbShow(words: readonly string[]): { readonly network: string | undefined } {
  const reader = new WordReader('fdb show', words);
  const dev = new Once<string>(reader, 'dev');
  while (!reader.done) {
    const word = reader.next();
    if (word === 'dev') dev.set(reader.parsed(word, 'a network', checkDeviceName));
    else if (word === 'self') continue;
    else if (['br', 'brport', 'vlan', 'state', 'dynamic', 'static', 'permanent'].includes(word)) {
      throw reader.unserved(word, 'use `--json` and a filter of your own');
    } else throw reader.unknown(word, ['dev']);
  }
  return { network: dev.value };
}

function readMac(reader: WordReader, word: string): Mac {
  try {
    return parseMac(word);
  } catch {
    throw reader.refuse(`${JSON.stringify(word)} is neither a word of fdb nor a MAC such as 02:00:00:00:00:01`);
  }
}
