/** What a command ends with. The numbers are documented in the help and in docs/cli.md. */
import { DataplaneError } from '../dataplane/errors.ts';

export const EXIT_OK = 0;
/** It was tried and failed. */
export const EXIT_FAILED = 1;
/** The command line was not understood; nothing was tried. */
export const EXIT_USAGE = 2;
/** Nobody was there to ask: no dataplane, or no controller where one is needed. */
export const EXIT_NOT_RUNNING = 3;

/** The command line was not understood. */
export class UsageError extends Error {
  readonly code: string;

  constructor(message: string, code: 'USAGE' | 'NOT_SERVED' = 'USAGE') {
    super(message);
    this.code = code;
  }
}

/** A command failed for a reason of its own. */
export class CommandError extends Error {
  readonly code: string;
  readonly exit: number;

  constructor(code: string, message: string, exit: number = EXIT_FAILED) {
    super(message);
    this.code = code;
    this.exit = exit;
  }
}

export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly exit: number;
}

/** Any error as what the command line says about it. */
export function toFailure(error: unknown): Failure {
  if (error instanceof UsageError) return { code: error.code, message: error.message, exit: EXIT_USAGE };
  if (error instanceof CommandError) return { code: error.code, message: error.message, exit: error.exit };
  if (error instanceof DataplaneError) {
    const exit = error.code === 'NOT_RUNNING' ? EXIT_NOT_RUNNING : EXIT_FAILED;
    return { code: error.code, message: error.message, exit };
  }
  if (error instanceof Error) {
    const code = 'code' in error && typeof error.code === 'string' ? error.code : 'FAILED';
    return { code, message: error.message, exit: EXIT_FAILED };
  }
  return { code: 'FAILED', message: String(error), exit: EXIT_FAILED };
}
