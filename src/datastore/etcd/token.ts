/**
 * The auth token: fetched once for all who need it, dropped when etcd refuses it. A refused password is not tried again
 * at once: each try costs etcd a bcrypt, and a thousand hosts with an old password would keep it busy with nothing else.
 */
import { Metadata } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { Connection } from './connection.ts';
import { EtcdError } from './errors.ts';
import { Backoff, orAborted } from './wait.ts';

/** bcrypt at etcd's default cost takes a few 100 ms on a slow machine, one after the other. */
const AUTHENTICATE_DEADLINE_MS = 10_000;

/** Pauses after a refused password. */
const REFUSED_FIRST_MS = 10_000;
const REFUSED_LAST_MS = 120_000;

/** How long etcd's word "authentication is not enabled" holds. */
const DISABLED_MS = 60_000;

export class TokenSource {
  readonly #username: string;
  readonly #password: string;
  readonly #logger: Logger;
  readonly #pauses = new Backoff(REFUSED_FIRST_MS, REFUSED_LAST_MS);
  #token: string | undefined;
  #pending: Promise<string | undefined> | undefined;
  #refusal: { readonly error: EtcdError; readonly until: number } | undefined;
  #disabledUntil = 0;

  constructor(username: string, password: string, logger: Logger) {
    this.#username = username;
    this.#password = password;
    this.#logger = logger;
  }

  /** The token in use, fetched if there is none; undefined if etcd has no users. `stopping` ends the fetch for all. */
  async get(connection: Connection, signal: AbortSignal, stopping: AbortSignal): Promise<string | undefined> {
    if (this.#token !== undefined) return this.#token;
    if (performance.now() < this.#disabledUntil) return undefined;
    if (this.#refusal !== undefined && performance.now() < this.#refusal.until) throw this.#refusal.error;
    this.#pending ??= this.#fetch(connection, stopping).finally(() => {
      this.#pending = undefined;
    });
    return orAborted(this.#pending, signal);
  }

  /** Forgets `token` unless a newer one has taken its place. */
  drop(token: string | undefined): void {
    if (this.#token === token) this.#token = undefined;
    this.#disabledUntil = 0;
  }

  async #fetch(connection: Connection, stopping: AbortSignal): Promise<string | undefined> {
    const { auth } = connection.clients;
    const request = { name: this.#username, password: this.#password };
    try {
      const answer = await connection.unary(
        auth.authenticate.bind(auth),
        request,
        new Metadata(),
        AUTHENTICATE_DEADLINE_MS,
        stopping,
      );
      this.#token = answer.token;
      this.#refusal = undefined;
      this.#pauses.reset();
      return answer.token;
    } catch (error) {
      if (error instanceof EtcdError && error.code === 'AUTH_DISABLED') {
        this.#disabledUntil = performance.now() + DISABLED_MS;
        this.#logger.warn(`${error.message}; going on without a user`);
        return undefined;
      }
      if (error instanceof EtcdError && error.code === 'AUTH_FAILED') {
        const pause = this.#pauses.next();
        this.#refusal = { error, until: performance.now() + pause };
        this.#logger.error({ nextTrySeconds: Math.round(pause / 1000) }, error.message);
      }
      throw error;
    }
  }
}
