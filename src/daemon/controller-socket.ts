/**
 * The controller's own socket: JSON-RPC as the dataplane's, three questions (`status`, `leases`, `misses`), no commands. What cannot
 * be understood is answered with an error or ends that connection, never anything else.
 */
import { chmodSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Paths } from '../config/paths.ts';
import { LineSplitter } from '../dataplane/lines.ts';
import { removeIfThere } from '../host/files.ts';
import type { ControllerMethods } from './status-types.ts';

/** Questions are short. */
const MAX_LINE = 4_096;
const MAX_CONNECTIONS = 32;
const IDLE_MS = 30_000;

export type Answers = { readonly [M in keyof ControllerMethods]: () => ControllerMethods[M] };

/** Listens; the caller holds the controller's lock, so a socket file that lies there is a dead one's. */
export async function serveController(paths: Paths, answers: Answers): Promise<Server> {
  removeIfThere(paths.controllerSocket);
  const server = createServer((socket) => converse(socket, answers));
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(paths.controllerSocket, resolve);
  });
  server.on('error', () => undefined);
  chmodSync(paths.controllerSocket, 0o660);
  return server;
}

function converse(socket: Socket, answers: Answers): void {
  const splitter = new LineSplitter(MAX_LINE);
  socket.setTimeout(IDLE_MS, () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    try {
      for (const line of splitter.push(chunk)) {
        // An asker that does not read gets no more answers.
        if (socket.writableNeedDrain) socket.destroy();
        else socket.write(`${JSON.stringify(answer(line, answers))}\n`);
      }
    } catch {
      socket.destroy();
    }
  });
}

function answer(line: string, answers: Answers): object {
  let message: unknown;
  try {
    message = JSON.parse(line);
  } catch {
    return failure(null, -32_700, 'PARSE_ERROR', 'not JSON');
  }
  if (typeof message !== 'object' || message === null || !('id' in message) || !('method' in message)) {
    return failure(null, -32_600, 'INVALID_REQUEST', 'not a JSON-RPC request');
  }
  const { id, method } = message;
  if (typeof id !== 'number' && typeof id !== 'string')
    return failure(null, -32_600, 'INVALID_REQUEST', 'an id is needed');
  if (method === 'status') return { jsonrpc: '2.0', id, result: answers.status() };
  if (method === 'leases') return { jsonrpc: '2.0', id, result: answers.leases() };
  if (method === 'misses') return { jsonrpc: '2.0', id, result: answers.misses() };
  return failure(id, -32_601, 'METHOD_NOT_FOUND', 'the methods are status, leases and misses');
}

function failure(id: number | string | null, code: number, name: string, message: string): object {
  return { jsonrpc: '2.0', id, error: { code, message, data: { name, message } } };
}
