/** The settings file: a map of the flags' names, and of `networks`, `links` and `options`; YAML or JSON (which is YAML). */
import { readFileSync } from 'node:fs';
import { parse as parseYaml, YAMLParseError } from 'yaml';
import { readLinks, readWords, type WrittenWords } from './link-file.ts';
import { readNetworks, type WrittenNetwork } from './networks.ts';
import { SETTINGS, UNSERVED } from './options.ts';
import { textsOf, type Written } from './written.ts';

export interface WrittenFile {
  /** By the settings' names. */
  readonly values: ReadonlyMap<string, Written>;
  readonly networks: readonly WrittenNetwork[];
  /** What the file alone can say, in words of `vtepd link add`. */
  readonly links: readonly WrittenWords[];
  readonly options: readonly WrittenWords[];
}

/** What cannot be read is left out, with a word among the problems. */
export function readSettingsFile(path: string, problems: string[]): WrittenFile {
  const values = new Map<string, Written>();
  const networks: WrittenNetwork[] = [];
  const words: Record<'links' | 'options', WrittenWords[]> = { links: [], options: [] };
  const names = new Set([...SETTINGS, ...UNSERVED].map((spec) => spec.name));
  for (const [name, entry] of Object.entries(readMap(path, problems))) {
    const from = `${path}: ${name}`;
    if (name === 'links' || name === 'options') {
      const read = name === 'links' ? readLinks : readWords;
      words[name].push(...read(entry, from, problems));
      continue;
    }
    if (!names.has(name)) {
      problems.push(
        `${path}: unknown setting ${JSON.stringify(name)}; the names are those of the flags of \`vtepd run --help\`, and links and options`,
      );
      continue;
    }
    if (name === 'networks') {
      networks.push(...readNetworks(entry, from, problems));
      continue;
    }
    const texts = textsOf(entry);
    if (texts === undefined) problems.push(`${from}: must be a text, a number or a list of those`);
    else values.set(name, { values: texts, from });
  }
  return { values, networks, ...words };
}

/** Empty where there is none. */
function readMap(path: string, problems: string[]): object {
  let value: unknown;
  try {
    value = parseYaml(readFileSync(path, 'utf8'));
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    problems.push(error instanceof YAMLParseError ? `${path}: ${text}` : `config: cannot be read: ${text}`);
    return {};
  }
  if (value === null || value === undefined) return {};
  if (typeof value === 'object' && !Array.isArray(value)) return value;
  problems.push(`${path}: must be a map of settings, such as \`etcd-prefix: /coreos.com/network\``);
  return {};
}
