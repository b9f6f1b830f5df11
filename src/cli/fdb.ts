/** `vtepd fdb show|add|append|replace|del`. */
import type { DataplaneClient } from '../dataplane/client.ts';
import type { EntryVerb, FdbDump } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print, resolveNetwork, withDataplane } from './context.ts';
import { EXIT_OK } from './errors.ts';
import { parseFdbChange, parseFdbShow } from './fdb-words.ts';
import { duration } from './output.ts';

/** The command of one verb. */
export function fdbChange(verb: EntryVerb) {
  return async (context: Context, input: ParsedArguments): Promise<number> => {
    const request = parseFdbChange(verb, input.words);
    await withDataplane(context, async (client) => {
      const network = await resolveNetwork(client, request.network);
      await client.request('fdb.change', { ...request, network });
    });
    print(context, {}, () => '');
    return EXIT_OK;
  };
}

export async function fdbShow(context: Context, input: ParsedArguments): Promise<number> {
  const { network } = parseFdbShow(input.words);
  const rows = await withDataplane(context, async (client) => {
    const names = network === undefined ? (await client.hello()).networks : [network];
    return (await Promise.all(names.map((name) => dump(client, name)))).flat();
  });
  print(context, rows, () => rows.map((row) => describe(row, network === undefined)).join(''));
  return EXIT_OK;
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
