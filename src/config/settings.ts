/** What the settings of `vtepd run` are, and the error that says what is wrong with them; load-settings.ts finds them. */
import type { Ip, Ipv4, Ipv6 } from '../net/ip.ts';
import type { Mac } from '../net/mac.ts';
import type { WrittenWords } from './link-file.ts';

export interface EtcdSettings {
  readonly type: 'etcd';
  readonly endpoints: readonly string[];
  readonly prefix: string;
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly renewMarginMinutes: number;
}

export interface FileSettings {
  readonly type: 'file';
  readonly path: string;
}

/** Only the networks of `links`. */
export interface NoDatastore {
  readonly type: 'none';
}

/** flannel's traffic rules. */
export interface RulesSettings {
  readonly forward: boolean;
  readonly masquerade: boolean;
  readonly fullyRandom: boolean;
  readonly resyncSeconds: number;
}

export type RouteMode = 'peer' | 'network';
export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';

export interface Settings {
  readonly datastore: EtcdSettings | FileSettings | NoDatastore;
  /** Names and addresses, in order of preference; empty: the default route's. */
  readonly iface: readonly string[];
  /** In Go's syntax; tried when none of `iface` fits. */
  readonly ifaceRegex: readonly string[];
  /** Tried last. */
  readonly ifaceCanReach?: Ip | undefined;
  readonly publicIp?: Ipv4 | undefined;
  readonly publicIpv6?: Ipv6 | undefined;
  readonly subnetFile: string;
  readonly healthz?: { readonly ip: string; readonly port: number } | undefined;
  readonly device?: string | undefined;
  readonly netns?: string | undefined;
  readonly mac?: Mac | undefined;
  readonly rules: RulesSettings;
  /** Packets to addresses of our subnet that nobody has are thrown away. */
  readonly blackholeRoute: boolean;
  readonly routeMode: RouteMode;
  readonly takeOverLease: boolean;
  readonly offlineStart: boolean;
  readonly logLevel: LogLevel;
  /** Networks that are made as `vtepd link add` makes them; of the whole daemon. */
  readonly links: readonly WrittenWords[];
  /** Words of `vtepd link add` for the networks of a datastore; later ones count more. */
  readonly options: readonly WrittenWords[];
  /** Empty: the one network that the other settings tell. */
  readonly networks: readonly { readonly name: string; readonly settings: Settings }[];
}

/** One or more settings are wrong; the message has a line for each. */
export class SettingsError extends Error {
  readonly code = 'INVALID_SETTINGS';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(
      problems.length === 1 ? problems.join('') : `settings:\n${problems.map((problem) => `  ${problem}`).join('\n')}`,
    );
    this.problems = problems;
  }
}
