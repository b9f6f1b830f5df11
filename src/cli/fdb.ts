/** `vtepd fdb show|add|append|replace|del`. */
import type { DataplaneClient } from '../dataplane/client.ts';
import type { EntryVerb, FdbDump } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import type { Context } from './context.ts';
import { parseFdbChange, parseFdbShow } from './fdb-words.ts';
import { duration } from './output.ts';
import { changeTable, showTable } from './tables.ts';

/** The command of one verb. */
export function fdbChange(verb: EntryVerb) {
  return (context: Context, input: ParsedArguments): Promise<number> =>
    changeTable(context, parseFdbChange(verb, input.words), (client, request) => client.request('fdb.change', request));
}

export function fdbShow(context: Context, input: ParsedArguments): Promise<number> {
  return showTable(context, parseFdbShow(input.words).network, dump, describe);
}

async function dump(client: DataplaneClient, name: string) {
  const { fdb } = await client.request('tables.dump', { network: name });
  return fdb.flatMap((entry) => toRows(name, entry));
}

/** One row a destination, as `bridge fdb` has one line each; the documented keys of `--json`. */
function toRows(name: string, entry: FdbDump) {
  return entry.destinations.map((destination) => ({
    mac: entry.mac,
    ifname: name,
    dst: destination.ip,
    port: destination.port ?? null,
    vni: destination.vni ?? null,
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
  words.push('self', row.state, `source ${row.source}`);
  if (row.used !== null) words.push(`used ${duration(row.used)}`);
  if (!row.active) words.push('inactive');
  return `${words.join(' ')}\n`;
}
