/** Asks the controller (`vtepd run`) of an instance, if one runs. */
import type { Paths } from '../config/paths.ts';
import type { ControllerMethods, ControllerStatus } from '../daemon/status-types.ts';
import { DataplaneError } from '../dataplane/errors.ts';
import { RpcConnection } from '../dataplane/rpc.ts';

/** The controller answers from memory. */
const TIMEOUT_MS = 3_000;

/** Its state; `undefined` when no controller runs. */
export async function askController(paths: Paths): Promise<ControllerStatus | undefined> {
  return await ask(paths, 'status');
}

/** Leases of the other hosts; `undefined` when no controller runs. */
export async function askLeases(paths: Paths): Promise<ControllerMethods['leases'] | undefined> {
  return await ask(paths, 'leases');
}

/** What was looked for in vain; `undefined` when no controller runs. */
export async function askMisses(paths: Paths): Promise<ControllerMethods['misses'] | undefined> {
  return await ask(paths, 'misses');
}

async function ask<M extends keyof ControllerMethods>(
  paths: Paths,
  method: M,
): Promise<ControllerMethods[M] | undefined> {
  let connection: RpcConnection;
  try {
    connection = await RpcConnection.connect(paths.controllerSocket, { peer: 'controller' });
  } catch (error) {
    if (error instanceof DataplaneError && error.code === 'NOT_RUNNING') return undefined;
    throw error;
  }
  try {
    return (await connection.request(method, {}, { timeoutMs: TIMEOUT_MS })) as ControllerMethods[M];
  } finally {
    connection.close();
  }
}
