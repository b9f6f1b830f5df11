/**
 * The settings of `vtepd run`: collected from flags, environment and file, in this order of precedence, and validated
 * once. A message names the field, what was written and where.
 */
import { readFileSync } from 'node:fs';
import { parse as parseYaml, YAMLParseError } from 'yaml';
import { z } from 'zod';
import { type Ip, type Ipv4, type Ipv6, parseIp, parseIpv4, parseIpv6 } from '../net/ip.ts';
import { isUnicastMac, type Mac, parseMac, ZERO_MAC } from '../net/mac.ts';
import { checkDeviceName } from './device-name.ts';
import { parseGoRegexp } from './go-regexp.ts';
import { readLinks, readWords, type WrittenWords } from './link-file.ts';
import { OWN_FIELDS, parseNetworkName, readNetworks, type Written, type WrittenNetwork } from './networks.ts';
import { SETTINGS, type SettingSpec, UNSERVED } from './options.ts';

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

/** Options of the command line (values by long name) and environment to settings. Throws `SettingsError`. */
export function loadSettings(options: ReadonlyMap<string, readonly string[]>, env: NodeJS.ProcessEnv): Settings {
  const problems: string[] = [];
  const configPath = options.get('config')?.at(-1) ?? (env.VTEPD_CONFIG || undefined);
  const networks: WrittenNetwork[] = [];
  const words: FileWords = { links: [], options: [] };
  const file =
    configPath === undefined ? new Map<string, Written>() : readConfig(configPath, networks, words, problems);
  const find = (spec: SettingSpec): Written | undefined => {
    const flag = options.get(spec.name);
    if (flag !== undefined) return { values: flag, from: `flag --${spec.name}` };
    // As flanneld: an empty variable counts as one that is not set.
    const variable = spec.env === undefined ? undefined : env[spec.env];
    if (variable !== undefined && variable !== '') return { values: [variable], from: `environment ${spec.env}` };
    return file.get(spec.name);
  };
  for (const spec of UNSERVED) {
    const written = find(spec);
    if (written !== undefined && !written.values.every((value) => spec.harmless.includes(value))) {
      problems.push(`${spec.name} (${written.from}): flanneld's ${spec.name} is not served yet; leave it out`);
    }
  }
  const written = new Map(SETTINGS.flatMap((spec) => pair(spec, find(spec))));
  const data = validate(written, problems);
  const own = networks.map(({ name, fields, options: more }) => ({
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
    settings: { ...settings, options: [...words.options, ...more] },
  }));
  const settings = { ...assemble(data), ...words, networks: several };
  if (settings.datastore.type === 'none' && words.links.length === 0)
    throw new SettingsError(['datastore none: there is nothing to do without `links` in the settings file']);
  return settings;
}

type Data = z.output<typeof fields>;

function validate(written: ReadonlyMap<string, Written>, problems: string[]): Data | undefined {
  const result = fields.safeParse(Object.fromEntries([...written].map(([name, { values }]) => [name, values])));
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const name = String(issue.path[0] ?? '');
    const from = written.get(name)?.from;
    problems.push(from === undefined ? `${name}: ${issue.message}` : `${name} (${from}): ${issue.message}`);
  }
  return undefined;
}

interface NamedData {
  readonly name: string;
  readonly data: Data;
  readonly options: readonly WrittenWords[];
}

/** The settings of each of several networks: its own, else the daemon's. */
function assembleNetworks(data: Data, networks: readonly NamedData[]) {
  const prefix = data['etcd-prefix'] ?? DEFAULT_PREFIX;
  const shared = Object.entries(data).filter(([name]) => !OWN_FIELDS.some((field) => field === name));
  const taken = new Map<string, string>();
  return networks.map(({ name, data: own, options }) => {
    const fed = own.file === undefined ? shared : shared.filter(([field]) => !/^(?:etcd-|datastore$)/.test(field));
    const settings = assemble({
      ...Object.fromEntries(fed),
      ...(own.file === undefined ? { 'etcd-prefix': `${prefix}/${name}` } : {}),
      'subnet-file': `/run/flannel/networks/${name}.env`,
      ...own,
    });
    const { subnetFile, device, datastore } = settings;
    const place = datastore.type === 'etcd' ? `etcd-prefix ${datastore.prefix}` : `file ${own.file}`;
    for (const value of [`name ${name}`, `subnet-file ${subnetFile}`, place, ...(device ? [`device ${device}`] : [])]) {
      const other = taken.get(value);
      if (other !== undefined) throw new SettingsError([`networks: ${other} and ${name} both have the ${value}`]);
      taken.set(value, name);
    }
    return { name, settings, options };
  });
}

function pair(spec: SettingSpec, written: Written | undefined): [string, Written][] {
  return written === undefined ? [] : [[spec.name, written]];
}

/** The last of the values given, checked by `check`, which returns a complaint. */
const one = z.array(z.string()).transform((values) => values.at(-1) ?? '');

function parsed<T>(parse: (text: string) => T) {
  return one.transform(complaining(parse));
}

function complaining<T>(parse: (text: string) => T) {
  return (text: string, context: z.RefinementCtx): T => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
      return z.NEVER;
    }
  };
}

const path = parsed((text) => {
  if (text === '') throw new Error('a path is needed');
  return text;
});

function integer(low: number, high: number) {
  return parsed((text) => {
    const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= low && value <= high))
      throw new Error(`${JSON.stringify(text)} is not a number from ${low} to ${high}`);
    return value;
  });
}

function oneOf<const T extends string>(words: readonly T[]) {
  return parsed((text) => {
    const found = words.find((word) => word === text);
    if (found === undefined) throw new Error(`${JSON.stringify(text)} is not one of ${words.join(', ')}`);
    return found;
  });
}

/** As Go's strconv.ParseBool, by which flanneld reads its switches from the environment. */
const onOff = parsed((text) => {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false;
  throw new Error(`${JSON.stringify(text)} is not true or false`);
});

/** Several values, each of which may be a comma list. */
function list<T>(parse: (text: string) => T) {
  return z.array(z.string()).transform((values, context) => {
    const parts = values.flatMap((value) => value.split(',')).map((part) => part.trim());
    if (parts.length === 0) context.addIssue({ code: 'custom', message: 'at least one is needed' });
    return parts.flatMap((part) => {
      try {
        return [parse(part)];
      } catch (error) {
        context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
        return [];
      }
    });
  });
}

function parseEndpoint(text: string): string {
  const expected = 'is not a URL such as http://10.245.1.2:2379';
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new Error(`${JSON.stringify(text)} ${expected}`);
  }
  if (
    !/^https?:$/.test(url.protocol) ||
    url.hostname === '' ||
    !/^\/?$/.test(url.pathname) ||
    url.search !== '' ||
    url.username !== ''
  ) {
    throw new Error(`${JSON.stringify(text)} ${expected}`);
  }
  return text.replace(/\/$/, '');
}

function parseEtcdPrefix(text: string): string {
  const trimmed = text.replace(/\/+$/, '');
  if (trimmed === '' || trimmed.includes('//'))
    throw new Error(`${JSON.stringify(text)} is not a key such as /coreos.com/network`);
  return trimmed;
}

function parseDeviceMac(text: string): Mac {
  const mac = parseMac(text);
  if (!isUnicastMac(mac) || mac === ZERO_MAC) throw new Error(`${mac} cannot be the MAC of a device`);
  return mac;
}

const fields = z.object({
  datastore: oneOf(['etcd', 'file', 'none']).optional(),
  file: path.optional(),
  'etcd-endpoints': list(parseEndpoint).optional(),
  'etcd-prefix': parsed(parseEtcdPrefix).optional(),
  'etcd-cafile': path.optional(),
  'etcd-certfile': path.optional(),
  'etcd-keyfile': path.optional(),
  'etcd-username': one.optional(),
  'etcd-password': one.optional(),
  'subnet-lease-renew-margin': integer(1, 1_439).optional(),
  iface: list(parseIface).optional(),
  'iface-regex': z.array(z.string().transform(complaining(checkRegexp))).optional(),
  'iface-can-reach': parsed(parseIp).optional(),
  'public-ip': parsed(parseIpv4).optional(),
  'public-ipv6': parsed(parseIpv6).optional(),
  'subnet-file': path.optional(),
  'ip-masq': onOff.optional(),
  'ip-masq-fully-random-disable': onOff.optional(),
  'ip-masq-random-fully': onOff.optional(),
  'iptables-forward-rules': onOff.optional(),
  'iptables-resync': integer(1, 3_600).optional(),
  'ip-blackhole-route': onOff.optional(),
  'healthz-ip': parsed(parseIp).optional(),
  'healthz-port': integer(0, 65_535).optional(),
  device: parsed(checkDeviceName).optional(),
  netns: path.optional(),
  mac: parsed(parseDeviceMac).optional(),
  networks: list(parseNetworkName).optional(),
  'route-mode': oneOf(['peer', 'network']).optional(),
  'take-over-lease': oneOf(['true', 'false']).optional(),
  'offline-start': oneOf(['true', 'false']).optional(),
  'log-level': oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace']).optional(),
  v: integer(0, 100).optional(),
});

function parseIface(text: string): string {
  if (text.includes(':')) return parseIpv6(text);
  return text.includes('.') && /^[0-9.]+$/.test(text) ? parseIpv4(text) : checkDeviceName(text);
}

function checkRegexp(text: string): string {
  parseGoRegexp(text);
  return text;
}

/** The rules between fields, and the defaults. */
function assemble(data: z.output<typeof fields>): Settings {
  const type = data.datastore ?? (data.file === undefined ? 'etcd' : 'file');
  const problems: string[] = [];
  const random = data['ip-masq-random-fully'];
  if (random !== undefined && random === data['ip-masq-fully-random-disable']) {
    problems.push('ip-masq-random-fully and ip-masq-fully-random-disable: they contradict each other; leave one out');
  }
  if (type === 'file') {
    if (data.file === undefined) problems.push('file: is needed with --datastore file');
    const given = Object.keys(data).filter((name) => name.startsWith('etcd-'));
    if (given.length > 0)
      problems.push(`${given.join(', ')}: not for the file datastore; leave out, or set --datastore etcd`);
  } else if (type === 'none') {
    const given = Object.keys(data).filter(
      (name) => name.startsWith('etcd-') || name === 'file' || name === 'networks',
    );
    if (given.length > 0) problems.push(`${given.join(', ')}: not with datastore none; leave out`);
  } else {
    if (data.file !== undefined) problems.push('file: not for the etcd datastore; leave out, or set --datastore file');
    if ((data['etcd-certfile'] === undefined) !== (data['etcd-keyfile'] === undefined)) {
      problems.push('etcd-certfile and etcd-keyfile: both are needed, or neither');
    }
    if ((data['etcd-username'] === undefined) !== (data['etcd-password'] === undefined)) {
      problems.push('etcd-username and etcd-password: both are needed, or neither');
    }
  }
  if (problems.length > 0) throw new SettingsError(problems);
  const port = data['healthz-port'] ?? 0;
  return {
    datastore: type === 'file' ? { type, path: data.file ?? '' } : type === 'none' ? { type } : etcdSettings(data),
    iface: data.iface ?? [],
    ifaceRegex: data['iface-regex'] ?? [],
    ifaceCanReach: data['iface-can-reach'],
    publicIp: data['public-ip'],
    publicIpv6: data['public-ipv6'],
    subnetFile: data['subnet-file'] ?? '/run/flannel/subnet.env',
    healthz: port === 0 ? undefined : { ip: data['healthz-ip'] ?? '0.0.0.0', port },
    device: data.device,
    netns: data.netns,
    mac: data.mac,
    rules: {
      forward: data['iptables-forward-rules'] ?? true,
      masquerade: data['ip-masq'] ?? false,
      fullyRandom: data['ip-masq-random-fully'] ?? data['ip-masq-fully-random-disable'] !== true,
      resyncSeconds: data['iptables-resync'] ?? 5,
    },
    blackholeRoute: data['ip-blackhole-route'] ?? false,
    routeMode: data['route-mode'] ?? 'peer',
    takeOverLease: data['take-over-lease'] === 'true',
    offlineStart: data['offline-start'] !== 'false',
    logLevel: data['log-level'] ?? levelOf(data.v ?? 0),
    links: [],
    options: [],
    networks: [],
  };
}

const DEFAULT_PREFIX = '/coreos.com/network';

function etcdSettings(data: z.output<typeof fields>): EtcdSettings {
  return {
    type: 'etcd',
    endpoints: data['etcd-endpoints'] ?? ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
    prefix: data['etcd-prefix'] ?? DEFAULT_PREFIX,
    caFile: data['etcd-cafile'],
    certFile: data['etcd-certfile'],
    keyFile: data['etcd-keyfile'],
    username: data['etcd-username'],
    password: data['etcd-password'],
    renewMarginMinutes: data['subnet-lease-renew-margin'] ?? 60,
  };
}

function levelOf(verbosity: number): LogLevel {
  if (verbosity === 0) return 'info';
  return verbosity < 5 ? 'debug' : 'trace';
}

/** What the file alone can say, in words of `vtepd link add`. */
interface FileWords {
  readonly links: WrittenWords[];
  readonly options: WrittenWords[];
}

/** The settings file: a map of the flags' names, and of `networks`, `links` and `options`; YAML or JSON (which is YAML). */
function readConfig(
  path: string,
  networks: WrittenNetwork[],
  words: FileWords,
  problems: string[],
): Map<string, Written> {
  const found = new Map<string, Written>();
  let value: unknown;
  try {
    value = parseYaml(readFileSync(path, 'utf8'));
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    problems.push(error instanceof YAMLParseError ? `${path}: ${text}` : `config: cannot be read: ${text}`);
    return found;
  }
  if (value === null || value === undefined) return found;
  if (typeof value !== 'object' || Array.isArray(value)) {
    problems.push(`${path}: must be a map of settings, such as \`etcd-prefix: /coreos.com/network\``);
    return found;
  }
  const names = new Set([...SETTINGS, ...UNSERVED].map((spec) => spec.name));
  for (const [name, entry] of Object.entries(value)) {
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
    const values: unknown[] = Array.isArray(entry) ? entry : [entry];
    const texts = values.flatMap((part) =>
      ['string', 'number', 'boolean'].includes(typeof part) ? [String(part)] : [],
    );
    if (texts.length !== values.length) problems.push(`${from}: must be a text, a number or a list of those`);
    else found.set(name, { values: texts, from });
  }
  return found;
}
