/**
 * What the dataplane and the host are to hold of one network, in one object that grows while the daemon starts: first the
 * namespace, then the device, then what the lease and the peers say. Whoever learns something writes it here and has the
 * plane make it true.
 */
import type { NetworkSpec } from '../dataplane/protocol.ts';
import { type Mac, parseMac } from '../net/mac.ts';
import type { Prefix } from '../net/prefix.ts';
import type { PeerState } from '../reconcile/desired.ts';

export interface Desired {
  /** Of the device, its address and its routes. */
  readonly netns: string | null;
  /** Absent until it is decided, and for a network without a device of its own. */
  spec?: FedSpec;
  /** Known once the lease is there. */
  content?: Content;
}

/** A network whose MAC and MTU are decided; a layer-3 network has no MAC. */
export type FedSpec = NetworkSpec & { readonly mac: string | null; readonly mtu: number };

export interface Content {
  readonly peers: PeerState;
  /** The network; its routes on the underlay are ours too. */
  readonly within: Prefix;
  /** True where routes may lie on the underlay. */
  readonly direct: boolean;
  /** With length, for the device. */
  addresses: readonly string[];
  /** Our subnet, if its unused addresses are not to leave the host. */
  blackholes?: readonly Prefix[];
  /** The first snapshot is in: before it, empty tables would be a lie. */
  complete: boolean;
  /** The leases are those of this host's disk, while the datastore does not answer: they take nothing away. */
  remembered?: boolean;
  /** Revision of the tables that the dataplane took last. That of `peers` is ahead of it while a change waits its turn. */
  sent?: number;
}

export function macOf(spec: FedSpec | undefined): Mac | undefined {
  return spec === undefined || spec.mac === null ? undefined : parseMac(spec.mac);
}
