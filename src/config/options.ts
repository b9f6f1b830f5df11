/**
 * The settings of `vtepd run` as a table: name, where it may come from, help. flanneld's names keep their meaning. What
 * flanneld has and this program does not serve yet is listed too, so that it is refused by name.
 */
import type { OptionSpec } from './option-spec.ts';

export interface SettingSpec extends OptionSpec {
  /** Environment variable; absent where there is none. */
  readonly env?: string;
}

const flanneld = (name: string, value: string, text: string, more: Partial<SettingSpec> = {}): SettingSpec => ({
  name,
  value,
  text,
  env: `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`,
  ...more,
});

const own = (name: string, value: string, text: string, more: Partial<SettingSpec> = {}): SettingSpec => ({
  name,
  value,
  text,
  env: `VTEPD_${name.toUpperCase().replaceAll('-', '_')}`,
  ...more,
});

const flanneldSwitch = (name: string, text: string): SettingSpec => aSwitch(flanneld(name, '', text));
const ownSwitch = (name: string, text: string): SettingSpec => aSwitch(own(name, '', text));

function aSwitch(spec: SettingSpec): SettingSpec {
  const { value: _, ...rest } = spec;
  return rest;
}

/** Every setting that is served. */
export const SETTINGS: readonly SettingSpec[] = [
  own(
    'datastore',
    'etcd|file|none',
    'where leases come from; default file if --file is given, else etcd; none: only `links`',
  ),
  own('file', 'PATH', 'the file datastore: a YAML or JSON list of hosts and subnets'),
  flanneld('etcd-endpoints', 'URL,...', 'etcd servers; default http://127.0.0.1:4001,http://127.0.0.1:2379'),
  flanneld('etcd-prefix', 'KEY', 'where the network lies in etcd; default /coreos.com/network'),
  flanneld('etcd-cafile', 'PATH', 'certificate authority of the etcd servers'),
  flanneld('etcd-certfile', 'PATH', 'certificate shown to etcd'),
  flanneld('etcd-keyfile', 'PATH', 'key of that certificate'),
  flanneld('etcd-username', 'NAME', 'user at etcd'),
  flanneld('etcd-password', 'WORD', 'password; better by environment or file, where `ps` does not show it'),
  flanneld('subnet-lease-renew-margin', 'MINUTES', 'renew the lease this long before it ends, 1 to 1439; default 60'),
  flanneld('iface', 'NAME|IP', 'underlay interface, the first that fits (repeatable); default: the default route', {
    repeatable: true,
  }),
  flanneld(
    'iface-regex',
    'REGEX',
    'the first interface with a matching IPv4 address, else name, if no --iface fits (repeatable)',
    { repeatable: true },
  ),
  flanneld('iface-can-reach', 'IP', 'the interface that the kernel would send to this address by, if neither fits'),
  flanneld(
    'public-ip',
    'IP',
    "address that peers send to; default the interface's; without --iface it also chooses the interface",
  ),
  flanneld('public-ipv6', 'IP', "IPv6 address that peers send to in a dual-stack network; default the interface's"),
  flanneld(
    'subnet-file',
    'PATH',
    'where the subnet is written for the container runtime; default /run/flannel/subnet.env',
  ),
  flanneldSwitch('ip-masq', 'masquerade what leaves the network (nftables); default off'),
  flanneldSwitch('ip-masq-fully-random-disable', "the opposite of the next, as flanneld's; default off"),
  ownSwitch('ip-masq-random-fully', 'masquerade with random source ports; default on'),
  flanneldSwitch('iptables-forward-rules', 'accept forwarded packets of the network (nftables); default on'),
  flanneld('iptables-resync', 'SECONDS', 'how often these rules are looked at and put back, 1 to 3600; default 5'),
  flanneldSwitch('ip-blackhole-route', 'throw away packets to unused addresses of our subnet; default off'),
  flanneld('healthz-ip', 'IP', 'where /healthz, /readyz and /metrics listen; default 0.0.0.0'),
  flanneld('healthz-port', 'PORT', 'their TCP port; default 0: off'),
  {
    name: 'networks',
    value: 'NAME,...',
    env: 'FLANNELD_NETWORKS',
    text: 'several networks at <etcd-prefix>/NAME, each with /run/flannel/networks/NAME.env; more settings for each in --config',
  },
  own('device', 'NAME', 'name of the TAP; default flannel.<VNI>, with the backend udp flannel0'),
  own('netns', 'NAME', 'network namespace of the TAP, a name or a path'),
  own('mac', 'MAC', 'MAC of the TAP; default: the one of the last run'),
  {
    name: 'take-over-lease',
    env: 'VTEPD_TAKE_OVER_LEASE',
    text: "a lease with our PublicIP is ours even if its MAC was never this host's: for a machine that replaces another",
  },
  {
    name: 'offline-start',
    env: 'VTEPD_OFFLINE_START',
    text: 'with etcd away, start on the leases that were known last; default on, --offline-start=false waits for etcd',
  },
  own('route-mode', 'peer|network', 'one route a peer, as flannel, or one for the whole network; default peer'),
  own('log-level', 'LEVEL', 'fatal, error, warn, info, debug or trace; default info'),
  flanneld('v', 'N', 'verbosity as with flanneld: 0 is info, 1 to 4 debug, from 5 trace', { short: 'v' }),
];

export interface UnservedSpec extends SettingSpec {
  /** Values that ask for nothing. */
  readonly harmless: readonly string[];
}

const unservedSwitch = (name: string, harmless: 'true' | 'false'): UnservedSpec => ({
  name,
  text: '',
  hidden: true,
  env: `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`,
  harmless: [harmless],
});

const unservedValue = (name: string, harmless: readonly string[] = []): UnservedSpec => ({
  name,
  value: 'VALUE',
  text: '',
  hidden: true,
  repeatable: true,
  env: `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`,
  harmless: ['', ...harmless],
});

/** flanneld's flags that are not served yet, with the values that are as good as not giving them. */
export const UNSERVED: readonly UnservedSpec[] = [
  unservedSwitch('kube-subnet-mgr', 'false'),
  unservedSwitch('set-node-network-unavailable', 'true'),
  unservedSwitch('log_backtrace_at', 'false'),
  unservedValue('kube-api-url'),
  unservedValue('kube-annotation-prefix', ['flannel.alpha.coreos.com']),
  unservedValue('kubeconfig-file'),
  unservedValue('net-config-path', ['/etc/kube-flannel/net-conf.json']),
  unservedValue('vmodule'),
];

/** All that `vtepd run` takes on its command line. */
export const RUN_OPTIONS: readonly OptionSpec[] = [
  ...SETTINGS,
  { name: 'config', value: 'PATH', text: 'settings file, YAML or JSON; it alone can have `links` and `options`' },
  ...UNSERVED,
];
