import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { StatusBoard } from '../../../src/daemon/status-board.ts';
import type { NetworkStats, PeerStats, Stats } from '../../../src/dataplane/protocol.ts';
import { formatFamilies } from '../../../src/observe/exposition.ts';
import { type MetricsFacts, metricFamilies, metricsText, type PlaneFacts } from '../../../src/observe/metrics.ts';
import { silenceWarning } from '../../../src/observe/silence.ts';

const NOW = new Date('2026-01-02T00:00:10Z');

function peer(ip: string, sent: number, heard: number | null): PeerStats {
  return { network: 'flannel.3', ip, rx: { packets: 0, bytes: 0 }, tx: { packets: sent, bytes: 0 }, last_heard: heard };
}

const NETWORK: NetworkStats = {
  network: 'flannel.3',
  vni: 3,
  rx: { packets: 7, bytes: 700 },
  tx: { packets: 8, bytes: 800 },
  arp_replies: 1,
  nd_replies: 2,
  partial_checksums: 3,
  whole_superframes: 4,
  tap_queue_overflows: 5,
  drops: { tx_no_destination: 9 },
  fdb_entries: 2,
  neighbour_entries: 2,
};

const STATS: Stats = {
  uptime: 60,
  networks: [NETWORK],
  lanes: [
    {
      lane: 0,
      rx: { packets: 7, bytes: 700 },
      tx: { packets: 8, bytes: 800 },
      tap_reads: 1,
      tap_writes: 2,
      udp_receives: 3,
      udp_sends: 4,
      udp_messages_received: 5,
      udp_messages_sent: 6,
      turns: 7,
      busy_us: 1_500_000,
      spin_us: 250_000,
      longest_turn_us: 20,
    },
  ],
  peers: [peer('10.245.1.4', 100, 3), peer('10.245.1.5', 100, null), peer('10.245.1.6', 2, null)],
  drops: { rx_unknown_vni: 4 },
  socket_overflows: 0,
  events_suppressed: 0,
};

const PLANE: PlaneFacts = {
  hello: {
    version: '1.2',
    protocol: 1,
    pid: 9,
    uptime: 60,
    lanes: 1,
    spin_us: 50,
    capabilities: { tap_tso: true, tap_uso: true, udp_segment: true, udp_gro: true },
    networks: ['flannel.3'],
  },
  stats: STATS,
  offloads: [{ offload: 'udp_gro', supported: true, enabled: true, active: false, reason: 'EIO' }],
};

function facts(plane: PlaneFacts | undefined): MetricsFacts {
  const board = new StatusBoard({ version: '1', instance: 'default', source: 'etcd' });
  board.revision = 17;
  board.peers = 3;
  board.heard('snapshot');
  board.leaseExpires = () => new Date('2026-01-03T00:00:00Z');
  board.planeUp(9, 120);
  board.stale(new Date('2026-01-02T00:00:00Z'), 'refused');
  board.network = {
    name: 'flannel.3',
    backend: 'vxlan',
    vni: 3,
    port: 8472,
    cidr: '10.246.0.0/16',
    cidr6: null,
    mtu: 1450,
    iface: 'eth0',
    local: '10.245.1.3',
  };
  return { status: board.show(), plane, notifications: new Map([['miss', 2]]), now: NOW };
}

test('samples with labels, escaped; families without samples are left out', () => {
  const text = formatFamilies([
    {
      name: 'a_total',
      type: 'counter',
      help: 'One\nline \\ "q"',
      samples: [
        [{ name: 'x\\y"z\n' }, 1e21],
        [{}, Number.POSITIVE_INFINITY],
      ],
    },
    { name: 'b', type: 'gauge', help: 'None', samples: [] },
  ]);
  assert.equal(
    text,
    '# HELP a_total One\\nline \\\\ "q"\n# TYPE a_total counter\na_total{name="x\\\\y\\"z\\n"} 1e+21\na_total +Inf\n',
  );
});

test('what an operator asks first is there, with the numbers of the facts', () => {
  const lines = new Set(metricsText(facts(PLANE)).split('\n'));
  for (const line of [
    'vtepd_dataplane_up 1',
    'vtepd_receive_packets_total{device="flannel.3"} 7',
    'vtepd_transmit_bytes_total{device="flannel.3"} 800',
    'vtepd_drops_total{device="flannel.3",reason="tx_no_destination"} 9',
    'vtepd_drops_total{device="flannel.3",reason="tap_full"} 0',
    'vtepd_drops_total{device="",reason="rx_unknown_vni"} 4',
    'vtepd_lane_busy_seconds_total{lane="0"} 1.5',
    'vtepd_lane_spin_seconds_total{lane="0"} 0.25',
    'vtepd_offload_active{offload="udp_gro"} 0',
    'vtepd_vteps{device="flannel.3"} 3',
    'vtepd_vteps_silent{device="flannel.3"} 1',
    'vtepd_peers{network="default"} 3',
    'vtepd_datastore_connected{network="default"} 0',
    'vtepd_datastore_stale_seconds{network="default"} 10',
    'vtepd_datastore_revision{network="default"} 17',
    'vtepd_datastore_events_total{network="default",type="snapshot"} 1',
    'vtepd_lease_expiry_timestamp_seconds{network="default"} 1767398400',
    'vtepd_dataplane_last_gap_seconds 0.12',
    'vtepd_dataplane_events_total{event="miss"} 2',
  ])
    assert.ok(lines.has(line), `${line} is missing`);
});

test('a dataplane that is away takes its families with it, and nothing else', () => {
  const text = metricsText(facts(undefined));
  assert.match(text, /^vtepd_dataplane_up 0$/m);
  assert.match(text, /^vtepd_peers\{network="default"\} 3$/m);
  assert.doesNotMatch(text, /vtepd_(receive|lane|drops|offload|vteps)/);
});

test('no label names a peer: their number is not bounded by what the operator sets up', () => {
  assert.doesNotMatch(metricsText(facts(PLANE)), /10\.245\.1\.[456]/);
});

test('docs/metrics.md lists every family, and no other', () => {
  const doc = readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8');
  const listed = [...doc.matchAll(/^\| `([a-z_]+)` \|.*$/gm)].map(([row]) => row);
  const rows = metricFamilies(facts(PLANE)).map(({ name, type, help, samples }) => {
    const labels = Object.keys(samples[0]?.[0] ?? {}).map((label) => `\`${label}\``);
    return `| \`${name}\` | ${type} | ${labels.join(' ')} | ${help} |`;
  });
  assert.deepEqual(listed.sort(), rows.sort());
});

test('peers that never answered are named, a few of them', () => {
  assert.equal(silenceWarning([peer('10.245.1.4', 100, 3), peer('10.245.1.6', 2, null)], 8472), undefined);
  const many = Array.from({ length: 7 }, (_, at) => peer(`10.245.1.${at}`, 100, null));
  assert.match(
    silenceWarning(many, 8472) ?? '',
    /^sent to 10\.245\.1\.0, .*10\.245\.1\.4 and 2 more and never heard from them: .*UDP port 8472/,
  );
});
