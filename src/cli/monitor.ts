/** `vtepd monitor`: one line for each notification of the dataplane, until SIGINT or SIGTERM. */
import { DataplaneClient } from '../dataplane/client.ts';
import type { ParsedArguments } from './arguments.ts';
import type { Context } from './context.ts';
import { CommandError, EXIT_OK } from './errors.ts';
import { EVENT_NAMES, type EventName, eventLine, isAbout, parseMonitor } from './monitor-lines.ts';

export async function monitor(context: Context, input: ParsedArguments): Promise<number> {
  const { network } = parseMonitor(input.words);
  const client = await DataplaneClient.connect(context.paths.socket);
  try {
    await client.hello();
    const stop = new Promise<'signal'>((resolve) => {
      process.once('SIGTERM', () => resolve('signal')).once('SIGINT', () => resolve('signal'));
    });
    // The dataplane sends from the answer to `events.subscribe` on.
    for (const name of EVENT_NAMES) follow(context, client, name, network);
    await client.request('events.subscribe', {});
    const why = await Promise.race([stop, client.closed]);
    if (why !== 'signal') throw new CommandError('CLOSED', 'the dataplane ended, there is nothing more to tell');
    return EXIT_OK;
  } finally {
    client.close();
  }
}

function follow<N extends EventName>(context: Context, client: DataplaneClient, name: N, network?: string): void {
  client.on(name, (event) => {
    if (!isAbout(event, network)) return;
    const line = eventLine(name, event);
    if (line === undefined) return;
    context.out(
      context.json ? `${JSON.stringify({ event: name, time: new Date().toISOString(), ...event })}\n` : `${line}\n`,
    );
  });
}
