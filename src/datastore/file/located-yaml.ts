/**
 * A YAML (or JSON, which is YAML) text as a plain value, with the line and column of every part of it. Keys that appear
 * twice in one mapping are refused: the reader of the file and vtepd would each see another one.
 */
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
} from 'yaml';
import { quote } from '../../net/errors.ts';

/** Where something is in the value: names and list positions from the top. */
export type ValuePath = readonly (string | number)[];

/** What is wrong with one part of a text. */
export interface Problem {
  /** Line and column, both from 1. */
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

export interface LocatedValue {
  readonly value: unknown;
  /** A problem at that place, or, where it is absent, at the innermost part that is there. */
  problemAt(path: ValuePath, message: string): Problem;
}

/** Parses one document, or says what keeps it from being one. */
export function parseLocated(text: string): LocatedValue | { readonly problems: Problem[] } {
  const lines = new LineCounter();
  const at = (offset: number, message: string): Problem => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col, message };
  };
  try {
    // The library compares each key with all before it, which a long mapping turns into minutes: checked below instead.
    const document = parseDocument(text, {
      lineCounter: lines,
      uniqueKeys: false,
      stringKeys: true,
      prettyErrors: false,
    });
    const problems = document.errors.map((error) => at(error.pos[0], `is not YAML: ${error.message}; mend the syntax`));
    problems.push(
      ...repeatedKeys(document).map(([offset, key]) => at(offset, `${quote(key)} appears twice: remove one`)),
    );
    if (problems.length > 0) return { problems };
    return {
      value: document.toJS(),
      problemAt: (path, message) => at(offsetOf(document, path), message),
    };
  } catch (error) {
    // Too many aliases (ReferenceError) or too deep a nesting (RangeError): nothing that a list of hosts needs.
    const reason = error instanceof Error ? error.message : String(error);
    return { problems: [{ line: 1, column: 1, message: `is no plain YAML document: ${reason}; simplify it` }] };
  }
}

function repeatedKeys(document: Document): [number, string][] {
  const found: [number, string][] = [];
  const open: unknown[] = [document.contents];
  while (open.length > 0) {
    const node = open.pop();
    if (isSeq(node)) open.push(...node.items.filter((item) => !isScalar(item)));
    if (!isMap(node)) continue;
    const seen = new Set<string>();
    for (const { key, value } of node.items) {
      const name = keyText(key);
      if (seen.has(name)) found.push([startOf(key) ?? 0, name]);
      seen.add(name);
      if (!isScalar(value)) open.push(value);
    }
  }
  return found;
}

/** Names match without regard to case, as the readers of the value do it; of several the last. */
function offsetOf(document: Document, path: ValuePath): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const step of path) {
    if (isAlias(node)) node = node.resolve(document);
    let next: unknown;
    if (isMap(node)) {
      const wanted = String(step).toLowerCase();
      const pair = node.items.findLast((item) => keyText(item.key).toLowerCase() === wanted);
      next = pair === undefined ? undefined : (pair.value ?? pair.key);
    } else if (isSeq(node)) {
      next = node.items[Number(step)];
    }
    if (next === undefined) break;
    node = next;
    offset = startOf(node) ?? offset;
  }
  return offset;
}

function startOf(node: unknown): number | undefined {
  if (isPair(node)) return startOf(node.key);
  return isNode(node) ? (node as Node).range?.[0] : undefined;
}

function keyText(key: unknown): string {
  return String(isScalar(key) ? key.value : key);
}
