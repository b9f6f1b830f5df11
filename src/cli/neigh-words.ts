/** `vtepd neigh add|replace|del|show`: the words of `ip neigh`, in any order; a subnet is as good as an address. */
import { checkDeviceName } from '../config/device-name.ts';
import type { EntryVerb, NeighChange } from '../dataplane/protocol.ts';
import { familyOf, parseIp } from '../net/ip.ts';
import { type Mac, parseMac } from '../net/mac.ts';
import { parsePrefix } from '../net/prefix.ts';
import { firstWords } from './link-words.ts';
import { NEIGH_UNSERVED, NEIGH_WORDS } from './vocabulary.ts';
import { Once, WordReader } from './words.ts';

export type NeighRequest = Omit<NeighChange, 'network'> & { readonly network: string | undefined };

/** States of `ip neigh` that mean "does not age", which is what every entry here does. */
const LASTING = ['permanent', 'noarp'];

export function parseNeighChange(verb: Exclude<EntryVerb, 'append'>, words: readonly string[]): NeighRequest {
  const reader = new WordReader(`neigh ${verb}`, words);
  const prefix = new Once<string>(reader, 'the address');
  const lladdr = new Once<Mac>(reader, 'lladdr');
  const dev = new Once<string>(reader, 'dev');
  while (!reader.done) {
    const word = reader.next();
    if (word === 'lladdr') lladdr.set(reader.parsed(word, 'a MAC', parseMac));
    else if (word === 'dev') dev.set(reader.parsed(word, 'a network', checkDeviceName));
    else if (word === 'to') prefix.set(reader.parsed(word, 'an address', parseTarget));
    else if (word === 'nud') {
      const state = reader.valueOf(word, 'a state');
      if (!LASTING.includes(state)) throw reader.unserved(`nud ${state}`, 'entries here are permanent');
    } else if (LASTING.includes(word)) continue;
    else if (Object.hasOwn(NEIGH_UNSERVED, word)) throw reader.unserved(word, NEIGH_UNSERVED[word]);
    else if (prefix.value === undefined) {
      try {
        prefix.set(parseTarget(word));
      } catch (error) {
        throw reader.refuse(error instanceof Error ? error.message : String(error));
      }
    } else throw reader.unknown(word, firstWords(NEIGH_WORDS));
  }
  if (prefix.value === undefined)
    throw reader.refuse(`an address is needed: vtepd neigh ${verb} ADDR lladdr MAC dev NAME`);
  if (verb !== 'del' && lladdr.value === undefined) {
    throw reader.refuse(`lladdr is needed: vtepd neigh ${verb} ${prefix.value} lladdr MAC dev NAME`);
  }
  return { network: dev.value, verb, prefix: prefix.value, lladdr: verb === 'del' ? null : (lladdr.value ?? null) };
}

/** `neigh show [dev NAME]`. */
export function parseNeighShow(words: readonly string[]): { readonly network: string | undefined } {
  const reader = new WordReader('neigh show', words);
  const dev = new Once<string>(reader, 'dev');
  while (!reader.done) {
    const word = reader.next();
    if (word === 'dev') dev.set(reader.parsed(word, 'a network', checkDeviceName));
    else if (['to', 'nud', 'vrf', 'proxy', 'unused', 'nomaster', 'master', 'protocol'].includes(word)) {
      throw reader.unserved(word, 'use `--json` and a filter of your own');
    } else throw reader.unknown(word, ['dev']);
  }
  return { network: dev.value };
}

/** `10.246.13.5` to `10.246.13.5/32`; `10.246.13.0/24` stays. */
function parseTarget(text: string): string {
  if (!text.includes('/')) {
    const ip = parseIp(text);
    return `${ip}/${familyOf(ip) === 4 ? 32 : 128}`;
  }
  return parsePrefix(text);
}
