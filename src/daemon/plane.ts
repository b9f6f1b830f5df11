/**
 * The dataplane as the daemon needs it: always there, always holding what it should, for every network of the daemon.
 * Whatever dataplane there is gets the whole desired state; changes go through one queue, so that they never overlap; a
 * change that did not get through is made good by sending everything again, and now and then the host is compared with what
 * it should be without an occasion. How one network is brought is network-feed.ts's business, what lies in the kernel
 * host-routes.ts's.
 */
import type { Paths } from '../config/paths.ts';
import type { DataplaneClient } from '../dataplane/client.ts';
import { isConnectionLoss } from '../dataplane/errors.ts';
import type { Session } from '../dataplane/supervisor.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Logger } from '../observe/log.ts';
import type { PeerChange } from '../reconcile/desired.ts';
import { CurrentSession } from './current-session.ts';
import type { Desired } from './desired-network.ts';
import { Former } from './former.ts';
import { remember } from './hold-network.ts';
import type { Links } from './links.ts';
import { Mirror } from './mirror.ts';
import { Misses } from './misses.ts';
import { NetworkFeed } from './network-feed.ts';
import { pause, Serial } from './serial.ts';
import { sessionEvents } from './session-events.ts';
import type { StatusBoard } from './status-board.ts';

/** As flannel's host-gw backend looks at its routes. The dataplane tells of links at once, of addresses and routes nobody. */
const RECONCILE_MS = 10_000;
/** After a change that failed. */
const RETRY_MS = 2_000;
/** Changes come in groups: a device that is set down loses its routes a moment later. */
const SETTLE_MS = 100;

export interface PlaneOptions {
  readonly paths: Paths;
  /** Dataplanes, one after the other. */
  readonly sessions: (signal: AbortSignal) => AsyncIterable<Session>;
  readonly board: PlaneBoard;
  /** Networks that the settings declare. */
  readonly links?: Links | undefined;
  readonly logger: Logger;
  /** Networks of earlier runs whose routes may still lie on the underlay. */
  readonly formerDirect?: readonly Prefix[];
  /** Counts the dataplane's notifications. */
  readonly heard?: (notification: string) => void;
  /** How often the host is compared without an occasion; 10 s if left out. */
  readonly reconcileMs?: number | undefined;
}

/** Who is told how the plane is. */
export type PlaneBoard = Pick<StatusBoard, 'planeUp' | 'planeDown' | 'planeDied' | 'repaired'>;

export class Plane {
  readonly misses = new Misses();
  readonly #networks: Desired[] = [];
  /** Every network of the daemon is decided: fed networks that are not among them are of the past. */
  #decided = false;
  readonly #options: PlaneOptions;
  readonly #logger: Logger;
  readonly #board: PlaneBoard;
  readonly #mirror: Mirror;
  readonly #former: Former;
  readonly #feed: NetworkFeed;
  readonly #serial = new Serial();
  readonly #current = new CurrentSession();
  /** Counts what did not get through, and what of that was made good by sending everything. */
  #troubles = 0;
  #mended = 0;
  #bringing = false;
  /** Changes that wait for their turn. */
  readonly #coming = new Map<Desired, PeerChange>();
  #mirrorQueued = false;
  /** The host is to be looked at now. */
  #hurry = false;
  #wakeRepair: (() => void) | undefined;

  constructor(options: PlaneOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#board = options.board;
    const { paths, logger, formerDirect = [] } = options;
    this.#mirror = new Mirror(logger);
    this.#former = new Former(formerDirect, paths, logger);
    this.#feed = new NetworkFeed({
      paths,
      logger,
      mirror: this.#mirror,
      repaired: (count) => this.#board.repaired(count),
      coming: (desired) => this.#coming.get(desired),
    });
  }

  /** Networks of earlier runs whose routes have not been looked for yet, or that still have some. */
  get formerDirect(): readonly Prefix[] {
    return this.#former.direct;
  }

  /** From now on the plane holds this network too. */
  add(desired: Desired): void {
    this.#networks.push(desired);
  }

  /** Tells that no other network will be added. */
  decided(): void {
    this.#decided = true;
  }

  /** The connection, while there is one that is good. */
  get client(): DataplaneClient | undefined {
    return this.#current.good?.client;
  }

  /** Ends the connection; the dataplane goes on. */
  close(): void {
    this.#current.latest?.client.close();
  }

  /** Takes one dataplane after the other until `signal` aborts. Throws if none can be had at the start. */
  async supervise(signal: AbortSignal): Promise<void> {
    let pid: number | undefined;
    for await (const session of this.#options.sessions(signal)) {
      if (pid !== undefined && pid !== session.hello.pid) this.#board.planeDied();
      pid = session.hello.pid;
      this.#current.take(session);
      this.#listen(session.client);
      try {
        await this.#serial.run(() => this.#attach(session));
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error, session, 'the dataplane did not take its state; trying again');
      }
      this.#current.announce();
      void session.client.closed.then(() => {
        if (this.#current.latest === session) this.#board.planeDown();
      });
    }
  }

  /** Compares and puts right, now and then and soon after something went wrong, until `signal` aborts. */
  async repair(signal: AbortSignal): Promise<void> {
    const { reconcileMs = RECONCILE_MS } = this.#options;
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wakeRepair = resolve;
      });
      const well = this.#troubles === this.#mended && (this.#options.links?.problems.length ?? 0) === 0;
      if (!this.#hurry) await pause(well ? reconcileMs : RETRY_MS, signal, woken);
      // Whoever changes our device again and again costs us one comparison in this time.
      await pause(SETTLE_MS, signal);
      this.#hurry = false;
      const session = this.#current.good;
      if (signal.aborted || session === undefined) continue;
      try {
        await this.#serial.run(() => this.#bringAll(session.client, 'repair'));
      } catch (error) {
        if (!signal.aborted) this.#failed(error, session, 'the state could not be put right; trying again');
      }
    }
  }

  /** Runs `use` with the dataplane that is there, again with the next one when that dies underway. */
  async use<T>(signal: AbortSignal, use: (client: DataplaneClient) => Promise<T>): Promise<T> {
    for (;;) {
      const session = await this.#current.wait(signal);
      try {
        return await this.#serial.run(() => use(session.client));
      } catch (error) {
        if (!isConnectionLoss(error)) throw error;
        session.client.close();
        await session.client.closed;
      }
    }
  }

  /** Makes a network what it should be, and returns when it is. */
  async bring(desired: Desired, signal: AbortSignal): Promise<void> {
    await this.use(signal, (client) => this.#bring(client, [desired], 'change'));
  }

  /**
   * Applies a change of the peers, or everything. A dataplane that is not there now gets the whole state when it comes;
   * what fails is made good later.
   */
  async apply(desired: Desired, change: PeerChange | 'whole', signal: AbortSignal): Promise<void> {
    const session = this.#current.good;
    if (session === undefined) return;
    const { client } = session;
    if (change !== 'whole') this.#coming.set(desired, change);
    try {
      await this.#serial.run(() =>
        change === 'whole' ? this.#bring(client, [desired], 'change') : this.#feed.push(client, desired, change),
      );
    } catch (error) {
      if (signal.aborted) return;
      this.#failed(error, session, 'a change could not be applied; everything will be sent again');
      // Ends the long wait; the next one is short.
      this.#wakeRepair?.();
    } finally {
      this.#coming.delete(desired);
    }
  }

  /** Puts everything into a dataplane: what we feed first, because traffic waits for it. */
  async #attach({ client, hello, adopted, diedAt }: Session): Promise<void> {
    await client.request('events.subscribe', {});
    await this.#bringAll(client, 'change');
    const gap = diedAt === undefined ? undefined : Math.round(performance.now() - diedAt);
    this.#board.planeUp(hello.pid, gap);
    if (!adopted) {
      for (const state of await this.#mirror.replayNetworks(client)) remember(this.#options.paths, state, this.#logger);
    }
    await this.#mirror.refresh(client);
    if (gap !== undefined) {
      this.#logger.warn(
        { dataplane: hello.pid, gapMs: gap },
        `the dataplane is back; traffic stood still for ${gap} ms`,
      );
    }
  }

  /**
   * Makes networks, tables and host what they should be. A `change` sends the tables even if their revision looks right;
   * what a `repair` finds was done by somebody else, and is told. A network that fails keeps no other from its turn.
   */
  async #bring(client: DataplaneClient, networks: readonly Desired[], why: 'change' | 'repair'): Promise<void> {
    const troubles = this.#troubles;
    const failures: unknown[] = [];
    this.#bringing = true;
    try {
      if (this.#decided) await this.#former.drop(client, this.#networks, this.#options.links?.names ?? []);
      for (const desired of networks) {
        try {
          await this.#feed.bring(client, desired, why, why === 'change' || troubles !== this.#mended);
        } catch (error) {
          if (isConnectionLoss(error)) throw error;
          failures.push(error);
        }
      }
    } finally {
      this.#bringing = false;
    }
    if (failures.length > 0) throw failures[0];
    if (networks.length === this.#networks.length) this.#mended = troubles;
  }

  /** A network that cannot be had keeps no link from being made. */
  async #bringAll(client: DataplaneClient, why: 'change' | 'repair'): Promise<void> {
    try {
      await this.#bring(client, this.#networks, why);
    } finally {
      await this.#bringLinks(client);
    }
  }

  async #bringLinks(client: DataplaneClient): Promise<void> {
    this.#bringing = true;
    try {
      const made = await this.#options.links?.bring(client);
      for (const name of made ?? []) await this.#mirror.replayEntries(client, name);
    } finally {
      this.#bringing = false;
    }
  }

  #listen(client: DataplaneClient): void {
    sessionEvents(client, this.#logger, {
      heard: (notification) => this.#options.heard?.(notification),
      ours: (network) =>
        this.#networks.some(({ spec }) => spec?.name === network) ||
        this.#options.links?.names.includes(network) === true,
      misses: this.misses,
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
      if (this.#current.latest?.client === client) await this.#mirror.refresh(client);
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
}
