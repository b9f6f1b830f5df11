/**
 * One controller an instance. The lock is a file that names its holder by process id and start time (a process id alone
 * may have been given to another program); it is made with O_EXCL, so that of two that start together one loses.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Paths } from '../config/paths.ts';
import { errnoOf } from '../dataplane/errors.ts';
import { readIfThere, removeIfThere } from '../host/files.ts';

export class LockError extends Error {
  readonly code = 'ALREADY_RUNNING';
}

/** Takes the lock; returns what gives it back. Throws `LockError` when another controller holds it. */
export function lockController(paths: Paths): () => void {
  mkdirSync(paths.runtimeDir, { recursive: true, mode: 0o755 });
  const path = paths.controllerLock;
  const own = `${process.pid} ${startTimeOf(process.pid) ?? ''}\n`;
  for (let attempt = 0; attempt < 10; attempt++) {
    try {
      writeFileSync(path, own, { flag: 'wx', mode: 0o644 });
      return () => {
        if (readIfThere(path) === own) removeIfThere(path);
      };
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
    const holder = liveHolder(readIfThere(path));
    if (holder !== undefined) {
      throw new LockError(
        `\`vtepd run\` of instance ${paths.instance} is already running, pid ${holder}; stop it first, or give this one another --instance`,
      );
    }
    putAside(path);
  }
  throw new LockError(`${path} keeps changing hands; is something starting \`vtepd run\` over and over?`);
}

/** Moves a dead holder's lock away. If another took it over meanwhile and we caught a live one, it is put back. */
function putAside(path: string): void {
  const aside = `${path}.${process.pid}.stale`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  const text = readIfThere(aside);
  removeIfThere(aside);
  if (text !== undefined && liveHolder(text) !== undefined) writeFileSync(path, text, { flag: 'wx', mode: 0o644 });
}

function liveHolder(text: string | undefined): number | undefined {
  const [pid, started] = (text ?? '').trim().split(' ');
  if (pid === undefined || !/^[1-9][0-9]*$/.test(pid)) return undefined;
  const actual = startTimeOf(Number(pid));
  return actual !== undefined && actual === started ? Number(pid) : undefined;
}

/** Field 22 of /proc/PID/stat, clock ticks after boot; the name in field 2 may hold spaces and parentheses. */
function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
