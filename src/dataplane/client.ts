/** The dataplane as seen from here: its methods and notifications with their types, over one connection. */
import { DataplaneError } from './errors.ts';
import { type Hello, type Methods, type Notifications, PROTOCOL } from './protocol.ts';
import { type ConnectOptions, type RequestOptions, RpcConnection } from './rpc.ts';

export { DataplaneError } from './errors.ts';

export class DataplaneClient {
  /** Resolves when the connection has ended, by either side; never rejects. */
  readonly closed: Promise<void>;
  readonly #connection: RpcConnection;

  static async connect(socketPath: string, options: ConnectOptions = {}): Promise<DataplaneClient> {
    return new DataplaneClient(await RpcConnection.connect(socketPath, options));
  }

  private constructor(connection: RpcConnection) {
    this.#connection = connection;
    this.closed = connection.closed;
  }

  /** Why the connection ended; absent while it lives. */
  get failure(): DataplaneError | undefined {
    return this.#connection.failure;
  }

  async request<M extends keyof Methods>(
    method: M,
    params: Methods[M]['params'],
    options?: RequestOptions,
  ): Promise<Methods[M]['result']> {
    // The types on both ends are generated from one source and `hello` has compared their version.
    return (await this.#connection.request(method, params, options)) as Methods[M]['result'];
  }

  /** Asks who is there and refuses one that speaks another protocol. */
  async hello(options?: RequestOptions): Promise<Hello> {
    const hello = await this.request('hello', {}, options);
    if (hello?.protocol !== PROTOCOL) {
      throw new DataplaneError(
        'PROTOCOL_MISMATCH',
        `the dataplane (pid ${hello?.pid}, version ${hello?.version}) speaks protocol ${hello?.protocol}, this vtepd speaks ${PROTOCOL}; ` +
          'build both from one version and restart the dataplane',
      );
    }
    return hello;
  }

  /** Calls `listener` for one kind of notification until the returned function is called; `events.subscribe` starts them. */
  on<N extends keyof Notifications>(name: N, listener: (event: Notifications[N]) => void): () => void {
    return this.#connection.onNotification((method, params) => {
      if (method === name) listener(params as Notifications[N]);
    });
  }

  /** Ends the connection; everything that waits is rejected with `CLOSED`. */
  close(): void {
    this.#connection.close();
  }
}
