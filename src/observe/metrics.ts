/**
 * The metrics of a host: what `vtepd run` knows of itself, and the dataplane's counters as they are at the moment of the
 * question. A dataplane that does not answer leaves its families out and `vtepd_dataplane_up` at 0.
 *
 * Labels are bounded by what the operator has set up: networks, devices, lanes, reasons from fixed lists; never a peer, of
 * which there may be thousands (`vtepd peers --json` has them).
 */
import type { ControllerStatus, NetworkStatus } from '../daemon/status-types.ts';
import {
  DROP_REASONS,
  type Hello,
  type LaneStats,
  type NetworkStats,
  type OffloadState,
  type Stats,
} from '../dataplane/protocol.ts';
import { type Family, formatFamilies, type Labels, type Sample } from './exposition.ts';
import { silentPeers } from './silence.ts';

export interface PlaneFacts {
  readonly hello: Hello;
  readonly stats: Stats;
  readonly offloads: readonly OffloadState[];
}

export interface MetricsFacts {
  readonly status: ControllerStatus;
  /** Absent where the dataplane did not answer. */
  readonly plane: PlaneFacts | undefined;
  /** Notifications of the dataplane, by name. */
  readonly notifications: ReadonlyMap<string, number>;
  readonly now: Date;
}

export function metricsText(facts: MetricsFacts): string {
  return formatFamilies(metricFamilies(facts));
}

export function metricFamilies(facts: MetricsFacts): Family[] {
  const { plane } = facts;
  return [
    ...processFamilies(facts),
    ...controllerFamilies(facts),
    ...(plane === undefined
      ? []
      : [...planeFamilies(plane), ...deviceFamilies(plane), ...laneFamilies(plane.stats.lanes)]),
  ];
}

type Type = Family['type'];

function family(type: Type, name: string, help: string, samples: readonly Sample[]): Family {
  return { type, name, help, samples };
}

function single(type: Type, name: string, help: string, value: number): Family {
  return family(type, name, help, [[{}, value]]);
}

function seconds(iso: string): number {
  return Date.parse(iso) / 1_000;
}

function processFamilies({ status }: MetricsFacts): Family[] {
  const { user, system } = process.cpuUsage();
  return [
    single(
      'gauge',
      'process_start_time_seconds',
      'When the controller started, since the epoch',
      seconds(status.started),
    ),
    single('counter', 'process_cpu_seconds_total', 'CPU time of the controller', (user + system) / 1e6),
    single('gauge', 'process_resident_memory_bytes', 'Resident memory of the controller', process.memoryUsage.rss()),
    family('gauge', 'vtepd_build_info', 'Version of the controller', [
      [{ version: status.version, instance_name: status.instance }, 1],
    ]),
  ];
}

/** Of each network; `network` is the name in `--networks`, `default` where there is only one. */
const OF_NETWORK: readonly (readonly [
  Type,
  string,
  string,
  (status: NetworkStatus, now: Date) => number | undefined,
])[] = [
  ['gauge', 'vtepd_ready', 'The network is joined and everything is in place', ({ ready }) => Number(ready)],
  ['gauge', 'vtepd_peers', 'Usable leases of other hosts', ({ peers }) => peers],
  ['gauge', 'vtepd_warnings', 'Warnings that hold now', ({ warnings }) => warnings.length],
  [
    'gauge',
    'vtepd_datastore_connected',
    'The datastore is followed; 0 while what is known may be out of date',
    ({ datastore }) => Number(datastore.state === 'fresh'),
  ],
  [
    'gauge',
    'vtepd_datastore_stale_seconds',
    'For how long the datastore has not been followed',
    ({ datastore }, now) =>
      datastore.state === 'fresh' ? 0 : Math.max(0, now.getTime() / 1_000 - seconds(datastore.since)),
  ],
  [
    'gauge',
    'vtepd_datastore_revision',
    'Revision of the last event',
    ({ datastore }) => datastore.revision ?? undefined,
  ],
  [
    'gauge',
    'vtepd_datastore_bad_keys',
    'Keys that cannot be read and are skipped',
    ({ datastore }) => datastore.badKeys.length,
  ],
  [
    'gauge',
    'vtepd_lease_held',
    'Our lease is ours',
    ({ lease, leaseLost }) => Number(lease !== null && leaseLost === null),
  ],
  [
    'gauge',
    'vtepd_lease_expiry_timestamp_seconds',
    'When our lease ends unless it is kept alive, since the epoch; absent for a reservation and for a file',
    ({ leaseExpires }) => (leaseExpires === null ? undefined : seconds(leaseExpires)),
  ],
];

function controllerFamilies({ status, plane, notifications, now }: MetricsFacts): Family[] {
  const { networks, plane: held } = status;
  const labelled = networks.map((network) => [{ network: network.name ?? 'default' }, network] as const);
  return [
    family(
      'gauge',
      'vtepd_network_info',
      'What a network is on this host',
      labelled.flatMap(([labels, { network, datastore }]): Sample[] => {
        if (network === null) return [];
        const { name, backend, vni, cidr, iface, local } = network;
        const { source } = datastore;
        return [[{ ...labels, device: name, backend, vni: String(vni ?? ''), cidr, iface, local, source }, 1]];
      }),
    ),
    ...OF_NETWORK.map(([type, name, help, read]) =>
      family(
        type,
        name,
        help,
        labelled.flatMap(([labels, network]): Sample[] => {
          const value = read(network, now);
          return value === undefined ? [] : [[labels, value]];
        }),
      ),
    ),
    family(
      'counter',
      'vtepd_datastore_events_total',
      'Events of the datastore by type',
      labelled.flatMap(([labels, { events }]) => counted(events, (type) => ({ ...labels, type }))),
    ),
    single('gauge', 'vtepd_dataplane_up', 'The dataplane answers', Number(plane !== undefined)),
    single('counter', 'vtepd_dataplane_deaths_total', 'Deaths of the dataplane under this controller', held.deaths),
    family(
      'gauge',
      'vtepd_dataplane_last_gap_seconds',
      'How long traffic stood still at the last death',
      held.lastGapMs === null ? [] : [[{}, held.lastGapMs / 1_000]],
    ),
    single(
      'counter',
      'vtepd_repairs_total',
      'Devices, addresses, routes and link states that somebody else had changed and that were put right',
      held.repairs,
    ),
    family(
      'counter',
      'vtepd_dataplane_events_total',
      'Notifications of the dataplane by name',
      counted(Object.fromEntries(notifications), (event) => ({ event })),
    ),
  ];
}

function counted(counts: Readonly<Record<string, number>>, labels: (name: string) => Labels): Sample[] {
  return Object.entries(counts).map(([name, count]) => [labels(name), count]);
}

function planeFamilies({ hello, stats, offloads }: PlaneFacts): Family[] {
  const ofOffload = (read: (state: OffloadState) => boolean): Sample[] =>
    offloads.map((state) => [{ offload: state.offload }, Number(read(state))]);
  return [
    family('gauge', 'vtepd_dataplane_info', 'Version of the dataplane', [[{ version: hello.version }, 1]]),
    single('gauge', 'vtepd_dataplane_uptime_seconds', 'How long the dataplane has run', stats.uptime),
    family(
      'gauge',
      'vtepd_offload_supported',
      'The kernel took the offload when it was tried',
      ofOffload((state) => state.supported),
    ),
    family(
      'gauge',
      'vtepd_offload_enabled',
      'Its switch is on',
      ofOffload((state) => state.enabled),
    ),
    family(
      'gauge',
      'vtepd_offload_active',
      'The offload is in use',
      ofOffload((state) => state.active),
    ),
    single(
      'counter',
      'vtepd_socket_overflows_total',
      'Datagrams that the kernel threw away because a receive buffer was full',
      stats.socket_overflows,
    ),
    single(
      'counter',
      'vtepd_bad_checksums_total',
      'Datagrams that the kernel threw away because their UDP checksum was wrong',
      stats.bad_checksums ?? 0,
    ),
    single(
      'counter',
      'vtepd_dataplane_events_suppressed_total',
      'Notifications that the rate limit left out',
      stats.events_suppressed,
    ),
  ];
}

/** Of each TAP. Packets are frames, a superframe as its segments; bytes without the inner Ethernet header. */
const OF_DEVICE: readonly (readonly [Type, string, string, (stats: NetworkStats) => number])[] = [
  ['counter', 'vtepd_receive_packets_total', 'Frames delivered to the TAP', ({ rx }) => rx.packets],
  ['counter', 'vtepd_receive_bytes_total', 'Bytes delivered to the TAP', ({ rx }) => rx.bytes],
  ['counter', 'vtepd_transmit_packets_total', 'Frames handed to the underlay', ({ tx }) => tx.packets],
  ['counter', 'vtepd_transmit_bytes_total', 'Bytes handed to the underlay', ({ tx }) => tx.bytes],
  ['counter', 'vtepd_arp_replies_total', 'ARP requests answered by the proxy', ({ arp_replies }) => arp_replies],
  [
    'counter',
    'vtepd_nd_replies_total',
    'Neighbour solicitations answered by the proxy',
    ({ nd_replies }) => nd_replies,
  ],
  [
    'counter',
    'vtepd_partial_checksums_total',
    'Received frames whose inner checksum was completed here',
    ({ partial_checksums }) => partial_checksums,
  ],
  [
    'counter',
    'vtepd_whole_superframes_total',
    'Received superframes that nobody had segmented',
    ({ whole_superframes }) => whole_superframes,
  ],
  [
    'counter',
    'vtepd_too_big_replies_total',
    "Senders told by ICMP that their packet does not fit a peer's path",
    ({ too_big_replies = 0 }) => too_big_replies,
  ],
  [
    'counter',
    'vtepd_refusals_total',
    'Senders told by ICMP that a layer-3 network does not carry their packet',
    ({ refusals = 0 }) => refusals,
  ],
  [
    'counter',
    'vtepd_learning_refused_total',
    'Source MACs not learned because of a limit',
    ({ learning_refused = 0 }) => learning_refused,
  ],
  [
    'counter',
    'vtepd_tap_queue_overflows_total',
    "Frames that the kernel threw away because the TAP's queue was full",
    ({ tap_queue_overflows }) => tap_queue_overflows,
  ],
  ['gauge', 'vtepd_fdb_entries', 'FDB entries', ({ fdb_entries }) => fdb_entries],
  ['gauge', 'vtepd_neighbour_entries', 'Neighbours', ({ neighbour_entries }) => neighbour_entries],
];

const REASONS = Object.keys(DROP_REASONS);

function deviceFamilies({ stats }: PlaneFacts): Family[] {
  const { networks, peers } = stats;
  const dropsOf = (device: string, drops: Readonly<Record<string, number | undefined>>): Sample[] =>
    REASONS.map((reason) => [{ device, reason }, drops[reason] ?? 0]);
  const silent = silentPeers(peers);
  const vteps = new Map(networks.map(({ network }) => [network, 0]));
  for (const { network } of peers) vteps.set(network, (vteps.get(network) ?? 0) + 1);
  const silentOf = new Map(networks.map(({ network }) => [network, 0]));
  for (const { network } of silent) silentOf.set(network, (silentOf.get(network) ?? 0) + 1);
  return [
    ...OF_DEVICE.map(([type, name, help, read]) =>
      family(
        type,
        name,
        help,
        networks.map((network): Sample => [{ device: network.network }, read(network)]),
      ),
    ),
    family('counter', 'vtepd_drops_total', 'Frames that died, by reason; without a device before a network was known', [
      ...networks.flatMap(({ network, drops }) => dropsOf(network, drops)),
      ...dropsOf('', stats.drops),
    ]),
    family(
      'gauge',
      'vtepd_vteps',
      'VTEPs in the tables',
      [...vteps].map(([device, count]): Sample => [{ device }, count]),
    ),
    family(
      'gauge',
      'vtepd_vteps_silent',
      'VTEPs that were sent to and never answered',
      [...silentOf].map(([device, count]): Sample => [{ device }, count]),
    ),
  ];
}

const OF_LANE: readonly (readonly [Type, string, string, (lane: LaneStats) => number])[] = [
  ['counter', 'vtepd_lane_receive_packets_total', 'Frames delivered to TAPs', ({ rx }) => rx.packets],
  ['counter', 'vtepd_lane_receive_bytes_total', 'Bytes delivered to TAPs', ({ rx }) => rx.bytes],
  ['counter', 'vtepd_lane_transmit_packets_total', 'Frames handed to the underlay', ({ tx }) => tx.packets],
  ['counter', 'vtepd_lane_transmit_bytes_total', 'Bytes handed to the underlay', ({ tx }) => tx.bytes],
  ['counter', 'vtepd_lane_tap_reads_total', 'Reads that returned a frame or superframe', ({ tap_reads }) => tap_reads],
  ['counter', 'vtepd_lane_tap_writes_total', 'Writes of a frame or superframe', ({ tap_writes }) => tap_writes],
  ['counter', 'vtepd_lane_udp_receives_total', 'Calls that received datagrams', ({ udp_receives }) => udp_receives],
  ['counter', 'vtepd_lane_udp_sends_total', 'Calls that sent datagrams', ({ udp_sends }) => udp_sends],
  [
    'counter',
    'vtepd_lane_udp_messages_received_total',
    'Datagrams or trains received',
    ({ udp_messages_received }) => udp_messages_received,
  ],
  [
    'counter',
    'vtepd_lane_udp_messages_sent_total',
    'Datagrams or trains sent',
    ({ udp_messages_sent }) => udp_messages_sent,
  ],
  ['counter', 'vtepd_lane_turns_total', 'Times the lane looked what there is to do and did it', ({ turns }) => turns],
  ['counter', 'vtepd_lane_busy_seconds_total', 'Time spent working', ({ busy_us }) => busy_us / 1e6],
  [
    'counter',
    'vtepd_lane_spin_seconds_total',
    'Time spent looking for work before sleeping',
    ({ spin_us }) => spin_us / 1e6,
  ],
  [
    'gauge',
    'vtepd_lane_longest_turn_seconds',
    'Longest turn since the lane started',
    ({ longest_turn_us }) => longest_turn_us / 1e6,
  ],
];

function laneFamilies(lanes: readonly LaneStats[]): Family[] {
  return OF_LANE.map(([type, name, help, read]) =>
    family(
      type,
      name,
      help,
      lanes.map((lane): Sample => [{ lane: String(lane.lane) }, read(lane)]),
    ),
  );
}
