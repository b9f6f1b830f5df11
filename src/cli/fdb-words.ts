/** `vtepd fdb add|append|replace|del|flush|show`: the words of `bridge fdb`, in any order. */
import { checkDeviceName } from '../config/device-name.ts';
import type { EntryState, EntryVerb, FdbChange, FdbFlush } from '../dataplane/protocol.ts';
import { type Ip, parseIp } from '../net/ip.ts';
import { type Mac, parseMac } from '../net/mac.ts';
import { firstWords } from './link-words.ts';
import { FDB_FLUSH_WORDS, FDB_UNSERVED, FDB_WORDS } from './vocabulary.ts';
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
  const via = new Once<string>(reader, 'via');
  const state = new Once<EntryState>(reader, 'the state');
  let router = false;
  while (!reader.done) {
    const word = reader.next();
    if (word === 'dst') dst.set(reader.parsed(word, 'an address', parseIp));
    else if (word === 'dev') dev.set(reader.parsed(word, 'a network', checkDeviceName));
    else if (word === 'port') port.set(reader.number(word, 1, 65_535));
    else if (word === 'vni') vni.set(reader.number(word, 0, 0xff_ffff));
    else if (word === 'via') via.set(reader.parsed(word, 'an underlay interface', checkDeviceName));
    else if (word === 'router') router = true;
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
    if (port.value !== undefined || vni.value !== undefined || via.value !== undefined)
      throw reader.refuse('port, vni and via belong to a dst');
  }
  const where = {
    port: port.value ?? null,
    vni: vni.value ?? null,
    ...(via.value === undefined ? {} : { via: via.value }),
  };
  return {
    network: dev.value,
    verb,
    mac: mac.value,
    destination: dst.value === undefined ? null : { ip: dst.value, ...where },
    state: verb === 'del' ? null : (state.value ?? 'static'),
    ...(router && verb !== 'del' ? { router } : {}),
  };
}

export type FlushRequest = Omit<FdbFlush, 'network'> & { readonly network: string | undefined };

/** `fdb flush dev NAME [SELECTORS...]`: what matches all of them goes. */
export function parseFdbFlush(words: readonly string[]): FlushRequest {
  const reader = new WordReader('fdb flush', words);
  const dev = new Once<string>(reader, 'dev');
  const selectors: Omit<FdbFlush, 'network'> = {};
  while (!reader.done) {
    const word = reader.next();
    if (word === 'dev') dev.set(reader.parsed(word, 'a network', checkDeviceName));
    else if (word !== 'self') {
      const selector = readSelector(reader, word);
      if (Object.keys(selector).some((key) => Object.hasOwn(selectors, key)))
        throw reader.refuse(`${word}: a selector of its kind is given twice`);
      Object.assign(selectors, selector);
    }
  }
  return { network: dev.value, ...selectors };
}

function readSelector(reader: WordReader, word: string): Omit<FdbFlush, 'network'> {
  if (word === 'dst') return { dst: reader.parsed(word, 'an address', parseIp) };
  if (word === 'port') return { port: reader.number(word, 1, 65_535) };
  if (word === 'vni') return { vni: reader.number(word, 0, 0xff_ffff) };
  if (word === 'via') return { via: reader.parsed(word, 'an underlay interface', checkDeviceName) };
  if (word === 'router' || word === 'norouter') return { router: word === 'router' };
  const state = Object.hasOwn(STATES, word) ? STATES[word] : undefined;
  if (state !== undefined) return { state };
  const bare = word.startsWith('no') ? word.slice(2) : word;
  if (Object.hasOwn(STATES, bare)) throw reader.unserved(word, 'name the state that is to go, one a flush');
  if (Object.hasOwn(FDB_UNSERVED, bare) || ['brport', 'offloaded', 'added_by_user'].includes(bare))
    throw reader.unserved(word, FDB_UNSERVED[bare]);
  throw reader.unknown(word, [...firstWords(FDB_FLUSH_WORDS), ...Object.keys(STATES)]);
}

/** What rows have to agree with. */
export interface FdbFilter {
  readonly network: string | undefined;
  readonly mac: Mac | undefined;
  readonly dst: Ip | undefined;
  readonly state: EntryState | undefined;
}

/** Filters of `bridge fdb show` that ask for something that is not here. */
const SHOW_ELSEWHERE: Readonly<Record<string, string>> = {
  br: "that is the bridge's own table: use `bridge fdb`",
  brport: "that is the bridge's own table: use `bridge fdb`",
  master: "that is the bridge's own table: use `bridge fdb`",
  vlan: 'tags belong to the frame, not to the entry',
};

/** `fdb show [dev NAME] [MAC] [dst VTEP] [[state] STATE]`. */
export function parseFdbShow(words: readonly string[]): FdbFilter {
  const reader = new WordReader('fdb show', words);
  const dev = new Once<string>(reader, 'dev');
  const mac = new Once<Mac>(reader, 'the MAC');
  const dst = new Once<Ip>(reader, 'dst');
  const state = new Once<EntryState>(reader, 'the state');
  while (!reader.done) {
    const word = reader.next();
    const of = Object.hasOwn(STATES, word) ? STATES[word] : undefined;
    if (word === 'dev') dev.set(reader.parsed(word, 'a network', checkDeviceName));
    else if (word === 'dst') dst.set(reader.parsed(word, 'an address', parseIp));
    else if (word === 'state') state.set(reader.parsed(word, 'a state', parseState));
    else if (of !== undefined) state.set(of);
    else if (word.includes(':')) mac.set(readMac(reader, word));
    else if (Object.hasOwn(SHOW_ELSEWHERE, word)) throw reader.unserved(word, SHOW_ELSEWHERE[word]);
    else if (word !== 'self') throw reader.unknown(word, ['dev', 'dst', 'state', ...Object.keys(STATES)]);
  }
  return { network: dev.value, mac: mac.value, dst: dst.value, state: state.value };
}

function parseState(text: string): EntryState {
  const state = Object.hasOwn(STATES, text) ? STATES[text] : undefined;
  if (state === undefined) throw new Error(`${JSON.stringify(text)} is none of static, permanent, dynamic`);
  return state;
}

function readMac(reader: WordReader, word: string): Mac {
  try {
    return parseMac(word);
  } catch {
    throw reader.refuse(`${JSON.stringify(word)} is neither a word of fdb nor a MAC such as 02:00:00:00:00:01`);
  }
}
