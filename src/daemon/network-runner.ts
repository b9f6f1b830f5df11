/**
 * Joins this host to one network and keeps it joined. Start goes in flannel's order (configuration, interface, device,
 * lease, address, tables and routes, environment file, ready); then the datastore's events are followed, and the underlay
 * is looked at every few seconds. What the dataplane and the host hold is plane.ts's business.
 */
import type { Paths } from '../config/paths.ts';
import type { RouteMode } from '../config/settings.ts';
import type { HostFacts } from '../dataplane/protocol.ts';
import type { Datastore, DatastoreEvent, Lease } from '../datastore/types.ts';
import type { NetworkConfig } from '../flannel/config.ts';
import { HOST_GW, UDP } from '../flannel/lease.ts';
import { formatSubnetEnv } from '../flannel/subnet-env.ts';
import { readIfThere, writeWhole } from '../host/files.ts';
import { InterfaceError } from '../host/interface.ts';
import { KeptFiles } from '../host/kept-files.ts';
import type { RulesKeeper } from '../host/nft-keeper.ts';
import { readDaemonRecord, writeDaemonRecord } from '../host/records.ts';
import type { Family, Ip, Ipv4, Ipv6 } from '../net/ip.ts';
import type { Mac } from '../net/mac.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Logger } from '../observe/log.ts';
import { type PeerChange, PeerState } from '../reconcile/desired.ts';
import { partOf } from '../reconcile/rules.ts';
import { type Desired, macOf } from './desired-network.ts';
import { decideDevices, specOf } from './devices.ts';
import { hopsTo, reachOf, topologyOf } from './direct.ts';
import { withGrace } from './grace.ts';
import { attributesOf, type Ground, groundOf, isMoved } from './ground.ts';
import { previousSubnets, rememberMac } from './identity.ts';
import type { Plane } from './plane.ts';
import { pause, Serial, together } from './serial.ts';
import { leaseStatus, type StatusBoard } from './status-board.ts';
import { gbpWarning, Teller } from './teller.ts';
import {
  containerMtu,
  deviceAddress,
  optionProblem,
  type Tunnel,
  type TunnelOptions,
  withTunnelAddress,
} from './tunnel.ts';

/** How often the underlay is looked at. What is seen twice in a row is followed: an interface that flaps is not. */
const LOOK_MS = 5_000;
/** How often, in looks, it is counted who of the peers has ever answered. */
const LOOKS_A_COUNT = 2;

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

/** What is known once the lease is there. */
interface Joined {
  readonly config: NetworkConfig;
  readonly tunnels: readonly Tunnel[];
  readonly teller: Teller;
  readonly macs: readonly Mac[] | undefined;
  /** What everything is to stand on. */
  ground: Ground;
  /** What our lease tells peers, and whether all else stands on `ground`: a change may be under way, or have failed. */
  published: Ground;
  settled: boolean;
  lease: Lease;
  masquerades: boolean;
}

export class NetworkRunner {
  readonly #parts: RunnerParts;
  readonly #logger: Logger;
  readonly #board: StatusBoard;
  readonly #plane: Plane;
  readonly #files: KeptFiles;
  /** Events and looks at the underlay change the same things. */
  readonly #serial = new Serial();
  #addresses: PublicAddresses;
  #topology = '';
  #moving = '';

  constructor(parts: RunnerParts) {
    this.#parts = parts;
    this.#logger = parts.logger;
    this.#board = parts.board;
    this.#plane = parts.plane;
    const { publicIp, publicIpv6 } = parts.settings;
    this.#addresses = { publicIp, publicIpv6 };
    this.#files = parts.files ?? new KeptFiles(parts.logger);
    this.#board.fileWarnings = () => this.#files.warnings;
  }

  /** Followed at the next looks at the underlay, as another address of the interface would be. */
  useAddresses({ publicIp, publicIpv6 }: PublicAddresses): void {
    this.#addresses = { publicIp, publicIpv6 };
  }

  /** Runs until `signal` aborts; rejects when it cannot go on. */
  async run(signal: AbortSignal): Promise<void> {
    const joined = await this.#join(signal);
    this.#board.phase = 'snapshot';
    await together([(inner) => this.#listen(joined, inner), (inner) => this.#look(joined, inner)], signal);
  }

  async #listen(joined: Joined, signal: AbortSignal): Promise<void> {
    for await (const event of withGrace(this.#parts.datastore.watch(signal))) {
      await this.#serial.run(() => this.#follow(event, joined, signal));
    }
    if (!signal.aborted) throw new Error('the datastore stopped telling what happens');
  }

  async #join(signal: AbortSignal): Promise<Joined> {
    const { settings, paths, datastore } = this.#parts;
    // A dataplane first, which may have to be started.
    await this.#hostFacts(signal);
    this.#board.phase = 'config';
    const config = await datastore.config(signal);
    this.#refuse(config);
    this.#board.phase = 'interface';
    const { facts, ground, ownLease } = await this.#whereWeAre(config, signal);
    const { publicIp } = ground.underlay;
    const record = readDaemonRecord(paths);
    const previous = previousSubnets(settings.subnetFile, record);
    this.#board.phase = 'network';
    const teller = new Teller(this.#board, this.#logger, config);
    const netns = settings.netns ?? null;
    const [states, inNetns] = await this.#plane.use(signal, (client) =>
      Promise.all([client.request('network.list', {}), client.request('host.read', { netns })]),
    );
    const { desired, macs } = decideDevices(config, ground, settings, {
      source: datastore.source,
      states,
      facts: inNetns,
      hostFacts: facts,
      ownLease,
      record,
      previousSubnet: previous.subnet,
    });
    for (const each of desired) this.#plane.add(each);
    this.#parts.decided();
    for (const each of desired) await this.#plane.bring(each, signal);
    teller.network(ground.underlay, desired);
    const gbp = gbpWarning(config);
    if (gbp !== undefined) this.#logger.warn(gbp);
    this.#board.phase = 'lease';
    const attributes = attributesOf(config, ground, desired);
    const former = record.publicIp === undefined || record.publicIp === publicIp ? [] : [record.publicIp];
    const lease = await datastore.join(
      {
        attributes,
        previousSubnet: previous.subnet,
        previousSubnet6: previous.subnet6,
        ourMacs: macs,
        formerPublicIps: former,
      },
      signal,
    );
    this.#board.lease = lease;
    this.#logger.info({ lease: leaseStatus(lease) }, 'lease held');
    const tunnels = desired.map((each, index) => this.#tunnel(each, index === 0 ? 4 : 6, config, lease));
    const stands = { ground, published: ground, settled: true };
    const joined: Joined = { config, tunnels, teller, macs, ...stands, lease, masquerades: false };
    teller.tunnels(tunnels);
    this.#useMacOf(lease, tunnels);
    useTunnelAddressOf(lease, tunnels);
    this.#remember(joined);
    await this.#rule(joined);
    return joined;
  }

  /** The host as it is, and the lease with its address. The datastore may let us wait while the address changes. */
  async #whereWeAre(config: NetworkConfig, signal: AbortSignal) {
    const { datastore } = this.#parts;
    for (;;) {
      const facts = await this.#hostFacts(signal);
      const ground = await this.#ground(facts, config, signal);
      this.#logger.info(ground, 'underlay chosen');
      const ownLease = await datastore.ownLease(ground.underlay.publicIp, signal);
      const now = await this.#ground(await this.#hostFacts(signal), config, signal);
      if (JSON.stringify(now) === JSON.stringify(ground)) return { facts, ground, ownLease };
      this.#logger.warn({ before: ground, now }, 'the underlay has changed while the datastore was asked');
    }
  }

  #refuse(config: NetworkConfig): void {
    const { netns, mac, tunnelOptions = {} } = this.#parts.settings;
    const { backend } = config;
    const problem = optionProblem(tunnelOptions, config);
    if (problem !== undefined) throw new Error(problem);
    if (backend.type === UDP && mac !== undefined) {
      this.#logger.warn('--mac has no effect with the backend udp: a layer-3 network has no MAC');
    }
    if (netns === undefined) return;
    if (backend.type === HOST_GW) {
      throw new Error('the network is of type host-gw, whose routes are on the underlay: leave --netns out');
    }
    if (backend.directRouting) {
      this.#logger.warn('Backend.DirectRouting has no effect with --netns: the underlay is in another namespace');
    }
  }

  #tunnel(desired: Desired, family: Family, config: NetworkConfig, lease: Lease): Tunnel {
    const network = family === 4 ? config.network : (config.ipv6?.network ?? config.network);
    const { type, directRouting } = config.backend;
    const peers = new PeerState({
      own: ownOf(lease, family, desired),
      network,
      routeMode: this.#parts.settings.routeMode,
      backend: type,
    });
    const direct = desired.netns === null && (type === HOST_GW || directRouting);
    const content = {
      peers,
      within: network,
      direct,
      addresses: addressesOf(lease, family, desired),
      blackholes: this.#blackholesOf(lease, family),
      complete: false,
    };
    return { family, peers, desired: Object.assign(desired, { content }) };
  }

  #blackholesOf(lease: Lease, family: Family): Prefix[] {
    const subnet = partOf(lease, family)?.subnet;
    return this.#parts.settings.blackholeRoute === true && subnet !== undefined ? [subnet] : [];
  }

  async #follow(event: DatastoreEvent, joined: Joined, signal: AbortSignal): Promise<void> {
    await this.#askRoutes(event, joined, signal);
    const changes = joined.tunnels.map((tunnel) => tunnel.peers.apply(event));
    joined.teller.event(event, joined.tunnels, changes);
    if (event.type === 'snapshot') {
      for (const { desired } of joined.tunnels) desired.content.remembered = event.remembered === true;
    }
    const complete = joined.tunnels.every(({ desired }) => desired.content.complete);
    if (event.type === 'snapshot' && !complete) {
      for (const { desired } of joined.tunnels) {
        desired.content.complete = true;
        await this.#plane.bring(desired, signal);
      }
      this.#announce(joined);
    } else if (event.type === 'lease-regained') {
      await this.#useLease(event.lease, joined, signal);
    } else {
      for (const [index, { desired }] of joined.tunnels.entries()) {
        const change = changes[index];
        if (change === undefined || (event.type !== 'snapshot' && !hasEffect(change))) continue;
        await this.#plane.apply(desired, event.type === 'snapshot' ? 'whole' : change, signal);
      }
    }
  }

  async #useLease(lease: Lease, joined: Joined, signal: AbortSignal): Promise<void> {
    joined.lease = lease;
    this.#board.lease = lease;
    this.#useMacOf(lease, joined.tunnels);
    useTunnelAddressOf(lease, joined.tunnels);
    this.#remember(joined);
    await this.#rule(joined);
    for (const { desired, family } of joined.tunnels) {
      desired.content.addresses = addressesOf(lease, family, desired);
      desired.content.blackholes = this.#blackholesOf(lease, family);
      // At this moment our address may be gone, or the device be somebody's toy: no reason to end.
      await this.#plane.apply(desired, 'whole', signal);
    }
    if (this.#board.ready) this.#writeSubnetEnv(joined);
  }

  /** Before peers come: the way to them, so that they are not put into the tunnel first and taken out then. */
  async #askRoutes(event: DatastoreEvent, joined: Joined, signal: AbortSignal): Promise<void> {
    if (event.type !== 'snapshot' && event.type !== 'changes') return;
    const leases =
      event.type === 'snapshot'
        ? event.leases
        : event.changes.flatMap((change) => (change.type === 'put' ? change.lease : []));
    for (const tunnel of joined.tunnels) {
      const ips = leases.flatMap((lease) => partOf(lease, tunnel.family)?.publicIp ?? []);
      if (ips.length > 0) await this.#setDirect(tunnel, [...new Set(ips)], signal);
    }
  }

  async #setDirect(tunnel: Tunnel, ips: Parameters<typeof hopsTo>[1], signal: AbortSignal): Promise<void> {
    const { desired, peers } = tunnel;
    if (!desired.content.direct) return;
    const hops = await this.#plane.use(signal, (client) => hopsTo(client, ips));
    const change = peers.setDirect(hops);
    if (!hasEffect(change)) return;
    const { added, removed } = change.routes;
    this.#logger.info({ added, removed }, 'the way to peers has changed');
    await this.#plane.apply(desired, change, signal);
  }

  /** Looks at the underlay now and then, until `signal` aborts. */
  async #look(joined: Joined, signal: AbortSignal): Promise<void> {
    for (let looks = 1; ; looks++) {
      await pause(this.#parts.lookMs ?? LOOK_MS, signal);
      if (signal.aborted) return;
      try {
        await this.#serial.run(async () => this.#lookOnce(await this.#hostFacts(signal), joined, signal));
        if (looks % LOOKS_A_COUNT === 0) await this.#lookForSilence(joined, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#logger.error({ err: error }, 'the underlay has changed and could not be followed; trying again');
      }
    }
  }

  async #lookForSilence({ tunnels, teller }: Joined, signal: AbortSignal): Promise<void> {
    const devices = tunnels.map(({ desired }) => desired.spec?.name);
    const { peers } = await this.#plane.use(signal, (client) => client.request('stats', {}));
    teller.heard(peers.filter(({ network }) => devices.includes(network)));
  }

  async #lookOnce(facts: HostFacts, joined: Joined, signal: AbortSignal): Promise<void> {
    this.#files.retry();
    await this.#followUnderlay(facts, joined, signal);
    const topology = topologyOf(facts);
    if (topology === this.#topology) return;
    for (const tunnel of joined.tunnels) await this.#setDirect(tunnel, tunnel.peers.publicIps(), signal);
    this.#topology = topology;
  }

  async #followUnderlay(facts: HostFacts, joined: Joined, signal: AbortSignal): Promise<void> {
    let ground: Ground;
    try {
      ground = await this.#ground(facts, joined.config, signal);
    } catch (error) {
      if (!(error instanceof InterfaceError)) throw error;
      this.#logger.warn({ reason: error.message }, 'the underlay is gone; the network stays as it is until it is back');
      return;
    }
    const now = JSON.stringify(ground);
    const same = joined.settled && now === JSON.stringify(joined.ground);
    const again = now === this.#moving;
    this.#moving = same ? '' : now;
    if (same || !again) return;
    this.#logger.warn({ before: joined.ground, now: ground }, 'the underlay has changed and is followed');
    // From here on: the address may change back before etcd has taken the new one.
    joined.ground = ground;
    joined.settled = false;
    for (const { desired, family } of joined.tunnels) {
      if (desired.spec === undefined) continue;
      const { owner } = desired.spec;
      const mac = macOf(desired.spec) ?? null;
      const spec = specOf(joined.config, family, ground, { ...this.#parts.settings, owner, mac });
      desired.spec = withTunnelAddress(spec, joined.lease.subnet);
      await this.#plane.bring(desired, signal);
    }
    const desired = joined.tunnels.map((tunnel) => tunnel.desired);
    joined.teller.network(ground.underlay, desired);
    if (isMoved(joined.published, ground)) await this.#republish(joined, ground, signal);
    joined.settled = true;
    this.#moving = '';
    this.#remember(joined);
    if (this.#board.ready) this.#writeSubnetEnv(joined);
  }

  /** Peers send to the PublicIP in our lease: the new one has to be there. */
  async #republish(joined: Joined, ground: Ground, signal: AbortSignal): Promise<void> {
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
    this.#logger.warn({ lease: leaseStatus(now) }, 'our lease names the new address');
    for (const { peers, family, desired } of tunnels) peers.setOwn(ownOf(now, family, desired));
    await this.#useLease(now, joined, signal);
  }

  /** Peers send to the MAC that our lease names; in a file somebody else may have changed it. */
  #useMacOf({ attributes }: Lease, tunnels: readonly Tunnel[]): void {
    for (const { desired, family } of tunnels) {
      const now = family === 4 ? attributes.vtepMac : attributes.vtepMac6;
      const before = desired.spec?.mac;
      if (desired.spec === undefined || now === undefined || now === before) continue;
      this.#logger.warn({ before, now }, 'our lease names another MAC; the device takes it');
      desired.spec = { ...desired.spec, mac: now };
    }
  }

  /** Ready is who has an environment file with the truth in it. */
  #announce(joined: Joined): void {
    this.#remember(joined);
    this.#writeSubnetEnv(joined, () => this.#isReady(joined));
  }

  #isReady(joined: Joined): void {
    if (this.#board.ready) return;
    this.#board.ready = true;
    this.#board.phase = 'running';
    this.#logger.info(
      { subnet: joined.lease.subnet, file: this.#parts.settings.subnetFile, peers: this.#board.peers },
      'ready',
    );
    this.#parts.ready();
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

  #writeSubnetEnv(joined: Joined, then = (): void => undefined): void {
    const { subnetFile } = this.#parts.settings;
    this.#files.keep(subnetFile, 'who starts containers does not know their subnet', () => {
      const text = this.#subnetEnv(joined);
      try {
        writeWhole(subnetFile, text);
      } catch (error) {
        // A disk without room for a second copy may hold the right one.
        if (readIfThere(subnetFile) !== text) throw error;
      }
      then();
    });
  }

  #subnetEnv({ config, lease, ground, masquerades }: Joined): string {
    const six =
      config.ipv6 === undefined || lease.subnet6 === undefined
        ? {}
        : { network6: config.ipv6.network, subnet6: lease.subnet6 };
    return formatSubnetEnv({
      network: config.network,
      subnet: lease.subnet,
      ...six,
      mtu: containerMtu(config, ground.underlay.mtu),
      ipMasq: masquerades,
    });
  }

  #remember(joined: Joined): void {
    const { paths, settings } = this.#parts;
    this.#files.keep(paths.daemonState, 'MAC and subnet are known to the lease alone', () => {
      const { lease, tunnels } = joined;
      const [four, six] = tunnels.map(({ desired }) => desired.spec);
      const before = readDaemonRecord(paths);
      writeDaemonRecord(paths, {
        ...(typeof four?.mac !== 'string' ? {} : { mac: four.mac, macs: rememberMac(four.mac, before) }),
        ...(four === undefined ? {} : { device: four.name }),
        ...(typeof six?.mac !== 'string' ? {} : { mac6: six.mac, device6: six.name }),
        // The former ones too, until their routes are gone: this run may end before.
        direct: [
          ...new Set([
            ...tunnels.flatMap(({ desired: { content } }) =>
              content.direct || (content.blackholes ?? []).length > 0 ? [content.within] : [],
            ),
            ...this.#plane.formerDirect,
          ]),
        ],
        publicIp: lease.attributes.publicIp,
        subnet: lease.subnet,
        ...(lease.subnet6 === undefined ? {} : { subnet6: lease.subnet6 }),
        subnetFile: settings.subnetFile,
      });
    });
  }

  async #ground(facts: HostFacts, config: NetworkConfig, signal: AbortSignal): Promise<Ground> {
    const settings = { ...this.#parts.settings, ...this.#addresses };
    const { ifaceCanReach: to } = settings;
    const reach = to === undefined ? undefined : await this.#plane.use(signal, (client) => reachOf(client, to));
    return groundOf(facts, config, settings, reach);
  }

  #hostFacts(signal: AbortSignal): Promise<HostFacts> {
    return this.#plane.use(signal, (client) => client.request('host.read', { netns: null }));
  }
}

function ownOf(lease: Lease, family: Family, { spec }: Desired) {
  const part = partOf(lease, family);
  const publicIp = part?.publicIp ?? lease.attributes.publicIp;
  return { publicIp, key: lease.key, subnet: part?.subnet, mac: macOf(spec) };
}

function useTunnelAddressOf(lease: Lease, tunnels: readonly Tunnel[]): void {
  for (const { desired } of tunnels) {
    if (desired.spec !== undefined) desired.spec = withTunnelAddress(desired.spec, lease.subnet);
  }
}

function addressesOf(lease: Lease, family: Family, { spec }: Desired): string[] {
  const subnet = partOf(lease, family)?.subnet;
  return spec === undefined || subnet === undefined ? [] : [deviceAddress(subnet, family)];
}

function hasEffect(change: PeerChange): boolean {
  const { added, removed } = change.routes;
  return !change.tablesUnchanged || change.base !== change.revision || added.length > 0 || removed.length > 0;
}
