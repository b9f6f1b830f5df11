/**
 * One gRPC channel to one endpoint, and every call that is under way on it. Closing it ends them all: gRPC by itself
 * lets streams of a closed channel run on, which on a black-holed path would be for ever.
 */
import { type CallOptions, Channel, type ClientUnaryCall, type Metadata, type ServiceError } from '@grpc/grpc-js';
import type { Endpoint } from './endpoint.ts';
import { etcdError, fromGrpc } from './errors.ts';
import { AuthClient, KVClient, LeaseClient, MaintenanceClient, WatchClient } from './proto/etcd.ts';
import { credentialsFor, type TlsMaterial, tlsChannelOptions } from './tls-files.ts';

/**
 * A ping after 10 s tells a half-open connection; 4 s for its answer make 14 s until it is noticed. etcd closes
 * connections that ping more often than every 5 s ("too many pings").
 */
const KEEPALIVE_TIME_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 4_000;

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

export interface Clients {
  readonly kv: KVClient;
  readonly watch: WatchClient;
  readonly lease: LeaseClient;
  readonly auth: AuthClient;
  readonly maintenance: MaintenanceClient;
}

interface Cancellable {
  cancel(): void;
}

export class Connection {
  readonly endpoint: Endpoint;
  readonly clients: Clients;
  readonly #channel: Channel;
  readonly #calls = new Set<Cancellable>();
  #closed: string | undefined;

  constructor(endpoint: Endpoint, material: TlsMaterial) {
    this.endpoint = endpoint;
    const credentials = credentialsFor(endpoint, material);
    this.#channel = new Channel(endpoint.target, credentials, {
      'grpc.keepalive_time_ms': KEEPALIVE_TIME_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      'grpc.keepalive_permit_without_calls': 0,
      'grpc.initial_reconnect_backoff_ms': 500,
      'grpc.max_reconnect_backoff_ms': 5_000,
      'grpc.enable_channelz': 0,
      'grpc.enable_retries': 0,
      // The environment's HTTP proxy is not meant for the cluster's own store.
      'grpc.enable_http_proxy': 0,
      // No TXT look-up for a service configuration that etcd never has.
      'grpc.service_config_disable_resolution': 1,
      // A rebuilt channel must not get the dead connection of the one before from the process-wide pool.
      'grpc.use_local_subchannel_pool': 1,
      // A page of 500 leases is about 150 kB; a watch response is at most 1.5 MB (etcd fragments it).
      'grpc.max_receive_message_length': 16 * 1024 * 1024,
      ...tlsChannelOptions(endpoint),
    });
    const options = { channelOverride: this.#channel };
    this.clients = {
      kv: new KVClient(endpoint.target, credentials, options),
      watch: new WatchClient(endpoint.target, credentials, options),
      lease: new LeaseClient(endpoint.target, credentials, options),
      auth: new AuthClient(endpoint.target, credentials, options),
      maintenance: new MaintenanceClient(endpoint.target, credentials, options),
    };
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** One call with a deadline. Rejects with `EtcdError`, or with the signal's reason. */
  unary<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    metadata: Metadata,
    deadlineMs: number,
    signal: AbortSignal,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      if (this.#closed !== undefined) {
        reject(etcdError('UNAVAILABLE', this.endpoint.url, this.#closed));
        return;
      }
      const onAbort = (): void => call.cancel();
      const call = method(request, metadata, { deadline: Date.now() + deadlineMs }, (error, response) => {
        this.#calls.delete(call);
        signal.removeEventListener('abort', onAbort);
        if (error === null) resolve(response);
        else if (signal.aborted) reject(signal.reason);
        else reject(this.explain(error));
      });
      this.#calls.add(call);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Ties a stream to this connection: closing cancels it. Returns the act that unties it. */
  track(stream: Cancellable): () => void {
    this.#calls.add(stream);
    if (this.#closed !== undefined) stream.cancel();
    return () => this.#calls.delete(stream);
  }

  /** A gRPC failure in our words; a call that ended because we closed says why we closed. */
  explain(error: unknown): unknown {
    if (this.#closed !== undefined) return etcdError('UNAVAILABLE', this.endpoint.url, this.#closed, error);
    return fromGrpc(error, this.endpoint.url);
  }

  close(reason: string): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    for (const call of [...this.#calls]) call.cancel();
    this.#calls.clear();
    this.#channel.close();
  }
}
