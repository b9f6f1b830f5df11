/**
 * `vtepd cleanup`: removes what this instance made on the host. The dataplane that runs is asked to delete its TAPs and
 * to end; where none runs, one is started for as long as it takes to delete the TAPs that the records name. Routes and
 * addresses go with their TAP.
 */
import { rmdirSync } from 'node:fs';
import { DataplaneError, isConnectionLoss } from '../dataplane/errors.ts';
import { adoptDataplane, type Dataplane, endDataplane, startDataplane } from '../dataplane/spawn.ts';
import { parseSubnetEnv } from '../flannel/subnet-env.ts';
import { bootId, readIfThere, removeIfThere } from '../host/files.ts';
import { forgetAllNetworks, type NetworkRecord, readDaemonRecord, recordedNetworks } from '../host/records.ts';
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
  if (running === undefined && records.length === 0) return;
  const dataplane = running ?? (await startDataplane(context.paths, context.env));
  const { client, hello } = dataplane;
  try {
    const held = new Set(hello.networks);
    const leftovers = records.filter((record) => !held.has(record.name));
    for (const record of leftovers) await deleteLeftover(dataplane, record, removed, failed);
    await endDataplane(client, hello.pid, true);
    removed.push(...hello.networks.map((name) => `network ${name}`));
    if (running !== undefined) removed.push(`dataplane (pid ${hello.pid})`);
  } finally {
    client.close();
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
    const { links } = await client.request('host.read', { netns: record.netns });
    const link = links.find((candidate) => candidate.name === record.name);
    if (link === undefined || link.index !== record.ifindex) return;
    const { errors } = await client.request('host.change', {
      netns: record.netns,
      operations: [{ op: 'link.del', dev: record.name }],
    });
    const [error] = errors;
    if (error === null || error === undefined) removed.push(`device ${record.name}`);
    else failed.push(`device ${record.name}: ${error.message}`);
  } catch (error) {
    // A namespace that is gone took its devices along.
    if (error instanceof DataplaneError && error.code === 'ENOENT') return;
    if (isConnectionLoss(error)) throw error;
    failed.push(`device ${record.name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function removeFiles({ paths }: Context, removed: string[]): void {
  const { subnetFile, subnet } = readDaemonRecord(paths);
  // The file may be flanneld's by now: it is ours while it names our subnet.
  if (subnetFile !== undefined && subnet !== undefined) {
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
    paths.daemonState,
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
