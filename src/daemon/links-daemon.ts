/** `vtepd run` without a datastore: one dataplane, and in it the networks that the settings declare. */
import type { Paths } from '../config/paths.ts';
import type { Session } from '../dataplane/supervisor.ts';
import type { Logger } from '../observe/log.ts';
import type { Links } from './links.ts';
import { Plane } from './plane.ts';
import { together } from './serial.ts';
import type { StatusBoard } from './status-board.ts';
import type { LeaseStatus, MissStatus } from './status-types.ts';

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

  constructor({ board, onReady, ...parts }: LinksDaemonOptions) {
    this.#board = board;
    this.#plane = new Plane({
      ...parts,
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

  leases(): readonly LeaseStatus[] {
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
