/**
 * Regular expressions as flanneld's flags take them: Go's syntax (RE2), matched anywhere in a text. What means the same in
 * both languages is taken, `(?i)` at the beginning too; what JavaScript reads otherwise is refused by name.
 */

/** Inline flags, `(?P<name>`, POSIX classes, `\A`, `\z`, `\Q`, `\C`: without the u flag they would mean something else. */
const GO_ONLY = /\(\?[a-zA-Z-]|\[\[:|\\[AzQEC]/;

export function parseGoRegexp(text: string): RegExp {
  const folded = text.startsWith('(?i)');
  const rest = folded ? text.slice('(?i)'.length) : text;
  const found = GO_ONLY.exec(rest)?.[0];
  if (text === '') throw new Error('a regular expression is needed');
  if (found !== undefined) {
    throw new Error(`${JSON.stringify(text)}: ${found} is not served; write it with ^, $, [...] and a leading (?i)`);
  }
  try {
    return new RegExp(rest, folded ? 'i' : '');
  } catch (error) {
    throw new Error(`${JSON.stringify(text)}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
