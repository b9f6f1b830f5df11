/**
 * Takes the options out of a command line and leaves the words. Options may stand anywhere; a long one may have one
 * dash or two, as flanneld's; `--name value` and `--name=value` are the same. Words are for the command to read.
 */
import type { OptionSpec } from '../config/option-spec.ts';
import { UsageError } from './errors.ts';
import { didYouMean } from './suggest.ts';

export interface ParsedArguments {
  readonly words: readonly string[];
  /** Values in the order given, by long name; a switch has `true` or `false`. */
  readonly options: ReadonlyMap<string, readonly string[]>;
}

export function parseArguments(tokens: readonly string[], specs: readonly OptionSpec[]): ParsedArguments {
  const words: string[] = [];
  const options = new Map<string, string[]>();
  for (let index = 0; index < tokens.length; index++) {
    const token = tokens[index] ?? '';
    if (token === '--') {
      words.push(...tokens.slice(index + 1));
      break;
    }
    if (!/^--?[A-Za-z]/.test(token)) {
      words.push(token);
      continue;
    }
    const equals = token.indexOf('=');
    const written = equals === -1 ? token : token.slice(0, equals);
    const spec = findOption(written, specs);
    let value = equals === -1 ? undefined : token.slice(equals + 1);
    if (spec.value === undefined) {
      value ??= 'true';
      if (value !== 'true' && value !== 'false')
        throw new UsageError(`${written}: a switch is true or false, not ${JSON.stringify(value)}`);
    } else if (value === undefined) {
      value = tokens[++index];
      if (value === undefined) throw new UsageError(`${written} needs a value: ${written} ${spec.value}`);
    }
    const values = options.get(spec.name);
    if (values === undefined) options.set(spec.name, [value]);
    else if (spec.repeatable === true) values.push(value);
    else options.set(spec.name, [value]);
  }
  return { words, options };
}

/** True when a switch is on. */
export function isOn(parsed: ParsedArguments, name: string): boolean {
  return parsed.options.get(name)?.at(-1) === 'true';
}

export function optionValue(parsed: ParsedArguments, name: string): string | undefined {
  return parsed.options.get(name)?.at(-1);
}

function findOption(written: string, specs: readonly OptionSpec[]): OptionSpec {
  const bare = written.replace(/^--?/, '');
  const single = !written.startsWith('--') && bare.length === 1;
  const found = specs.find((spec) => (single ? spec.short === bare : spec.name === bare));
  if (found !== undefined) return found;
  const names = specs.filter((spec) => spec.hidden !== true).map((spec) => `--${spec.name}`);
  throw new UsageError(`unknown option ${written}${didYouMean(`--${bare}`, names)}`);
}
