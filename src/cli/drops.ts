/** `vtepd drops`: why frames died, the most frequent reason first, each with what to do about it. */
import { DROP_REASONS, type DropReason, type Stats } from '../dataplane/protocol.ts';
import { isOn, type ParsedArguments } from './arguments.ts';
import { type Context, print, withDataplane } from './context.ts';
import { EXIT_OK, UsageError } from './errors.ts';

/** The documented keys of `drops --json`; `network` is null for frames that died before their network was known. */
interface DropRow {
  readonly network: string | null;
  readonly reason: string;
  readonly count: number;
  readonly text: string;
  readonly hint: string;
}

export async function drops(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`drops takes no words, not ${input.words.join(' ')}`);
  const value = await withDataplane(context, (client) => client.request('stats', {}));
  print(context, toRows(value, isOn(input, 'all')), describe);
  return EXIT_OK;
}

function toRows(value: Stats, all: boolean): DropRow[] {
  const counted: DropRow[] = [
    ...value.networks.flatMap((network) => rowsOf(network.network, network.drops)),
    ...rowsOf(null, value.drops),
  ];
  const seen = new Set(counted.map((row) => row.reason));
  const never = Object.keys(DROP_REASONS).filter((reason) => !seen.has(reason));
  const rows = all ? [...counted, ...never.map((reason) => toRow(null, reason, 0))] : counted;
  return rows.toSorted((a, b) => b.count - a.count || a.reason.localeCompare(b.reason));
}

function rowsOf(network: string | null, counts: Stats['drops']): DropRow[] {
  return Object.entries(counts).flatMap(([reason, count]) => (count > 0 ? [toRow(network, reason, count)] : []));
}

function toRow(network: string | null, reason: string, count: number): DropRow {
  const known = Object.hasOwn(DROP_REASONS, reason) ? DROP_REASONS[reason as DropReason] : undefined;
  return { network, reason, count, text: known?.text ?? '', hint: known?.hint ?? '' };
}

function describe(rows: readonly DropRow[]): string {
  if (rows.length === 0) return 'no frame has been dropped\n';
  const width = Math.max(...rows.map((row) => String(row.count).length), 8);
  const indent = ' '.repeat(width + 2);
  return rows
    .map((row) => {
      const where = row.network === null ? '' : ` on ${row.network}`;
      const hint = row.count > 0 ? `${indent}-> ${row.hint}\n` : '';
      return `${String(row.count).padStart(width)}  ${row.reason}${where}: ${row.text}\n${hint}`;
    })
    .join('');
}
