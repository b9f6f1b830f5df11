/** `vtepd stats`: counters of networks and lanes, absolute since each was made. */
import type { NetworkStats, Stats } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print, withDataplane } from './context.ts';
import { EXIT_OK, UsageError } from './errors.ts';
import { laneTable } from './lanes.ts';
import { duration, table } from './output.ts';

export async function stats(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`stats takes no words, not ${input.words.join(' ')}`);
  const value = await withDataplane(context, (client) => client.request('stats', {}));
  print(context, value, describe);
  return EXIT_OK;
}

function describe(value: Stats): string {
  const networks = table(
    ['NETWORK', 'VNI', 'RX-PKTS', 'RX-BYTES', 'TX-PKTS', 'TX-BYTES', 'DROPS', 'ARP', 'ND', 'FDB', 'NEIGH'],
    value.networks.map(networkRow),
    ['VNI', 'RX-PKTS', 'RX-BYTES', 'TX-PKTS', 'TX-BYTES', 'DROPS', 'ARP', 'ND', 'FDB', 'NEIGH'],
  );
  const lanes = laneTable(value);
  return (
    `${networks}\n${lanes}\n` +
    `up ${duration(value.uptime)}, ${sum(value.drops)} drops before a network was known, ` +
    `${value.socket_overflows} datagrams lost to full receive buffers, ` +
    `${value.bad_checksums ?? 0} to wrong UDP checksums, ${value.events_suppressed} events left out\n`
  );
}

function networkRow(network: NetworkStats): string[] {
  return [
    network.network,
    String(network.vni),
    String(network.rx.packets),
    String(network.rx.bytes),
    String(network.tx.packets),
    String(network.tx.bytes),
    String(sum(network.drops)),
    String(network.arp_replies),
    String(network.nd_replies),
    String(network.fdb_entries),
    String(network.neighbour_entries),
  ];
}

function sum(counts: Readonly<Record<string, number | undefined>>): number {
  return Object.values(counts).reduce<number>((total, count) => total + (count ?? 0), 0);
}
