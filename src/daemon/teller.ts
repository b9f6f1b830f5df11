/** What status and log say of one network: its events, its warnings, where it is. */
import type { DatastoreEvent } from '../datastore/types.ts';
import type { NetworkConfig } from '../flannel/config.ts';
import { HOST_GW, UDP } from '../flannel/lease.ts';
import type { Underlay } from '../host/interface.ts';
import type { Logger } from '../observe/log.ts';
import type { PeerChange } from '../reconcile/desired.ts';
import { KeyForm } from './key-form.ts';
import type { Desired } from './plane.ts';
import { leaseStatus, type StatusBoard } from './status-board.ts';
import { containerMtu, type Tunnel } from './tunnel.ts';

export class Teller {
  readonly #board: StatusBoard;
  readonly #logger: Logger;
  readonly #config: NetworkConfig;
  readonly #form: KeyForm;
  #formWarning: string | undefined;

  constructor(board: StatusBoard, logger: Logger, config: NetworkConfig) {
    this.#board = board;
    this.#logger = logger;
    this.#config = config;
    this.#form = new KeyForm(config.ipv6 !== undefined);
  }

  /** Status and log of an event. */
  event(event: DatastoreEvent, tunnels: readonly Tunnel[], changes: readonly PeerChange[]): void {
    const board = this.#board;
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
    this.warnings(tunnels);
    const [first] = tunnels;
    board.badKeys = first?.peers.bad() ?? [];
    board.peers = first?.peers.peerCount ?? 0;
    const named = this.#config.backend.type === UDP;
    board.listPeers = () =>
      (first?.peers.peers() ?? []).map(({ key, subnet, publicIp, mac = null }) => ({
        key,
        subnet,
        publicIp,
        mac: named ? null : mac,
      }));
  }

  warnings(tunnels: readonly Tunnel[]): void {
    const form = this.#formWarning === undefined ? [] : [this.#formWarning];
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
    this.#board.warnings = [...form, ...ignored, ...beyond, ...warnings];
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
