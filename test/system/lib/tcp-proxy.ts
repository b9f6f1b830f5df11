/** A TCP proxy that fails as networks do: cuts connections, refuses new ones, swallows what passes, or delays it. */
import { createConnection, createServer, type Server, type Socket } from 'node:net';

type Mode =
  | { readonly kind: 'pass' }
  /** Connections are accepted and reset at once. */
  | { readonly kind: 'refuse' }
  /** Nothing passes in either direction, nothing is closed: a path that has become a black hole. */
  | { readonly kind: 'swallow' };

export class TcpProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #target: { readonly host: string; readonly port: number };
  #mode: Mode = { kind: 'pass' };
  #delayMs = 0;
  /** Bytes that the target may still send before the connection is cut. */
  #cutAfter = Number.POSITIVE_INFINITY;
  /** Connections accepted so far. */
  accepted = 0;

  private constructor(host: string, port: number) {
    this.#target = { host, port };
    this.#server = createServer((client) => this.#accept(client));
  }

  static async start(host: string, port: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(host, port);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once('error', reject);
      proxy.#server.listen(0, '127.0.0.1', resolve);
    });
    return proxy;
  }

  get port(): number {
    const bound = this.#server.address();
    if (bound === null || typeof bound === 'string') throw new Error('the proxy does not listen');
    return bound.port;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  pass(): void {
    this.#mode = { kind: 'pass' };
    this.#cutAfter = Number.POSITIVE_INFINITY;
  }

  /** Cuts what is connected; new connections go on. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Cuts what is connected and lets nobody in. */
  refuse(): void {
    this.#mode = { kind: 'refuse' };
    this.cut();
  }

  swallow(): void {
    this.#mode = { kind: 'swallow' };
  }

  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Cuts the connection once the target has sent that many more bytes, in the middle of whatever it says. */
  cutAfter(bytes: number): void {
    this.#cutAfter = bytes;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(client: Socket): void {
    this.accepted += 1;
    if (this.#mode.kind === 'refuse') {
      client.resetAndDestroy();
      return;
    }
    const target = createConnection(this.#target);
    this.#pipe(client, target, (chunk) => chunk.length);
    this.#pipe(target, client, (chunk) => {
      const passes = Math.min(chunk.length, this.#cutAfter);
      this.#cutAfter -= passes;
      return passes;
    });
  }

  /** Forwards data; `allow` says how much of a chunk may pass before the connection ends. */
  #pipe(from: Socket, to: Socket, allow: (chunk: Buffer) => number): void {
    this.#sockets.add(from);
    from.on('error', () => undefined);
    from.on('close', () => {
      this.#sockets.delete(from);
      if (this.#mode.kind !== 'swallow') to.destroy();
    });
    from.on('data', (chunk) => {
      if (this.#mode.kind === 'swallow') return;
      const passes = allow(chunk);
      const forward = (): void => {
        if (to.writable) to.write(chunk.subarray(0, passes));
        if (passes === chunk.length) return;
        this.#cutAfter = Number.POSITIVE_INFINITY;
        to.end();
        from.destroy();
      };
      if (this.#delayMs > 0) setTimeout(forward, this.#delayMs);
      else forward();
    });
  }
}
