/** The networks that `vtepd run` was told of, each with its datastore, board, traffic rules and places on disk. */
import { networkPaths, type Paths } from '../config/paths.ts';
import type { Settings } from '../config/settings.ts';
import type { NetworkOptions } from '../daemon/daemon.ts';
import { StatusBoard } from '../daemon/status-board.ts';
import type { TunnelOptions } from '../daemon/tunnel.ts';
import type { Datastore } from '../datastore/types.ts';
import { KeptFiles } from '../host/kept-files.ts';
import { Nft } from '../host/nft.ts';
import { RulesKeeper } from '../host/nft-keeper.ts';
import { tableName } from '../host/nft-rules.ts';
import type { Logger } from '../observe/log.ts';
import type { Declared } from './declared.ts';
import { version } from './version.ts';

export interface NamedNetwork {
  /** Absent where there is only one. */
  readonly name?: string;
  readonly settings: Settings;
  readonly paths: Paths;
  readonly tunnelOptions: TunnelOptions;
}

export function networksOf(settings: Settings, paths: Paths, { options }: Declared): NamedNetwork[] {
  const [only = {}] = options;
  if (settings.datastore.type === 'none') return [];
  if (settings.networks.length === 0) return [{ settings, paths, tunnelOptions: only }];
  return settings.networks.map((network, index) => ({
    ...network,
    paths: networkPaths(paths, network.name),
    tunnelOptions: options[index] ?? {},
  }));
}

export async function openNetwork(network: NamedNetwork, logger: Logger): Promise<NetworkOptions> {
  const { name, settings, paths, tunnelOptions } = network;
  const own = name === undefined ? logger : logger.child({ network: name });
  const files = new KeptFiles(own);
  const datastore = await openDatastore(settings, paths, files, own);
  const { source } = datastore;
  const board = new StatusBoard({ version: version(), instance: paths.instance, source, network: name });
  const rules = new RulesKeeper({
    nft: new Nft(settings.netns ?? null),
    table: tableName(paths.instance, name),
    choice: settings.rules,
    resyncSeconds: settings.rules.resyncSeconds,
    logger: own,
  });
  board.ruleWarnings = () => rules.warnings;
  board.leaseExpires = () => datastore.leaseExpires?.();
  return { settings: { ...settings, tunnelOptions }, paths, datastore, board, rules, files };
}

/** gRPC is loaded only where etcd is spoken to. */
async function openDatastore(
  { datastore, offlineStart }: Settings,
  paths: Paths,
  files: KeptFiles,
  logger: Logger,
): Promise<Datastore> {
  if (datastore.type === 'file') {
    const { FileDatastore } = await import('../datastore/file/file-datastore.ts');
    return new FileDatastore({ path: datastore.path, logger });
  }
  if (datastore.type === 'none') throw new Error('no datastore is set');
  const { EtcdDatastore } = await import('../datastore/etcd/etcd-datastore.ts');
  const { type: _, ...options } = datastore;
  const { RememberedDatastore } = await import('../datastore/remembered/remembered-datastore.ts');
  const inner = new EtcdDatastore({ ...options, logger });
  const path = paths.knownLeases;
  return new RememberedDatastore({ inner, path, place: options.prefix, offlineStart, files, logger });
}
