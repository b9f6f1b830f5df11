/** What the controller knows of itself, kept by its parts and shown as one value. */
import type { BadKey, Lease } from '../datastore/types.ts';
import type { ControllerStatus, LeaseStatus, PeerStatus } from './status-types.ts';

export interface Identity {
  readonly version: string;
  readonly instance: string;
  readonly source: 'etcd' | 'file' | 'none';
  /** Of the network, where there are several. */
  readonly network?: string | undefined;
}

/** What changes; every field is set by whoever knows it. */
export class StatusBoard {
  phase: ControllerStatus['phase'] = 'dataplane';
  ready = false;
  lease: Lease | undefined;
  leaseLost: string | undefined;
  network: ControllerStatus['network'] = null;
  /** Asked for when somebody looks: a list of thousands is not made for every event. */
  listPeers: () => readonly PeerStatus[] = () => [];
  peers = 0;
  warnings: () => readonly string[] = () => [];
  /** What is wrong with the traffic rules at the moment. */
  ruleWarnings: () => readonly string[] = () => [];
  /** What cannot be kept on disk at the moment. */
  fileWarnings: () => readonly string[] = () => [];
  badKeys: () => readonly BadKey[] = () => [];
  leaseExpires: () => Date | undefined = () => undefined;
  revision: number | undefined;
  readonly #identity: Identity;
  readonly #started = new Date();
  /** Types of events are few. */
  readonly #events = new Map<string, number>();
  #plane: ControllerStatus['plane'];
  #datastore: Pick<ControllerStatus['datastore'], 'state' | 'since' | 'reason'>;

  constructor(identity: Identity) {
    this.#identity = identity;
    const since = this.#started.toISOString();
    this.#plane = { state: 'down', pid: null, since, deaths: 0, lastGapMs: null, repairs: 0 };
    this.#datastore = { state: 'starting', since, reason: null };
  }

  get name(): string | undefined {
    return this.#identity.network;
  }

  planeUp(pid: number, gapMs: number | undefined): void {
    const since = new Date().toISOString();
    this.#plane = { ...this.#plane, state: 'up', pid, since, lastGapMs: gapMs ?? this.#plane.lastGapMs };
  }

  planeDown(): void {
    if (this.#plane.state === 'up') this.#plane = { ...this.#plane, state: 'down', since: new Date().toISOString() };
  }

  planeDied(): void {
    this.planeDown();
    this.#plane = { ...this.#plane, pid: null, deaths: this.#plane.deaths + 1 };
  }

  repaired(count: number): void {
    this.#plane = { ...this.#plane, repairs: this.#plane.repairs + count };
  }

  /** Counts an event of the datastore's. */
  heard(type: string): void {
    this.#events.set(type, (this.#events.get(type) ?? 0) + 1);
  }

  fresh(): void {
    if (this.#datastore.state === 'fresh') return;
    this.#datastore = { state: 'fresh', since: new Date().toISOString(), reason: null };
  }

  stale(since: Date, reason: string): void {
    this.#datastore = { state: 'stale', since: since.toISOString(), reason };
  }

  show(): ControllerStatus {
    const shown = this.#showOne();
    const { phase, ready, datastore, lease, leaseLost, network, peers, warnings } = shown;
    const name = this.name ?? null;
    const leaseExpires = this.leaseExpires()?.toISOString() ?? null;
    const events = Object.fromEntries(this.#events);
    const one = { name, phase, ready, datastore, lease, leaseExpires, leaseLost, network, peers, events, warnings };
    return { ...shown, networks: [one] };
  }

  #showOne(): Omit<ControllerStatus, 'networks'> {
    return {
      pid: process.pid,
      version: this.#identity.version,
      instance: this.#identity.instance,
      started: this.#started.toISOString(),
      phase: this.phase,
      ready: this.ready,
      plane: this.#plane,
      datastore: {
        source: this.#identity.source,
        ...this.#datastore,
        revision: this.revision ?? null,
        badKeys: this.badKeys().map(({ key, reason }) => ({ key, reason })),
      },
      lease: this.lease === undefined ? null : leaseStatus(this.lease),
      leaseLost: this.leaseLost ?? null,
      network: this.network,
      peers: this.peers,
      warnings: [...this.warnings(), ...this.ruleWarnings(), ...this.fileWarnings()],
    };
  }
}

export function leaseStatus({ key, subnet, subnet6, attributes }: Lease): LeaseStatus {
  const { publicIp, publicIpv6 = null, vtepMac: mac = null, vtepMac6: mac6 = null } = attributes;
  return { key, subnet, publicIp, mac, subnet6: subnet6 ?? null, publicIpv6, mac6 };
}

/** The boards of all networks as one status. */
export function showAll(boards: readonly StatusBoard[]): ControllerStatus {
  const shown = boards.map((board) => board.show());
  const [first] = shown;
  if (first === undefined) throw new RangeError('a controller has at least one network');
  const networks = shown.flatMap((status) => status.networks);
  return {
    ...first,
    ready: networks.every(({ ready }) => ready),
    leaseLost: networks.find(({ leaseLost }) => leaseLost !== null)?.leaseLost ?? null,
    warnings: networks.flatMap(({ name, warnings }) =>
      warnings.map((warning) => (name === null ? warning : `network ${name}: ${warning}`)),
    ),
    networks,
  };
}
