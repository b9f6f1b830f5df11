/**
 * Where leases come from. A datastore is started once, joins once, and is watched until it is stopped; what it knows
 * reaches the daemon as events that carry values, never as shared state.
 */
import type { NetworkConfig } from '../flannel/config.ts';
import type { LeaseAttributes } from '../flannel/lease.ts';
import type { Mac } from '../net/mac.ts';
import type { Prefix } from '../net/prefix.ts';

/** What one host publishes: its subnet and how to reach it. */
export interface Lease {
  /** Name of the key below `subnets/`, such as `10.246.81.0-24`; unique in a datastore. */
  readonly key: string;
  readonly subnet: Prefix;
  /** Of a host that serves both families. */
  readonly subnet6?: Prefix;
  readonly attributes: LeaseAttributes;
}

/** A key that could not be read: skipped, named, and in nobody's way. */
export interface BadKey {
  readonly key: string;
  readonly reason: string;
}

export type LeaseChange =
  | { readonly type: 'put'; readonly lease: Lease }
  | { readonly type: 'delete'; readonly key: string };

export type DatastoreEvent =
  /** Everything there is: replaces all that was said before. Sent first, and again after every re-list. */
  | {
      readonly type: 'snapshot';
      /** Present where it is what was known once, from this host's disk: whoever was told something later keeps that. */
      readonly remembered?: true;
      readonly revision: number;
      readonly leases: readonly Lease[];
      readonly bad: readonly BadKey[];
    }
  /** In order, after a snapshot. A put of a known key replaces it; a key that became unreadable is `delete` plus `bad`. */
  | {
      readonly type: 'changes';
      readonly revision: number;
      readonly changes: readonly LeaseChange[];
      readonly bad: readonly BadKey[];
    }
  /** The datastore cannot be reached or an edit was refused: what was said before may be out of date. Traffic goes on. */
  | { readonly type: 'stale'; readonly since: Date; readonly reason: string }
  /** In contact again, after `stale`. */
  | { readonly type: 'fresh' }
  /** Our own lease was lost (deleted, expired); the datastore is getting it back. */
  | { readonly type: 'lease-lost'; readonly reason: string }
  /** Our own lease after it was won back; the subnet may differ from before. */
  | { readonly type: 'lease-regained'; readonly lease: Lease };

/** What the daemon publishes about its own host. */
export interface OwnHost {
  readonly attributes: LeaseAttributes;
  /** Subnet of the last run, taken again if it is still free. */
  readonly previousSubnet?: Prefix | undefined;
  /** The same for the IPv6 half of a dual-stack network. */
  readonly previousSubnet6?: Prefix | undefined;
  /**
   * Every VtepMAC by which a lease with our PublicIP is known to be ours. A lease with another one is another host's, and
   * `join` rejects. Absent: whatever carries our PublicIP is ours.
   */
  readonly ourMacs?: readonly Mac[] | undefined;
  /** PublicIPs that we had before: a lease with one of them and one of `ourMacs` is ours and gets the new PublicIP. */
  readonly formerPublicIps?: readonly string[] | undefined;
}

export interface Datastore {
  /** Marks table entries that come from here; also the `source` towards the dataplane. */
  readonly source: 'etcd' | 'file';
  /** The network's configuration; waits, with a log line, until there is one. Rejects if it is invalid. */
  config(signal: AbortSignal): Promise<NetworkConfig>;
  /** The lease that already carries this PublicIP, if any: where the MAC of the last run is read back from. */
  ownLease(publicIp: string, signal: AbortSignal): Promise<Lease | undefined>;
  /** Publishes our host and keeps it published until `stop`. Waits while the datastore is away. */
  join(own: OwnHost, signal: AbortSignal): Promise<Lease>;
  /** Events from a snapshot on. Our own lease is among the leases; the consumer leaves it out of the tables. */
  watch(signal: AbortSignal): AsyncIterable<DatastoreEvent>;
  /** When our lease ends unless it is kept alive; undefined where it has no end or that is not known. */
  leaseExpires?(): Date | undefined;
  /** Ends connections and timers. The lease is left in place, as flanneld leaves it. */
  stop(): Promise<void>;
}
