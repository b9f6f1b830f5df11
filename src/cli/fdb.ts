/** `vtepd fdb show|add|append|replace|del|flush`. */
import type { DataplaneClient } from '../dataplane/client.ts';
import type { EntryVerb, FdbDump, FdbFlushed } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print, resolveNetwork, withDataplane } from './context.ts';
import { EXIT_OK } from './errors.ts';
import { type FdbFilter, parseFdbChange, parseFdbFlush, parseFdbShow } from './fdb-words.ts';
import { duration } from './output.ts';
import { changeTable, showTable } from './tables.ts';

/** The command of one verb. */
export function fdbChange(verb: EntryVerb) {
  return (context: Context, input: ParsedArguments): Promise<number> =>
    changeTable(context, parseFdbChange(verb, input.words), (client, request) => client.request('fdb.change', request));
}

export async function fdbFlush(context: Context, input: ParsedArguments): Promise<number> {
  const { network: named, ...selectors } = parseFdbFlush(input.words);
  const flushed = await withDataplane(context, async (client) => {
    const network = await resolveNetwork(client, named);
    return await client.request('fdb.flush', { ...selectors, network });
  });
  print(context, flushed, describeFlushed);
  return EXIT_OK;
}

function describeFlushed({ removed, reduced, kept }: FdbFlushed): string {
  const entries = (count: number): string => `${count} ${count === 1 ? 'entry' : 'entries'}`;
  const also = reduced === 0 ? '' : `, some destinations of ${entries(reduced)}`;
  return `removed ${entries(removed)}${also}${kept === 0 ? '' : `; kept ${entries(kept)} of a datastore`}`;
}

export function fdbShow(context: Context, input: ParsedArguments): Promise<number> {
  const filter = parseFdbShow(input.words);
  return showTable(context, filter.network, (client, name) => dump(client, name, filter), describe);
}

async function dump(client: DataplaneClient, name: string, { mac, dst, state }: FdbFilter) {
  const { fdb } = await client.request('tables.dump', { network: name });
  const asked = fdb.filter((entry) => (mac ?? entry.mac) === entry.mac && (state ?? entry.state) === entry.state);
  return asked.flatMap((entry) => toRows(name, entry)).filter((row) => (dst ?? row.dst) === row.dst);
}

/** One row a destination, as `bridge fdb` has one line each; the documented keys of `--json`. */
function toRows(name: string, entry: FdbDump) {
  return entry.destinations.map((destination) => ({
    mac: entry.mac,
    ifname: name,
    dst: destination.ip,
    port: destination.port ?? null,
    vni: destination.vni ?? null,
    via: destination.via ?? null,
    router: entry.router ?? false,
    state: entry.state,
    source: entry.source,
    active: entry.active,
    used: entry.used ?? null,
  }));
}

/** As `bridge fdb show`, with the source behind; like there, the device is left out where it was asked for. */
function describe(row: ReturnType<typeof toRows>[number], withDevice: boolean): string {
  const words = [row.mac];
  if (withDevice) words.push(`dev ${row.ifname}`);
  words.push(`dst ${row.dst}`);
  if (row.port !== null) words.push(`port ${row.port}`);
  if (row.vni !== null) words.push(`vni ${row.vni}`);
  if (row.via !== null) words.push(`via ${row.via}`);
  if (row.router) words.push('router');
  words.push('self', row.state, `source ${row.source}`);
  if (row.used !== null) words.push(`used ${duration(row.used)}`);
  if (!row.active) words.push('inactive');
  return `${words.join(' ')}\n`;
}
