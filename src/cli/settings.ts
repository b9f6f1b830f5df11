/** The settings of a command that speaks to a datastore: the same flags, environment and file as those of `vtepd run`. */
import { loadSettings } from '../config/load-settings.ts';
import { type NoDatastore, type Settings, SettingsError } from '../config/settings.ts';
import { optionValue, type ParsedArguments } from './arguments.ts';
import type { Context } from './context.ts';
import { type Declared, declaredOf } from './declared.ts';
import { UsageError } from './errors.ts';
import { DATASTORE_OPTIONS, DATASTORE_SETTINGS } from './lease-options.ts';

export function readSettings(context: Context, input: ParsedArguments): Settings {
  try {
    return loadSettings(input.options, context.env);
  } catch (error) {
    if (error instanceof SettingsError) throw new UsageError(error.message);
    throw error;
  }
}

/** What the settings file says in the words of `vtepd link add`. */
export function readDeclared(settings: Settings): Declared {
  try {
    return declaredOf(settings);
  } catch (error) {
    if (error instanceof SettingsError) throw new UsageError(error.message);
    throw error;
  }
}

/** Settings as far as they can be used. */
export interface JudgedSettings {
  /** Absent if they cannot be read. */
  readonly settings?: Settings;
  /** Absent if what they declare cannot be made. */
  readonly declared?: Declared;
  readonly problems: readonly string[];
}

/** The same two for who tells what is wrong, and goes on with what is not. */
export function judgeSettings(context: Context, input: ParsedArguments): JudgedSettings {
  let settings: Settings | undefined;
  try {
    settings = loadSettings(input.options, context.env);
    return { settings, declared: declaredOf(settings), problems: [] };
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    return { ...(settings === undefined ? {} : { settings }), problems: error.problems };
  }
}

/** Where the leases of the network are that is meant. */
export function readDatastore(context: Context, input: ParsedArguments): Exclude<Settings['datastore'], NoDatastore> {
  const datastore = chosenDatastore(context, input);
  if (datastore.type !== 'none') return datastore;
  throw new UsageError('the settings have `datastore: none`, where there are no leases');
}

function chosenDatastore(context: Context, input: ParsedArguments): Settings['datastore'] {
  const { datastore, networks } = readSettings(context, input);
  const name = optionValue(input, 'network');
  if (name === undefined && networks.length === 0) return datastore;
  const [only, ...others] = name === undefined ? networks : networks.filter((network) => network.name === name);
  if (only !== undefined && others.length === 0) return only.settings.datastore;
  const names = networks.map((network) => network.name).join(', ');
  throw new UsageError(
    name === undefined
      ? `the settings have several networks (${names}); say which with --network NAME`
      : `the settings have no network ${name}${names === '' ? '' : ` (there are ${names})`}`,
  );
}

/** True if the command line or the environment says where leases are; else a running controller may be asked. */
export function namesDatastore(context: Context, input: ParsedArguments): boolean {
  if (DATASTORE_OPTIONS.some(({ name }) => input.options.has(name))) return true;
  return [...DATASTORE_SETTINGS.map(({ env = '' }) => env), 'VTEPD_CONFIG'].some(
    (name) => (context.env[name] ?? '') !== '',
  );
}
