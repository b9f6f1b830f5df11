/**
 * A copy of what was made by hand in the dataplane: networks and entries. The dataplane holds the only original, and it
 * must survive the dataplane's death: the copy is refreshed whenever the dataplane says that it changed, and put into the
 * next dataplane.
 */
import type { DataplaneClient } from '../dataplane/client.ts';
import { DataplaneError, isConnectionLoss } from '../dataplane/errors.ts';
import type { FdbDump, NeighbourDump, NetworkState } from '../dataplane/protocol.ts';
import type { Logger } from '../observe/log.ts';

interface HandEntries {
  readonly fdb: readonly FdbDump[];
  readonly neighbours: readonly NeighbourDump[];
}

export class Mirror {
  readonly #logger: Logger;
  #networks: readonly NetworkState[] = [];
  readonly #entries = new Map<string, HandEntries>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Reads everything that was made by hand. */
  async refresh(client: DataplaneClient): Promise<void> {
    const states = await client.request('network.list', {});
    const entries = await Promise.all(
      states.map(async ({ spec }) => [spec.name, await readEntries(client, spec.name)] as const),
    );
    this.#networks = states.filter((state) => state.spec.owner === 'hand');
    this.#entries.clear();
    for (const [name, held] of entries) this.#entries.set(name, held);
  }

  /** Makes the hand-made networks again that a new dataplane lacks; returns those made. */
  async replayNetworks(client: DataplaneClient): Promise<NetworkState[]> {
    const held = new Set((await client.request('network.list', {})).map((state) => state.spec.name));
    const made: NetworkState[] = [];
    for (const { spec, mac, mtu } of this.#networks.filter((state) => !held.has(state.spec.name))) {
      try {
        made.push(await client.request('network.create', { ...spec, mac, mtu }));
        await this.replayEntries(client, spec.name);
      } catch (error) {
        if (isConnectionLoss(error)) throw error;
        this.#logger.error({ err: error, network: spec.name }, 'a network made by hand could not be made again');
      }
    }
    return made;
  }

  /** Makes the entries by hand of one network what they were; entries of other sources are not looked at. */
  async replayEntries(client: DataplaneClient, network: string): Promise<void> {
    const wanted = this.#entries.get(network);
    if (wanted === undefined) return;
    const held = await readEntries(client, network);
    const wantedFdb = new Map(wanted.fdb.flatMap(destinationsOf));
    const heldFdb = new Map(held.fdb.flatMap(destinationsOf));
    for (const [key, { mac, destination }] of heldFdb) {
      if (wantedFdb.has(key)) continue;
      await this.#try(
        client.request('fdb.change', { network, verb: 'del', mac, destination, state: null }),
        network,
        mac,
      );
    }
    for (const [key, { mac, destination, state, router }] of wantedFdb) {
      if (heldFdb.has(key)) continue;
      const verb = isFlooded(mac) ? 'append' : 'replace';
      const change = { network, verb, mac, destination, state, ...(router ? { router } : {}) } as const;
      await this.#try(client.request('fdb.change', change), network, mac);
    }
    const heldNeighbours = new Map(held.neighbours.map((entry) => [entry.prefix, entry.lladdr]));
    for (const { prefix, lladdr } of wanted.neighbours) {
      if (heldNeighbours.get(prefix) === lladdr) continue;
      await this.#try(client.request('neigh.change', { network, verb: 'replace', prefix, lladdr }), network, prefix);
    }
  }

  /** One entry that is refused does not keep the others out. */
  async #try(change: Promise<unknown>, network: string, entry: string): Promise<void> {
    try {
      await change;
    } catch (error) {
      if (isConnectionLoss(error)) throw error;
      this.#logger.error({ err: error, network, entry }, 'an entry made by hand could not be made again');
    }
  }
}

async function readEntries(client: DataplaneClient, network: string): Promise<HandEntries> {
  try {
    const { fdb, neighbours } = await client.request('tables.dump', { network });
    return {
      fdb: fdb.filter((entry) => entry.source === 'hand'),
      neighbours: neighbours.filter((entry) => entry.source === 'hand'),
    };
  } catch (error) {
    // Deleted since it was listed.
    if (error instanceof DataplaneError && error.code === 'ENOENT') return { fdb: [], neighbours: [] };
    throw error;
  }
}

function destinationsOf({ mac, destinations, state, router = false }: FdbDump) {
  return destinations.map((destination) => {
    const key = [
      mac,
      state,
      destination.ip,
      destination.port ?? '',
      destination.vni ?? '',
      destination.via ?? '',
      router,
    ].join(' ');
    return [key, { mac, destination, state, router }] as const;
  });
}

/** The flood list and multicast MACs have a list of destinations, which `append` extends. */
function isFlooded(mac: string): boolean {
  return mac === '00:00:00:00:00:00' || Number.parseInt(mac.slice(0, 2), 16) % 2 === 1;
}
