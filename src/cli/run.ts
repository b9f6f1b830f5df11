/** `vtepd run`: settings, log, lock, sockets; then the daemon until SIGTERM or SIGINT. SIGHUP reads public addresses anew. */
import type { Server } from 'node:net';
import type { Settings } from '../config/settings.ts';
import { serveController } from '../daemon/controller-socket.ts';
import { Daemon } from '../daemon/daemon.ts';
import { Links } from '../daemon/links.ts';
import { LinksDaemon } from '../daemon/links-daemon.ts';
import { LockError, lockController } from '../daemon/lock.ts';
import { StatusBoard, showAll } from '../daemon/status-board.ts';
import type { ControllerStatus } from '../daemon/status-types.ts';
import { superviseDataplane } from '../dataplane/supervisor.ts';
import { serveHealth } from '../observe/health.ts';
import { createLogger, type Logger } from '../observe/log.ts';
import { Scraper } from '../observe/scraper.ts';
import { notifyReady } from '../observe/service-manager.ts';
import type { ParsedArguments } from './arguments.ts';
import type { Context } from './context.ts';
import { askController } from './controller.ts';
import { CommandError, EXIT_OK, UsageError } from './errors.ts';
import { LINK_DEFAULTS } from './link-options.ts';
import { networksOf, openNetwork } from './run-networks.ts';
import { readDeclared, readSettings } from './settings.ts';
import { version } from './version.ts';

export async function run(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`run takes no words, not ${input.words.join(' ')}`);
  const settings = readSettings(context, input);
  const declared = readDeclared(settings);
  const { paths } = context;
  const logger = createLogger({ level: settings.logLevel, instance: paths.instance });
  const stop = stopSignal(logger);
  // A controller in another process namespace is not seen by its process id, but answers.
  const other = await askController(paths).catch(() => undefined);
  if (other !== undefined)
    throw alreadyRunning(
      `\`vtepd run\` of instance ${paths.instance} is already running, pid ${other.pid}; stop it first`,
    );
  const unlock = lock(context);
  const servers: Server[] = [];
  let reload = (): void => undefined;
  const onHangUp = (): void => reload();
  process.on('SIGHUP', onHangUp);
  try {
    logger.info({ version: version(), node: process.version, settings: withoutSecrets(settings) }, 'vtepd starts');
    const [first, ...others] = await Promise.all(
      networksOf(settings, paths, declared).map((each) => openNetwork(each, logger)),
    );
    const links = new Links({ wanted: declared.links, defaults: LINK_DEFAULTS, paths, logger });
    const parts = {
      links,
      logger,
      sessions: (signal: AbortSignal) => superviseDataplane({ paths, env: context.env, logger }, signal),
      onReady: () => void notifyReady(context.env, logger),
    };
    const alone = new StatusBoard({ version: version(), instance: paths.instance, source: 'none' });
    const daemon =
      first === undefined
        ? new LinksDaemon({ paths, board: alone, ...parts })
        : new Daemon({ ...first, others, ...parts });
    if (daemon instanceof Daemon) {
      reload = () => useSettings(daemon, settings, () => readSettings(context, input), context, logger);
    }
    const boards = first === undefined ? [alone] : [first, ...others].map((network) => network.board);
    const status = (): ControllerStatus => {
      const all = showAll(boards);
      return { ...all, warnings: [...all.warnings, ...links.problems] };
    };
    servers.push(
      await serveController(paths, { status, leases: () => daemon.leases(), misses: () => daemon.misses() }),
    );
    if (settings.healthz !== undefined) {
      const scraper = new Scraper({ status, dataplane: () => daemon.dataplane, notifications: daemon.notifications });
      const { ip, port } = settings.healthz;
      servers.push(await serveHealth(ip, port, { status, metrics: () => scraper.text() }));
    }
    await daemon.run(stop);
    logger.info('vtepd stops; dataplane, device, routes and lease stay');
    return EXIT_OK;
  } catch (error) {
    logger.fatal({ err: error }, error instanceof Error ? error.message : String(error));
    throw error;
  } finally {
    process.off('SIGHUP', onHangUp);
    for (const server of servers) server.close();
    unlock();
  }
}

/** SIGHUP: the public addresses of the settings count at once, everything else at the next start. */
function useSettings(daemon: Daemon, before: Settings, read: () => Settings, { paths }: Context, logger: Logger): void {
  let now: Settings;
  try {
    now = read();
  } catch (error) {
    logger.error({ err: error }, 'told to read the settings again, and they are not usable: the ones in use stay');
    return;
  }
  const addresses = networksOf(now, paths, readDeclared(now)).map(({ name, settings }) => {
    const { publicIp, publicIpv6 } = settings;
    daemon.useAddresses(name, { publicIp, publicIpv6 });
    return { name, publicIp, publicIpv6 };
  });
  logger.info({ addresses }, 'settings read again: public-ip and public-ipv6 are followed');
  if (withoutAddresses(now) !== withoutAddresses(before)) {
    logger.warn('other settings than public-ip and public-ipv6 have changed as well: they count at the next start');
  }
}

function withoutAddresses(settings: Settings): string {
  return JSON.stringify(settings, (key, value: unknown) => (/^publicIp(v6)?$/.test(key) ? undefined : value));
}

function lock(context: Context): () => void {
  try {
    return lockController(context.paths);
  } catch (error) {
    throw error instanceof LockError ? alreadyRunning(error.message) : error;
  }
}

function alreadyRunning(message: string): CommandError {
  return new CommandError('ALREADY_RUNNING', message);
}

function withoutSecrets(settings: Settings): Settings {
  const { datastore } = settings;
  const networks = settings.networks.map((network) => ({ ...network, settings: withoutSecrets(network.settings) }));
  if (datastore.type !== 'etcd' || datastore.password === undefined) return { ...settings, networks };
  return { ...settings, networks, datastore: { ...datastore, password: '(set)' } };
}

/** Aborts at the first SIGTERM or SIGINT; a second one ends the process as it stands. */
function stopSignal(logger: Logger): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      logger.info({ signal }, 'told to stop');
      controller.abort();
    });
  }
  return controller.signal;
}
