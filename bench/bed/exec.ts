/** Commands that end: run, and their output or a failure that says what they said. */
import { execFile } from 'node:child_process';

export class CommandError extends Error {
  readonly code = 'COMMAND_FAILED';
}

export interface RunOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
}

/** Runs a command and returns what it wrote to standard output. */
export function run(command: string, words: readonly string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const timeout = options.timeoutMs ?? 30_000;
    const child = execFile(
      command,
      [...words],
      {
        timeout,
        killSignal: 'SIGKILL',
        maxBuffer: 16 << 20,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
        ...(options.env === undefined ? {} : { env: options.env }),
      },
      (error, stdout, stderr) => {
        if (error === null) return resolve(stdout);
        const aborted = options.signal?.aborted === true;
        const why = aborted
          ? 'given up'
          : error.killed === true
            ? `no end within ${timeout} ms`
            : stderr.trim() || error.message;
        reject(new CommandError(`${command} ${words.join(' ')}: ${why}`));
      },
    );
    child.stdin?.end();
  });
}

/** `ip` inside a namespace, one call for each line. */
export async function ip(netns: string, ...lines: readonly string[]): Promise<void> {
  for (const line of lines) await run('ip', ['-n', netns, ...line.split(' ')]);
}
