/** What a command is given: where it writes, which instance it speaks of, how it reaches the two processes. */
import type { Paths } from '../config/paths.ts';
import { DataplaneClient } from '../dataplane/client.ts';
import { CommandError, EXIT_FAILED } from './errors.ts';

export interface Context {
  readonly paths: Paths;
  readonly env: NodeJS.ProcessEnv;
  /** `--json`: one JSON value on standard output. */
  readonly json: boolean;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/** Prints a value: as one line of JSON, or as what `text` makes of it. */
export function print<T>(context: Context, value: T, text: (value: T) => string): void {
  const shown = context.json ? `${JSON.stringify(value)}\n` : text(value);
  if (shown !== '') context.out(shown.endsWith('\n') ? shown : `${shown}\n`);
}

/** Runs `use` with a connection to the dataplane that runs, and ends the connection. */
export async function withDataplane<T>(context: Context, use: (client: DataplaneClient) => Promise<T>): Promise<T> {
  const client = await DataplaneClient.connect(context.paths.socket);
  try {
    await client.hello();
    return await use(client);
  } finally {
    client.close();
  }
}

/** The network that was named; left out, the only one that is held. */
export async function resolveNetwork(client: DataplaneClient, name: string | undefined): Promise<string> {
  if (name !== undefined) return name;
  const { networks } = await client.hello();
  const [only, ...others] = networks;
  if (only !== undefined && others.length === 0) return only;
  throw new CommandError(
    only === undefined ? 'NO_NETWORK' : 'AMBIGUOUS_NETWORK',
    only === undefined
      ? 'no network is held; make one with `vtepd link add` or `vtepd run`'
      : `several networks are held (${networks.join(', ')}); say which with \`dev NAME\``,
    EXIT_FAILED,
  );
}
