/** `vtepd misses`: what frames and the proxy looked for in vain, as `vtepd run` remembers it. */
import type { MissStatus } from '../daemon/status-types.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print } from './context.ts';
import { askMisses } from './controller.ts';
import { CommandError, EXIT_NOT_RUNNING, EXIT_OK } from './errors.ts';
import { table } from './output.ts';
import { readDev, WordReader } from './words.ts';

export async function misses(context: Context, input: ParsedArguments): Promise<number> {
  const { network } = readDev(new WordReader('misses', input.words));
  const all = await askMisses(context.paths);
  if (all === undefined) {
    throw new CommandError(
      'NOT_RUNNING',
      'no `vtepd run` of this instance runs, which remembers misses; `vtepd monitor` prints them as they happen',
      EXIT_NOT_RUNNING,
    );
  }
  const rows = network === undefined ? all : all.filter((miss) => miss.network === network);
  print(context, rows, describe);
  return EXIT_OK;
}

function describe(rows: readonly MissStatus[]): string {
  if (rows.length === 0) return 'nothing was looked for in vain\n';
  const cells = rows.map(({ network, layer, key, count, first, last }) => [
    network,
    layer,
    key,
    String(count),
    first,
    last,
  ]);
  return table(['NETWORK', 'LAYER', 'LOOKED-FOR', 'COUNT', 'FIRST', 'LAST'], cells, ['COUNT']);
}
