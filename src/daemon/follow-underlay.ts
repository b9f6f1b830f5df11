/**
 * The underlay of a network: read from the host, and followed when its interface, address or MTU changes or the operator
 * names another public address. What is seen twice in a row is followed: first the devices move, then our lease tells
 * peers, then the files say so. A move that fails half-way is made again at the next look.
 */
import type { HostFacts } from '../dataplane/protocol.ts';
import type { NetworkConfig } from '../flannel/config.ts';
import { InterfaceError } from '../host/interface.ts';
import { macOf } from './desired-network.ts';
import { specOf } from './devices.ts';
import { reachOf } from './direct.ts';
import { type Ground, groundOf, isMoved } from './ground.ts';
import type { Joined } from './joined.ts';
import type { NetworkFiles } from './network-files.ts';
import type { PublicAddresses, RunnerParts } from './network-options.ts';
import type { OurLease } from './our-lease.ts';
import { withTunnelAddress } from './tunnel.ts';

export class UnderlayFollower {
  readonly #parts: RunnerParts;
  readonly #ourLease: OurLease;
  readonly #files: NetworkFiles;
  #addresses: PublicAddresses;
  /** What was seen last, while it is not what everything stands on. */
  #moving = '';

  constructor(parts: RunnerParts, ourLease: OurLease, files: NetworkFiles) {
    this.#parts = parts;
    this.#ourLease = ourLease;
    this.#files = files;
    const { publicIp, publicIpv6 } = parts.settings;
    this.#addresses = { publicIp, publicIpv6 };
  }

  useAddresses({ publicIp, publicIpv6 }: PublicAddresses): void {
    this.#addresses = { publicIp, publicIpv6 };
  }

  /** Of the namespace that the underlay is in. */
  facts(signal: AbortSignal): Promise<HostFacts> {
    return this.#parts.plane.use(signal, (client) => client.request('host.read', { netns: null }));
  }

  /** What the network has to stand on with these facts. */
  async ground(facts: HostFacts, config: NetworkConfig, signal: AbortSignal): Promise<Ground> {
    const settings = { ...this.#parts.settings, ...this.#addresses };
    const { ifaceCanReach: to } = settings;
    const reach = to === undefined ? undefined : await this.#parts.plane.use(signal, (client) => reachOf(client, to));
    return groundOf(facts, config, settings, reach);
  }

  /** Compares with what the network stands on. */
  async follow(facts: HostFacts, joined: Joined, signal: AbortSignal): Promise<void> {
    const { logger } = this.#parts;
    let ground: Ground;
    try {
      ground = await this.ground(facts, joined.config, signal);
    } catch (error) {
      if (!(error instanceof InterfaceError)) throw error;
      logger.warn({ reason: error.message }, 'the underlay is gone; the network stays as it is until it is back');
      return;
    }
    const now = JSON.stringify(ground);
    const same = joined.settled && now === JSON.stringify(joined.ground);
    const again = now === this.#moving;
    this.#moving = same ? '' : now;
    if (same || !again) return;
    logger.warn({ before: joined.ground, now: ground }, 'the underlay has changed and is followed');
    await this.#move(ground, joined, signal);
    this.#moving = '';
    this.#files.remember(joined);
    if (this.#parts.board.ready) this.#files.writeSubnetEnv(joined);
  }

  async #move(ground: Ground, joined: Joined, signal: AbortSignal): Promise<void> {
    // From here on: the address may change back before etcd has taken the new one.
    joined.ground = ground;
    joined.settled = false;
    for (const { desired, family } of joined.tunnels) {
      if (desired.spec === undefined) continue;
      const { owner } = desired.spec;
      const mac = macOf(desired.spec) ?? null;
      const spec = specOf(joined.config, family, ground, { ...this.#parts.settings, owner, mac });
      desired.spec = withTunnelAddress(spec, joined.lease.subnet);
      await this.#parts.plane.bring(desired, signal);
    }
    const desired = joined.tunnels.map((tunnel) => tunnel.desired);
    joined.teller.network(ground.underlay, desired);
    if (isMoved(joined.published, ground)) await this.#ourLease.republish(joined, ground, signal);
    joined.settled = true;
  }
}
