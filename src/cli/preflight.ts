/**
 * `vtepd preflight`: everything that `vtepd run` with the same flags needs of this host, tried and not guessed: settings,
 * datastore, rights, TUN, program, places on disk, and each network under another name in a dataplane that lives as long.
 */
import { accessSync, closeSync, constants, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { instancePaths } from '../config/paths.ts';
import type { Settings } from '../config/settings.ts';
import { decideDevices } from '../daemon/devices.ts';
import { reachOf } from '../daemon/direct.ts';
import { groundOf } from '../daemon/ground.ts';
import { previousSubnets } from '../daemon/identity.ts';
import type { DataplaneClient } from '../dataplane/client.ts';
import { DataplaneError, errnoOf } from '../dataplane/errors.ts';
import type { NetworkState } from '../dataplane/protocol.ts';
import { adoptDataplane, dataplaneBinary, endDataplane, startDataplane } from '../dataplane/spawn.ts';
import type { Lease } from '../datastore/types.ts';
import type { NetworkConfig } from '../flannel/config.ts';
import { readDaemonRecord } from '../host/records.ts';
import { randomMac } from '../net/mac.ts';
import type { ParsedArguments } from './arguments.ts';
import { checkDatastore, checkRules, type NetworkFindings } from './config-check.ts';
import { type Context, print } from './context.ts';
import { EXIT_FAILED, EXIT_OK, UsageError } from './errors.ts';
import { type NamedNetwork, networksOf } from './run-networks.ts';
import { judgeSettings } from './settings.ts';

/** One row of `preflight --json`, under `checks`. */
interface Check {
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'problem';
  readonly text: string;
}

/** What the datastore says of a network. */
interface Known {
  readonly network: NamedNetwork;
  readonly config: NetworkConfig;
  readonly leases: readonly Lease[];
}

export async function preflight(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`preflight takes no words, not ${input.words.join(' ')}`);
  const report = new Report();
  const { settings, declared, problems } = judgeSettings(context, input);
  report.add('settings', 'problem', problems);
  if (problems.length === 0) report.add('settings', 'ok', ['understood']);
  await report.attempt('rights', checkRights);
  await report.attempt('tun', checkTun);
  await report.attempt('program', () => dataplaneBinary(context.env));
  if (settings !== undefined && declared !== undefined) {
    await checkHost(context, networksOf(settings, context.paths, declared), settings, report);
  }
  const value = { ok: report.ok, checks: report.checks };
  print(context, value, () => report.describe());
  return report.ok ? EXIT_OK : EXIT_FAILED;
}

async function checkHost(
  context: Context,
  networks: readonly NamedNetwork[],
  { healthz }: Settings,
  report: Report,
): Promise<void> {
  const { paths } = context;
  for (const place of [
    paths.runtimeDir,
    paths.stateDir,
    ...networks.map((each) => dirname(each.settings.subnetFile)),
  ]) {
    await report.attempt('disk', () => checkWritable(place));
  }
  const running = await adoptDataplane(paths).catch(() => undefined);
  try {
    // Whoever holds it may be the `vtepd run` that runs.
    if (healthz !== undefined && running === undefined) {
      await report.attempt('healthz', () => checkPort(healthz.ip, healthz.port));
    }
    const known: Known[] = [];
    for (const network of networks) {
      const found = await askDatastore(network, report);
      if (found !== undefined) known.push(found);
      await reportRules(network, report);
    }
    if (known.length > 0 && report.mayStart) await tryNetworks(context, known, running?.client, report);
  } finally {
    running?.client.close();
  }
}

class Report {
  readonly checks: Check[] = [];

  get ok(): boolean {
    return !this.checks.some(({ state }) => state === 'problem');
  }

  /** A dataplane without rights or program would say the same again. */
  get mayStart(): boolean {
    return !this.checks.some(({ name, state }) => ['tun', 'program'].includes(name) && state === 'problem');
  }

  add(name: string, state: Check['state'], texts: readonly string[]): void {
    this.checks.push(...texts.map((text) => ({ name, state, text })));
  }

  /** Carries a check out; what it returns is said, and why it failed. */
  async attempt(name: string, act: () => string | Promise<string>): Promise<void> {
    try {
      this.add(name, 'ok', [await act()]);
    } catch (error) {
      this.add(name, 'problem', [error instanceof Error ? error.message : String(error)]);
    }
  }

  describe(): string {
    return this.checks.map(({ name, state, text }) => `${state.padEnd(7)}  ${name.padEnd(10)}  ${text}\n`).join('');
  }
}

/** Bit of CAP_NET_ADMIN (linux/capability.h): TAPs, addresses, routes, large socket buffers. */
const CAP_NET_ADMIN = 12n;

function checkRights(): string {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  if (((BigInt(`0x${mask}`) >> CAP_NET_ADMIN) & 1n) === 1n) return 'CAP_NET_ADMIN is there';
  throw new Error('CAP_NET_ADMIN is missing: run vtepd as root, or give its container the capability NET_ADMIN');
}

function checkTun(): string {
  const path = '/dev/net/tun';
  try {
    closeSync(openSync(path, 'r+'));
    return `${path} can be opened`;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT') {
      throw new Error(
        `${path} is missing: load the module (modprobe tun), or give the container the device (--device ${path})`,
      );
    }
    if (errno === 'ENODEV' || errno === 'ENXIO')
      throw new Error(`${path}: the kernel has no tun module (modprobe tun)`);
    throw new Error(`${path} cannot be opened (${errno}): run vtepd as root, or give the container the device`);
  }
}

function checkWritable(directory: string): string {
  let place = directory;
  while (!existsSync(place) && dirname(place) !== place) place = dirname(place);
  try {
    accessSync(place, constants.W_OK | constants.X_OK);
    return `${directory} can be written`;
  } catch (error) {
    throw new Error(`${directory} cannot be written (${errnoOf(error)} at ${place})`);
  }
}

async function checkPort(ip: string, port: number): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new Error(`healthz-ip ${ip} healthz-port ${port}: ${error.message}`)));
    server.listen(port, ip, resolve);
  });
  await new Promise((resolve) => server.close(resolve));
  return `${ip} port ${port} is free`;
}

async function askDatastore(network: NamedNetwork, report: Report): Promise<Known | undefined> {
  const found: NetworkFindings = { name: network.name ?? null, config: null, hosts: null };
  const said = { problems: [] as string[], warnings: [] as string[] };
  let leases: readonly Lease[] = [];
  try {
    leases = await checkDatastore(network.settings, found, network.tunnelOptions, said);
  } catch (error) {
    said.problems.push(error instanceof Error ? error.message : String(error));
  }
  const { datastore } = network.settings;
  const name = named('datastore', network);
  report.add(name, 'problem', said.problems);
  report.add(name, 'warning', said.warnings);
  if (found.config === null || datastore.type === 'none') return undefined;
  const place = datastore.type === 'file' ? datastore.path : datastore.prefix;
  if (said.problems.length === 0) report.add(name, 'ok', [`${place}: ${found.hosts} hosts`]);
  return { network, config: found.config, leases };
}

async function reportRules(network: NamedNetwork, report: Report): Promise<void> {
  const said = { problems: [] as string[], warnings: [] as string[] };
  await checkRules(network.settings, said);
  report.add(named('rules', network), 'problem', said.problems);
  report.add(named('rules', network), 'warning', said.warnings);
}

function named(check: string, { name }: NamedNetwork): string {
  return name === undefined ? check : `${check} ${name}`;
}

/** Makes what each network needs in a dataplane of its own, and takes it away again. */
async function tryNetworks(
  context: Context,
  known: readonly Known[],
  running: DataplaneClient | undefined,
  report: Report,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'vtepd-preflight-'));
  try {
    const paths = instancePaths('preflight', { VTEPD_RUNTIME_DIR: directory, VTEPD_STATE_DIR: directory });
    const { client, hello } = await startDataplane(paths, context.env);
    try {
      const used = Object.entries(hello.capabilities).flatMap(([name, on]) => (on ? [name] : []));
      report.add('offloads', 'ok', [used.length === 0 ? 'none; everything works, slower' : used.join(' ')]);
      const held = running === undefined ? [] : await running.request('network.list', {});
      for (const each of known) await tryNetwork(client, each, held, report);
    } finally {
      await endDataplane(client, hello.pid, true);
      client.close();
    }
  } catch (error) {
    if (!(error instanceof DataplaneError)) throw error;
    report.add('dataplane', 'problem', [error.message]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function tryNetwork(
  client: DataplaneClient,
  { network, config, leases }: Known,
  held: readonly NetworkState[],
  report: Report,
): Promise<void> {
  const { settings, paths, tunnelOptions } = network;
  const { ifaceCanReach, datastore } = settings;
  const { type: source } = datastore;
  if (source === 'none') return;
  await report.attempt(named('network', network), async () => {
    const hostFacts = await client.request('host.read', { netns: null });
    const reach = ifaceCanReach === undefined ? undefined : await reachOf(client, ifaceCanReach);
    const ground = groundOf(hostFacts, config, settings, reach);
    const { name, address, mtu, publicIp } = ground.underlay;
    const record = readDaemonRecord(paths);
    const { desired } = decideDevices(
      config,
      ground,
      { ...settings, tunnelOptions },
      {
        source,
        states: held,
        facts: await client.request('host.read', { netns: settings.netns ?? null }),
        hostFacts,
        ownLease: leases.find(({ attributes }) => attributes.publicIp === publicIp),
        record,
        previousSubnet: previousSubnets(settings.subnetFile, record).subnet,
      },
    );
    const where = `${name} ${address} mtu ${mtu}`;
    for (const { spec } of desired) {
      if (spec === undefined) continue;
      // The dataplane that runs has the port, and `vtepd run` will find it there.
      if (held.some((state) => state.spec.port === spec.port))
        return `${where}; UDP port ${spec.port} is our own dataplane's`;
      const trial = `vtp${process.pid}`;
      await client.request('network.create', { ...spec, name: trial, owner: 'hand', mac: randomMac() });
      await client.request('network.delete', { network: trial });
    }
    const { port, type } = config.backend;
    return type === 'vxlan' ? `${where}; UDP port ${port} is free, a TAP can be made` : where;
  });
}
