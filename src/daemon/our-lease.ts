/**
 * Our lease put to use on this host: the device takes the MAC and the address that it names, files and traffic rules speak of
 * its subnet. It changes when it is lost and comes back (`use`), and when the underlay moves (`republish`).
 */
import type { Lease } from '../datastore/types.ts';
import type { Family } from '../net/ip.ts';
import type { Prefix } from '../net/prefix.ts';
import type { OwnIdentity } from '../reconcile/desired.ts';
import { partOf } from '../reconcile/rules.ts';
import { type Desired, macOf } from './desired-network.ts';
import { attributesOf, type Ground } from './ground.ts';
import type { Joined } from './joined.ts';
import type { NetworkFiles } from './network-files.ts';
import type { DaemonSettings, RunnerParts } from './network-options.ts';
import { leaseStatus } from './status-board.ts';
import { deviceAddress, type Tunnel, withTunnelAddress } from './tunnel.ts';

export class OurLease {
  readonly #parts: RunnerParts;
  readonly #files: NetworkFiles;

  constructor(parts: RunnerParts, files: NetworkFiles) {
    this.#parts = parts;
    this.#files = files;
  }

  /** Everything but what the plane does: what a device is to be, what is remembered, the traffic rules. */
  async settle(joined: Joined): Promise<void> {
    const { lease, tunnels } = joined;
    this.#useMacOf(lease, tunnels);
    for (const { desired } of tunnels) {
      if (desired.spec !== undefined) desired.spec = withTunnelAddress(desired.spec, lease.subnet);
    }
    this.#files.remember(joined);
    await this.#rule(joined);
  }

  async use(lease: Lease, joined: Joined, signal: AbortSignal): Promise<void> {
    const { board, plane, settings } = this.#parts;
    joined.lease = lease;
    board.lease = lease;
    await this.settle(joined);
    for (const { desired, family } of joined.tunnels) {
      desired.content.addresses = addressesOf(lease, family, desired);
      desired.content.blackholes = blackholesOf(lease, family, settings);
      // At this moment our address may be gone, or the device be somebody's toy: no reason to end.
      await plane.apply(desired, 'whole', signal);
    }
    if (board.ready) this.#files.writeSubnetEnv(joined);
  }

  /** Peers send to the PublicIP in our lease: the new one has to be there. */
  async republish(joined: Joined, ground: Ground, signal: AbortSignal): Promise<void> {
    const { lease, config, tunnels, macs, published } = joined;
    const attributes = attributesOf(
      config,
      ground,
      tunnels.map(({ desired }) => desired),
    );
    const now = await this.#parts.datastore.join(
      {
        attributes,
        previousSubnet: lease.subnet,
        previousSubnet6: lease.subnet6,
        ourMacs: macs,
        formerPublicIps: [published.underlay.publicIp],
      },
      signal,
    );
    joined.published = ground;
    this.#parts.logger.warn({ lease: leaseStatus(now) }, 'our lease names the new address');
    for (const { peers, family, desired } of tunnels) peers.setOwn(ownOf(now, family, desired));
    await this.use(now, joined, signal);
  }

  /** Peers send to the MAC that our lease names; in a file somebody else may have changed it. */
  #useMacOf({ attributes }: Lease, tunnels: readonly Tunnel[]): void {
    for (const { desired, family } of tunnels) {
      const now = family === 4 ? attributes.vtepMac : attributes.vtepMac6;
      const before = desired.spec?.mac;
      if (desired.spec === undefined || now === undefined || now === before) continue;
      this.#parts.logger.warn({ before, now }, 'our lease names another MAC; the device takes it');
      desired.spec = { ...desired.spec, mac: now };
    }
  }

  /** Traffic rules come before subnet.env, which says whether we masquerade. */
  async #rule(joined: Joined): Promise<void> {
    const { config, lease } = joined;
    const networks = [{ network: config.network, subnet: lease.subnet }];
    if (config.ipv6 !== undefined && lease.subnet6 !== undefined) {
      networks.push({ network: config.ipv6.network, subnet: lease.subnet6 });
    }
    const { rules } = this.#parts;
    await rules?.keep(networks);
    joined.masquerades = rules?.masquerades ?? false;
  }
}

/** Who we are to the peers of one family. */
export function ownOf(lease: Lease, family: Family, { spec }: Desired): OwnIdentity {
  const part = partOf(lease, family);
  const publicIp = part?.publicIp ?? lease.attributes.publicIp;
  return { publicIp, key: lease.key, subnet: part?.subnet, mac: macOf(spec) };
}

/** Of the device of one family. */
export function addressesOf(lease: Lease, family: Family, { spec }: Desired): string[] {
  const subnet = partOf(lease, family)?.subnet;
  return spec === undefined || subnet === undefined ? [] : [deviceAddress(subnet, family)];
}

/** Our subnet, if its unused addresses are not to leave the host. */
export function blackholesOf(lease: Lease, family: Family, { blackholeRoute }: DaemonSettings): Prefix[] {
  const subnet = partOf(lease, family)?.subnet;
  return blackholeRoute === true && subnet !== undefined ? [subnet] : [];
}
