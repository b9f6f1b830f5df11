/** Where the load tool is, and how a command gets into a namespace with it. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const BENCH_DIR = fileURLToPath(new URL('..', import.meta.url));

/** `VTEPD_LOAD` names another build of it. */
export const LOAD_TOOL = process.env.VTEPD_LOAD ?? join(BENCH_DIR, 'load/target/release/vtepd-load');

export async function requireLoadTool(): Promise<void> {
  await access(LOAD_TOOL).catch(() => {
    throw new Error(`${LOAD_TOOL} is missing; start the benchmark by \`npm run bench\`, which builds it`);
  });
}

/** The words that run a command inside a namespace, killed when this process ends, with a TAP as descriptor 3 if named. */
export function inNamespace(netns: string, words: readonly string[], tap?: string): readonly string[] {
  return ['launch', '--netns', netns, ...(tap === undefined ? [] : ['--tap', tap]), '--', ...words];
}
