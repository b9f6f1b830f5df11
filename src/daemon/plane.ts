/**
 * The dataplane as the daemon needs it: always there, always holding what it should, for every network of the daemon.
 * Whatever dataplane there is gets the whole desired state; changes go through one queue, so that they never overlap; a
 * change that did not get through is made good by sending everything again, and now and then the host is compared with what
 * it should be without an occasion.
 */
import type { Paths } from '../config/paths.ts';
import { type DataplaneClient, DataplaneError } from '../dataplane/client.ts';
import { isConnectionLoss } from '../dataplane/errors.ts';
import type { HostOperation } from '../dataplane/protocol.ts';
import type { Session } from '../dataplane/supervisor.ts';
import { type Prefix, prefixContains } from '../net/prefix.ts';
import type { Logger } from '../observe/log.ts';
import type { PeerChange } from '../reconcile/desired.ts';
import { planFormer, planHost, routeOperations } from '../reconcile/host.ts';
import type { Content, Desired, FedSpec } from './desired-network.ts';
import { dropFormer, holdNetwork, remember } from './hold-network.ts';
import type { Links } from './links.ts';
import { Mirror } from './mirror.ts';
import { Misses } from './misses.ts';
import { tellRepairs } from './repairs.ts';
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
  readonly #serial = new Serial();
  readonly #waiting = new Set<() => void>();
  #session: Session | undefined;
  /** Counts what did not get through, and what of that was made good by sending everything. */
  #troubles = 0;
  #mended = 0;
  #bringing = false;
  readonly #conflicts = new Map<Desired, string>();
  #formerDirect: readonly Prefix[];
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
    this.#mirror = new Mirror(options.logger);
    this.#formerDirect = options.formerDirect ?? [];
  }

  /** Networks of earlier runs whose routes have not been looked for yet, or that still have some. */
  get formerDirect(): readonly Prefix[] {
    return this.#formerDirect;
  }

  /** From now on the plane holds this network too. */
  add(desired: Desired): void {
    this.#networks.push(desired);
  }

  remove(desired: Desired): void {
    this.#networks.splice(this.#networks.indexOf(desired), 1);
  }

  /** Tells that no other network will be added. */
  decided(): void {
    this.#decided = true;
  }

  /** The connection, while there is one that is good. */
  get client(): DataplaneClient | undefined {
    const client = this.#session?.client;
    return client?.failure === undefined ? client : undefined;
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
      const session = this.#session;
      if (signal.aborted || session === undefined || session.client.failure !== undefined) continue;
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

  /** Makes a network what it should be, and returns when it is. */
  async bring(desired: Desired, signal: AbortSignal): Promise<void> {
    await this.use(signal, (client) => this.#bring(client, [desired], 'change'));
  }

  /**
   * Applies a change of the peers, or everything. A dataplane that is not there now gets the whole state when it comes;
   * what fails is made good later.
   */
  async apply(desired: Desired, change: PeerChange | 'whole', signal: AbortSignal): Promise<void> {
    const session = this.#session;
    if (session === undefined || session.client.failure !== undefined) return;
    const { client } = session;
    if (change !== 'whole') this.#coming.set(desired, change);
    try {
      await this.#serial.run(() =>
        change === 'whole' ? this.#bring(client, [desired], 'change') : this.#push(client, desired, change),
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
      if (this.#decided) await this.#dropFormer(client);
      for (const desired of networks) {
        try {
          await this.#bringOne(client, desired, why, why === 'change' || troubles !== this.#mended);
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

  async #bringOne(client: DataplaneClient, desired: Desired, why: 'change' | 'repair', whole: boolean): Promise<void> {
    const { spec, content } = desired;
    if (spec !== undefined) {
      const { state, made, mended } = await holdNetwork(client, spec, this.#options.paths, this.#logger);
      if (why === 'repair' && (made || mended)) this.#board.repaired(1);
      if (made) await this.#mirror.replayEntries(client, spec.name);
      const current = content !== undefined && state.revisions[spec.owner] === content.sent;
      if (content?.complete === true && (whole || !current)) await this.#replaceTables(client, spec, content);
    }
    if (content !== undefined) await this.#reconcileHost(client, desired, content, why);
  }

  /** Networks that a datastore fed under another name: a configuration that has changed since. */
  async #dropFormer(client: DataplaneClient): Promise<void> {
    const names = new Set([...this.#networks.map(({ spec }) => spec?.name), ...(this.#options.links?.names ?? [])]);
    await dropFormer(client, names, this.#options.paths, this.#logger);
    await this.#dropFormerRoutes(client);
  }

  /** Once it is known what every network wants now. */
  async #dropFormerRoutes(client: DataplaneClient): Promise<void> {
    const contents = this.#networks.flatMap(({ content }) => content ?? []);
    const known = contents.length === this.#networks.length && contents.every(({ complete }) => complete);
    if (this.#formerDirect.length === 0 || !known) return;
    const wanted = new Set(contents.flatMap(({ peers }) => peers.routes().map((route) => route.destination)));
    const facts = await client.request('host.read', { netns: null });
    const operations = planFormer(facts, this.#formerDirect, wanted);
    if (operations.length > 0) {
      this.#logger.warn(
        { former: this.#formerDirect, routes: operations.length },
        'direct routes of an earlier configuration are removed',
      );
      await this.#changeHost(client, null, [...operations]);
    }
    // Leases of an earlier network may still be there, and are used.
    const current = new Set(contents.map(({ within }) => within));
    this.#formerDirect = this.#formerDirect.filter(
      (former) => !current.has(former) && [...wanted].some((destination) => prefixContains(former, destination)),
    );
  }

  async #replaceTables(client: DataplaneClient, { name, owner }: FedSpec, content: Content): Promise<void> {
    const { revision } = content.peers;
    if (content.remembered === true) {
      // A controller that was killed had told the dataplane more than it had written to disk.
      const networks = await client.request('network.list', {});
      const held = networks.find(({ spec }) => spec.name === name)?.revisions[owner];
      if (held !== undefined && held >= revision) {
        content.sent = held;
        return;
      }
    }
    await client.request('tables.replace', { network: name, source: owner, revision, ...content.peers.tables() });
    content.sent = revision;
  }

  /** Sends what an event changed. A route to the underlay comes before, one to the tunnel after the tables: no gap. */
  async #push(client: DataplaneClient, desired: Desired, change: PeerChange): Promise<void> {
    const { spec, content } = desired;
    if (content === undefined || !content.complete) return;
    const operations = routeOperations(spec?.name, change.routes);
    const first = operations.filter((each) => each.op === 'route.replace' && each.dev !== spec?.name);
    await this.#changeRoutes(client, desired, content, first);
    if (spec !== undefined) await this.#patchTables(client, spec, content, change);
    await this.#changeRoutes(
      client,
      desired,
      content,
      operations.filter((operation) => !first.includes(operation)),
    );
  }

  async #patchTables(client: DataplaneClient, spec: FedSpec, content: Content, change: PeerChange): Promise<void> {
    const { base, revision, tables } = change;
    // The same revision twice: not an event of the datastore's, or a delete that was held back.
    if (base === revision && change.tablesUnchanged) return;
    try {
      await client.request('tables.patch', { network: spec.name, source: spec.owner, base, revision, ...tables });
      content.sent = revision;
    } catch (error) {
      if (isConnectionLoss(error)) throw error;
      this.#logger.warn({ err: error, network: spec.name }, 'a table change was refused; the tables are sent whole');
      await this.#replaceTables(client, spec, content);
    }
  }

  async #changeRoutes(
    client: DataplaneClient,
    desired: Desired,
    content: Content,
    operations: HostOperation[],
  ): Promise<void> {
    if (operations.length === 0) return;
    const { errors } = await client.request('host.change', { netns: desired.netns, operations });
    if (errors.some((error) => error !== null && error !== undefined)) {
      await this.#reconcileHost(client, desired, content, 'change');
    }
  }

  /** Address, routes and administrative state of our device; before the first snapshot no route is taken away. */
  async #reconcileHost(
    client: DataplaneClient,
    desired: Desired,
    content: Content,
    why: 'change' | 'repair',
  ): Promise<void> {
    const { spec, netns } = desired;
    const facts = await client.request('host.read', { netns });
    const { addresses, blackholes, peers, within } = content;
    const plan = planHost(facts, { dev: spec?.name, within, addresses, routes: peers.routes(), blackholes });
    const conflicts = plan.conflicts.join('\n');
    if (conflicts !== (this.#conflicts.get(desired) ?? '')) {
      for (const conflict of plan.conflicts) this.#logger.warn(conflict);
    }
    this.#conflicts.set(desired, conflicts);
    const due = why === 'repair' ? this.#notComing(desired, plan.operations) : plan.operations;
    const certain = content.complete && content.remembered !== true;
    const operations = certain ? [...due] : due.filter(({ op }) => op !== 'route.del');
    if (operations.length === 0) return;
    if (why === 'repair') {
      this.#board.repaired(operations.length);
      tellRepairs(this.#logger, spec?.name, operations);
    }
    await this.#changeHost(client, netns, operations);
  }

  async #changeHost(client: DataplaneClient, netns: string | null, operations: HostOperation[]): Promise<void> {
    const { errors } = await client.request('host.change', { netns, operations });
    const failures = errors.flatMap((error) => (error === null || error === undefined ? [] : [error.message]));
    if (failures.length === 0) return;
    const some = failures.slice(0, 3).join('; ');
    throw new DataplaneError('HOST_CHANGE_FAILED', `${failures.length} changes on the host failed: ${some}`);
  }

  /** Without the routes of a change that comes next: nobody else has touched them. */
  #notComing(desired: Desired, operations: readonly HostOperation[]): readonly HostOperation[] {
    const routes = this.#coming.get(desired)?.routes;
    if (routes === undefined) return operations;
    const coming = new Set<string>([...routes.added, ...routes.removed].map(({ destination }) => destination));
    return operations.filter((operation) => !('destination' in operation) || !coming.has(operation.destination));
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
