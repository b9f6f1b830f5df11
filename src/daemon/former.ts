/**
 * What an earlier configuration of this host left behind: networks in the dataplane that nobody wants any more, and direct
 * routes and blackholes, which do not go with a device. All are taken away once it is known what is wanted now.
 */
import type { Paths } from '../config/paths.ts';
import type { DataplaneClient } from '../dataplane/client.ts';
import { forgetNetwork } from '../host/records.ts';
import { type Prefix, prefixContains } from '../net/prefix.ts';
import type { Logger } from '../observe/log.ts';
import { planFormer } from '../reconcile/host.ts';
import type { Desired } from './desired-network.ts';
import { changeHost } from './host-routes.ts';

export class Former {
  readonly #paths: Paths;
  readonly #logger: Logger;
  #direct: readonly Prefix[];

  /** `direct`: networks of earlier runs that may have routes beside those on their devices. */
  constructor(direct: readonly Prefix[], paths: Paths, logger: Logger) {
    this.#direct = direct;
    this.#paths = paths;
    this.#logger = logger;
  }

  /** Networks of earlier runs whose routes have not been looked for yet, or that still have some. */
  get direct(): readonly Prefix[] {
    return this.#direct;
  }

  /** `networks` are all that are fed; `links` names those that the settings declare. */
  async drop(client: DataplaneClient, networks: readonly Desired[], links: readonly string[]): Promise<void> {
    await this.#dropNetworks(client, new Set([...networks.map(({ spec }) => spec?.name), ...links]));
    await this.#dropRoutes(client, networks);
  }

  /** Networks that a datastore fed under another name. */
  async #dropNetworks(client: DataplaneClient, wanted: ReadonlySet<string | undefined>): Promise<void> {
    for (const { spec: former } of await client.request('network.list', {})) {
      if (former.owner === 'hand' || wanted.has(former.name)) continue;
      this.#logger.warn({ network: former.name, vni: former.vni }, 'a network of an earlier configuration is removed');
      await client.request('network.delete', { network: former.name });
      forgetNetwork(this.#paths, former.name);
    }
  }

  /** Waits until every network has its leases: they tell which routes are wanted. */
  async #dropRoutes(client: DataplaneClient, networks: readonly Desired[]): Promise<void> {
    const contents = networks.flatMap(({ content }) => content ?? []);
    const known = contents.length === networks.length && contents.every(({ complete }) => complete);
    if (this.#direct.length === 0 || !known) return;
    const wanted = new Set(
      contents.flatMap(({ peers, blackholes = [] }) => [
        ...peers.routes().map((each) => each.destination),
        ...blackholes,
      ]),
    );
    for (const netns of new Set([null, ...networks.map((desired) => desired.netns)])) {
      const operations = planFormer(await client.request('host.read', { netns }), this.#direct, wanted);
      if (operations.length === 0) continue;
      this.#logger.warn(
        { former: this.#direct, netns, routes: operations.length },
        'direct routes of an earlier configuration are removed',
      );
      await changeHost(client, netns, [...operations]);
    }
    // Leases of an earlier network may still be there, and are used.
    const current = new Set(contents.map(({ within }) => within));
    this.#direct = this.#direct.filter(
      (former) => !current.has(former) && [...wanted].some((destination) => prefixContains(former, destination)),
    );
  }
}
