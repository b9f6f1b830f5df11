/**
 * Getting a subnet. The lease that already carries our PublicIP is taken over; else the subnet of the last run, else a
 * random one of the free ones is created. Every step is a transaction, and whoever loses a race lists again and goes on.
 */
import type { Logger } from 'pino';
import { candidateSubnets, fitsConfig } from '../../flannel/allocate.ts';
import type { NetworkConfig } from '../../flannel/config.ts';
import { formatLeaseAttributes } from '../../flannel/lease.ts';
import { formatSubnetKey } from '../../flannel/subnet-key.ts';
import { type Prefix, prefixesOverlap } from '../../net/prefix.ts';
import type { Lease, OwnHost } from '../types.ts';
import { EtcdError } from './errors.ts';
import { type EtcdLease, expiryOf, grantLease, isReusable, keepAlive, NO_LEASE } from './etcd-lease.ts';
import { createKey, deleteKey, replaceKey } from './fenced.ts';
import type { Keys } from './keys.ts';
import { type Entry, ownerOf, readEntry } from './lease-table.ts';
import { list } from './list.ts';
import type { Session } from './session.ts';
import { Backoff, sleep } from './wait.ts';

/** Our lease as it lies in etcd. */
export interface Claim {
  readonly lease: Lease;
  readonly value: string;
  readonly etcdLease: EtcdLease;
  /** Revision of the key's last state that we know to be ours. */
  readonly modRevision: bigint;
}

/**
 * Lost races until we give up. Each means that another host got a subnet or a key changed between our reading and
 * writing; with pauses up to 1 s this is most of a minute of bad luck.
 */
const TRIES = 60;

/** A lease granted for a try that came to nothing is used for the next one while it has half its life. */
const SPARE_LIFE = 0.5;

export class Claimer {
  readonly #session: Session;
  readonly #keys: Keys;
  readonly #ttlSeconds: number;
  readonly #logger: Logger;
  #spare: EtcdLease | undefined;

  constructor(session: Session, keys: Keys, ttlSeconds: number, logger: Logger) {
    this.#session = session;
    this.#keys = keys;
    this.#ttlSeconds = ttlSeconds;
    this.#logger = logger;
  }

  /** Publishes our host; rejects with `NETWORK_FULL`, `CONFLICT`, or as a call does. */
  async claim(config: NetworkConfig, own: OwnHost, signal: AbortSignal): Promise<Claim> {
    const pauses = new Backoff(20, 1_000);
    for (let tries = 0; tries < TRIES; tries += 1) {
      const claim = await this.#tryOnce(config, own, signal);
      if (claim !== undefined) return claim;
      await sleep(pauses.next(), signal);
    }
    throw new EtcdError(
      'CONFLICT',
      `no subnet of ${config.network} could be had: ${TRIES} times other hosts were faster; see who writes below ${this.#keys.subnets}`,
    );
  }

  /** Undefined if another host was faster. */
  async #tryOnce(config: NetworkConfig, own: OwnHost, signal: AbortSignal): Promise<Claim | undefined> {
    const entries = await this.list(signal);
    const mine = entries.filter((entry) => ownerOf(entry) === own.attributes.publicIp);
    const usable = mine.filter((entry) => fits(entry, config));
    for (const entry of mine) {
      if (!usable.includes(entry) && !(await this.#remove(entry, config, signal))) return undefined;
    }
    const chosen = usable.find((entry) => entry.subnetKey?.subnet === own.previousSubnet) ?? usable[0];
    if (chosen !== undefined) {
      if (usable.length > 1) {
        const keys = usable.map((entry) => entry.name);
        this.#logger.warn(
          { keys, used: chosen.name },
          `several leases carry our PublicIP ${own.attributes.publicIp}: delete those that are not used`,
        );
      }
      return this.#takeOver(chosen, own, signal);
    }
    const taken = entries.filter((entry) => !mine.includes(entry)).flatMap((entry) => entry.subnetKey?.subnet ?? []);
    return this.#create(chooseSubnet(config, own.previousSubnet, taken), own, signal);
  }

  async list(signal: AbortSignal): Promise<Entry[]> {
    const { kvs } = await list(this.#session, this.#keys.subnetsRange, signal);
    return kvs.map((kv) => readEntry(this.#keys.nameOf(kv.key), kv));
  }

  async #takeOver(entry: Entry, own: OwnHost, signal: AbortSignal): Promise<Claim | undefined> {
    const subnet = entry.subnetKey?.subnet as Prefix;
    const key = this.#keys.lease(entry.name);
    const value = formatLeaseAttributes(own.attributes);
    // A key without an etcd lease is an operator's reservation: it is used and stays one.
    const etcdLease = entry.etcdLease === 0n ? NO_LEASE : await this.#leaseFor(entry, key, signal);
    const written = await this.#writing(replaceKey(this.#session, key, entry.modRevision, value, etcdLease.id, signal));
    return written === undefined ? undefined : this.#claimed(entry.name, subnet, own, value, etcdLease, written);
  }

  async #create(subnet: Prefix, own: OwnHost, signal: AbortSignal): Promise<Claim | undefined> {
    const name = formatSubnetKey(subnet);
    const value = formatLeaseAttributes(own.attributes);
    const etcdLease = await this.#grant(signal);
    const written = await this.#writing(createKey(this.#session, this.#keys.lease(name), value, etcdLease.id, signal));
    return written === undefined ? undefined : this.#claimed(name, subnet, own, value, etcdLease, written);
  }

  #claimed(key: string, subnet: Prefix, own: OwnHost, value: string, etcdLease: EtcdLease, modRevision: bigint): Claim {
    this.#spare = undefined;
    return { lease: { key, subnet, attributes: own.attributes }, value, etcdLease, modRevision };
  }

  /** The lease the key already hangs on, if it is one of ours from before a restart; so leases do not pile up. */
  async #leaseFor(entry: Entry, key: Buffer, signal: AbortSignal): Promise<EtcdLease> {
    if (await isReusable(this.#session, entry.etcdLease, this.#ttlSeconds, key, signal)) {
      const kept = await keepAlive(this.#session, entry.etcdLease, signal);
      if (kept !== undefined) return kept;
    }
    return this.#grant(signal);
  }

  async #grant(signal: AbortSignal): Promise<EtcdLease> {
    const spare = this.#spare;
    const halfLife = this.#ttlSeconds * 1000 * SPARE_LIFE;
    if (spare !== undefined && expiryOf(spare) - performance.now() > halfLife) return spare;
    this.#spare = await grantLease(this.#session, this.#ttlSeconds, signal);
    return this.#spare;
  }

  /** A write whose etcd lease had ended meanwhile (the store was set back, for example) is one more lost race. */
  async #writing(write: Promise<bigint | undefined>): Promise<bigint | undefined> {
    try {
      return await write;
    } catch (error) {
      if (!(error instanceof EtcdError) || error.code !== 'LEASE_NOT_FOUND') throw error;
      this.#spare = undefined;
      return undefined;
    }
  }

  /** Deletes a lease of ours that the network's configuration no longer allows; false if it changed meanwhile. */
  async #remove(entry: Entry, config: NetworkConfig, signal: AbortSignal): Promise<boolean> {
    const written = await deleteKey(this.#session, this.#keys.lease(entry.name), entry.modRevision, signal);
    if (written === undefined) return false;
    this.#logger.warn(
      { key: entry.name, network: config.network, subnetLen: config.subnetLen },
      'our lease did not fit the network and was deleted: another subnet is leased',
    );
    return true;
  }
}

/** True if the key is exactly the one that we would write for its subnet, and the network leases that subnet. */
function fits(entry: Entry, config: NetworkConfig): boolean {
  const subnet = entry.subnetKey?.subnet;
  return subnet !== undefined && entry.name === formatSubnetKey(subnet) && fitsConfig(config, subnet);
}

function chooseSubnet(config: NetworkConfig, previous: Prefix | undefined, taken: readonly Prefix[]): Prefix {
  if (
    previous !== undefined &&
    fitsConfig(config, previous) &&
    !taken.some((subnet) => prefixesOverlap(subnet, previous))
  ) {
    return previous;
  }
  const candidates = candidateSubnets(config, taken);
  const subnet = candidates[Math.floor(Math.random() * candidates.length)];
  if (subnet === undefined) {
    throw new EtcdError(
      'NETWORK_FULL',
      `no free subnet between ${config.subnetMin} and ${config.subnetMax} (/${config.subnetLen}): release leases of hosts that are gone, or widen Network, SubnetMin or SubnetMax`,
    );
  }
  return subnet;
}
