/**
 * Getting a subnet. The lease that already carries our PublicIP is taken over; else the subnet of the last run, else a
 * random one of the free ones is created. Every step is a transaction, and whoever loses a race lists again and goes on.
 */
import type { Logger } from 'pino';
import { candidateSubnets, candidateSubnets6, fitsConfig, fitsRange6 } from '../../flannel/allocate.ts';
import type { Ipv6Range, NetworkConfig } from '../../flannel/config.ts';
import { formatLeaseAttributes } from '../../flannel/lease.ts';
import { formatSubnetKey, type SubnetKey } from '../../flannel/subnet-key.ts';
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
    const mine = entries.filter((entry) => ownerOf(entry) === own.attributes.publicIp || isFormer(entry, own));
    for (const entry of mine) refuseForeign(entry, own);
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
    const taken = entries.flatMap((entry) => (mine.includes(entry) ? [] : (entry.subnetKey ?? [])));
    // A key of the other form (one family, both families) goes, its subnets are kept.
    return this.#create(chooseSubnets(config, { ...mine[0]?.subnetKey, ...previousKey(own) }, taken), own, signal);
  }

  async list(signal: AbortSignal): Promise<Entry[]> {
    const { kvs } = await list(this.#session, this.#keys.subnetsRange, signal);
    return kvs.map((kv) => readEntry(this.#keys.nameOf(kv.key), kv));
  }

  async #takeOver(entry: Entry, own: OwnHost, signal: AbortSignal): Promise<Claim | undefined> {
    const subnetKey = entry.subnetKey as SubnetKey;
    const key = this.#keys.lease(entry.name);
    const value = formatLeaseAttributes(own.attributes);
    // A key without an etcd lease is an operator's reservation: it is used and stays one.
    const etcdLease = entry.etcdLease === 0n ? NO_LEASE : await this.#leaseFor(entry, key, signal);
    const written = await this.#writing(replaceKey(this.#session, key, entry.modRevision, value, etcdLease.id, signal));
    return written === undefined ? undefined : this.#claimed(entry.name, subnetKey, own, value, etcdLease, written);
  }

  async #create(subnetKey: SubnetKey, own: OwnHost, signal: AbortSignal): Promise<Claim | undefined> {
    const name = formatSubnetKey(subnetKey.subnet, subnetKey.subnet6);
    const value = formatLeaseAttributes(own.attributes);
    const etcdLease = await this.#grant(signal);
    const written = await this.#writing(createKey(this.#session, this.#keys.lease(name), value, etcdLease.id, signal));
    if (written === undefined) return undefined;
    await this.#yieldToTwin(name, own, written, signal);
    return this.#claimed(name, subnetKey, own, value, etcdLease, written);
  }

  /**
   * Of two hosts with one PublicIP that start together, each finds no lease and creates one. Each then looks again: at
   * least the later one sees the other, withdraws and is refused.
   */
  async #yieldToTwin(name: string, own: OwnHost, written: bigint, signal: AbortSignal): Promise<void> {
    const twins = (await this.list(signal)).filter(
      (entry) => entry.name !== name && entry.modRevision < written && ownerOf(entry) === own.attributes.publicIp,
    );
    const twin = twins.find((entry) => isForeign(entry, own));
    if (twin === undefined) return;
    await deleteKey(this.#session, this.#keys.lease(name), written, signal);
    refuseForeign(twin, own);
  }

  #claimed(
    key: string,
    subnetKey: SubnetKey,
    own: OwnHost,
    value: string,
    etcdLease: EtcdLease,
    modRevision: bigint,
  ): Claim {
    this.#spare = undefined;
    return { lease: { key, ...subnetKey, attributes: own.attributes }, value, etcdLease, modRevision };
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

/** True if the lease carries our PublicIP and a VtepMAC that was never ours. */
function isForeign({ attributes }: Entry, { ourMacs }: OwnHost): boolean {
  const mac = attributes?.vtepMac;
  return ourMacs !== undefined && mac !== undefined && !ourMacs.includes(mac);
}

/** True if the lease carries a PublicIP that we had before, and a VtepMAC of ours. */
function isFormer(entry: Entry, { ourMacs = [], formerPublicIps = [] }: OwnHost): boolean {
  const mac = entry.attributes?.vtepMac;
  return mac !== undefined && ourMacs.includes(mac) && formerPublicIps.includes(ownerOf(entry) ?? '');
}

function refuseForeign(entry: Entry, own: OwnHost): void {
  if (!isForeign(entry, own)) return;
  throw new EtcdError(
    'PUBLIC_IP_TAKEN',
    `lease ${entry.name} carries our PublicIP ${own.attributes.publicIp} with the VtepMAC ${entry.attributes?.vtepMac}, which was never ours: another host uses this address; give one of the two another --public-ip`,
  );
}

/** True if the key is exactly the one that we would write for its subnet, and the network leases that subnet. */
function fits(entry: Entry, config: NetworkConfig): boolean {
  if (entry.subnetKey === undefined) return false;
  const { subnet, subnet6 } = entry.subnetKey;
  if (entry.name !== formatSubnetKey(subnet, subnet6) || !fitsConfig(config, subnet)) return false;
  return config.ipv6 === undefined ? subnet6 === undefined : subnet6 !== undefined && fitsRange6(config.ipv6, subnet6);
}

function previousKey({ previousSubnet, previousSubnet6 }: OwnHost): Partial<SubnetKey> {
  return {
    ...(previousSubnet === undefined ? {} : { subnet: previousSubnet }),
    ...(previousSubnet6 === undefined ? {} : { subnet6: previousSubnet6 }),
  };
}

function chooseSubnets(config: NetworkConfig, previous: Partial<SubnetKey>, taken: readonly SubnetKey[]): SubnetKey {
  const subnet = chooseSubnet(
    config,
    previous.subnet,
    taken.map((key) => key.subnet),
  );
  if (config.ipv6 === undefined) return { subnet };
  const taken6 = taken.flatMap((key) => key.subnet6 ?? []);
  return { subnet, subnet6: chooseSubnet6(config.ipv6, previous.subnet6, taken6) };
}

function chooseSubnet6(range: Ipv6Range, previous: Prefix | undefined, taken: readonly Prefix[]): Prefix {
  if (
    previous !== undefined &&
    fitsRange6(range, previous) &&
    !taken.some((subnet) => prefixesOverlap(subnet, previous))
  ) {
    return previous;
  }
  const candidates = candidateSubnets6(range, taken);
  const subnet = candidates[Math.floor(Math.random() * candidates.length)];
  if (subnet !== undefined) return subnet;
  throw new EtcdError(
    'NETWORK_FULL',
    `no free subnet between ${range.subnetMin} and ${range.subnetMax} (/${range.subnetLen}): release leases of hosts that are gone, or widen IPv6Network, IPv6SubnetMin or IPv6SubnetMax`,
  );
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
