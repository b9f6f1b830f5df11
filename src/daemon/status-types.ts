/** What the controller tells on its socket. Stable: `vtepd status --json` and `/healthz` show it. */

export interface LeaseStatus {
  /** Name of the key in the datastore. */
  readonly key: string;
  readonly subnet: string;
  readonly publicIp: string;
  readonly mac: string | null;
  /** The IPv6 half of a lease of a dual-stack network. */
  readonly subnet6: string | null;
  readonly publicIpv6: string | null;
  readonly mac6: string | null;
}

/** A lease of another host, with where its entries are here. */
export interface PeerStatus extends LeaseStatus {
  /** Name of the network, where there are several. */
  readonly network: string | null;
  /** The tunnels' devices; null where the network has none for the family. */
  readonly device: string | null;
  readonly device6: string | null;
}

export interface ControllerStatus {
  readonly pid: number;
  readonly version: string;
  readonly instance: string;
  /** ISO 8601. */
  readonly started: string;
  /** What start is busy with; `running` when everything is up. */
  readonly phase: 'dataplane' | 'config' | 'interface' | 'network' | 'lease' | 'snapshot' | 'running';
  /** subnet.env is written and everything in it is true. */
  readonly ready: boolean;
  /** The dataplane has what the datastore said last. */
  readonly plane: {
    readonly state: 'up' | 'down';
    readonly pid: number | null;
    /** ISO 8601 */
    readonly since: string;
    /** How often it died under this controller. */
    readonly deaths: number;
    /** How long traffic stood still at the last death. */
    readonly lastGapMs: number | null;
    /** Devices, addresses, routes and link states that somebody else had changed and that were put right. */
    readonly repairs: number;
  };
  readonly datastore: {
    readonly source: 'etcd' | 'file' | 'none';
    readonly state: 'starting' | 'fresh' | 'stale';
    /** Since when the state holds; ISO 8601. */
    readonly since: string;
    /** Why it is stale. */
    readonly reason: string | null;
    readonly revision: number | null;
    /** Keys that could not be read. */
    readonly badKeys: readonly { readonly key: string; readonly reason: string }[];
  };
  readonly lease: LeaseStatus | null;
  /** Why the lease is not ours at the moment. */
  readonly leaseLost: string | null;
  readonly network: {
    /** The device; the underlay's where there is no tunnel. */
    readonly name: string;
    readonly backend: 'vxlan' | 'host-gw' | 'udp';
    /** Of the tunnel; `null` without one and with udp. */
    readonly vni: number | null;
    readonly port: number | null;
    readonly cidr: string;
    readonly cidr6: string | null;
    /** For containers. */
    readonly mtu: number;
    readonly iface: string;
    readonly local: string;
  } | null;
  readonly peers: number;
  readonly warnings: readonly string[];
  /** Every network. The keys above are those of the first, but `ready`, `leaseLost` and `warnings` speak of all. */
  readonly networks: readonly NetworkStatus[];
}

/** One of several networks of a controller. */
export interface NetworkStatus
  extends Pick<
    ControllerStatus,
    'phase' | 'ready' | 'datastore' | 'lease' | 'leaseLost' | 'network' | 'peers' | 'warnings'
  > {
  /** As set; `null` where there is only one. */
  readonly name: string | null;
  /** When our lease ends unless it is kept alive, ISO 8601; null where it has no end or that is not known. */
  readonly leaseExpires: string | null;
  /** The datastore's events by type, since the start. */
  readonly events: Readonly<Record<string, number>>;
}

/** One MAC or address that no table had an answer for. */
export interface MissStatus {
  readonly network: string;
  readonly layer: 'l2' | 'l3';
  readonly key: string;
  readonly count: number;
  /** ISO 8601. */
  readonly first: string;
  readonly last: string;
}

/** Methods of the controller's socket. */
export interface ControllerMethods {
  status: ControllerStatus;
  /** Leases of the other hosts. */
  leases: readonly PeerStatus[];
  /** What was looked for in vain, the latest first. */
  misses: readonly MissStatus[];
}
