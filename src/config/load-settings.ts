/**
 * The settings of `vtepd run`: collected from flags, environment and file, in this order of precedence, and validated
 * once. A message names the field, what was written and where.
 */
import { assemble, assembleNetworks } from './assemble-settings.ts';
import { SETTINGS, type SettingSpec, UNSERVED } from './options.ts';
import { type Settings, SettingsError } from './settings.ts';
import { validate } from './settings-fields.ts';
import { readSettingsFile, type WrittenFile } from './settings-file.ts';
import type { Written } from './written.ts';

const NO_FILE: WrittenFile = { values: new Map(), networks: [], links: [], options: [] };

/** Options of the command line (values by long name) and environment to settings. Throws `SettingsError`. */
export function loadSettings(options: ReadonlyMap<string, readonly string[]>, env: NodeJS.ProcessEnv): Settings {
  const problems: string[] = [];
  const configPath = options.get('config')?.at(-1) ?? (env.VTEPD_CONFIG || undefined);
  const file = configPath === undefined ? NO_FILE : readSettingsFile(configPath, problems);
  const find = (spec: SettingSpec): Written | undefined => {
    const flag = options.get(spec.name);
    if (flag !== undefined) return { values: flag, from: `flag --${spec.name}` };
    // As flanneld: an empty variable counts as one that is not set.
    const variable = spec.env === undefined ? undefined : env[spec.env];
    if (variable !== undefined && variable !== '') return { values: [variable], from: `environment ${spec.env}` };
    return file.values.get(spec.name);
  };
  for (const spec of UNSERVED) {
    const written = find(spec);
    if (written !== undefined && !written.values.every((value) => spec.harmless.includes(value))) {
      problems.push(`${spec.name} (${written.from}): flanneld's ${spec.name} is not served yet; leave it out`);
    }
  }
  const written = new Map(SETTINGS.flatMap((spec) => pair(spec, find(spec))));
  const data = validate(written, problems);
  const own = file.networks.map(({ name, fields, options: more }) => ({
    name,
    data: validate(fields, problems) ?? {},
    options: more,
  }));
  if (problems.length > 0 || data === undefined) throw new SettingsError(problems);
  const named = data.networks === undefined ? own : data.networks.map((name) => ({ name, data: {}, options: [] }));
  if (data.datastore === 'none' && named.length > 0)
    throw new SettingsError(['networks: they need a datastore, and it is none; leave one of the two out']);
  const several = assembleNetworks(data, named).map(({ name, settings, options: more }) => ({
    name,
    settings: { ...settings, options: [...file.options, ...more] },
  }));
  const { links, options: words } = file;
  const settings = { ...assemble(data), links, options: words, networks: several };
  if (settings.datastore.type === 'none' && links.length === 0)
    throw new SettingsError(['datastore none: there is nothing to do without `links` in the settings file']);
  return settings;
}

function pair(spec: SettingSpec, written: Written | undefined): [string, Written][] {
  return written === undefined ? [] : [[spec.name, written]];
}
