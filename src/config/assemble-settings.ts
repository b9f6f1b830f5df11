/** Settings from the values of their fields: the defaults, and the rules between fields and between networks. */

import type { WrittenWords } from './link-file.ts';
import { OWN_FIELDS } from './networks.ts';
import { type EtcdSettings, type LogLevel, type Settings, SettingsError } from './settings.ts';
import type { Data } from './settings-fields.ts';

const DEFAULT_PREFIX = '/coreos.com/network';

/** Throws `SettingsError`. */
export function assemble(data: Data): Settings {
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

/** One of several networks, with what it sets itself. */
export interface NamedData {
  readonly name: string;
  readonly data: Data;
  readonly options: readonly WrittenWords[];
}

/** The settings of each of several networks: its own, else the daemon's. */
export function assembleNetworks(data: Data, networks: readonly NamedData[]) {
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

function etcdSettings(data: Data): EtcdSettings {
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
