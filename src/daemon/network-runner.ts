/**
 * Joins this host to one network and keeps it joined: join-network.ts starts, then the datastore's events are followed here,
 * and every few seconds the underlay is looked at (follow-underlay.ts) and the way to the peers (direct-routes.ts). What the
 * dataplane and the host hold is plane.ts's business.
 */
import type { HostFacts } from '../dataplane/protocol.ts';
import type { DatastoreEvent } from '../datastore/types.ts';
import { KeptFiles } from '../host/kept-files.ts';
import { hasEffect } from '../reconcile/desired.ts';
import { DirectRoutes } from './direct-routes.ts';
import { UnderlayFollower } from './follow-underlay.ts';
import { withGrace } from './grace.ts';
import { joinNetwork } from './join-network.ts';
import type { Joined } from './joined.ts';
import { NetworkFiles } from './network-files.ts';
import type { PublicAddresses, RunnerParts } from './network-options.ts';
import { OurLease } from './our-lease.ts';
import { pause, Serial, together } from './serial.ts';

/** How often the underlay is looked at. What is seen twice in a row is followed: an interface that flaps is not. */
const LOOK_MS = 5_000;
/** How often, in looks, it is counted who of the peers has ever answered. */
const LOOKS_A_COUNT = 2;

export class NetworkRunner {
  readonly #parts: RunnerParts;
  readonly #files: NetworkFiles;
  readonly #ourLease: OurLease;
  readonly #underlay: UnderlayFollower;
  readonly #directRoutes: DirectRoutes;
  /** Events and looks at the underlay change the same things. */
  readonly #serial = new Serial();

  constructor(parts: RunnerParts) {
    this.#parts = parts;
    const { plane, logger, board, files = new KeptFiles(logger) } = parts;
    this.#files = new NetworkFiles(parts, files);
    this.#ourLease = new OurLease(parts, this.#files);
    this.#underlay = new UnderlayFollower(parts, this.#ourLease, this.#files);
    this.#directRoutes = new DirectRoutes(plane, logger);
    board.fileWarnings = () => files.warnings;
  }

  /** Followed at the next looks at the underlay, as another address of the interface would be. */
  useAddresses(addresses: PublicAddresses): void {
    this.#underlay.useAddresses(addresses);
  }

  /** Runs until `signal` aborts; rejects when it cannot go on. */
  async run(signal: AbortSignal): Promise<void> {
    const joined = await joinNetwork(this.#parts, this.#underlay, this.#ourLease, signal);
    this.#parts.board.phase = 'snapshot';
    await together([(inner) => this.#listen(joined, inner), (inner) => this.#look(joined, inner)], signal);
  }

  async #listen(joined: Joined, signal: AbortSignal): Promise<void> {
    for await (const event of withGrace(this.#parts.datastore.watch(signal))) {
      await this.#serial.run(() => this.#follow(event, joined, signal));
    }
    if (!signal.aborted) throw new Error('the datastore stopped telling what happens');
  }

  async #follow(event: DatastoreEvent, joined: Joined, signal: AbortSignal): Promise<void> {
    const { plane } = this.#parts;
    const { tunnels } = joined;
    await this.#directRoutes.ask(event, tunnels, signal);
    const changes = tunnels.map((tunnel) => tunnel.peers.apply(event));
    joined.teller.event(event, tunnels, changes);
    if (event.type === 'snapshot') {
      for (const { desired } of tunnels) desired.content.remembered = event.remembered === true;
    }
    const complete = tunnels.every(({ desired }) => desired.content.complete);
    if (event.type === 'snapshot' && !complete) {
      for (const { desired } of tunnels) {
        desired.content.complete = true;
        await plane.bring(desired, signal);
      }
      this.#announce(joined);
    } else if (event.type === 'lease-regained') {
      await this.#ourLease.use(event.lease, joined, signal);
    } else {
      for (const [index, { desired }] of tunnels.entries()) {
        const change = changes[index];
        if (change === undefined || (event.type !== 'snapshot' && !hasEffect(change))) continue;
        await plane.apply(desired, event.type === 'snapshot' ? 'whole' : change, signal);
      }
    }
  }

  /** Ready is who has an environment file with the truth in it. */
  #announce(joined: Joined): void {
    this.#files.remember(joined);
    this.#files.writeSubnetEnv(joined, () => this.#isReady(joined));
  }

  #isReady({ lease }: Joined): void {
    const { board, logger, settings, ready } = this.#parts;
    if (board.ready) return;
    board.ready = true;
    board.phase = 'running';
    logger.info({ subnet: lease.subnet, file: settings.subnetFile, peers: board.peers }, 'ready');
    ready();
  }

  /** Looks at the underlay now and then, until `signal` aborts. */
  async #look(joined: Joined, signal: AbortSignal): Promise<void> {
    for (let looks = 1; ; looks++) {
      await pause(this.#parts.lookMs ?? LOOK_MS, signal);
      if (signal.aborted) return;
      try {
        await this.#serial.run(async () => this.#lookOnce(await this.#underlay.facts(signal), joined, signal));
        if (looks % LOOKS_A_COUNT === 0) await this.#lookForSilence(joined, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#parts.logger.error({ err: error }, 'the underlay has changed and could not be followed; trying again');
      }
    }
  }

  async #lookOnce(facts: HostFacts, joined: Joined, signal: AbortSignal): Promise<void> {
    this.#files.retry();
    await this.#underlay.follow(facts, joined, signal);
    await this.#directRoutes.follow(facts, joined.tunnels, signal);
  }

  async #lookForSilence({ tunnels, teller }: Joined, signal: AbortSignal): Promise<void> {
    const devices = tunnels.map(({ desired }) => desired.spec?.name);
    const { peers } = await this.#parts.plane.use(signal, (client) => client.request('stats', {}));
    teller.heard(peers.filter(({ network }) => devices.includes(network)));
  }
}
