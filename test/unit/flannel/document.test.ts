/** docs/flannel.md names a test for what it says: the file has to be there, and a test of that name in it. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';

const at = (path: string): URL => new URL(`../../../${path}`, import.meta.url);

interface Claim {
  /** `flannel-dual`, of test/system; `unit/flannel/config`; a directory such as `unit/observe`. */
  readonly place: string;
  readonly names: readonly string[];
}

/** What the last cell of a table's row claims: places after `;` or `,`, each with names in backquotes after a colon. */
function claimsOf(cell: string): Claim[] {
  const claims: { place: string; names: string[] }[] = [];
  // What stands in parentheses is said to people.
  const words = cell.matchAll(/`([^`]+)`|\([^)]*\)|([a-z][a-z0-9/-]*)(?= *(?:[(:;,]|$))|[^`]/g);
  for (const [, name, place] of words) {
    if (name !== undefined) claims.at(-1)?.names.push(name);
    else if (place !== undefined) claims.push({ place, names: [] });
  }
  return claims;
}

function textOf(place: string): string | undefined {
  const path = place.startsWith('unit/') ? `test/${place}` : `test/system/${place}`;
  if (existsSync(at(`${path}.test.ts`))) return readFileSync(at(`${path}.test.ts`), 'utf8');
  if (!existsSync(at(path)) || !statSync(at(path)).isDirectory()) return undefined;
  const files = readdirSync(at(path)).filter((file) => file.endsWith('.test.ts'));
  return files.map((file) => readFileSync(at(`${path}/${file}`), 'utf8')).join('\n');
}

/** Rows of the tables whose last column is headed `held by`. */
function heldBy(): string[] {
  const cells: string[] = [];
  let within = false;
  for (const line of readFileSync(at('docs/flannel.md'), 'utf8').split('\n')) {
    const last = line.split('|').at(-2)?.trim();
    if (!line.startsWith('|')) within = false;
    else if (last === 'held by') within = true;
    else if (within && last !== undefined && !/^-+$/.test(last)) cells.push(last);
  }
  return cells;
}

test('every test that docs/flannel.md names is there', () => {
  const missing: string[] = [];
  let count = 0;
  for (const cell of heldBy()) {
    if (cell.startsWith('unit tests of `native/`') || cell === '') continue;
    for (const { place, names } of claimsOf(cell.replace(/,? unit tests of `native\/`/, ''))) {
      const text = textOf(place);
      if (text === undefined) missing.push(`${place}: no such file (in '${cell}')`);
      for (const name of names) {
        count += 1;
        // An ellipsis stands for what is left out.
        const parts = name.split('...').map((part) => part.trim());
        if (text !== undefined && !parts.every((part) => text.includes(part)))
          missing.push(`${place}: no test '${name}'`);
      }
    }
  }
  assert.deepEqual(missing, []);
  assert.ok(count > 60, `only ${count} names were found: is the document read rightly?`);
});
