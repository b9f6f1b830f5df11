/**
 * What a run makes on the machine carries its mark and process id; here is what a run that was killed left behind, found by them.
 * Its processes died with it: `vtepd-load launch` sees to that.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './exec.ts';

const MARK = 'vtepd-bench-';

/** Namespaces and directories of this run begin with this. */
export const PREFIX = `${MARK}${process.pid}-`;

/** A directory for sockets and databases. Whoever makes it removes it. */
export function makeDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), PREFIX));
}

/** Removes what carries the mark of a process that no longer is, and returns its names. */
export async function removeLeftovers(): Promise<readonly string[]> {
  const namespaces = (await run('ip', ['netns', 'list'])).split('\n').map((line) => line.split(' ')[0] ?? '');
  const netns = namespaces.filter(isLeft);
  for (const name of netns) await run('ip', ['netns', 'del', name]);
  const directories = (await readdir(tmpdir())).filter(isLeft).map((name) => join(tmpdir(), name));
  for (const directory of directories) await rm(directory, { recursive: true, force: true });
  return [...netns, ...directories];
}

function isLeft(name: string): boolean {
  const pid = name.startsWith(MARK) ? /^\d+(?=-)/.exec(name.slice(MARK.length))?.[0] : undefined;
  return pid !== undefined && !existsSync(`/proc/${pid}`);
}
