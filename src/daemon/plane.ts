/**
 * The dataplane as the daemon needs it: always there, always holding what it should. Whatever dataplane there is gets the
 * whole desired state; changes go through one queue, so that they never overlap; a change that did not get through is made
 * good by sending everything again, and once a minute the host is compared with what it should be without an occasion.
 */
import type { Paths } from '../config/paths.ts';
import { type DataplaneClient, DataplaneError } from '../dataplane/client.ts';
import { isConnectionLoss } from '../dataplane/errors.ts';
import type { Session } from '../dataplane/supervisor.ts';
import { recordNetwork } from '../host/records.ts';
import type { Logger } from '../observe/log.ts';
import type { PeerChange, PeerState } from '../reconcile/desired.ts';
import { planHost, routeOperations } from '../reconcile/host.ts';
import { Mirror } from './mirror.ts';
import { type FedSpec, holdNetwork } from './network.ts';
import { Serial } from './serial.ts';
import { sessionEvents } from './session-events.ts';
import type { StatusBoard } from './status-board.ts';

const RECONCILE_MS = 60_000;
/** After a change that failed. */
const RETRY_MS = 2_000;
/** Changes come in groups: a device that is set down loses its routes a moment later. */
const SETTLE_MS = 100;

/** What the dataplane and the host are to hold; grows while the daemon starts. */
export interface Desired {
  spec: FedSpec;
  /** Known once the lease is there. */
  content?: {
    readonly peers: PeerState;
    /** With length, for the device. */
    address: string;
    /** The first snapshot is in: before it, empty tables would be a lie. */
    complete: boolean;
  };
}

export interface PlaneOptions {
  readonly paths: Paths;
  /** Dataplanes, one after the other. */
  readonly sessions: (signal: AbortSignal) => AsyncIterable<Session>;
  readonly board: StatusBoard;
  readonly logger: Logger;
}

export class Plane {
  /** Absent until the network is decided. */
  desired: Desired | undefined;
  readonly #options: PlaneOptions;
  readonly #logger: Logger;
  readonly #board: StatusBoard;
  readonly #mirror: Mirror;
  readonly #serial = new Serial();
  readonly #waiting = new Set<() => void>();
  #session: Session | undefined;
  /** Counts what did not get through, and what of that was made good by sending everything. */
  #troubles = 0;
  #mended = 0;
  #bringing = false;
  #conflicts = '';
  #mirrorQueued = false;
  /** The host is to be looked at now. */
  #hurry = false;
  #wakeRepair: (() => void) | undefined;

  constructor(options: PlaneOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#board = options.board;
    this.#mirror = new Mirror(options.logger);
  }

  /** Ends the connection; the dataplane goes on. */
  close(): void {
    this.#session?.client.close();
  }

  /** Takes one dataplane after the other until `signal` aborts. Throws if none can be had at the start. */
  async supervise(signal: AbortSignal): Promise<void> {
    let pid: number | undefined;
    for await (const session of this.#options.sessions(signal)) {
      if (pid !== undefined && pid !== session.hello.pid) this.#board.planeDied();
      pid = session.hello.pid;
      this.#session = session;
      this.#listen(session.client);
      try {
        await this.#serial.run(() => this.#attach(session));
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error, session, 'the dataplane did not take its state; trying again');
      }
      for (const wake of [...this.#waiting]) wake();
      void session.client.closed.then(() => {
        if (this.#session === session) this.#board.planeDown();
      });
    }
  }

  /** Compares and puts right, now and then and soon after something went wrong, until `signal` aborts. */
  async repair(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wakeRepair = resolve;
      });
      if (!this.#hurry) await pause(this.#troubles === this.#mended ? RECONCILE_MS : RETRY_MS, signal, woken);
      // Whoever changes our device again and again costs us one comparison in this time.
      await pause(SETTLE_MS, signal);
      this.#hurry = false;
      const session = this.#session;
      if (signal.aborted || session === undefined || session.client.failure !== undefined) continue;
      try {
        await this.#serial.run(() => this.#bring(session.client, false));
      } catch (error) {
        if (!signal.aborted) this.#failed(error, session, 'the state could not be put right; trying again');
      }
    }
  }

  /** Runs `use` with the dataplane that is there, again with the next one when that dies underway. */
  async use<T>(signal: AbortSignal, use: (client: DataplaneClient) => Promise<T>): Promise<T> {
    for (;;) {
      const session = await this.#current(signal);
      try {
        return await this.#serial.run(() => use(session.client));
      } catch (error) {
        if (!isConnectionLoss(error)) throw error;
        session.client.close();
        await session.client.closed;
      }
    }
  }

  /** Makes everything what it should be, and returns when it is. */
  async bring(signal: AbortSignal): Promise<void> {
    await this.use(signal, (client) => this.#bring(client, true));
  }

  /** Applies a change of the peers. A dataplane that is not there now gets the whole state when it comes. */
  async apply(change: PeerChange, whole: boolean, signal: AbortSignal): Promise<void> {
    const session = this.#session;
    if (session === undefined || session.client.failure !== undefined) return;
    try {
      await this.#serial.run(() => (whole ? this.#bring(session.client, true) : this.#push(session.client, change)));
    } catch (error) {
      if (signal.aborted) return;
      this.#failed(error, session, 'a change could not be applied; everything will be sent again');
      // Ends the minute's wait; the next one is short.
      this.#wakeRepair?.();
    }
  }

  /** Puts everything into a dataplane: what we feed first, because traffic waits for it. */
  async #attach({ client, hello, adopted, diedAt }: Session): Promise<void> {
    await client.request('events.subscribe', {});
    await this.#bring(client, true);
    const gap = diedAt === undefined ? undefined : Math.round(performance.now() - diedAt);
    this.#board.planeUp(hello.pid, gap);
    if (!adopted) {
      for (const state of await this.#mirror.replayNetworks(client)) recordNetwork(this.#options.paths, state);
    }
    await this.#mirror.refresh(client);
    if (gap !== undefined) {
      this.#logger.warn(
        { dataplane: hello.pid, gapMs: gap },
        `the dataplane is back; traffic stood still for ${gap} ms`,
      );
    }
  }

  /** Makes network, tables and host what they should be. `whole` sends the tables even if their revision looks right. */
  async #bring(client: DataplaneClient, whole: boolean): Promise<void> {
    const { desired } = this;
    if (desired === undefined) return;
    const { spec, content } = desired;
    const troubles = this.#troubles;
    this.#bringing = true;
    try {
      const { state, made } = await holdNetwork(client, spec, this.#options.paths, this.#logger);
      if (made) await this.#mirror.replayEntries(client, spec.name);
      if (content === undefined) return;
      const current = state.revisions[spec.owner] === content.peers.revision && troubles === this.#mended;
      if (content.complete && (whole || !current)) await this.#replaceTables(client, spec, content.peers);
      await this.#reconcileHost(client);
      this.#mended = troubles;
    } finally {
      this.#bringing = false;
    }
  }

  async #replaceTables(client: DataplaneClient, spec: FedSpec, peers: PeerState): Promise<void> {
    const changed = await client.request('tables.replace', {
      network: spec.name,
      source: spec.owner,
      revision: peers.revision,
      ...peers.tables(),
    });
    this.#logger.debug(changed, 'tables replaced');
  }

  /** Sends a difference; where the dataplane holds another revision than it is computed against, everything. */
  async #push(client: DataplaneClient, change: PeerChange): Promise<void> {
    const { desired } = this;
    if (desired?.content === undefined) return;
    const { spec, content } = desired;
    if (!change.tablesUnchanged || change.base !== change.revision) {
      const { base, revision, tables } = change;
      try {
        await client.request('tables.patch', { network: spec.name, source: spec.owner, base, revision, ...tables });
      } catch (error) {
        if (isConnectionLoss(error)) throw error;
        this.#logger.info({ err: error }, 'the difference was refused; the tables are sent whole');
        await this.#replaceTables(client, spec, content.peers);
      }
    }
    const operations = routeOperations(spec.name, change.routes);
    if (operations.length === 0) return;
    const { errors } = await client.request('host.change', { netns: spec.netns, operations });
    if (errors.some((error) => error !== null && error !== undefined)) await this.#reconcileHost(client);
  }

  /** Address, routes and administrative state of our device; before the first snapshot no route is taken away. */
  async #reconcileHost(client: DataplaneClient): Promise<void> {
    const { desired } = this;
    if (desired?.content === undefined) return;
    const { spec, content } = desired;
    const facts = await client.request('host.read', { netns: spec.netns });
    const plan = planHost(facts, { dev: spec.name, addresses: [content.address], routes: content.peers.routes() });
    const conflicts = plan.conflicts.join('\n');
    if (conflicts !== this.#conflicts) for (const conflict of plan.conflicts) this.#logger.warn(conflict);
    this.#conflicts = conflicts;
    const operations = content.complete ? [...plan.operations] : plan.operations.filter(({ op }) => op !== 'route.del');
    if (operations.length === 0) return;
    const { errors } = await client.request('host.change', { netns: spec.netns, operations });
    const failures = errors.flatMap((error) => (error === null || error === undefined ? [] : [error.message]));
    if (failures.length === 0) return;
    const some = failures.slice(0, 3).join('; ');
    throw new DataplaneError('HOST_CHANGE_FAILED', `${failures.length} changes on the host failed: ${some}`);
  }

  #listen(client: DataplaneClient): void {
    sessionEvents(client, this.#logger, {
      ours: (network) => network === this.desired?.spec.name,
      handChanged: () => this.#queueMirror(client),
      deviceChanged: (message, event) => {
        // While we put things right it may be our own doing; that costs one more comparison and needs no word.
        if (!this.#bringing) this.#logger.warn(event, message);
        this.#troubles += 1;
        this.#hurry = true;
        this.#wakeRepair?.();
      },
    });
  }

  /** Refreshes the mirror, once for however many changes arrive meanwhile. */
  #queueMirror(client: DataplaneClient): void {
    if (this.#mirrorQueued) return;
    this.#mirrorQueued = true;
    const refresh = async (): Promise<void> => {
      this.#mirrorQueued = false;
      if (this.#session?.client === client) await this.#mirror.refresh(client);
    };
    void this.#serial
      .run(refresh)
      .catch((error: unknown) =>
        this.#logger.debug({ err: error }, 'the copy of what was made by hand is out of date'),
      );
  }

  /** Something did not get through: the state is sent whole later; a connection that is no good is given up. */
  #failed(error: unknown, session: Session, message: string): void {
    this.#troubles += 1;
    if (isConnectionLoss(error)) session.client.close();
    else this.#logger.error({ err: error }, message);
  }

  async #current(signal: AbortSignal): Promise<Session> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#session !== undefined && this.#session.client.failure === undefined) return this.#session;
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        this.#waiting.add(wake);
        signal.addEventListener('abort', wake, { once: true });
      });
    }
  }
}

/** Waits for a time, for the end, or for `event`. */
function pause(ms: number, signal: AbortSignal, event?: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal.aborted) done();
    else signal.addEventListener('abort', done, { once: true });
    if (event !== undefined) void actAfter(event, done);
  });
}

async function actAfter(event: Promise<void>, act: () => void): Promise<void> {
  await event;
  act();
}
