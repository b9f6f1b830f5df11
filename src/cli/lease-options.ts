/** Options of the commands that speak to a datastore. Apart from settings.ts, whose checks take 55 ms to load. */
import type { OptionSpec } from '../config/option-spec.ts';
import { SETTINGS, type SettingSpec } from '../config/options.ts';

const NAMES = /^(datastore|file|etcd-.*|subnet-lease-renew-margin|networks)$/;

/** Settings that say where leases are. */
export const DATASTORE_SETTINGS: readonly SettingSpec[] = SETTINGS.filter(({ name }) => NAMES.test(name));

export const DATASTORE_OPTIONS: readonly OptionSpec[] = [
  ...DATASTORE_SETTINGS,
  { name: 'config', value: 'PATH', text: 'settings file of `vtepd run`' },
  { name: 'network', value: 'NAME', text: 'which one, where the settings have several networks' },
];
