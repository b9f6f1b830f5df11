/**
 * One connection that speaks newline-delimited JSON-RPC 2.0, from the asking side.
 *
 * Requests may overlap; answers are matched by id. Whatever is not the protocol ends the connection, and an ended
 * connection rejects everything that waits. A listener that throws harms nobody else.
 */
import { connect as connectSocket, type Socket } from 'node:net';
import { DataplaneError, errnoOf } from './errors.ts';
import { LineSplitter } from './lines.ts';

/** Answers normally take microseconds; a `tables.replace` of 100,000 entries takes well below a second. */
const REQUEST_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 5_000;

export interface ConnectOptions {
  readonly signal?: AbortSignal | undefined;
  /** Who listens, for messages: `dataplane` or `controller`. */
  readonly peer?: string;
  readonly maxLine?: number;
  readonly requestTimeoutMs?: number;
}

export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
}

interface Pending {
  readonly method: string;
  settle(outcome: { readonly result: unknown } | { readonly error: DataplaneError }): void;
}

export type NotificationListener = (method: string, params: unknown) => void;

export class RpcConnection {
  /** Resolves when the connection has ended, by either side; never rejects. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #peer: string;
  readonly #timeoutMs: number;
  readonly #splitter: LineSplitter;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<NotificationListener>();
  #nextId = 1;
  #end: DataplaneError | undefined;

  static async connect(path: string, options: ConnectOptions = {}): Promise<RpcConnection> {
    const peer = options.peer ?? 'dataplane';
    const socket = await open(path, peer, options.signal);
    return new RpcConnection(socket, peer, options);
  }

  private constructor(socket: Socket, peer: string, options: ConnectOptions) {
    this.#socket = socket;
    this.#peer = peer;
    this.#timeoutMs = options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
    this.#splitter = new LineSplitter(options.maxLine);
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#finish(new DataplaneError('CLOSED', `the ${peer} closed the connection`));
        resolve();
      });
    });
    socket.on('error', (error) =>
      this.#finish(new DataplaneError('CLOSED', `the connection to the ${peer} broke: ${error.message}`)),
    );
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('end', () => socket.end());
  }

  /** Why the connection ended; absent while it lives. */
  get failure(): DataplaneError | undefined {
    return this.#end;
  }

  /** Sends a request and waits for its answer. Rejects with a `DataplaneError`. */
  async request(method: string, params: unknown, options: RequestOptions = {}): Promise<unknown> {
    await this.#drained(options.signal);
    if (this.#end !== undefined) throw this.#end;
    if (options.signal?.aborted === true) throw new DataplaneError('ABORTED', `${method}: given up`);
    const id = this.#nextId++;
    const line = `${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`;
    return await new Promise((resolve, reject) => {
      const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
      const timer = setTimeout(() => {
        fail(new DataplaneError('TIMEOUT', `${method}: the ${this.#peer} did not answer within ${timeoutMs} ms`));
      }, timeoutMs);
      const onAbort = (): void => fail(new DataplaneError('ABORTED', `${method}: given up`));
      const settle: Pending['settle'] = (outcome) => {
        clearTimeout(timer);
        options.signal?.removeEventListener('abort', onAbort);
        this.#pending.delete(id);
        if ('error' in outcome) reject(outcome.error);
        else resolve(outcome.result);
      };
      const fail = (error: DataplaneError): void => settle({ error });
      options.signal?.addEventListener('abort', onAbort, { once: true });
      this.#pending.set(id, { method, settle });
      this.#socket.write(line);
    });
  }

  /** Calls `listener` for every notification until the returned function is called. */
  onNotification(listener: NotificationListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends the connection; everything that waits is rejected with `CLOSED`. */
  close(): void {
    this.#finish(new DataplaneError('CLOSED', `the connection to the ${this.#peer} was closed`));
    this.#socket.destroy();
  }

  /** Waits until the socket has taken what was written before: a slow reader slows us, it does not fill our memory. */
  async #drained(signal: AbortSignal | undefined): Promise<void> {
    while (this.#socket.writableNeedDrain && this.#end === undefined && signal?.aborted !== true) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          this.#socket.off('drain', done).off('close', done);
          signal?.removeEventListener('abort', done);
          resolve();
        };
        this.#socket.once('drain', done).once('close', done);
        signal?.addEventListener('abort', done, { once: true });
      });
    }
  }

  #receive(chunk: Buffer): void {
    try {
      for (const line of this.#splitter.push(chunk)) {
        if (this.#end !== undefined) return;
        this.#handle(line);
      }
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#finish(
        new DataplaneError('PROTOCOL_ERROR', `the ${this.#peer} sent something else than the protocol: ${text}`),
      );
      this.#socket.destroy();
    }
  }

  #handle(line: string): void {
    const message: unknown = JSON.parse(line);
    if (!isObject(message) || message.jsonrpc !== '2.0') throw new Error(`not JSON-RPC 2.0: ${excerpt(line)}`);
    if (typeof message.method === 'string') {
      for (const listener of [...this.#listeners]) this.#notify(listener, message.method, message.params);
      return;
    }
    if (message.error !== undefined && message.id === null)
      throw new Error(`a request was not understood: ${excerpt(line)}`);
    if (typeof message.id !== 'number') throw new Error(`neither an answer nor a notification: ${excerpt(line)}`);
    // An answer whose request has timed out or was given up finds nobody: nothing is wrong with it.
    const pending = this.#pending.get(message.id);
    if (message.error !== undefined) pending?.settle({ error: toError(message.error, pending.method) });
    else if ('result' in message) pending?.settle({ result: message.result });
    else throw new Error(`an answer with neither result nor error: ${excerpt(line)}`);
  }

  #notify(listener: NotificationListener, method: string, params: unknown): void {
    try {
      listener(method, params);
    } catch (error) {
      process.emitWarning(`a listener of ${method} failed: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  #finish(reason: DataplaneError): void {
    if (this.#end !== undefined) return;
    this.#end = reason;
    for (const pending of [...this.#pending.values()]) {
      pending.settle({ error: new DataplaneError(reason.code, `${pending.method}: ${reason.message}`) });
    }
  }
}

function open(path: string, peer: string, signal: AbortSignal | undefined): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectSocket({ path, allowHalfOpen: true });
    const timer = setTimeout(() => {
      fail(new DataplaneError('TIMEOUT', `${path}: the ${peer} did not accept the connection`));
    }, CONNECT_TIMEOUT_MS);
    const onAbort = (): void => fail(new DataplaneError('ABORTED', `${path}: given up`));
    const onError = (error: Error): void => fail(connectError(error, path, peer));
    const settle = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.off('error', onError);
    };
    const fail = (error: DataplaneError): void => {
      settle();
      socket.on('error', () => undefined);
      socket.destroy();
      reject(error);
    };
    socket.once('error', onError);
    socket.once('connect', () => {
      settle();
      resolve(socket);
    });
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}

function connectError(error: Error, path: string, peer: string): DataplaneError {
  const code = errnoOf(error);
  const options = { cause: error };
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    return new DataplaneError('NOT_RUNNING', `no ${peer} runs: nothing listens on ${path}`, options);
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new DataplaneError(
      'EACCES',
      `${path}: permission denied; run as root or as a member of the socket's group`,
      options,
    );
  }
  return new DataplaneError(code ?? 'CLOSED', `${path}: ${error.message}`, options);
}

function toError(error: unknown, method: string): DataplaneError {
  if (!isObject(error)) return new DataplaneError('PROTOCOL_ERROR', `${method}: an error that is not an object`);
  const data = isObject(error.data) ? error.data : {};
  const name = typeof data.name === 'string' ? data.name : 'UNKNOWN';
  const text = typeof data.message === 'string' ? data.message : error.message;
  return new DataplaneError(name, typeof text === 'string' && text !== '' ? text : `${method}: refused (${name})`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function excerpt(line: string): string {
  return line.length > 80 ? `${line.slice(0, 80)}...` : line;
}
