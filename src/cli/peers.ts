/** `vtepd peers`: every VTEP with what the wire and the datastore know of it. */
import type { PeerStatus } from '../daemon/status-types.ts';
import type { PeerStats } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print, withDataplane } from './context.ts';
import { askLeases } from './controller.ts';
import { EXIT_OK, UsageError } from './errors.ts';
import { bytes, duration, table } from './output.ts';

export async function peers(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`peers takes no words, not ${input.words.join(' ')}`);
  const { peers: seen } = await withDataplane(context, (client) => client.request('stats', {}));
  const leased = new Map((await askLeases(context.paths))?.flatMap(halvesOf));
  const rows = seen.map((peer) => toRow(peer, leased.get(`${peer.network} ${peer.ip}`)));
  print(context, rows, (all) =>
    table(
      ['NETWORK', 'VTEP', 'SUBNET', 'MAC', 'RX', 'RX-PKTS', 'TX', 'TX-PKTS', 'HEARD', 'PATH-MTU'],
      all.map(describe),
      ['RX', 'RX-PKTS', 'TX', 'TX-PKTS', 'HEARD', 'PATH-MTU'],
    ),
  );
  return EXIT_OK;
}

interface Half {
  readonly subnet: string | null;
  readonly mac: string | null;
}

/** Both families' halves of a lease, by device and VTEP. */
function halvesOf({ subnet, publicIp, mac, device, subnet6, publicIpv6, mac6, device6 }: PeerStatus): [string, Half][] {
  return [
    [`${device} ${publicIp}`, { subnet, mac }],
    [`${device6} ${publicIpv6}`, { subnet: subnet6, mac: mac6 }],
  ];
}

/** The documented keys of `peers --json`. */
function toRow(peer: PeerStats, lease: Half | undefined) {
  return {
    network: peer.network,
    ip: peer.ip,
    subnet: lease?.subnet ?? null,
    mac: lease?.mac ?? null,
    rx: peer.rx,
    tx: peer.tx,
    last_heard: peer.last_heard ?? null,
    path_mtu: peer.path_mtu ?? null,
  };
}

function describe(row: ReturnType<typeof toRow>): string[] {
  return [
    row.network,
    row.ip,
    row.subnet ?? '-',
    row.mac ?? '-',
    bytes(row.rx.bytes),
    String(row.rx.packets),
    bytes(row.tx.bytes),
    String(row.tx.packets),
    row.last_heard === null ? 'never' : `${duration(row.last_heard)} ago`,
    row.path_mtu === null ? '-' : String(row.path_mtu),
  ];
}
