/**
 * Where an instance keeps its files. What goes with a reboot is below the runtime directory, what must survive one
 * (the MAC, the subnet, what was made on the host) below the state directory.
 */
import { join, resolve } from 'node:path';

/** Instance when none is named. */
export const DEFAULT_INSTANCE = 'default';

/** Bound by `sun_path` of unix(7), 108 bytes with its end, less the longest file name that is built from the instance. */
const LONGEST_SOCKET_PATH = 107;

export interface Paths {
  readonly instance: string;
  readonly runtimeDir: string;
  readonly stateDir: string;
  /** Control socket of the dataplane. */
  readonly socket: string;
  /** Log of the dataplane. */
  readonly log: string;
  /** Socket on which `vtepd run` tells its state. */
  readonly controllerSocket: string;
  /** Who is the controller of this instance. */
  readonly controllerLock: string;
  /** Process id of a dataplane that `vtepd link add` started: it ends with its last network. */
  readonly onDemand: string;
  /** What `vtepd run` remembers. */
  readonly daemonState: string;
  /** What etcd said last. */
  readonly knownLeases: string;
  /** One file for each network that was made. */
  readonly networkRecords: string;
}

export class InstanceError extends Error {
  readonly code = 'INVALID_INSTANCE';
}

/** Paths of an instance; `VTEPD_RUNTIME_DIR` and `VTEPD_STATE_DIR` move the two directories. */
export function instancePaths(instance: string, env: NodeJS.ProcessEnv): Paths {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/.test(instance)) {
    throw new InstanceError(
      `instance ${JSON.stringify(instance)}: a name has 1 to 32 letters, digits, dots, dashes or underscores, a letter or digit first`,
    );
  }
  const runtimeDir = resolve(env.VTEPD_RUNTIME_DIR || '/run/vtepd');
  const stateDir = resolve(env.VTEPD_STATE_DIR || '/var/lib/vtepd');
  const controllerSocket = join(runtimeDir, `${instance}.controller.sock`);
  if (Buffer.byteLength(controllerSocket) > LONGEST_SOCKET_PATH) {
    throw new InstanceError(
      `${controllerSocket} is longer than a unix socket's path may be (${LONGEST_SOCKET_PATH} bytes); choose a shorter runtime directory or instance`,
    );
  }
  return {
    instance,
    runtimeDir,
    stateDir,
    socket: join(runtimeDir, `${instance}.sock`),
    log: join(runtimeDir, `${instance}.log`),
    controllerSocket,
    controllerLock: join(runtimeDir, `${instance}.controller.pid`),
    onDemand: join(runtimeDir, `${instance}.on-demand.pid`),
    daemonState: join(stateDir, `${instance}.json`),
    knownLeases: join(stateDir, `${instance}.leases.json`),
    networkRecords: join(stateDir, `${instance}.networks`),
  };
}

/** Paths of one of several networks of an instance: what is remembered of it is its own. An instance's name has no `@`. */
export function networkPaths(paths: Paths, network: string): Paths {
  const of = (ending: string): string => join(paths.stateDir, `${paths.instance}@${network}${ending}`);
  return { ...paths, daemonState: of('.json'), knownLeases: of('.leases.json') };
}
