/** `vtepd offloads show|set`: what the kernel lets the dataplane use, what is in use, and why not. */
import type { OffloadState } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print, withDataplane } from './context.ts';
import { EXIT_OK, UsageError } from './errors.ts';
import { table } from './output.ts';

export async function offloadsShow(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`offloads show takes no words, not ${input.words.join(' ')}`);
  print(context, await withDataplane(context, (client) => client.request('offloads.show', {})), describe);
  return EXIT_OK;
}

export async function offloadsSet(context: Context, input: ParsedArguments): Promise<number> {
  const [offload, value, ...rest] = input.words;
  if (offload === undefined || (value !== 'on' && value !== 'off') || rest.length > 0) {
    throw new UsageError('offloads set takes an offload and `on` or `off`: vtepd offloads set udp_segment off');
  }
  const request = { offload, enabled: value === 'on' };
  print(context, await withDataplane(context, (client) => client.request('offloads.set', request)), describe);
  return EXIT_OK;
}

function describe(states: readonly OffloadState[]): string {
  const yes = (value: boolean): string => (value ? 'yes' : 'no');
  return table(
    ['OFFLOAD', 'KERNEL', 'SWITCH', 'USED', 'REASON'],
    states.map((state) => [
      state.offload,
      yes(state.supported),
      state.enabled ? 'on' : 'off',
      yes(state.active),
      state.reason,
    ]),
  );
}
