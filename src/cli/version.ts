/** The version of this program, as package.json has it. */
import { readFileSync } from 'node:fs';

export function version(): string {
  // From src/cli and from dist/cli alike, the package's root is two directories up.
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  const parsed: unknown = JSON.parse(text);
  const found = typeof parsed === 'object' && parsed !== null && 'version' in parsed ? parsed.version : undefined;
  return typeof found === 'string' ? found : 'unknown';
}
