/** `vtepd link add|set|show|del`: networks by hand. The dataplane holds the state, as the kernel would. */
import { checkDeviceName } from '../config/device-name.ts';
import type { DataplaneClient } from '../dataplane/client.ts';
import { isConnectionLoss } from '../dataplane/errors.ts';
import type { NetworkSpec, NetworkState, NetworkUpdate } from '../dataplane/protocol.ts';
import { adoptDataplane, type Dataplane, endDataplane, startDataplane } from '../dataplane/spawn.ts';
import { readIfThere, removeIfThere, writeWhole } from '../host/files.ts';
import { forgetNetwork, recordNetwork } from '../host/records.ts';
import { isOn, type ParsedArguments } from './arguments.ts';
import { type Context, print, withDataplane } from './context.ts';
import { askController } from './controller.ts';
import { CommandError, EXIT_FAILED, EXIT_OK, UsageError } from './errors.ts';
import { effective } from './link-options.ts';
import { describeLink, toLinkRow } from './link-show.ts';
import { NO_UPDATE, parseLinkAdd, parseLinkSet } from './link-words.ts';
import { didYouMean } from './suggest.ts';

export async function linkAdd(context: Context, input: ParsedArguments): Promise<number> {
  const spec = parseLinkAdd(input.words);
  const stop = isOn(input, 'foreground') ? stopSignal() : undefined;
  const dataplane = await reachOrStart(context);
  const { client } = dataplane;
  try {
    const state = await create(context, client, spec);
    recordNetwork(context.paths, state);
    if (context.json) print(context, state, () => '');
    return stop === undefined ? EXIT_OK : await stayInForeground(context, client, state, stop);
  } finally {
    client.close();
  }
}

export async function linkShow(context: Context, input: ParsedArguments): Promise<number> {
  const words = input.words[0] === 'dev' ? input.words.slice(1) : input.words;
  const [name, ...more] = words;
  if (more.length > 0) throw new UsageError(`link show takes one name, not ${words.join(' ')}`);
  const states = await withDataplane(context, (client) => client.request('network.list', {}));
  const shown = name === undefined ? states : states.filter((state) => state.spec.name === name);
  if (name !== undefined && shown.length === 0) throw noSuchNetwork(name, states);
  print(context, shown.map(toLinkRow), (rows) => rows.map(describeLink).join(''));
  return EXIT_OK;
}

export async function linkSet(context: Context, input: ParsedArguments): Promise<number> {
  const update = parseLinkSet(input.words);
  return await withDataplane(context, async (client) => {
    const states = await client.request('network.list', {});
    const state = states.find((candidate) => candidate.spec.name === update.network);
    if (state === undefined) throw noSuchNetwork(update.network, states);
    const declared = state.spec.owner === 'settings';
    const kept = Object.keys(update).filter(
      (field) =>
        (declared || KEPT_BY_RUN.some((each) => each === field)) && field !== 'network' && isGiven(update, field),
    );
    if (kept.length > 0 && state.spec.owner !== 'hand' && (await askController(context.paths)) !== undefined) {
      throw new CommandError(
        'EBUSY',
        `network ${update.network} belongs to the running \`vtepd run\` (${whose(state)}), which would put it right again (${kept.join(', ')}); change its settings and start it anew`,
      );
    }
    const changed = await client.request('network.update', keepL3miss(update, state.spec));
    if (context.json) print(context, changed, () => '');
    return EXIT_OK;
  });
}

function isGiven(update: NetworkUpdate, field: string): boolean {
  const value = Object.entries(update).find(([name]) => name === field)?.[1];
  return value !== null && value !== undefined;
}

function whose({ spec }: NetworkState): string {
  return spec.owner === 'settings' ? '`links` of its settings file' : `datastore ${spec.owner}`;
}

/** What `vtepd run` holds its network to, now or when it is started again. */
const KEPT_BY_RUN: readonly (keyof NetworkUpdate)[] = [
  'mac',
  'mtu',
  'up',
  'learning',
  'proxy',
  'peersonly',
  'local',
  'remote',
  'group',
  'dev',
  'ageing',
  'maxaddress',
  'gbp',
];

/** Where the specification does not name `l3miss` it follows `l2miss`; one word is to change one thing. */
function keepL3miss(update: NetworkUpdate, spec: NetworkSpec): NetworkUpdate {
  if (update.l2miss === undefined || update.l3miss !== undefined || spec.l3miss !== undefined) return update;
  return { ...update, l3miss: effective(spec).l3miss };
}

export async function linkDel(context: Context, input: ParsedArguments): Promise<number> {
  const words = input.words[0] === 'dev' ? input.words.slice(1) : input.words;
  const [name, ...more] = words;
  if (name === undefined) throw new UsageError('link del: a name is needed: vtepd link del NAME');
  // `ip link del NAME type vxlan` is what the kernel's users may have in their scripts.
  if (more.length > 0 && more.join(' ') !== 'type vxlan')
    throw new UsageError(`link del: unknown words ${more.join(' ')}`);
  checkDeviceName(name);
  return await withDataplane(context, async (client) => {
    const states = await client.request('network.list', {});
    const state = states.find((candidate) => candidate.spec.name === name);
    if (state === undefined) throw noSuchNetwork(name, states);
    if (state.spec.owner !== 'hand' && (await askController(context.paths)) !== undefined) {
      throw new CommandError(
        'EBUSY',
        `network ${name} belongs to the running \`vtepd run\` (${whose(state)}), which would make it again; stop that first`,
      );
    }
    await remove(context, client, name);
    print(context, { deleted: name }, () => '');
    return EXIT_OK;
  });
}

/** The dataplane that runs, else a new one, which is marked as ours to end. */
async function reachOrStart(context: Context): Promise<Dataplane> {
  try {
    return await adoptDataplane(context.paths);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'NOT_RUNNING')) throw error;
  }
  const dataplane = await startDataplane(context.paths, context.env);
  if (dataplane.child !== undefined) writeWhole(context.paths.onDemand, `${dataplane.hello.pid}\n`);
  return dataplane;
}

/** Makes the network; a dataplane that we started for nothing ends again. */
async function create(context: Context, client: DataplaneClient, spec: NetworkSpec): Promise<NetworkState> {
  try {
    const state = await client.request('network.create', spec);
    if (state.up) return state;
    return await client.request('network.update', { ...NO_UPDATE, network: spec.name, up: true });
  } catch (error) {
    if (!isConnectionLoss(error)) await endIfUnused(context, client);
    throw error;
  }
}

/** Resolves at SIGTERM or SIGINT; set up before anything is made, so that whatever is made is also removed. */
function stopSignal(): Promise<'signal'> {
  return new Promise((resolve) => {
    process.once('SIGTERM', () => resolve('signal')).once('SIGINT', () => resolve('signal'));
  });
}

async function stayInForeground(
  context: Context,
  client: DataplaneClient,
  state: NetworkState,
  stop: Promise<'signal'>,
): Promise<number> {
  const name = state.spec.name;
  if (!context.json) context.out(`${name}: up, mtu ${state.mtu}, address ${state.mac}; SIGTERM or ^C removes it\n`);
  const why = await Promise.race([stop, client.closed]);
  if (why !== 'signal')
    throw new CommandError('CLOSED', `the dataplane ended; ${name} carries no traffic any more`, EXIT_FAILED);
  await remove(context, client, name);
  return EXIT_OK;
}

async function remove(context: Context, client: DataplaneClient, name: string): Promise<void> {
  await client.request('network.delete', { network: name });
  forgetNetwork(context.paths, name);
  await endIfUnused(context, client);
}

/** Ends a dataplane that `link add` started, once it holds nothing and no controller is there that wants it. */
async function endIfUnused(context: Context, client: DataplaneClient): Promise<void> {
  const { networks, pid } = await client.hello();
  if (networks.length > 0 || readIfThere(context.paths.onDemand)?.trim() !== String(pid)) return;
  if ((await askController(context.paths)) !== undefined) return;
  await endDataplane(client, pid, true);
  removeIfThere(context.paths.onDemand);
}

function noSuchNetwork(name: string, states: readonly NetworkState[]): CommandError {
  const names = states.map((state) => state.spec.name);
  const held = names.length === 0 ? 'none is held' : `held are ${names.join(', ')}`;
  return new CommandError('ENOENT', `no network ${name}: ${held}${didYouMean(name, names)}`);
}
