/**
 * CPU time of everything on the machine that is not part of the benchmark: noise inside a measurement.
 *
 * Ours are this process and its children, the systems under test among them. Kernel threads are left out: they work for whatever
 * is measured. A process that ended meanwhile is found in its parent's count of ended children, with what it had used before
 * taken off, so the difference of two sums is right for those that come and go.
 */
import { readdirSync, readFileSync } from 'node:fs';

/** /proc counts in USER_HZ, 100 on all architectures that Node runs on. */
const TICKS_PER_SECOND = 100;
const KTHREADD = 2;

/** CPU seconds that other processes have used so far. */
export function othersSeconds(): number {
  let ticks = 0;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const use = readUse(name);
    if (use === undefined) continue;
    const ours = use.pid === process.pid || use.parent === process.pid;
    if (!ours && use.pid !== KTHREADD && use.parent !== KTHREADD) ticks += use.ticks;
  }
  return ticks / TICKS_PER_SECOND;
}

function readUse(pid: string): ProcessUse | undefined {
  try {
    return parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    // It has ended since the directory was listed.
    return undefined;
  }
}

export interface ProcessUse {
  readonly pid: number;
  readonly parent: number;
  /** User and system time, its own and that of its ended children. */
  readonly ticks: number;
}

/** The second field of /proc/PID/stat is a name in parentheses that may hold anything, parentheses and spaces too. */
export function parseProcessStat(text: string): ProcessUse | undefined {
  const end = text.lastIndexOf(')');
  // From field 3 on: state, parent; 14 to 17 are utime, stime, cutime, cstime (proc(5)).
  const fields = text.slice(end + 2).split(' ');
  const times = fields.slice(11, 15).map(Number);
  const [pid, parent] = [Number.parseInt(text, 10), Number(fields[1])];
  if (end < 0 || times.length < 4 || ![pid, parent, ...times].every(Number.isFinite)) return undefined;
  return { pid, parent, ticks: times.reduce((sum, time) => sum + time, 0) };
}
