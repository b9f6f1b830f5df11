/**
 * Addresses, routes and administrative state of a network's device, and its routes on the underlay, in the kernel: the
 * whole compared with what it should be (`reconcile`), or only the routes that an event changed (`change`). What to do is
 * decided in reconcile/host.ts; here it is done, and told where somebody else had undone it.
 */
import { type DataplaneClient, DataplaneError } from '../dataplane/client.ts';
import type { HostOperation } from '../dataplane/protocol.ts';
import type { Logger } from '../observe/log.ts';
import type { PeerChange } from '../reconcile/desired.ts';
import { planHost } from '../reconcile/host.ts';
import type { Content, Desired } from './desired-network.ts';
import { tellRepairs } from './repairs.ts';

export interface HostRoutesParts {
  readonly logger: Logger;
  /** Called with how many things somebody else had changed. */
  readonly repaired: (count: number) => void;
  /** A change of the peers that waits for its turn: its routes are not there yet, and nobody has touched them. */
  readonly coming: (desired: Desired) => PeerChange | undefined;
}

export class HostRoutes {
  readonly #parts: HostRoutesParts;
  /** What was told of a network last: a conflict that stays is told once. */
  readonly #conflicts = new Map<Desired, string>();

  constructor(parts: HostRoutesParts) {
    this.#parts = parts;
  }

  /** Makes all of it what it should be; before the first snapshot no route is taken away. */
  async reconcile(
    client: DataplaneClient,
    desired: Desired,
    content: Content,
    why: 'change' | 'repair',
  ): Promise<void> {
    const { spec, netns } = desired;
    const facts = await client.request('host.read', { netns });
    const { addresses, blackholes, peers, within } = content;
    const plan = planHost(facts, { dev: spec?.name, within, addresses, routes: peers.routes(), blackholes });
    this.#tellConflicts(desired, plan.conflicts);
    const due = why === 'repair' ? this.#notComing(desired, plan.operations) : plan.operations;
    const certain = content.complete && content.remembered !== true;
    const operations = certain ? [...due] : due.filter(({ op }) => op !== 'route.del');
    if (operations.length === 0) return;
    if (why === 'repair') {
      this.#parts.repaired(operations.length);
      tellRepairs(this.#parts.logger, spec?.name, operations);
    }
    await changeHost(client, netns, operations);
  }

  /** Makes a change that is known; all is compared where the host is not what it was taken for. */
  async change(
    client: DataplaneClient,
    desired: Desired,
    content: Content,
    operations: HostOperation[],
  ): Promise<void> {
    if (operations.length === 0) return;
    const { errors } = await client.request('host.change', { netns: desired.netns, operations });
    if (errors.some((error) => error !== null && error !== undefined)) {
      await this.reconcile(client, desired, content, 'change');
    }
  }

  #tellConflicts(desired: Desired, found: readonly string[]): void {
    const conflicts = found.join('\n');
    if (conflicts !== (this.#conflicts.get(desired) ?? '')) {
      for (const conflict of found) this.#parts.logger.warn(conflict);
    }
    this.#conflicts.set(desired, conflicts);
  }

  #notComing(desired: Desired, operations: readonly HostOperation[]): readonly HostOperation[] {
    const routes = this.#parts.coming(desired)?.routes;
    if (routes === undefined) return operations;
    const coming = new Set<string>([...routes.added, ...routes.removed].map(({ destination }) => destination));
    return operations.filter((operation) => !('destination' in operation) || !coming.has(operation.destination));
  }
}

/** Throws with the first of what failed. */
export async function changeHost(
  client: DataplaneClient,
  netns: string | null,
  operations: HostOperation[],
): Promise<void> {
  const { errors } = await client.request('host.change', { netns, operations });
  const failures = errors.flatMap((error) => (error === null || error === undefined ? [] : [error.message]));
  if (failures.length === 0) return;
  const some = failures.slice(0, 3).join('; ');
  throw new DataplaneError('HOST_CHANGE_FAILED', `${failures.length} changes on the host failed: ${some}`);
}
