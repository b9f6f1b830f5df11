/** What the commands about FDB and neighbours share: which network they mean, and how its table is asked for. */
import type { DataplaneClient } from '../dataplane/client.ts';
import { type Context, print, resolveNetwork, withDataplane } from './context.ts';
import { EXIT_OK } from './errors.ts';

/** Carries out one change on the network that was named or is the only one. */
export async function changeTable<Request extends { readonly network: string | undefined }>(
  context: Context,
  request: Request,
  send: (client: DataplaneClient, request: Request & { readonly network: string }) => Promise<unknown>,
): Promise<number> {
  await withDataplane(context, async (client) => {
    const network = await resolveNetwork(client, request.network);
    await send(client, { ...request, network });
  });
  print(context, {}, () => '');
  return EXIT_OK;
}

/** Shows the rows of one network, or of all that are held; lines of all networks name their device. */
export async function showTable<Row>(
  context: Context,
  network: string | undefined,
  rowsOf: (client: DataplaneClient, name: string) => Promise<Row[]>,
  describe: (row: Row, withDevice: boolean) => string,
): Promise<number> {
  const rows = await withDataplane(context, async (client) => {
    const names = network === undefined ? (await client.hello()).networks : [network];
    return (await Promise.all(names.map((name) => rowsOf(client, name)))).flat();
  });
  print(context, rows, () => rows.map((row) => describe(row, network === undefined)).join(''));
  return EXIT_OK;
}
