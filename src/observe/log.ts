/**
 * The daemon's log: one JSON object a line on standard output. A message that repeats is written a few times, then
 * counted: an outage must not fill the disk (flannel issue 2470: 7.7 GB a day).
 */
import { LRUCache } from 'lru-cache';
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino';

export type { Logger } from 'pino';

/** The same message this often within a window is written; the rest is counted and told with the next one written. */
const BURST = 5;
const WINDOW_MS = 60_000;
/** Different messages that are remembered. */
const MEMORY = 1_000;
/** pino's number of `warn`; what is below is asked for by whoever raised the level, and is never left out. */
const WARN = 40;

interface Repeated {
  windowEnds: number;
  written: number;
  leftOut: number;
}

export interface LogOptions {
  readonly level: string;
  readonly instance: string;
  readonly stream?: DestinationStream;
  readonly now?: () => number;
}

export function createLogger(options: LogOptions): Logger {
  // Not the time of day: set back by a year, it would keep a message unsaid for as long.
  const now = options.now ?? (() => performance.now());
  const seen = new LRUCache<string, Repeated>({ max: MEMORY });
  return pino(
    {
      level: options.level,
      base: { instance: options.instance, pid: process.pid },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      hooks: {
        logMethod(args, method, level) {
          const leftOut = level < WARN ? 0 : admit(seen, messageOf(args), now());
          if (leftOut === undefined) return;
          if (leftOut === 0) return method.apply(this, args);
          const text = `${messageOf(args)} (and ${leftOut} times more that were left out)`;
          if (typeof args[0] === 'object' && args[0] !== null) method.call(this, args[0], text);
          else method.call(this, text);
        },
      },
    },
    options.stream ?? standardOutput(),
  );
}

/** Written at once, so that the last line before an end is there; a reader that goes away does not end the daemon. */
function standardOutput(): DestinationStream {
  const stream = destination({ dest: 1, sync: true });
  stream.on('error', () => undefined);
  return stream;
}

/** How many equal messages were left out before this one, or `undefined` to leave it out as well. */
function admit(seen: LRUCache<string, Repeated>, message: string, now: number): number | undefined {
  const entry = seen.get(message);
  if (entry === undefined || now >= entry.windowEnds) {
    seen.set(message, { windowEnds: now + WINDOW_MS, written: 1, leftOut: 0 });
    return entry?.leftOut ?? 0;
  }
  if (entry.written >= BURST) {
    entry.leftOut += 1;
    return undefined;
  }
  entry.written += 1;
  return 0;
}

function messageOf(args: readonly unknown[]): string {
  const text = typeof args[0] === 'string' ? args[0] : args[1];
  return typeof text === 'string' ? text : '';
}
