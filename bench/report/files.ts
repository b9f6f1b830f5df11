/** Writes a result where it can be found again: JSON with every sample, SVG, and the text that was shown. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Summary } from './summary.ts';

export interface Report {
  readonly stamp: string;
  readonly json: string;
  readonly svg: string;
  readonly text: string;
}

export async function writeReport(dir: string, report: Report): Promise<readonly string[]> {
  await mkdir(dir, { recursive: true });
  const files = (['json', 'svg'] as const).map((kind) => [`${report.stamp}.${kind}`, report[kind]] as const);
  const all = [...files, [`${report.stamp}.txt`, report.text] as const];
  for (const [name, content] of all) await writeFile(join(dir, name), content);
  return all.map(([name]) => join(dir, name));
}

/** A summary with its map as an object, so that JSON holds it. */
export function plainSummary(summary: Summary): unknown {
  return { ...summary, cells: Object.fromEntries(summary.cells) };
}
