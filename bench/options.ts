/** The command line of `npm run bench`, checked once. */
import { parseArgs } from 'node:util';
import {
  type BuiltInSystem,
  DEFAULT_SYSTEMS,
  PROFILES,
  type Profile,
  SYSTEMS,
  TESTS,
  type TestName,
} from './vocabulary.ts';

export const HELP = `npm run bench -- [options]: vtepd against the kernel's vxlan device and what else there is, in one run

  --systems LIST      ${SYSTEMS.join(',')} (all but the last two; ratios need kernel)
  --compare NAME=PATH one more dataplane of vtepd, another build for example; may be repeated
  --tests LIST        ${TESTS.join(',')} (all)
  --profiles LIST     ${PROFILES.join(',')} (all)
  --repetitions N     5; every repetition measures all systems in turn
  --duration S        2; length of a TCP stream, the others follow
  --lanes N           packet threads of vtepd's dataplane (its own default)
  --quick             nic profile, no TCP round trips, two short repetitions; ends within two minutes
  --json              the result as JSON on standard output instead of the table
  --out DIR           where JSON, SVG and text go (bench/results)
  --help              this

bench/README.md says how to read the result.`;

export class OptionsError extends Error {
  readonly code = 'INVALID_OPTIONS';
}

export interface Timing {
  /** Seconds of a TCP stream. */
  readonly bulk: number;
  /** Seconds before a stream is measured. */
  readonly warm: number;
  /** Seconds of one offered rate. */
  readonly rate: number;
  /** How many rates are offered at most. */
  readonly rateSteps: number;
  /** Seconds of one run of round trips, and how many runs. */
  readonly ping: number;
  readonly pingRuns: number;
  /** Longest wait for a quiet machine before each measurement, in seconds. */
  readonly quiet: number;
  /** How often a measurement is made until nothing disturbed it. */
  readonly attempts: number;
  /** No measurement begins after so many seconds. */
  readonly budget: number;
}

export interface Options {
  readonly systems: readonly BuiltInSystem[];
  readonly compare: readonly { readonly name: string; readonly path: string }[];
  readonly tests: readonly TestName[];
  readonly profiles: readonly Profile[];
  readonly repetitions: number;
  readonly lanes: number | undefined;
  readonly timing: Timing;
  readonly json: boolean;
  readonly out: string | undefined;
  readonly help: boolean;
}

const QUICK_WITHOUT: ReadonlySet<TestName> = new Set(['rr2-tcp', 'rr1-tcp']);
/** 100 of the 120 seconds; the rest is for the last measurement and for taking everything down. */
const QUICK_BUDGET = 100;

export function parseOptions(words: readonly string[]): Options {
  const { values } = parse(words);
  const quick = values.quick === true;
  const duration = number('--duration', values.duration, quick ? 0.6 : 2, 0.1, 600);
  return {
    systems: values.systems === undefined ? DEFAULT_SYSTEMS : list('--systems', values.systems, SYSTEMS),
    compare: (values.compare ?? []).map(parseCompare),
    tests: list('--tests', values.tests, TESTS).filter(
      (test) => !quick || values.tests !== undefined || !QUICK_WITHOUT.has(test),
    ),
    profiles: quick && values.profiles === undefined ? ['nic'] : list('--profiles', values.profiles, PROFILES),
    repetitions: whole('--repetitions', values.repetitions, quick ? 2 : 5, 1000),
    lanes: values.lanes === undefined ? undefined : whole('--lanes', values.lanes, 1, 64),
    timing: {
      bulk: duration,
      warm: quick ? 0.2 : 0.5,
      rate: Math.min(0.5, duration / 2),
      rateSteps: quick ? 6 : 12,
      ping: Math.min(0.5, duration / 2),
      pingRuns: quick ? 1 : 3,
      quiet: quick ? 0.4 : 5,
      attempts: quick ? 1 : 3,
      budget: quick ? QUICK_BUDGET : Number.POSITIVE_INFINITY,
    },
    json: values.json === true,
    out: values.out,
    help: values.help === true,
  };
}

function parse(words: readonly string[]) {
  try {
    return parseArgs({
      args: [...words],
      options: {
        systems: { type: 'string' },
        compare: { type: 'string', multiple: true },
        tests: { type: 'string' },
        profiles: { type: 'string' },
        repetitions: { type: 'string' },
        duration: { type: 'string' },
        lanes: { type: 'string' },
        out: { type: 'string' },
        quick: { type: 'boolean' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new OptionsError(error instanceof Error ? error.message : String(error));
  }
}

/** In the order of `known`, which is the order of the table. */
function list<T extends string>(name: string, text: string | undefined, known: readonly T[]): readonly T[] {
  if (text === undefined) return known;
  const words = text.split(',').map((word) => word.trim());
  const unknown = words.find((word) => !(known as readonly string[]).includes(word));
  if (unknown !== undefined) throw new OptionsError(`${name}: '${unknown}' is not one of ${known.join(', ')}`);
  return known.filter((each) => words.includes(each));
}

function number(name: string, text: string | undefined, fallback: number, min: number, max: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (text.trim() === '' || !(value >= min && value <= max)) {
    throw new OptionsError(`${name} takes a number from ${min} to ${max}, not '${text}'`);
  }
  return value;
}

function whole(name: string, text: string | undefined, fallback: number, max: number): number {
  const value = number(name, text, fallback, 1, max);
  if (!Number.isInteger(value)) throw new OptionsError(`${name} takes a whole number, not '${text}'`);
  return value;
}

function parseCompare(text: string): { readonly name: string; readonly path: string } {
  const [, name, path] = /^([a-z0-9][a-z0-9-]{0,15})=(.+)$/.exec(text) ?? [];
  if (name === undefined || path === undefined || (SYSTEMS as readonly string[]).includes(name)) {
    throw new OptionsError(
      `--compare takes NAME=PATH, NAME of at most 16 small letters, digits and - and none of ${SYSTEMS.join(', ')}; not '${text}'`,
    );
  }
  return { name, path };
}
