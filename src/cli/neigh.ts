/** `vtepd neigh show|add|replace|del`. */
import type { DataplaneClient } from '../dataplane/client.ts';
import type { EntryVerb, NeighbourDump } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print, resolveNetwork, withDataplane } from './context.ts';
import { EXIT_OK } from './errors.ts';
import { parseNeighChange, parseNeighShow } from './neigh-words.ts';

/** The command of one verb. */
export function neighChange(verb: Exclude<EntryVerb, 'append'>) {
  return async (context: Context, input: ParsedArguments): Promise<number> => {
    const request = parseNeighChange(verb, input.words);
    await withDataplane(context, async (client) => {
      const network = await resolveNetwork(client, request.network);
      await client.request('neigh.change', { ...request, network });
    });
    print(context, {}, () => '');
    return EXIT_OK;
  };
}

export async function neighShow(context: Context, input: ParsedArguments): Promise<number> {
  const { network } = parseNeighShow(input.words);
  const rows = await withDataplane(context, async (client) => {
    const names = network === undefined ? (await client.hello()).networks : [network];
    return (await Promise.all(names.map((name) => dump(client, name)))).flat();
  });
  print(context, rows, () => rows.map((row) => describe(row, network === undefined)).join(''));
  return EXIT_OK;
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
