/** From a command line to the command that it names. */
import { DEFAULT_INSTANCE, InstanceError, instancePaths } from '../config/paths.ts';
import { isOn, optionValue, parseArguments } from './arguments.ts';
import { COMMANDS, type CommandSpec, DEFAULT_VERB, GLOBAL_OPTIONS, objects, verbName, verbsOf } from './commands.ts';
import type { Context } from './context.ts';
import { EXIT_OK, toFailure, UsageError } from './errors.ts';
import { commandHelp, mainHelp, objectHelp } from './help.ts';
import { didYouMean } from './suggest.ts';
import { version } from './version.ts';

export interface Terminal {
  readonly env: NodeJS.ProcessEnv;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/** What a command line asks for. */
type Request =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'command'; readonly command: CommandSpec; readonly tokens: readonly string[] };

/** Runs a command line (without node and script) to its exit status; never rejects. */
export async function dispatch(argv: readonly string[], terminal: Terminal): Promise<number> {
  const json = argv.some((token) => token === '--json' || token === '-j' || token === '--json=true');
  try {
    const request = understand(argv);
    if (request.kind === 'text') {
      terminal.out(request.text);
      return EXIT_OK;
    }
    const { command, tokens } = request;
    const input = parseArguments(tokens, [...(command.options ?? []), ...GLOBAL_OPTIONS]);
    if (isOn(input, 'help')) {
      terminal.out(commandHelp(command));
      return EXIT_OK;
    }
    const instance = optionValue(input, 'instance') ?? (terminal.env.VTEPD_INSTANCE || DEFAULT_INSTANCE);
    const context: Context = { ...terminal, paths: instancePaths(instance, terminal.env), json: isOn(input, 'json') };
    const run = await command.load();
    return await run(context, input);
  } catch (error) {
    const failure = toFailure(error instanceof InstanceError ? new UsageError(error.message) : error);
    terminal.err(json ? `${JSON.stringify({ error: failure })}\n` : `vtepd: ${failure.message}\n`);
    return failure.exit;
  }
}

function understand(argv: readonly string[]): Request {
  const { before, words, rest } = split(argv);
  const [first, second] = words;
  const wantsHelp = argv.some((token) => token === '--help' || token === '-h' || token === '-help');
  if (first === undefined) {
    if (argv.some((token) => ['--version', '-version', '-V'].includes(token))) return text(`vtepd ${version()}\n`);
    if (wantsHelp || argv.length === 0) return text(mainHelp());
    parseArguments(before, GLOBAL_OPTIONS);
    throw new UsageError('a command is needed; `vtepd --help` lists them');
  }
  if (first === 'help') return text(helpOf(words.slice(1)));
  if (first === 'version') return text(`vtepd ${version()}\n`);
  const plain = COMMANDS.find((command) => command.name === first);
  if (plain !== undefined) {
    if (plain.name === 'run' && rest.some((token) => ['--version', '-version'].includes(token)))
      return text(`vtepd ${version()}\n`);
    return { kind: 'command', command: plain, tokens: [...before, ...rest] };
  }
  if (!objects().includes(first)) throw unknownCommand(first);
  if (second === undefined && wantsHelp) return text(objectHelp(first));
  if (second === 'help') return text(objectHelp(first));
  const command = findVerb(first, second ?? DEFAULT_VERB);
  const position = second === undefined ? -1 : rest.indexOf(second);
  return { kind: 'command', command, tokens: [...before, ...rest.filter((_, index) => index !== position)] };
}

function text(value: string): Request {
  return { kind: 'text', text: value };
}

/** Global options may stand before the command; everything behind its first word is the command's. */
function split(argv: readonly string[]): { before: string[]; words: string[]; rest: string[] } {
  let index = 0;
  while (index < argv.length) {
    const token = argv[index] ?? '';
    if (!token.startsWith('-')) break;
    index += /^--?instance$/.test(token) ? 2 : 1;
  }
  const rest = argv.slice(index + 1);
  const words = argv.slice(index, index + 1);
  for (let next = 0; next < rest.length; next++) {
    const token = rest[next] ?? '';
    if (!token.startsWith('-')) words.push(token);
    else if (/^--?instance$/.test(token)) next++;
  }
  return { before: argv.slice(0, index), words, rest };
}

function findVerb(object: string, verb: string): CommandSpec {
  const commands = verbsOf(object);
  const found = commands.find((command) => verbName(command) === verb || command.aliases?.includes(verb) === true);
  if (found !== undefined) return found;
  const names = commands.map(verbName);
  throw new UsageError(`unknown verb ${object} ${verb}${didYouMean(verb, names)} (verbs: ${names.join(', ')})`);
}

function helpOf(words: readonly string[]): string {
  const [first, second] = words;
  if (first === undefined) return mainHelp();
  const plain = COMMANDS.find((command) => command.name === first);
  if (plain !== undefined) return commandHelp(plain);
  if (!objects().includes(first)) throw unknownCommand(first);
  return second === undefined ? objectHelp(first) : commandHelp(findVerb(first, second));
}

function unknownCommand(word: string): UsageError {
  const names = [...COMMANDS.map(({ name }) => name).filter((name) => !name.includes(' ')), ...objects(), 'help'];
  return new UsageError(`unknown command ${word}${didYouMean(word, names)}; \`vtepd --help\` lists them`);
}
