/**
 * `vtepd run`: joins this host to a network and keeps it joined. Start goes in flannel's order (dataplane, configuration,
 * interface, device, lease, address, tables and routes, environment file, ready); then the datastore's events are followed.
 * What the dataplane and the host hold is plane.ts's business.
 */
import type { Paths } from '../config/paths.ts';
import type { RouteMode } from '../config/settings.ts';
import type { Session } from '../dataplane/supervisor.ts';
import type { Datastore, DatastoreEvent, Lease } from '../datastore/types.ts';
import type { NetworkConfig } from '../flannel/config.ts';
import { VXLAN } from '../flannel/lease.ts';
import { formatSubnetEnv } from '../flannel/subnet-env.ts';
import { writeWhole } from '../host/files.ts';
import { chooseUnderlay, type Underlay } from '../host/interface.ts';
import { readDaemonRecord, writeDaemonRecord } from '../host/records.ts';
import type { Ipv4 } from '../net/ip.ts';
import { type Mac, parseMac } from '../net/mac.ts';
import { prefixBase } from '../net/prefix.ts';
import type { Logger } from '../observe/log.ts';
import { type PeerChange, PeerState } from '../reconcile/desired.ts';
import { chooseMac, previousSubnet } from './identity.ts';
import type { FedSpec } from './network.ts';
import { type Desired, Plane } from './plane.ts';
import { together } from './serial.ts';
import { leaseStatus, type StatusBoard } from './status-board.ts';
import type { LeaseStatus } from './status-types.ts';

/** VXLAN over IPv4: inner Ethernet 14, outer IPv4 20, UDP 8, VXLAN 8. */
const OVERHEAD = 50;
/** As the kernel device. */
const AGEING = 300;

export interface DaemonSettings {
  readonly iface: readonly string[];
  readonly publicIp?: Ipv4 | undefined;
  readonly subnetFile: string;
  readonly device?: string | undefined;
  readonly netns?: string | undefined;
  readonly mac?: Mac | undefined;
  readonly routeMode: RouteMode;
}

export interface DaemonOptions {
  readonly settings: DaemonSettings;
  readonly paths: Paths;
  readonly datastore: Datastore;
  /** Dataplanes to put the state into, one after the other. */
  readonly sessions: (signal: AbortSignal) => AsyncIterable<Session>;
  readonly board: StatusBoard;
  readonly logger: Logger;
  /** Called once, when the environment file is written. */
  readonly onReady?: () => void;
}

/** What is known once the lease is there. */
interface Joined {
  readonly config: NetworkConfig;
  readonly desired: Desired & { content: NonNullable<Desired['content']> };
  readonly peers: PeerState;
  lease: Lease;
}

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #logger: Logger;
  readonly #board: StatusBoard;
  readonly #plane: Plane;

  constructor(options: DaemonOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#board = options.board;
    this.#plane = new Plane(options);
  }

  /** Leases of the other hosts. */
  leases(): readonly LeaseStatus[] {
    return this.#board.peers;
  }

  /** Runs until `signal` aborts; rejects when it cannot go on. The dataplane, the device and the lease stay. */
  async run(signal: AbortSignal): Promise<void> {
    const plane = this.#plane;
    try {
      await together(
        [(inner) => plane.supervise(inner), (inner) => plane.repair(inner), (inner) => this.#control(inner)],
        signal,
      );
    } finally {
      plane.close();
      await this.#options.datastore.stop();
    }
  }

  async #control(signal: AbortSignal): Promise<void> {
    const joined = await this.#join(signal);
    this.#board.phase = 'snapshot';
    for await (const event of this.#options.datastore.watch(signal)) await this.#follow(event, joined, signal);
    if (!signal.aborted) throw new Error('the datastore stopped telling what happens');
  }

  async #join(signal: AbortSignal): Promise<Joined> {
    const { settings, paths, datastore } = this.#options;
    const underlayFacts = await this.#plane.use(signal, (client) => client.request('host.read', { netns: null }));
    this.#board.phase = 'config';
    const config = await datastore.config(signal);
    this.#refuse(config);
    this.#board.phase = 'interface';
    const underlay = chooseUnderlay(underlayFacts, settings);
    this.#logger.info({ underlay }, 'underlay chosen');
    const ownLease = await datastore.ownLease(underlay.publicIp, signal);
    const record = readDaemonRecord(paths);
    this.#board.phase = 'network';
    const desired = await this.#makeNetwork(config, underlay, ownLease, signal);
    this.#board.phase = 'lease';
    const vtepMac = parseMac(desired.spec.mac);
    const attributes = { publicIp: underlay.publicIp, backendType: VXLAN, vtepMac, vni: desired.spec.vni };
    const lease = await datastore.join(
      { attributes, previousSubnet: previousSubnet(settings.subnetFile, record) },
      signal,
    );
    this.#board.lease = lease;
    this.#logger.info({ lease: leaseStatus(lease) }, 'lease held');
    this.#useMacOf(lease, desired);
    const own = { publicIp: underlay.publicIp, key: lease.key, subnet: lease.subnet, mac: parseMac(desired.spec.mac) };
    const peers = new PeerState({ own, network: config.network, routeMode: settings.routeMode });
    this.#remember(lease, desired.spec);
    const content = { peers, address: deviceAddress(lease), complete: false };
    return { config, desired: Object.assign(desired, { content }), peers, lease };
  }

  /** Decides on the MAC and makes the network; the dataplane that takes the place of this one gets it as well. */
  async #makeNetwork(
    config: NetworkConfig,
    underlay: Underlay,
    ownLease: Lease | undefined,
    signal: AbortSignal,
  ): Promise<Desired> {
    const { settings, paths, datastore } = this.#options;
    const device = settings.device ?? `flannel.${config.backend.vni}`;
    const record = readDaemonRecord(paths);
    const mac = await this.#plane.use(signal, async (client) => {
      const states = await client.request('network.list', {});
      const facts = await client.request('host.read', { netns: settings.netns ?? null });
      return chooseMac({ asked: settings.mac, device, source: datastore.source, states, facts, ownLease, record });
    });
    const spec = this.#specOf(config, underlay, device, mac);
    const { name, vni, port, mtu } = spec;
    const desired = { spec };
    this.#plane.desired = desired;
    await this.#plane.bring(signal);
    this.#board.network = { name, vni, port, cidr: config.network, mtu, iface: underlay.name, local: underlay.address };
    return desired;
  }

  #refuse(config: NetworkConfig): void {
    if (config.backend.gbp) throw new Error('the network configuration has Backend.GBP, which is not served yet');
    if (config.backend.directRouting) {
      this.#logger.warn(
        'the network configuration has Backend.DirectRouting, which is not served yet: all traffic goes through the tunnel',
      );
    }
  }

  #specOf(config: NetworkConfig, underlay: Underlay, device: string, mac: Mac): FedSpec {
    const { settings, datastore } = this.#options;
    const { backend } = config;
    return {
      name: device,
      vni: backend.vni,
      owner: datastore.source,
      netns: settings.netns ?? null,
      local: underlay.address,
      port: backend.port,
      dev: underlay.name,
      remote: null,
      mac,
      mtu: (backend.mtu ?? underlay.mtu) - OVERHEAD,
      proxy: true,
      learning: backend.learning,
      peersonly: true,
      ageing: AGEING,
      maxaddress: 0,
    };
  }

  async #follow(event: DatastoreEvent, joined: Joined, signal: AbortSignal): Promise<void> {
    const change = joined.peers.apply(event);
    this.#tell(event, joined, change);
    const { content } = joined.desired;
    if (event.type === 'snapshot' && !content.complete) {
      content.complete = true;
      await this.#plane.bring(signal);
      this.#announce(joined);
    } else if (event.type === 'lease-regained') {
      joined.lease = event.lease;
      content.address = deviceAddress(event.lease);
      this.#useMacOf(event.lease, joined.desired);
      this.#remember(event.lease, joined.desired.spec);
      await this.#plane.bring(signal);
      if (content.complete) this.#writeSubnetEnv(joined);
    } else if (event.type === 'snapshot' || hasEffect(change)) {
      await this.#plane.apply(change, event.type === 'snapshot', signal);
    }
  }

  /** Peers send to the MAC that our lease names; in a file somebody else may have changed it. */
  #useMacOf({ attributes: { vtepMac } }: Lease, desired: Desired): void {
    const before = desired.spec.mac;
    if (vtepMac === undefined || vtepMac === before) return;
    this.#logger.warn({ before, now: vtepMac }, 'our lease names another MAC; the device takes it');
    desired.spec = { ...desired.spec, mac: vtepMac };
  }

  /** Status and log of an event. */
  #tell(event: DatastoreEvent, { peers }: Joined, change: PeerChange): void {
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
    for (const warning of change.warnings)
      this.#logger.warn({ keys: warning.keys, kind: warning.kind }, warning.message);
    if (event.type === 'snapshot' || event.type === 'changes') {
      for (const bad of event.bad)
        this.#logger.warn(bad, `lease ${bad.key} cannot be read and is left out: ${bad.reason}`);
      const { type, revision } = event;
      this.#logger.debug({ type, revision, tables: change.tables, routes: change.routes }, 'datastore event');
    }
    board.badKeys = peers.bad();
    board.warnings = peers.warnings().map((warning) => warning.message);
    board.peers = peers.peers().map(({ key, subnet, publicIp, mac }) => ({ key, subnet, publicIp, mac }));
  }

  #announce(joined: Joined): void {
    this.#writeSubnetEnv(joined);
    this.#board.ready = true;
    this.#board.phase = 'running';
    this.#logger.info(
      { subnet: joined.lease.subnet, file: this.#options.settings.subnetFile, peers: this.#board.peers.length },
      'ready',
    );
    this.#options.onReady?.();
  }

  #writeSubnetEnv({ config, lease, desired }: Joined): void {
    const { mtu } = desired.spec;
    const text = formatSubnetEnv({ network: config.network, subnet: lease.subnet, mtu, ipMasq: false });
    writeWhole(this.#options.settings.subnetFile, text);
  }

  #remember(lease: Lease, spec: FedSpec): void {
    writeDaemonRecord(this.#options.paths, {
      mac: spec.mac,
      device: spec.name,
      subnet: lease.subnet,
      subnetFile: this.#options.settings.subnetFile,
    });
  }
}

function hasEffect(change: PeerChange): boolean {
  const { added, removed } = change.routes;
  return !change.tablesUnchanged || change.base !== change.revision || added.length > 0 || removed.length > 0;
}

/** The subnet's base, as flannel sets it on its device. */
function deviceAddress({ subnet }: Lease): string {
  return `${prefixBase(subnet)}/32`;
}
