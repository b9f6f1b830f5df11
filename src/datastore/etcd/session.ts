/**
 * The session with etcd: which endpoint, which certificates, which token. A call goes to the current endpoint; one that
 * fails there moves the session to the next. Callers repeat with pauses of their own; nothing is repeated in secret
 * except a call whose token had expired.
 */
import { type CallOptions, type ClientUnaryCall, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { type Clients, Connection } from './connection.ts';
import { type Endpoint, parseEndpoints } from './endpoint.ts';
import { EtcdError } from './errors.ts';
import { sendGrpcLogTo } from './grpc-log.ts';
import {
  hasTlsFiles,
  NO_TLS_MATERIAL,
  readTlsFiles,
  type TlsFiles,
  type TlsMaterial,
  tlsFingerprint,
} from './tls-files.ts';
import { TokenSource } from './token.ts';

export interface SessionOptions extends TlsFiles {
  readonly endpoints: readonly string[];
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly logger: Logger;
}

/** A call that takes longer is given up: etcd answers in milliseconds, its own limit for a proposal is 7 s. */
const CALL_DEADLINE_MS = 5_000;

/** How often certificate files are looked at. */
const TLS_POLL_MS = 5_000;

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** What a stream needs: the connection to open it on and the metadata to send. */
export interface StreamBase {
  readonly connection: Connection;
  readonly metadata: Metadata;
  /** The token in the metadata, to be dropped when etcd refuses it. */
  readonly token: string | undefined;
}

export class Session {
  readonly #endpoints: readonly Endpoint[];
  readonly #files: TlsFiles;
  readonly #logger: Logger;
  readonly #tokens: TokenSource | undefined;
  readonly #stopping = new AbortController();
  #index = 0;
  #connection: Connection | undefined;
  #material: TlsMaterial | undefined;
  #fingerprint = '';
  #poll: NodeJS.Timeout | undefined;

  constructor(options: SessionOptions) {
    this.#logger = options.logger;
    this.#files = { caFile: options.caFile, certFile: options.certFile, keyFile: options.keyFile };
    this.#endpoints = parseEndpoints(options.endpoints, hasTlsFiles(this.#files));
    sendGrpcLogTo(options.logger);
    if (options.username !== undefined && options.username !== '') {
      this.#tokens = new TokenSource(options.username, options.password ?? '', options.logger);
    }
    if (hasTlsFiles(this.#files) && this.#endpoints.some((endpoint) => !endpoint.tls)) {
      const plain = this.#endpoints.filter((endpoint) => !endpoint.tls).map((endpoint) => endpoint.url);
      options.logger.warn(
        { endpoints: plain },
        'certificate files are set, but these etcd endpoints say http://: they are spoken to without TLS',
      );
    }
  }

  /** The endpoint in use, for messages. */
  get endpoint(): string {
    return this.#endpoint.url;
  }

  /** Calls one method. Rejects with `EtcdError`, or with the signal's reason. */
  async call<Request, Response>(
    pick: (clients: Clients) => UnaryMethod<Request, Response>,
    request: Request,
    signal: AbortSignal,
  ): Promise<Response> {
    for (let last = false; ; last = true) {
      const { connection, metadata, token } = await this.#base(signal);
      try {
        return await connection.unary(pick(connection.clients), request, metadata, CALL_DEADLINE_MS, signal);
      } catch (error) {
        const renewed = this.refused(token, error);
        this.failed(connection, error);
        if (last || !renewed) throw error;
      }
    }
  }

  /** What a watch or lease stream starts from. `hasleader` makes etcd end it when the member loses its quorum. */
  async stream(signal: AbortSignal): Promise<StreamBase> {
    const base = await this.#base(signal);
    base.metadata.set('hasleader', 'true');
    return base;
  }

  /** Takes note of a failure on a connection: if it speaks against the endpoint, the next one is used from now on. */
  failed(connection: Connection, error: unknown): void {
    if (connection !== this.#connection || !(error instanceof EtcdError) || !error.changesEndpoint) return;
    this.#index = (this.#index + 1) % this.#endpoints.length;
    this.#drop(`another call on this connection failed: ${error.code}`);
    this.#logger.debug({ from: connection.endpoint.url, to: this.#endpoint.url, err: error }, 'etcd endpoint given up');
  }

  /** Takes note of an answer that may speak against the token. True if a new token may help: try again. */
  refused(token: string | undefined, error: unknown): boolean {
    if (this.#tokens === undefined || !(error instanceof EtcdError)) return false;
    if (error.code !== 'TOKEN_INVALID' && error.code !== 'AUTH_REQUIRED') return false;
    this.#tokens.drop(token);
    return true;
  }

  /** Ends every call and stream. */
  close(): void {
    this.#stopping.abort(new EtcdError('STOPPED', 'the etcd session is closed'));
    clearInterval(this.#poll);
    this.#drop('the session is closed');
  }

  get #endpoint(): Endpoint {
    return this.#endpoints[this.#index] as Endpoint;
  }

  async #base(signal: AbortSignal): Promise<StreamBase> {
    signal.throwIfAborted();
    const connection = this.#connect();
    const metadata = new Metadata();
    const token = await this.#token(connection, signal);
    if (token !== undefined) metadata.set('token', token);
    return { connection, metadata, token };
  }

  async #token(connection: Connection, signal: AbortSignal): Promise<string | undefined> {
    try {
      return await this.#tokens?.get(connection, signal, this.#stopping.signal);
    } catch (error) {
      this.failed(connection, error);
      throw error;
    }
  }

  #connect(): Connection {
    this.#stopping.signal.throwIfAborted();
    this.#connection ??= new Connection(this.#endpoint, this.#tlsMaterial());
    return this.#connection;
  }

  #drop(reason: string): void {
    this.#connection?.close(reason);
    this.#connection = undefined;
  }

  #tlsMaterial(): TlsMaterial {
    if (!hasTlsFiles(this.#files)) return NO_TLS_MATERIAL;
    if (this.#material === undefined) {
      this.#fingerprint = tlsFingerprint(this.#files);
      this.#material = readTlsFiles(this.#files);
      this.#poll = setInterval(() => this.#checkTlsFiles(), TLS_POLL_MS);
    }
    return this.#material;
  }

  /** Rebuilds the channel if the files changed and can be used; else keeps what it has. */
  #checkTlsFiles(): void {
    const fingerprint = tlsFingerprint(this.#files);
    if (fingerprint === this.#fingerprint) return;
    this.#fingerprint = fingerprint;
    try {
      this.#material = readTlsFiles(this.#files);
    } catch (error) {
      this.#logger.warn(
        { err: error },
        'certificate files changed and cannot be used: the ones read before stay in use',
      );
      return;
    }
    this.#logger.info('certificate files changed: the connection to etcd is rebuilt');
    this.#drop('certificate files changed');
  }
}
