/** Every `--help` text, made from the command table. */
import type { OptionSpec } from '../config/option-spec.ts';
import { COMMANDS, type CommandSpec, GLOBAL_OPTIONS, verbsOf } from './commands.ts';

const EXITS = [
  ['0', 'done'],
  ['1', 'tried and failed'],
  ['2', 'the command line was not understood; nothing was tried'],
  ['3', 'no dataplane runs, or no controller where one is needed'],
] as const;

export function mainHelp(): string {
  return [
    'vtepd: a VXLAN tunnel endpoint that needs no kernel vxlan module\n',
    'Usage: vtepd COMMAND [options]\n',
    section(
      'Commands',
      COMMANDS.map((command) => [command.name, command.summary]),
    ),
    section('Options', [...GLOBAL_OPTIONS.map(optionRow), ['-V, --version', 'version of vtepd']]),
    section('Exit status', EXITS),
    'vtepd COMMAND --help tells more of each.\n',
  ].join('\n');
}

export function objectHelp(object: string): string {
  return [
    `Usage: vtepd ${object} VERB ...\n`,
    section(
      'Verbs',
      verbsOf(object).map((command) => [command.usage, command.summary]),
    ),
    `vtepd ${object} VERB --help tells more of each.\n`,
  ].join('\n');
}

export function commandHelp(command: CommandSpec): string {
  const parts = [`vtepd ${command.name}: ${command.summary}\n`, `Usage: vtepd ${command.usage}\n`];
  if (command.words !== undefined) parts.push(section('Words, in any order', command.words));
  const own = (command.options ?? []).filter((option) => option.hidden !== true);
  parts.push(section('Options', [...own, ...GLOBAL_OPTIONS].map(optionRow)));
  if (command.notes !== undefined) parts.push(command.notes.map((note) => `${note}\n`).join(''));
  if (command.examples !== undefined) {
    parts.push(
      `Example${command.examples.length === 1 ? '' : 's'}:\n${command.examples.map((line) => `  ${line}\n`).join('')}`,
    );
  }
  return parts.join('\n');
}

function optionRow(option: OptionSpec): [string, string] {
  const long = `--${option.name}${option.value === undefined ? '' : ` ${option.value}`}`;
  return [option.short === undefined ? long : `-${option.short}, ${long}`, option.text];
}

function section(title: string, rows: readonly (readonly [string, string])[]): string {
  const width = Math.min(34, Math.max(...rows.map(([left]) => left.length)));
  const lines = rows.map(([left, right]) =>
    left.length > width ? `  ${left}\n  ${' '.repeat(width)}  ${right}\n` : `  ${left.padEnd(width)}  ${right}\n`,
  );
  return `${title}:\n${lines.join('')}`;
}
