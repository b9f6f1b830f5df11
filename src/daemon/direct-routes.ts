/**
 * Which peers of a network go by a route on the underlay: asked when peers come and when the host's links or routes have
 * changed, and told to the peers' state, whose change is then applied. The question itself is direct.ts's.
 */
import type { HostFacts } from '../dataplane/protocol.ts';
import type { DatastoreEvent } from '../datastore/types.ts';
import type { Ip } from '../net/ip.ts';
import type { Logger } from '../observe/log.ts';
import { hasEffect } from '../reconcile/desired.ts';
import { partOf } from '../reconcile/rules.ts';
import { hopsTo, topologyOf } from './direct.ts';
import type { Plane } from './plane.ts';
import type { Tunnel } from './tunnel.ts';

export class DirectRoutes {
  readonly #plane: Plane;
  readonly #logger: Logger;
  /** Of the host when everything was asked last. */
  #topology = '';

  constructor(plane: Plane, logger: Logger) {
    this.#plane = plane;
    this.#logger = logger;
  }

  /** Before peers come: the way to them, so that they are not put into the tunnel first and taken out then. */
  async ask(event: DatastoreEvent, tunnels: readonly Tunnel[], signal: AbortSignal): Promise<void> {
    if (event.type !== 'snapshot' && event.type !== 'changes') return;
    const leases =
      event.type === 'snapshot'
        ? event.leases
        : event.changes.flatMap((change) => (change.type === 'put' ? change.lease : []));
    for (const tunnel of tunnels) {
      const ips = leases.flatMap((lease) => partOf(lease, tunnel.family)?.publicIp ?? []);
      if (ips.length > 0) await this.#askOf(tunnel, [...new Set(ips)], signal);
    }
  }

  /** Asks for all peers again if the answers may be others now. */
  async follow(facts: HostFacts, tunnels: readonly Tunnel[], signal: AbortSignal): Promise<void> {
    const topology = topologyOf(facts);
    if (topology === this.#topology) return;
    for (const tunnel of tunnels) await this.#askOf(tunnel, tunnel.peers.publicIps(), signal);
    this.#topology = topology;
  }

  async #askOf({ desired, peers }: Tunnel, ips: readonly Ip[], signal: AbortSignal): Promise<void> {
    if (!desired.content.direct) return;
    const hops = await this.#plane.use(signal, (client) => hopsTo(client, ips));
    const change = peers.setDirect(hops);
    if (!hasEffect(change)) return;
    const { added, removed } = change.routes;
    this.#logger.info({ added, removed }, 'the way to peers has changed');
    await this.#plane.apply(desired, change, signal);
  }
}
