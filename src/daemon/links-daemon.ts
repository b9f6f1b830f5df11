/** `vtepd run` without a datastore: one dataplane, and in it the networks that the settings declare. */
import type { Paths } from '../config/paths.ts';
import type { DataplaneClient } from '../dataplane/client.ts';
import type { Session } from '../dataplane/supervisor.ts';
import type { Logger } from '../observe/log.ts';
import type { Links } from './links.ts';
import { Plane } from './plane.ts';
import { together } from './serial.ts';
import type { StatusBoard } from './status-board.ts';
import type { MissStatus, PeerStatus } from './status-types.ts';

export interface LinksDaemonOptions {
  readonly paths: Paths;
  readonly links: Links;
  readonly board: StatusBoard;
  readonly sessions: (signal: AbortSignal) => AsyncIterable<Session>;
  readonly logger: Logger;
  /** Called once, when the links have been brought for the first time. */
  readonly onReady?: () => void;
}

export class LinksDaemon {
  readonly #plane: Plane;
  readonly #board: StatusBoard;
  /** The dataplane's notifications by name, since the start. */
  readonly notifications = new Map<string, number>();

  constructor({ board, onReady, ...parts }: LinksDaemonOptions) {
    this.#board = board;
    this.#plane = new Plane({
      ...parts,
      heard: (name) => this.notifications.set(name, (this.notifications.get(name) ?? 0) + 1),
      board: {
        planeUp: (pid, gapMs) => {
          board.planeUp(pid, gapMs);
          if (board.ready) return;
          board.ready = true;
          board.phase = 'running';
          parts.logger.info({ links: parts.links.names }, 'ready');
          onReady?.();
        },
        planeDown: () => board.planeDown(),
        planeDied: () => board.planeDied(),
        repaired: (count) => board.repaired(count),
      },
    });
  }

  /** The connection to the dataplane, while there is one. */
  get dataplane(): DataplaneClient | undefined {
    return this.#plane.client;
  }

  leases(): readonly PeerStatus[] {
    return [];
  }

  misses(): readonly MissStatus[] {
    return this.#plane.misses.list();
  }

  /** Runs until `signal` aborts; the dataplane and its networks stay. */
  async run(signal: AbortSignal): Promise<void> {
    const plane = this.#plane;
    this.#board.fresh();
    // What an earlier configuration had from a datastore goes.
    plane.decided();
    try {
      await together([(inner) => plane.supervise(inner), (inner) => plane.repair(inner)], signal);
    } finally {
      plane.close();
    }
  }
}
