/** `vtepd peers`: every VTEP with what the wire and the datastore know of it. */
import type { LeaseStatus } from '../daemon/status-types.ts';
import type { PeerStats } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print, withDataplane } from './context.ts';
import { askController, askLeases } from './controller.ts';
import { EXIT_OK, UsageError } from './errors.ts';
import { bytes, duration, table } from './output.ts';

export async function peers(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`peers takes no words, not ${input.words.join(' ')}`);
  const { peers: seen } = await withDataplane(context, (client) => client.request('stats', {}));
  const [controller, leases] = await Promise.all([askController(context.paths), askLeases(context.paths)]);
  const fed = controller?.network?.name;
  const byAddress = new Map((leases ?? []).map((lease) => [lease.publicIp, lease]));
  const rows = seen.map((peer) => toRow(peer, peer.network === fed ? byAddress.get(peer.ip) : undefined));
  print(context, rows, (all) =>
    table(
      ['NETWORK', 'VTEP', 'SUBNET', 'MAC', 'RX', 'RX-PKTS', 'TX', 'TX-PKTS', 'HEARD', 'PATH-MTU'],
      all.map(describe),
      ['RX', 'RX-PKTS', 'TX', 'TX-PKTS', 'HEARD', 'PATH-MTU'],
    ),
  );
  return EXIT_OK;
}

/** The documented keys of `peers --json`. */
function toRow(peer: PeerStats, lease: LeaseStatus | undefined) {
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
