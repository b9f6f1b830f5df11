/**
 * `links` and `options` of the settings file: maps whose keys are words of `vtepd link add`, turned into such words. What the words
 * mean is the command line's business: `ttl: 7` is `ttl 7`, `learning: false` is `nolearning`, `srcport: [5000, 6000]` is `srcport 5000 6000`.
 */

/** Words as a command line would have them, with where they were written. */
export interface WrittenWords {
  readonly words: readonly string[];
  readonly from: string;
}

export function readLinks(value: unknown, from: string, problems: string[]): WrittenWords[] {
  const entries: unknown[] = Array.isArray(value) ? value : [value];
  return entries.flatMap((entry, index) => readWords(entry, `${from}[${index}]`, problems));
}

/** One map; a list with it, or nothing if it is none. */
export function readWords(value: unknown, from: string, problems: string[]): WrittenWords[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    problems.push(`${from}: must be a map of words of \`vtepd link add\`, such as \`ttl: 7\``);
    return [];
  }
  const words = Object.entries(value).flatMap(([word, given]: [string, unknown]) => {
    const values: unknown[] = Array.isArray(given) ? given : [given];
    const texts = values.map(textOf);
    if (texts.every((text) => text !== undefined) && texts.length > 0) return [word, ...texts];
    if (given === true) return [word];
    if (given === false) return [`no${word}`];
    const unsafe = values.some((part) => typeof part === 'number');
    problems.push(
      unsafe
        ? `${from}: ${word}: a number that large must be a text, in quotes`
        : `${from}: ${word}: must be a text, a number, true, false, or a list of texts and numbers`,
    );
    return [];
  });
  return [{ words, from }];
}

/** YAML reads a large number, such as a mask of 64 bits, without its last digits. */
function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return typeof value === 'number' && Number.isSafeInteger(value) ? String(value) : undefined;
}
