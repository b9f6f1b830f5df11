/**
 * `vtepd cleanup`: removes what this instance made on the host. The dataplane that runs is asked to delete its TAPs and
 * to end; where none runs, one is started for as long as it takes to delete the TAPs that the records name. Routes and
 * addresses go with their TAP; direct routes and blackholes are deleted one by one.
 */
import { rmdirSync } from 'node:fs';
import { networkPaths } from '../config/paths.ts';
import { DataplaneError, isConnectionLoss } from '../dataplane/errors.ts';
import { adoptDataplane, type Dataplane, endDataplane, startDataplane } from '../dataplane/spawn.ts';
import { parseSubnetEnv } from '../flannel/subnet-env.ts';
import { bootId, readIfThere, removeIfThere } from '../host/files.ts';
import { Nft, NftError } from '../host/nft.ts';
import { removeTables } from '../host/nft-keeper.ts';
import { isTableOf } from '../host/nft-rules.ts';
import {
  forgetAllNetworks,
  type NetworkRecord,
  readDaemonRecord,
  recordedDaemonNetworks,
  recordedDirect,
  recordedNetworks,
} from '../host/records.ts';
import type { Prefix } from '../net/prefix.ts';
import { planHost } from '../reconcile/host.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print } from './context.ts';
import { askController } from './controller.ts';
import { CommandError, EXIT_FAILED, EXIT_OK, UsageError } from './errors.ts';

export async function cleanup(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`cleanup takes no words, not ${input.words.join(' ')}`);
  const controller = await askController(context.paths);
  if (controller !== undefined) {
    throw new CommandError(
      'EBUSY',
      `\`vtepd run\` (pid ${controller.pid}) is running and would make everything again; stop it first`,
    );
  }
  const removed: string[] = [];
  const failed: string[] = [];
  await cleanRules(context, removed, failed);
  await cleanDataplane(context, removed, failed);
  if (failed.length === 0) removeFiles(context, removed);
  print(context, { removed, failed }, () =>
    [
      ...removed.map((what) => `removed ${what}\n`),
      ...failed.map((what) => `not removed: ${what}\n`),
      ...(removed.length + failed.length === 0 ? ['nothing to remove\n'] : []),
    ].join(''),
  );
  return failed.length === 0 ? EXIT_OK : EXIT_FAILED;
}

async function cleanDataplane(context: Context, removed: string[], failed: string[]): Promise<void> {
  const running = await findDataplane(context);
  const records = recordedNetworks(context.paths).filter((record) => record.bootId === bootId());
  const direct = recordedDirect(context.paths);
  if (running === undefined && records.length === 0 && direct.length === 0) return;
  const dataplane = running ?? (await startDataplane(context.paths, context.env));
  const { client, hello } = dataplane;
  try {
    const held = new Set(hello.networks);
    const leftovers = records.filter((record) => !held.has(record.name));
    for (const record of leftovers) await deleteLeftover(dataplane, record, removed, failed);
    if (direct.length > 0) {
      for (const netns of namespacesOf(records)) await deleteRoutes(dataplane, netns, direct, removed, failed);
    }
    await endDataplane(client, hello.pid, true);
    removed.push(...hello.networks.map((name) => `network ${name}`));
    if (running !== undefined) removed.push(`dataplane (pid ${hello.pid})`);
  } finally {
    client.close();
  }
}

/** Our own, and those of the networks. */
function namespacesOf(records: readonly NetworkRecord[]): ReadonlySet<string | null> {
  return new Set([null, ...records.map((record) => record.netns)]);
}

async function deleteRoutes(
  { client }: Dataplane,
  netns: string | null,
  networks: readonly Prefix[],
  removed: string[],
  failed: string[],
): Promise<void> {
  const facts = await client.request('host.read', { netns }).catch(absentNamespace);
  if (facts === undefined) return;
  const plans = networks.map((within) => planHost(facts, { within, addresses: [], routes: [] }));
  const operations = plans.flatMap((plan) => plan.operations);
  if (operations.length === 0) return;
  const { errors } = await client.request('host.change', { netns, operations });
  const problems = errors.flatMap((error) => (error === null || error === undefined ? [] : [error.message]));
  failed.push(...problems.map((problem) => `route: ${problem}`));
  removed.push(`${operations.length - problems.length} direct routes and blackholes`);
}

/** A namespace that is gone took along what was in it. */
function absentNamespace(error: unknown): undefined {
  if (error instanceof DataplaneError && error.code === 'ENOENT') return undefined;
  throw error;
}

async function cleanRules({ paths }: Context, removed: string[], failed: string[]): Promise<void> {
  const records = recordedNetworks(paths).filter((record) => record.bootId === bootId());
  for (const netns of namespacesOf(records)) {
    const nft = new Nft(netns);
    if (!nft.namespaceExists) continue;
    try {
      const tables = await removeTables(nft, (table) => isTableOf(paths.instance, table));
      removed.push(...tables.map((table) => `traffic rules (nftables table ${table})`));
    } catch (error) {
      if (!(error instanceof NftError)) throw error;
      // Without nft, or without nf_tables in the kernel, there are no rules that we could have made.
      if (error.code === 'NFT_FAILED') failed.push(`traffic rules: ${error.message}`);
    }
  }
}

async function findDataplane(context: Context): Promise<Dataplane | undefined> {
  try {
    return await adoptDataplane(context.paths);
  } catch (error) {
    if (error instanceof DataplaneError && error.code === 'NOT_RUNNING') return undefined;
    throw error;
  }
}

/** A TAP is deleted only if its name, index and boot are those of the record: another's device is left alone. */
async function deleteLeftover(
  { client }: Dataplane,
  record: NetworkRecord,
  removed: string[],
  failed: string[],
): Promise<void> {
  try {
    const facts = await client.request('host.read', { netns: record.netns }).catch(absentNamespace);
    const link = facts?.links.find((candidate) => candidate.name === record.name);
    if (link === undefined || link.index !== record.ifindex) return;
    const { errors } = await client.request('host.change', {
      netns: record.netns,
      operations: [{ op: 'link.del', dev: record.name }],
    });
    const [error] = errors;
    if (error === null || error === undefined) removed.push(`device ${record.name}`);
    else failed.push(`device ${record.name}: ${error.message}`);
  } catch (error) {
    if (isConnectionLoss(error)) throw error;
    failed.push(`device ${record.name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function removeFiles({ paths }: Context, removed: string[]): void {
  const networks = [paths, ...recordedDaemonNetworks(paths).map((name) => networkPaths(paths, name))];
  for (const network of networks) {
    const { subnetFile, subnet } = readDaemonRecord(network);
    // The file may be flanneld's by now: it is ours while it names our subnet.
    if (subnetFile === undefined || subnet === undefined) continue;
    const text = readIfThere(subnetFile);
    if (text !== undefined && parseSubnetEnv(text).subnet === subnet && removeIfThere(subnetFile))
      removed.push(subnetFile);
  }
  removed.push(...forgetAllNetworks(paths));
  const files = [
    paths.socket,
    `${paths.socket}.lock`,
    paths.log,
    `${paths.log}.1`,
    paths.onDemand,
    paths.controllerSocket,
    paths.controllerLock,
    ...networks.flatMap(({ daemonState, knownLeases }) => [daemonState, knownLeases]),
  ];
  removed.push(...files.filter(removeIfThere));
  for (const directory of [paths.runtimeDir, paths.stateDir]) {
    try {
      rmdirSync(directory);
    } catch {
      // Absent, or another instance's files are in it.
    }
  }
}
