/**
 * Networks that the settings file declares: made in every dataplane that comes, put right while it runs, changed without a pause where
 * that is possible. They need no datastore. One that cannot be made keeps no other from its turn and is tried again.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Paths } from '../config/paths.ts';
import type { DataplaneClient } from '../dataplane/client.ts';
import { isConnectionLoss } from '../dataplane/errors.ts';
import type { NetworkSpec, NetworkState, NetworkUpdate } from '../dataplane/protocol.ts';
import type { Logger } from '../observe/log.ts';
import { remember } from './hold-network.ts';

export interface LinksOptions {
  readonly wanted: readonly NetworkSpec[];
  /** What an absent field of a specification means. */
  readonly defaults: Partial<NetworkSpec>;
  readonly paths: Paths;
  readonly logger: Logger;
}

export class Links {
  readonly #options: LinksOptions;
  /** What was told of a network last: a reason that stays is told once. */
  readonly #problems = new Map<string, string>();

  constructor(options: LinksOptions) {
    this.#options = options;
  }

  get names(): readonly string[] {
    return this.#options.wanted.map(({ name }) => name);
  }

  get problems(): readonly string[] {
    return [...this.#problems].map(([name, problem]) => `link ${name}: ${problem}`);
  }

  /** Makes the dataplane hold them; gives the names of those whose tables are new and empty. */
  async bring(client: DataplaneClient): Promise<readonly string[]> {
    const { wanted, logger } = this.#options;
    if (wanted.length === 0) return [];
    const states = await client.request('network.list', {});
    const made: string[] = [];
    for (const spec of wanted) {
      try {
        const held = states.find((state) => state.spec.name === spec.name);
        if (await this.#bringOne(client, spec, held)) made.push(spec.name);
        if (this.#problems.delete(spec.name))
          logger.info({ network: spec.name }, 'the link is as the settings say now');
      } catch (error) {
        if (isConnectionLoss(error)) throw error;
        const problem = error instanceof Error ? error.message : String(error);
        if (this.#problems.get(spec.name) !== problem)
          logger.error({ network: spec.name, problem }, 'a link of the settings file cannot be made; trying again');
        this.#problems.set(spec.name, problem);
      }
    }
    return made;
  }

  async #bringOne(client: DataplaneClient, spec: NetworkSpec, held: NetworkState | undefined): Promise<boolean> {
    const { logger, paths, defaults } = this.#options;
    if (held !== undefined && held.spec.owner !== spec.owner) {
      const whose = held.spec.owner === 'hand' ? 'was made by hand' : `is fed by ${held.spec.owner}`;
      throw new Error(`network ${spec.name} ${whose}; remove it (vtepd link del ${spec.name}) or choose another name`);
    }
    const network = spec.name;
    if (held !== undefined && held.queues > 0) {
      const update = updateTo(spec, held, defaults);
      if (typeof update !== 'string') {
        if (Object.keys(update).length > 0) {
          logger.warn({ network, changes: update }, 'the link differs from what the settings say and is put right');
          await client.request('network.update', { ...NOTHING, ...update, network });
        }
        return false;
      }
      logger.warn({ network, why: update }, 'the link is made anew');
    }
    if (held !== undefined) await client.request('network.delete', { network });
    const state = await client.request('network.create', spec);
    if (!state.up) await client.request('network.update', { ...NOTHING, network, up: true });
    remember(paths, state, logger);
    logger.info({ network, vni: spec.vni }, 'link made');
    return true;
  }
}

const NOTHING = { mac: null, mtu: null, learning: null, proxy: null, peersonly: null, up: null };

/** As they were added, until the network is gone. */
const FIXED = ['vni', 'netns', 'port', 'udp6zerocsumrx'] as const;
const FLAGS = ['learning', 'proxy', 'peersonly', 'ageing', 'maxaddress'] as const;
const OPTIONS = [
  'ttl',
  'tos',
  'df',
  'flowlabel',
  'udpcsum',
  'udp6zerocsumtx',
  'reserved_bits',
  'gbp',
  'l2miss',
  'l3miss',
  'rsc',
  'proxy_flood',
  'maxperpeer',
  'maxmoves',
] as const;
/** The dynamic range, RFC 6335, which a network without `srcport` uses. */
const SOURCE_PORTS = { min: 49_152, max: 65_535 };

type Changes = { -readonly [Key in keyof NetworkUpdate]?: NetworkUpdate[Key] };

/** What makes a held network the wanted one, or why that cannot be done while packets flow. */
export function updateTo(
  wanted: NetworkSpec,
  { spec: held, mac, mtu, up }: NetworkState,
  defaults: Partial<NetworkSpec>,
): Changes | string {
  const of = (spec: NetworkSpec, key: keyof NetworkSpec): unknown => spec[key] ?? defaults[key] ?? null;
  const differs = (key: keyof NetworkSpec): boolean => !isDeepStrictEqual(of(wanted, key), of(held, key));
  const fixed = FIXED.find(differs);
  if (fixed !== undefined) return `${fixed} was ${String(of(held, fixed))}, is ${String(of(wanted, fixed))}`;
  if (isV6(wanted) !== isV6(held)) return 'the family of its underlay has changed';
  if ((wanted.dev ?? null) === null && (held.dev ?? null) !== null) return `dev ${held.dev} is no longer asked for`;
  const changes: Changes = {};
  for (const key of [...FLAGS, ...OPTIONS])
    if (differs(key)) Object.assign(changes, { [key]: wanted[key] ?? defaults[key] });
  if (!isDeepStrictEqual(wanted.srcport ?? SOURCE_PORTS, held.srcport ?? SOURCE_PORTS))
    changes.srcport = wanted.srcport ?? SOURCE_PORTS;
  const none = isV6(wanted) ? '::' : '0.0.0.0';
  if (differs('local')) changes.local = wanted.local ?? none;
  if (differs('dev') && wanted.dev) changes.dev = wanted.dev;
  if (differs('remote') || differs('group')) {
    if (wanted.group !== undefined) changes.group = wanted.group;
    else changes.remote = wanted.remote ?? none;
  }
  if (wanted.mac && wanted.mac !== mac) changes.mac = wanted.mac;
  if (wanted.mtu && wanted.mtu !== mtu) changes.mtu = wanted.mtu;
  if (!up) changes.up = true;
  return changes;
}

function isV6({ local, remote, group }: NetworkSpec): boolean {
  return [local, remote, group].some((ip) => ip?.includes(':') === true);
}
