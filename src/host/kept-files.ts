/**
 * The files of a network on this host: its environment file and what it remembers. A disk that is full or read-only takes
 * nothing from lease and traffic: what could not be written is told, and written as soon as that is possible.
 */
import type { Logger } from '../observe/log.ts';

interface Unwritten {
  readonly warning: string;
  /** Tries again; throws as long as it fails. Absent where the file's owner tries by itself. */
  readonly write?: () => void;
}

export class KeptFiles {
  readonly #logger: Logger;
  readonly #unwritten = new Map<string, Unwritten>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** What cannot be written at the moment, in sentences. */
  get warnings(): readonly string[] {
    return [...this.#unwritten.values()].map(({ warning }) => warning);
  }

  /**
   * Writes a file now, or with a later `retry`. `loss` is what is missing meanwhile. The last `write` of a path counts, and
   * has to write what is true when it is called.
   */
  keep(path: string, loss: string, write: () => void): void {
    try {
      write();
      this.written(path);
    } catch (error) {
      this.failed(path, loss, error, write);
    }
  }

  failed(path: string, loss: string, error: unknown, write?: () => void): void {
    const why = error instanceof Error ? error.message : String(error);
    const warning = `${path} cannot be written (${why}): ${loss}; make room or correct its rights, it is tried again`;
    if (this.#unwritten.get(path)?.warning !== warning) this.#logger.error({ err: error, path }, warning);
    this.#unwritten.set(path, write === undefined ? { warning } : { warning, write });
  }

  written(path: string): void {
    if (this.#unwritten.delete(path)) this.#logger.info({ path }, 'the file is written after all');
  }

  retry(): void {
    for (const [path, { write }] of [...this.#unwritten]) {
      if (write === undefined) continue;
      try {
        write();
        this.written(path);
      } catch {
        // Told when it began.
      }
    }
  }
}
