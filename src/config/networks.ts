/**
 * Several networks in one daemon: `--networks blue,red`, as the first flannel's flag, or `networks:` in the settings file
 * with settings for each. What a network does not set is the daemon's, but for what must be its own.
 */
import { readWords, type WrittenWords } from './link-file.ts';
import type { SettingSpec } from './options.ts';
import { textsOf, type Written } from './written.ts';

export interface WrittenNetwork {
  readonly name: string;
  readonly fields: ReadonlyMap<string, Written>;
  readonly options: readonly WrittenWords[];
}

/** What may be set for each network. */
const FIELDS = [
  'etcd-prefix',
  'file',
  'iface',
  'iface-regex',
  'iface-can-reach',
  'public-ip',
  'public-ipv6',
  'subnet-file',
  'device',
  'netns',
  'mac',
  'route-mode',
  'take-over-lease',
] as const satisfies readonly SettingSpec['name'][];

/** What no two networks can share, and a network therefore does not take over from the daemon. */
export const OWN_FIELDS = ['etcd-prefix', 'file', 'subnet-file', 'device', 'mac'] as const;

/** Also a part of an etcd key and of file names. */
export function parseNetworkName(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/.test(text)) return text;
  throw new Error(`${JSON.stringify(text)}: a name has 1 to 32 letters, digits, dots, dashes or underscores`);
}

/** The `networks` entry of a settings file: names, or maps that have a `name`. */
export function readNetworks(value: unknown, from: string, problems: string[]): WrittenNetwork[] {
  const entries: unknown[] = Array.isArray(value) ? value : [value];
  return entries.flatMap((entry, index) => {
    const place = `${from}[${index}]`;
    const map = new Map<string, unknown>(
      typeof entry === 'object' && entry !== null ? Object.entries(entry) : [['name', entry]],
    );
    try {
      const written = map.get('name') ?? '';
      const name = parseNetworkName(typeof written === 'string' ? written : JSON.stringify(written));
      const options = map.has('options') ? readWords(map.get('options'), `${place}: options`, problems) : [];
      return [{ name, fields: readFields(map, place, problems), options }];
    } catch (error) {
      problems.push(`${place}: name ${error instanceof Error ? error.message : String(error)}`);
      return [];
    }
  });
}

function readFields(map: ReadonlyMap<string, unknown>, place: string, problems: string[]): Map<string, Written> {
  const fields = new Map<string, Written>();
  for (const [name, value] of map) {
    if (name === 'name' || name === 'options') continue;
    const texts = textsOf(value);
    if (!FIELDS.some((field) => field === name)) {
      problems.push(
        `${place}: ${JSON.stringify(name)} is no setting of a network: those are name, options, ${FIELDS.join(', ')}`,
      );
    } else if (texts === undefined) {
      problems.push(`${place}: ${name}: must be a text, a number or a list of those`);
    } else {
      fields.set(name, { values: texts, from: `${place}: ${name}` });
    }
  }
  return fields;
}
