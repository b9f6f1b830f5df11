/**
 * Reads words in the order-free manner of `ip` and `bridge`: `dst 10.245.1.4 port 8472 dev vx0`. A word that those
 * tools know and this program does not serve yet is refused by its name, so nobody believes that it took effect.
 */
import { checkDeviceName } from '../config/device-name.ts';
import { UsageError } from './errors.ts';
import { didYouMean } from './suggest.ts';

export class WordReader {
  readonly #command: string;
  readonly #words: readonly string[];
  #next = 0;

  constructor(command: string, words: readonly string[]) {
    this.#command = command;
    this.#words = words;
  }

  get done(): boolean {
    return this.#next >= this.#words.length;
  }

  /** Words not read yet. */
  get rest(): readonly string[] {
    return this.#words.slice(this.#next);
  }

  next(): string {
    return this.#words[this.#next++] ?? '';
  }

  /** The word after `word`, which must be there. */
  valueOf(word: string, what: string): string {
    if (this.done) throw this.refuse(`${word} needs ${what}`);
    return this.next();
  }

  /** As `valueOf`, read by `parse`; an error names the word. */
  parsed<T>(word: string, what: string, parse: (text: string) => T): T {
    const text = this.valueOf(word, what);
    try {
      return parse(text);
    } catch (error) {
      throw this.refuse(`${word}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** A whole number between two bounds, decimal. */
  number(word: string, low: number, high: number): number {
    const text = this.valueOf(word, `a number from ${low} to ${high}`);
    const value = /^[0-9]{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= low && value <= high)) throw this.refuse(`${word} ${text}: must be a number from ${low} to ${high}`);
    return value;
  }

  refuse(message: string): UsageError {
    return new UsageError(`${this.#command}: ${message}`);
  }

  unserved(word: string, hint = ''): UsageError {
    return new UsageError(`${this.#command}: ${word} is not served yet${hint === '' ? '' : `: ${hint}`}`, 'NOT_SERVED');
  }

  unknown(word: string, known: Iterable<string>): UsageError {
    return this.refuse(`unknown word ${JSON.stringify(word)}${didYouMean(word, known)}`);
  }
}

/** Holds a value that may be given once. */
export class Once<T> {
  readonly #word: string;
  readonly #reader: WordReader;
  #value: T | undefined;

  constructor(reader: WordReader, word: string) {
    this.#reader = reader;
    this.#word = word;
  }

  get value(): T | undefined {
    return this.#value;
  }

  set(value: T): void {
    if (this.#value !== undefined) throw this.#reader.refuse(`${this.#word} is given twice`);
    this.#value = value;
  }
}

/** `[dev NAME]` and nothing else. */
export function readDev(reader: WordReader): { readonly network: string | undefined } {
  const dev = new Once<string>(reader, 'dev');
  while (!reader.done) {
    const word = reader.next();
    if (word !== 'dev') throw reader.unknown(word, ['dev']);
    dev.set(reader.parsed(word, 'a network', checkDeviceName));
  }
  return { network: dev.value };
}
