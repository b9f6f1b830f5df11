/**
 * What the settings file says in the words of `vtepd link add`: networks that `vtepd run` makes (`links`), and options of the networks of
 * a datastore (`options`). Read as the command line is; everything that is wrong is told at once, before anything is made.
 */
import type { WrittenWords } from '../config/link-file.ts';
import { type Settings, SettingsError } from '../config/settings.ts';
import type { TunnelOptions } from '../daemon/tunnel.ts';
import type { NetworkSpec } from '../dataplane/protocol.ts';
import { UsageError } from './errors.ts';
import { LINK_OPTION_WORDS, LinkOptions } from './link-options.ts';
import { notTaken, parseLinkAdd } from './link-words.ts';
import { WordReader } from './words.ts';

export interface Declared {
  readonly links: readonly NetworkSpec[];
  /** Of each network of `networks`, in their order; of the only one where there are none. */
  readonly options: readonly TunnelOptions[];
}

/** Throws `SettingsError`. */
export function declaredOf(settings: Settings): Declared {
  const problems: string[] = [];
  const attempt = <T>(read: () => T): T[] => {
    try {
      return [read()];
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      problems.push(error.message);
      return [];
    }
  };
  const read = settings.links.flatMap((written) => attempt(() => ({ link: linkOf(written), from: written.from })));
  for (const [index, { link, from }] of read.entries()) {
    const twin = read.slice(0, index).find((other) => clash(link, other.link) !== undefined);
    if (twin !== undefined)
      problems.push(`${from}: ${clash(link, twin.link)} is that of ${twin.link.name} (${twin.from}) too`);
  }
  const networks = settings.networks.length === 0 ? [settings] : settings.networks.map((network) => network.settings);
  for (const { device } of networks) {
    const found = read.find(({ link }) => link.name === device);
    if (found !== undefined)
      problems.push(`${found.from}: name ${found.link.name} is the device of a datastore's network`);
  }
  const options = networks.map(({ options: written }) => {
    const entries = written.flatMap((words) => attempt(() => Object.entries(optionsOf(words))).flat());
    return Object.fromEntries(entries);
  });
  if (problems.length > 0) throw new SettingsError([...new Set(problems)]);
  return { links: read.map(({ link }) => link), options };
}

/** Made by the settings: what a network by hand does where nothing is said is said. */
function linkOf({ words, from }: WrittenWords): NetworkSpec {
  const spec = parseLinkAdd(words, from);
  return { l2miss: false, l3miss: false, maxperpeer: 0, maxmoves: 0, ...spec, owner: 'settings' };
}

function clash(one: NetworkSpec, other: NetworkSpec): string | undefined {
  if (one.name === other.name) return `name ${one.name}`;
  const v6 = (spec: NetworkSpec): boolean =>
    [spec.local, spec.remote, spec.group].some((ip) => ip?.includes(':') === true);
  const same = one.vni === other.vni && one.port === other.port && v6(one) === v6(other);
  return same ? `id ${one.vni} on dstport ${one.port}` : undefined;
}

/** Words of `link add` that are not for the network of a datastore, and who says it instead. */
const SAID_ELSEWHERE: Readonly<Record<string, string>> = {
  local: '`iface` and `public-ip` choose the underlay',
  dev: '`iface` chooses the underlay',
  remote: 'the datastore names the peers',
  group: 'the datastore names the peers',
  address: 'the setting is called `mac`',
  mtu: 'it follows from the underlay, or from Backend.MTU of the network configuration',
  learning: 'Backend.Learning of the network configuration says it, for all hosts',
  proxy: 'such a network always answers from the leases',
  'proxy-flood': 'such a network floods nothing: its flood list is empty',
  peersonly: 'such a network takes frames from leases only, always',
  id: 'Backend.VNI of the network configuration says it, for all hosts',
  vni: 'Backend.VNI of the network configuration says it, for all hosts',
  dstport: 'Backend.Port of the network configuration says it, for all hosts',
  netns: 'it is a setting of its own',
  name: 'the setting is called `device`',
  rsc: 'no entry of such a network is a router',
};

function optionsOf({ words, from }: WrittenWords): TunnelOptions {
  const reader = new WordReader(from, words);
  const options = new LinkOptions(reader);
  while (!reader.done) {
    const word = reader.next();
    const bare = word.startsWith('no') ? word.slice(2) : word;
    const why = [word, bare].flatMap((each) => (Object.hasOwn(SAID_ELSEWHERE, each) ? SAID_ELSEWHERE[each] : []))[0];
    if (why !== undefined) throw reader.refuse(`${word} is no option of a datastore's network: ${why}`);
    if (!options.take(word)) throw notTaken(reader, word, LINK_OPTION_WORDS);
  }
  options.check();
  const { srcport, ...fields } = options.fields;
  // `srcport 0 0` is the default by name.
  return srcport === undefined || srcport.min === 0 ? fields : { ...fields, srcport };
}
