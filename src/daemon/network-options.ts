/** What one network of the daemon is made of: its settings, and what it is given to work with. */
import type { Paths } from '../config/paths.ts';
import type { RouteMode } from '../config/settings.ts';
import type { Datastore } from '../datastore/types.ts';
import type { KeptFiles } from '../host/kept-files.ts';
import type { RulesKeeper } from '../host/nft-keeper.ts';
import type { Ip, Ipv4, Ipv6 } from '../net/ip.ts';
import type { Mac } from '../net/mac.ts';
import type { Logger } from '../observe/log.ts';
import type { Plane } from './plane.ts';
import type { StatusBoard } from './status-board.ts';
import type { TunnelOptions } from './tunnel.ts';

/** What peers send to, where it is not the interface's address. */
export interface PublicAddresses {
  readonly publicIp?: Ipv4 | undefined;
  readonly publicIpv6?: Ipv6 | undefined;
}

export interface DaemonSettings extends PublicAddresses {
  readonly iface: readonly string[];
  readonly ifaceRegex?: readonly string[] | undefined;
  readonly ifaceCanReach?: Ip | undefined;
  readonly subnetFile: string;
  readonly device?: string | undefined;
  readonly netns?: string | undefined;
  readonly mac?: Mac | undefined;
  readonly routeMode: RouteMode;
  readonly tunnelOptions?: TunnelOptions | undefined;
  /** A lease with our PublicIP is ours even if nothing else says so. */
  readonly takeOverLease?: boolean | undefined;
  /** Packets to addresses of our subnet that nobody has are thrown away instead of following the default route. */
  readonly blackholeRoute?: boolean | undefined;
}

export interface NetworkOptions {
  readonly settings: DaemonSettings;
  /** Of the instance; `daemonState` is this network's. */
  readonly paths: Paths;
  readonly datastore: Datastore;
  readonly board: StatusBoard;
  /** Of the namespace that the network's device is in; absent where nobody is to touch the firewall. */
  readonly rules?: RulesKeeper;
  readonly files?: KeptFiles;
  /** How often the underlay is looked at; 5 s if left out. */
  readonly lookMs?: number;
}

/** What a network needs of its daemon. */
export interface RunnerParts extends NetworkOptions {
  readonly plane: Plane;
  readonly logger: Logger;
  /** Its part of the plane is decided. */
  readonly decided: () => void;
  /** Called once, when the environment file is written. */
  readonly ready: () => void;
}
