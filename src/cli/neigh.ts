/** `vtepd neigh show|add|replace|del`. */
import type { DataplaneClient } from '../dataplane/client.ts';
import type { EntryVerb, NeighbourDump } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import type { Context } from './context.ts';
import { parseNeighChange, parseNeighShow } from './neigh-words.ts';
import { changeTable, showTable } from './tables.ts';

/** The command of one verb. */
export function neighChange(verb: Exclude<EntryVerb, 'append'>) {
  return (context: Context, input: ParsedArguments): Promise<number> =>
    changeTable(context, parseNeighChange(verb, input.words), (client, request) =>
      client.request('neigh.change', request),
    );
}

export function neighShow(context: Context, input: ParsedArguments): Promise<number> {
  return showTable(context, parseNeighShow(input.words).network, dump, describe);
}

async function dump(client: DataplaneClient, name: string) {
  const { neighbours } = await client.request('tables.dump', { network: name });
  return neighbours.map((entry) => toRow(name, entry));
}

/** The documented keys of `--json`. */
function toRow(name: string, entry: NeighbourDump) {
  return { dst: entry.prefix, dev: name, lladdr: entry.lladdr, source: entry.source, active: entry.active };
}

/** As `ip neigh show`; a single address has no length. */
function describe(row: ReturnType<typeof toRow>, withDevice: boolean): string {
  const words = [row.dst.replace(row.dst.includes(':') ? /\/128$/ : /\/32$/, '')];
  if (withDevice) words.push(`dev ${row.dev}`);
  words.push(`lladdr ${row.lladdr}`, 'PERMANENT', `source ${row.source}`);
  if (!row.active) words.push('inactive');
  return `${words.join(' ')}\n`;
}
