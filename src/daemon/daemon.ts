/**
 * `vtepd run`: one dataplane, and the networks that this host is joined to; each has a datastore, a board and a subnet file
 * of its own. A network that cannot go on ends the daemon, so that its message is seen; the dataplane goes on.
 */
import type { DataplaneClient } from '../dataplane/client.ts';
import type { Session } from '../dataplane/supervisor.ts';
import { recordedDirect } from '../host/records.ts';
import type { Logger } from '../observe/log.ts';
import type { Links } from './links.ts';
import type { NetworkOptions, PublicAddresses } from './network-options.ts';
import { NetworkRunner } from './network-runner.ts';
import { Plane } from './plane.ts';
import { together } from './serial.ts';
import type { MissStatus, PeerStatus } from './status-types.ts';

export type { DaemonSettings, NetworkOptions } from './network-options.ts';

/** The first network, and what the daemon has once. */
export interface DaemonOptions extends NetworkOptions {
  readonly others?: readonly NetworkOptions[];
  /** Dataplanes to put the state into, one after the other. */
  readonly sessions: (signal: AbortSignal) => AsyncIterable<Session>;
  /** Networks that the settings declare. */
  readonly links?: Links | undefined;
  readonly logger: Logger;
  readonly reconcileMs?: number | undefined;
  /** Called once, when the environment files of all networks are written. */
  readonly onReady?: () => void;
}

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #networks: readonly NetworkOptions[];
  readonly #plane: Plane;
  readonly #runners = new Map<string | undefined, NetworkRunner>();
  readonly #decided = new Set<NetworkOptions>();
  readonly #ready = new Set<NetworkOptions>();
  /** How many of the dataplane's notifications there were, by name. */
  readonly notifications = new Map<string, number>();

  constructor(options: DaemonOptions) {
    this.#options = options;
    this.#networks = [options, ...(options.others ?? [])];
    const boards = this.#networks.map(({ board }) => board);
    this.#plane = new Plane({
      paths: options.paths,
      sessions: options.sessions,
      logger: options.logger,
      links: options.links,
      formerDirect: recordedDirect(options.paths),
      heard: (name) => this.notifications.set(name, (this.notifications.get(name) ?? 0) + 1),
      reconcileMs: options.reconcileMs,
      board: {
        planeUp: (pid, gapMs) => {
          for (const board of boards) board.planeUp(pid, gapMs);
        },
        planeDown: () => {
          for (const board of boards) board.planeDown();
        },
        planeDied: () => {
          for (const board of boards) board.planeDied();
        },
        repaired: (count) => {
          for (const board of boards) board.repaired(count);
        },
      },
    });
  }

  /** Leases of the other hosts, network after network. */
  leases(): readonly PeerStatus[] {
    return this.#networks.flatMap(({ board }) => board.listPeers());
  }

  /** What was looked for in vain, the latest first. */
  misses(): readonly MissStatus[] {
    return this.#plane.misses.list();
  }

  /** Gives a network other public addresses while it runs. */
  useAddresses(network: string | undefined, addresses: PublicAddresses): void {
    this.#runners.get(network)?.useAddresses(addresses);
  }

  /** The connection to the dataplane, while there is one. */
  get dataplane(): DataplaneClient | undefined {
    return this.#plane.client;
  }

  /** Runs until `signal` aborts; rejects when it cannot go on. The dataplane, the devices and the leases stay. */
  async run(signal: AbortSignal): Promise<void> {
    const plane = this.#plane;
    try {
      await together(
        [
          (inner) => plane.supervise(inner),
          (inner) => plane.repair(inner),
          ...this.#networks.map((network) => (inner: AbortSignal) => this.#runner(network).run(inner)),
          ...this.#networks.map(
            ({ rules }) =>
              async (inner: AbortSignal) =>
                rules?.run(inner),
          ),
        ],
        signal,
      );
    } finally {
      plane.close();
      await Promise.all(this.#networks.map(({ datastore }) => datastore.stop()));
    }
  }

  #runner(network: NetworkOptions): NetworkRunner {
    const { logger, onReady } = this.#options;
    const { name } = network.board;
    const runner = new NetworkRunner({
      ...network,
      plane: this.#plane,
      logger: name === undefined ? logger : logger.child({ network: name }),
      decided: () => {
        this.#decided.add(network);
        if (this.#decided.size === this.#networks.length) this.#plane.decided();
      },
      ready: () => {
        this.#ready.add(network);
        if (this.#ready.size === this.#networks.length) onReady?.();
      },
    });
    this.#runners.set(name, runner);
    return runner;
  }
}
