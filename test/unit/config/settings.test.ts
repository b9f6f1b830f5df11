import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseArguments } from '../../../src/cli/arguments.ts';
import { loadSettings } from '../../../src/config/load-settings.ts';
import { RUN_OPTIONS } from '../../../src/config/options.ts';
import { type Settings, SettingsError } from '../../../src/config/settings.ts';
import { parseIpv4, parseIpv6 } from '../../../src/net/ip.ts';

const directory = mkdtempSync(join(tmpdir(), 'vtepd-settings-'));
after(() => rmSync(directory, { recursive: true }));

function load(flags: string, env: Record<string, string> = {}): Settings {
  const tokens = flags.split(' ').filter((token) => token !== '');
  return loadSettings(parseArguments(tokens, RUN_OPTIONS).options, env);
}

function config(text: string): string {
  const path = join(directory, 'vtepd.yaml');
  writeFileSync(path, text);
  return path;
}

function refused(flags: string, env: Record<string, string>, message: RegExp): void {
  assert.throws(
    () => load(flags, env),
    (error) => {
      assert.ok(error instanceof SettingsError);
      assert.match(error.message, message);
      return true;
    },
  );
}

const DEFAULTS: Settings = {
  datastore: {
    type: 'etcd',
    endpoints: ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
    prefix: '/coreos.com/network',
    caFile: undefined,
    certFile: undefined,
    keyFile: undefined,
    username: undefined,
    password: undefined,
    renewMarginMinutes: 60,
  },
  iface: [],
  ifaceRegex: [],
  ifaceCanReach: undefined,
  publicIp: undefined,
  publicIpv6: undefined,
  subnetFile: '/run/flannel/subnet.env',
  healthz: undefined,
  device: undefined,
  netns: undefined,
  mac: undefined,
  rules: { forward: true, masquerade: false, fullyRandom: true, resyncSeconds: 5 },
  blackholeRoute: false,
  routeMode: 'peer',
  takeOverLease: false,
  offlineStart: true,
  logLevel: 'info',
  links: [],
  options: [],
  networks: [],
};

test('without any setting, the defaults are those of flanneld', () => {
  assert.deepEqual(load(''), DEFAULTS);
});

const etcd = (change: object): Partial<Settings> => ({
  datastore: { ...DEFAULTS.datastore, ...change },
});

/** Name, value, what becomes of it. */
const EACH: [string, string, Partial<Settings>][] = [
  [
    'etcd-endpoints',
    'http://10.245.1.2:2379,https://etcd:2379/',
    etcd({ endpoints: ['http://10.245.1.2:2379', 'https://etcd:2379'] }),
  ],
  ['etcd-prefix', '/a/b/', etcd({ prefix: '/a/b' })],
  ['etcd-cafile', '/ca', etcd({ caFile: '/ca' })],
  ['public-ipv6', 'FD00:245::3', { publicIpv6: parseIpv6('fd00:245::3') }],
  ['take-over-lease', 'true', { takeOverLease: true }],
  ['subnet-lease-renew-margin', '1439', etcd({ renewMarginMinutes: 1439 })],
  ['iface', 'eth0', { iface: ['eth0'] }],
  ['iface', '10.245.1.3', { iface: ['10.245.1.3'] }],
  ['iface', 'FD00::1', { iface: ['fd00::1'] }],
  ['iface-regex', '^eth[0-9]{1,2}$', { ifaceRegex: ['^eth[0-9]{1,2}$'] }],
  ['iface-can-reach', '192.0.2.1', { ifaceCanReach: parseIpv4('192.0.2.1') }],
  ['public-ip', '192.0.2.1', { publicIp: '192.0.2.1' as NonNullable<Settings['publicIp']> }],
  ['subnet-file', '/x/subnet.env', { subnetFile: '/x/subnet.env' }],
  ['healthz-port', '8080', { healthz: { ip: '0.0.0.0', port: 8080 } }],
  ['healthz-port', '0', {}],
  ['v', '0', {}],
  ['v', '2', { logLevel: 'debug' }],
  ['v', '10', { logLevel: 'trace' }],
  ['device', 'vx0', { device: 'vx0' }],
  ['netns', 'blue', { netns: 'blue' }],
  ['mac', '0E:00:00:00:00:03', { mac: '0e:00:00:00:00:03' as NonNullable<Settings['mac']> }],
  ['route-mode', 'network', { routeMode: 'network' }],
  ['log-level', 'warn', { logLevel: 'warn' }],
  ['file', '/hosts.yaml', { datastore: { type: 'file', path: '/hosts.yaml' } }],
];

for (const [name, value, expected] of EACH) {
  test(`${name} ${value} by flag with one dash and two, by environment and by file`, () => {
    const wanted = { ...DEFAULTS, ...expected };
    const spec = RUN_OPTIONS.find((option) => option.name === name);
    assert.ok(spec !== undefined && 'env' in spec && typeof spec.env === 'string');
    assert.deepEqual(load(`--${name} ${value}`), wanted);
    assert.deepEqual(load(`-${name} ${value}`), wanted);
    assert.deepEqual(load(`--${name}=${value}`), wanted);
    assert.deepEqual(load('', { [spec.env]: value }), wanted);
    assert.deepEqual(load(`--config ${config(`${name}: ${value}\n`)}`), wanted);
  });
}

test('settings that belong together', () => {
  const pair = load('--etcd-certfile /c --etcd-keyfile /k', {
    FLANNELD_ETCD_USERNAME: 'root',
    FLANNELD_ETCD_PASSWORD: 'pw',
  });
  assert.deepEqual(pair, { ...DEFAULTS, ...etcd({ certFile: '/c', keyFile: '/k', username: 'root', password: 'pw' }) });
  assert.deepEqual(load('--healthz-ip ::1 --healthz-port 9').healthz, { ip: '::1', port: 9 });
  refused('--etcd-certfile /c', {}, /etcd-certfile and etcd-keyfile: both are needed/);
  refused('', { FLANNELD_ETCD_PASSWORD: 'pw' }, /etcd-username and etcd-password: both are needed/);
  refused('--datastore file', {}, /file: is needed/);
  refused('--datastore etcd --file /x', {}, /file: not for the etcd datastore/);
  refused('--file /x --etcd-prefix /y', {}, /etcd-prefix: not for the file datastore/);
});

test('a flag beats the environment, which beats the file', () => {
  const path = config('etcd-prefix: /file\niface: file0\ndevice: file1\n');
  const env = { FLANNELD_ETCD_PREFIX: '/env', FLANNELD_IFACE: 'env0', VTEPD_CONFIG: path };
  const settings = load('--etcd-prefix /flag', env);
  assert.deepEqual(settings.datastore, { ...DEFAULTS.datastore, prefix: '/flag' });
  assert.deepEqual([settings.iface, settings.device], [['env0'], 'file1']);
});

test('iface may be repeated, and listed in a file', () => {
  assert.deepEqual(load('--iface eth0 -iface 10.245.1.3').iface, ['eth0', '10.245.1.3']);
  assert.deepEqual(load(`--config ${config('iface: [eth0, eth1]\n')}`).iface, ['eth0', 'eth1']);
});

test('the file may be JSON, or empty', () => {
  assert.deepEqual(load(`--config ${config('{"subnet-lease-renew-margin": 5}')}`), {
    ...DEFAULTS,
    ...etcd({ renewMarginMinutes: 5 }),
  });
  assert.deepEqual(load(`--config ${config('')}`), DEFAULTS);
});

test('an empty environment variable counts as unset', () => {
  assert.deepEqual(load('', { FLANNELD_IFACE: '', FLANNELD_PUBLIC_IP: '' }), DEFAULTS);
});

const REFUSED: [string, Record<string, string>, RegExp][] = [
  ['--public-ip 10.1', {}, /^public-ip \(flag --public-ip\): "10\.1"/],
  ['', { FLANNELD_PUBLIC_IP: 'fd00::1' }, /^public-ip \(environment FLANNELD_PUBLIC_IP\)/],
  ['--etcd-endpoints 10.1.1.1:2379', {}, /etcd-endpoints \(flag --etcd-endpoints\): "10\.1\.1\.1:2379" is not a URL/],
  ['--etcd-endpoints ftp://x', {}, /is not a URL/],
  ['--etcd-prefix /', {}, /etcd-prefix .* is not a key/],
  ['--subnet-lease-renew-margin 1440', {}, /is not a number from 1 to 1439/],
  ['--healthz-port 65536', {}, /healthz-port/],
  ['--datastore redis', {}, /"redis" is not one of etcd, file/],
  ['--route-mode x', {}, /route-mode/],
  ['--mac 01:00:00:00:00:00', {}, /cannot be the MAC of a device/],
  ['--device abcdefghijklmnop', {}, /not a device name/],
  ['--log-level loud', {}, /log-level/],
  ['-v x', {}, /^v \(flag --v\)/],
  ['', { FLANNELD_IP_MASQ: 'yes' }, /ip-masq \(environment FLANNELD_IP_MASQ\): "yes" is not true or false/],
  ['--iptables-resync 0', {}, /iptables-resync .* is not a number from 1 to 3600/],
  ['--iface-regex [[:alpha:]]+0', {}, /iface-regex \(flag --iface-regex\): .*\[\[: is not served/],
  ['--iface-regex eth(', {}, /iface-regex .*Unterminated group/],
  ['--iface-can-reach eth0', {}, /iface-can-reach .*eth0/],
  ['--kube-subnet-mgr', {}, /kube-subnet-mgr .*not served yet/],
  ['--public-ipv6 10.0.0.1', {}, /public-ipv6 .*is not an IPv6 address/],
  ['--config /nonexistent/x', {}, /config: cannot be read/],
];

for (const [flags, env, message] of REFUSED) {
  test(`${flags} ${JSON.stringify(env)}: refused`, () => refused(flags, env, message));
}

test("flanneld's unserved switches are taken where they are off", () => {
  assert.deepEqual(load('--kube-subnet-mgr=false --log_backtrace_at=false'), DEFAULTS);
});

test('--ip-blackhole-route', () => {
  assert.deepEqual(load('--ip-blackhole-route'), { ...DEFAULTS, blackholeRoute: true });
});

test("the switches of the traffic rules, in Go's spellings too", () => {
  const rules = (change: Partial<Settings['rules']>): Settings => ({
    ...DEFAULTS,
    rules: { ...DEFAULTS.rules, ...change },
  });
  assert.deepEqual(load('--ip-masq'), rules({ masquerade: true }));
  assert.deepEqual(load('', { FLANNELD_IP_MASQ: 'T' }), rules({ masquerade: true }));
  assert.deepEqual(load('-ip-masq=false', { FLANNELD_IP_MASQ: '1' }), DEFAULTS);
  assert.deepEqual(load('--iptables-forward-rules=false'), rules({ forward: false }));
  assert.deepEqual(load('--ip-masq-fully-random-disable'), rules({ fullyRandom: false }));
  assert.deepEqual(load('--ip-masq-random-fully=false'), rules({ fullyRandom: false }));
  assert.deepEqual(load('--ip-masq-random-fully --ip-masq-fully-random-disable=false'), DEFAULTS);
  refused('--ip-masq-random-fully --ip-masq-fully-random-disable', {}, /they contradict each other/);
  assert.deepEqual(load(`--config ${config('ip-masq: true\niptables-resync: 60\n')}`), {
    ...rules({ masquerade: true, resyncSeconds: 60 }),
  });
});

test('all problems are told at once, and those of the file name the file', () => {
  const path = config('etcd-prefxi: /x\nhealthz-port: many\niface: {a: 1}\n');
  assert.throws(
    () => load(`--config ${path} --public-ip x`),
    (error) =>
      error instanceof SettingsError &&
      error.problems.length === 4 &&
      error.problems.some((text) => text.includes(`${path}: healthz-port`)),
  );
  refused(`--config ${config('- a\n')}`, {}, /must be a map/);
  refused(`--config ${config('a: [\n')}`, {}, /vtepd\.yaml: /);
});

test('a start on the known leases can be switched off', () => {
  assert.equal(load('--offline-start=false').offlineStart, false);
  assert.equal(load('', { VTEPD_OFFLINE_START: 'false' }).offlineStart, false);
});

test('several networks by name: each at its own prefix and subnet file, the rest is shared', () => {
  const { networks } = load('--networks blue,red --etcd-prefix /net --iface eth1 --device vx9');
  assert.deepEqual(
    networks.map(({ name, settings }) => [name, settings.datastore, settings.subnetFile, settings.iface]),
    ['blue', 'red'].map((name) => [
      name,
      { ...DEFAULTS.datastore, prefix: `/net/${name}` },
      `/run/flannel/networks/${name}.env`,
      ['eth1'],
    ]),
  );
  assert.ok(networks.every(({ settings }) => settings.device === undefined));
});

test('several networks in the file, with settings of their own', () => {
  const path = config(
    'networks:\n  - blue\n  - { name: red, etcd-prefix: /other, netns: ns1, subnet-file: /x/red.env, device: vx1 }\n  - { name: green, file: /hosts.yaml }\n',
  );
  const { networks } = load(`--config ${path}`);
  assert.deepEqual(
    networks.map(({ settings }) => [
      'path' in settings.datastore
        ? settings.datastore.path
        : 'prefix' in settings.datastore && settings.datastore.prefix,
      settings.subnetFile,
      settings.netns,
      settings.device,
    ]),
    [
      ['/coreos.com/network/blue', '/run/flannel/networks/blue.env', undefined, undefined],
      ['/other', '/x/red.env', 'ns1', 'vx1'],
      ['/hosts.yaml', '/run/flannel/networks/green.env', undefined, undefined],
    ],
  );
});

for (const [text, message] of [
  ['networks: [blue, blue]', /blue and blue both have the name blue/],
  ['networks: [{ name: a, etcd-prefix: /x }, { name: b, etcd-prefix: /x }]', /both have the etcd-prefix \/x/],
  ['networks: [{ name: a, healthz-port: 1 }]', /networks\[0\]: "healthz-port" is no setting of a network/],
  ['networks: [{ etcd-prefix: /x }]', /networks\[0\]: name ""/],
  ['networks: [{ name: a, public-ip: x }]', /public-ip .*networks\[0\]: public-ip.*is not an IPv4 address/],
] as const) {
  test(`refused: ${text}`, () => refused(`--config ${config(text)}`, {}, message));
}
