/**
 * A network that this host has joined: what is known once the lease is there. One object; those who follow the datastore and
 * the underlay change it, one at a time.
 */
import type { Lease } from '../datastore/types.ts';
import type { NetworkConfig } from '../flannel/config.ts';
import type { Mac } from '../net/mac.ts';
import type { Ground } from './ground.ts';
import type { Teller } from './teller.ts';
import type { Tunnel } from './tunnel.ts';

export interface Joined {
  readonly config: NetworkConfig;
  readonly tunnels: readonly Tunnel[];
  readonly teller: Teller;
  /** By which a lease is known to be ours; undefined where that is not asked. */
  readonly macs: readonly Mac[] | undefined;
  /** What everything is to stand on. */
  ground: Ground;
  /** What our lease tells peers, and whether all else stands on `ground`: a change may be under way, or have failed. */
  published: Ground;
  settled: boolean;
  lease: Lease;
  masquerades: boolean;
}
