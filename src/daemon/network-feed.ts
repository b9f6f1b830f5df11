/**
 * One network brought to what it should be: its device and tables in the dataplane, then address and routes on the host.
 * Either whole (`bring`), or only what an event of the datastore changed (`push`). Tables have the revision of the datastore
 * that they come from: where the dataplane holds another one than the change is based on, they are sent whole.
 */
import type { Paths } from '../config/paths.ts';
import type { DataplaneClient } from '../dataplane/client.ts';
import { isConnectionLoss } from '../dataplane/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { PeerChange } from '../reconcile/desired.ts';
import { routeOperations } from '../reconcile/host.ts';
import type { Content, Desired, FedSpec } from './desired-network.ts';
import { holdNetwork } from './hold-network.ts';
import { HostRoutes, type HostRoutesParts } from './host-routes.ts';
import type { Mirror } from './mirror.ts';

export interface FeedParts extends HostRoutesParts {
  readonly paths: Paths;
  /** What was made by hand, for a network that had to be made anew. */
  readonly mirror: Mirror;
}

export class NetworkFeed {
  readonly #parts: FeedParts;
  readonly #logger: Logger;
  readonly #host: HostRoutes;

  constructor(parts: FeedParts) {
    this.#parts = parts;
    this.#logger = parts.logger;
    this.#host = new HostRoutes(parts);
  }

  /**
   * What a `repair` finds was done by somebody else, and is told. `whole` sends the tables even if their revision looks
   * right.
   */
  async bring(client: DataplaneClient, desired: Desired, why: 'change' | 'repair', whole: boolean): Promise<void> {
    const { spec, content } = desired;
    if (spec !== undefined) {
      const { state, made, mended } = await holdNetwork(client, spec, this.#parts.paths, this.#logger);
      if (why === 'repair' && (made || mended)) this.#parts.repaired(1);
      if (made) await this.#parts.mirror.replayEntries(client, spec.name);
      const current = content !== undefined && state.revisions[spec.owner] === content.sent;
      if (content?.complete === true && (whole || !current)) await this.#replaceTables(client, spec, content);
    }
    if (content !== undefined) await this.#host.reconcile(client, desired, content, why);
  }

  /** A route to the underlay comes before the tables, one to the tunnel after them: no gap. */
  async push(client: DataplaneClient, desired: Desired, change: PeerChange): Promise<void> {
    const { spec, content } = desired;
    if (content === undefined || !content.complete) return;
    const operations = routeOperations(spec?.name, change.routes);
    const first = operations.filter((each) => each.op === 'route.replace' && each.dev !== spec?.name);
    await this.#host.change(client, desired, content, first);
    if (spec !== undefined) await this.#patchTables(client, spec, content, change);
    const others = operations.filter((operation) => !first.includes(operation));
    await this.#host.change(client, desired, content, others);
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
}
