/** What the demo shows: numbered steps, commands with the host they run on, and what they print. */
import { CommandError, shellWords } from '../test/system/lib/exec.ts';
import type { Netns } from '../test/system/lib/netns.ts';

const colour = process.stdout.isTTY && process.env.NO_COLOR === undefined;
const paint = (code: number, text: string): string => (colour ? `\x1b[${code}m${text}\x1b[0m` : text);
export const bold = (text: string): string => paint(1, text);
const dim = (text: string): string => paint(2, text);

export function say(text = ''): void {
  process.stdout.write(`${text}\n`);
}

/** Prints what a command printed, indented, at most `most` lines of it. */
export function output(text: string, most = 40): void {
  const lines = text.replace(/\s+$/, '').split('\n');
  for (const line of lines.slice(0, most)) say(`    ${line}`);
  if (lines.length > most) say(dim(`    ... and ${lines.length - most} lines more`));
}

/** A step that failed: which, and why. */
export class StepError extends Error {
  constructor(step: string, cause: unknown) {
    super(`"${step}" failed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

let count = 0;

/** Runs one step under its title. */
export async function step<T>(title: string, act: () => Promise<T>): Promise<T> {
  count += 1;
  say(`\n${bold(`${count}. ${title}`)}`);
  try {
    return await act();
  } catch (cause) {
    throw new StepError(title, cause);
  }
}

/** Shows a command as typed on a host; for one that is run in another way. */
export function typed(host: string, ...argv: string[]): void {
  say(`  ${dim(`${host}#`)} ${shellWords(argv).replace(/ '&'$/, ' &')}`);
}

/** A host's shell: shows each command, runs it in the host's namespace, shows what it prints. */
export class Shell {
  readonly #name: string;
  readonly #ns: Netns;
  readonly #env: Readonly<Record<string, string>>;
  readonly #programs: Readonly<Record<string, string>>;

  constructor(
    name: string,
    ns: Netns,
    env: Readonly<Record<string, string>> = {},
    programs: Readonly<Record<string, string>> = {},
  ) {
    this.#name = name;
    this.#ns = ns;
    this.#env = env;
    this.#programs = programs;
  }

  async run(...argv: string[]): Promise<string> {
    typed(this.#name, ...argv);
    const [command = '', ...rest] = argv;
    const result = await this.#ns.tryExec([this.#programs[command] ?? command, ...rest], { env: this.#env });
    if (result.status !== 0) throw new CommandError(argv, result);
    if (result.stdout.trim() !== '') output(result.stdout);
    return result.stdout;
  }
}
