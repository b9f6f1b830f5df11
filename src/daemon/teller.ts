/** What status and log say of one network: its events, its warnings, where it is. */

import type { PeerStats } from '../dataplane/protocol.ts';
import type { DatastoreEvent } from '../datastore/types.ts';
import type { NetworkConfig } from '../flannel/config.ts';
import { HOST_GW, UDP } from '../flannel/lease.ts';
import type { Underlay } from '../host/interface.ts';
import type { Logger } from '../observe/log.ts';
import { silenceWarning, silentPeers } from '../observe/silence.ts';
import type { PeerChange } from '../reconcile/desired.ts';
import type { Desired } from './desired-network.ts';
import { KeyForm } from './key-form.ts';
import { leaseStatus, type StatusBoard } from './status-board.ts';
import type { PeerStatus } from './status-types.ts';
import { containerMtu, type Tunnel } from './tunnel.ts';

/** A TAP does not show the packet mark that the kernel's device puts into the header. */
export function gbpWarning({ backend }: NetworkConfig): string | undefined {
  if (!backend.gbp || backend.type === HOST_GW) return undefined;
  return (
    'Backend.GBP: group policy headers of other hosts are taken and stripped, this host sends none: ' +
    'rules on other hosts that go by the group (the packet mark) do not see the group of packets from here'
  );
}

export class Teller {
  readonly #board: StatusBoard;
  readonly #logger: Logger;
  readonly #config: NetworkConfig;
  readonly #form: KeyForm;
  #formWarning: string | undefined;
  #silence: string | undefined;
  /** Peers that were silent at the last look. */
  #silent: ReadonlySet<string> = new Set();

  constructor(board: StatusBoard, logger: Logger, config: NetworkConfig) {
    this.#board = board;
    this.#logger = logger;
    this.#config = config;
    this.#form = new KeyForm(config.ipv6 !== undefined);
  }

  /** Status and log of an event. */
  event(event: DatastoreEvent, tunnels: readonly Tunnel[], changes: readonly PeerChange[]): void {
    const board = this.#board;
    board.heard(event.type);
    switch (event.type) {
      case 'stale':
        board.stale(event.since, event.reason);
        this.#logger.warn(
          { since: event.since, reason: event.reason },
          'the datastore cannot be followed; traffic goes on with what it said last',
        );
        return;
      case 'fresh':
        board.fresh();
        this.#logger.info('the datastore is followed again');
        return;
      case 'lease-lost':
        board.leaseLost = event.reason;
        this.#logger.error({ reason: event.reason }, 'our lease was lost; getting it back');
        return;
      case 'lease-regained':
        if (board.lease !== undefined && board.lease.subnet !== event.lease.subnet) {
          this.#logger.error(
            { before: board.lease.subnet, now: event.lease.subnet },
            'our lease came back with another subnet: containers with old addresses are cut off until they are restarted',
          );
        }
        board.leaseLost = undefined;
        board.lease = event.lease;
        this.#logger.info({ lease: leaseStatus(event.lease) }, 'lease held again');
        break;
      case 'snapshot':
        board.fresh();
        board.revision = event.revision;
        break;
      case 'changes':
        board.revision = event.revision;
        break;
    }
    for (const warning of changes.flatMap((change) => change.warnings))
      this.#logger.warn({ keys: warning.keys, kind: warning.kind }, warning.message);
    if (event.type === 'snapshot' || event.type === 'changes') {
      for (const bad of event.bad)
        this.#logger.warn(bad, `lease ${bad.key} cannot be read and is left out: ${bad.reason}`);
      const { type, revision } = event;
      const routes = changes.map((change) => change.routes);
      this.#logger.debug({ type, revision, tables: changes.map((change) => change.tables), routes }, 'datastore event');
      const warning = this.#form.apply(event);
      if (warning !== undefined && warning !== this.#formWarning) this.#logger.error(warning);
      this.#formWarning = warning;
    }
    board.peers = tunnels[0]?.peers.peerCount ?? 0;
  }

  /** From now on the board speaks of these tunnels. */
  tunnels(tunnels: readonly Tunnel[]): void {
    const board = this.#board;
    board.badKeys = () => tunnels[0]?.peers.bad() ?? [];
    board.listPeers = () => listPeers(board.name ?? null, tunnels, this.#config.backend.type !== UDP);
    board.warnings = () => this.#warnings(tunnels);
  }

  /** What the dataplane has heard of peers. Who is silent twice in a row is told of. */
  heard(peers: readonly PeerStats[]): void {
    const silent = silentPeers(peers);
    const again = silent.filter(({ ip }) => this.#silent.has(ip));
    this.#silent = new Set(silent.map(({ ip }) => ip));
    const warning = silenceWarning(again, this.#config.backend.port);
    if (warning !== undefined && warning !== this.#silence) this.#logger.warn(warning);
    this.#silence = warning;
  }

  #warnings(tunnels: readonly Tunnel[]): string[] {
    const form = [gbpWarning(this.#config), this.#formWarning, this.#silence].filter(
      (warning) => warning !== undefined,
    );
    const unreachable =
      this.#config.backend.type === HOST_GW
        ? tunnels.flatMap(({ peers }) => peers.publicIps().filter((ip) => peers.directTo(ip) === undefined))
        : [];
    const beyond = unreachable.map(
      (ip) => `peer ${ip} is not on the same link: a host-gw network has no route to it (it needs the vxlan backend)`,
    );
    const others = tunnels[0]?.peers.otherBackendCount ?? 0;
    const ignored =
      others === 0
        ? []
        : [`leases of hosts with another backend than ${this.#config.backend.type} are ignored: ${others}`];
    const warnings = tunnels.flatMap(({ peers }) => peers.warnings().map((warning) => warning.message));
    return [...form, ...ignored, ...beyond, ...warnings];
  }

  network(underlay: Underlay, [first]: readonly Desired[]): void {
    const config = this.#config;
    const { type, vni, port } = config.backend;
    const tunnel = first?.spec !== undefined;
    this.#board.network = {
      name: first?.spec?.name ?? underlay.name,
      backend: type,
      vni: tunnel && type !== UDP ? vni : null,
      port: tunnel ? port : null,
      cidr: config.network,
      cidr6: config.ipv6?.network ?? null,
      mtu: containerMtu(config, underlay.mtu),
      iface: underlay.name,
      local: underlay.address,
    };
  }
}

/**
 * Of every usable lease both halves. With the backend `udp` peers have names in the form of MACs in our tables, which are
 * nobody's business.
 */
function listPeers(network: string | null, [four, six]: readonly Tunnel[], haveMacs: boolean): PeerStatus[] {
  const device = four?.desired.spec?.name ?? null;
  const device6 = six?.desired.spec?.name ?? null;
  const halves = new Map((six?.peers.peers() ?? []).map((peer) => [peer.key, peer]));
  return (four?.peers.peers() ?? []).map(({ key, subnet, publicIp, mac = null }) => {
    const half = halves.get(key);
    const { subnet: subnet6 = null, publicIp: publicIpv6 = null, mac: mac6 = null } = half ?? {};
    return { network, key, subnet, publicIp, mac: haveMacs ? mac : null, subnet6, publicIpv6, mac6, device, device6 };
  });
}
