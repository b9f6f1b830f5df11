/**
 * Cuts a byte stream into lines. Work is linear in the bytes received however they are split, and a line that never
 * ends is found out before it fills the memory.
 */

/** Longest line in either direction; the same number as `MAX_LINE` of native/src/control/protocol.rs. */
export const MAX_LINE = 64 * 1024 * 1024;

export class LineTooLongError extends Error {
  readonly code = 'LINE_TOO_LONG';
}

export class LineSplitter {
  readonly #limit: number;
  #parts: Buffer[] = [];
  #held = 0;

  constructor(limit: number = MAX_LINE) {
    this.#limit = limit;
  }

  /** Lines that `chunk` completes, without their line ends; empty lines are left out. Throws when a line is too long. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, start)) {
      this.#hold(chunk.subarray(start, end));
      const line = Buffer.concat(this.#parts, this.#held).toString('utf8').trim();
      this.#parts = [];
      this.#held = 0;
      if (line !== '') lines.push(line);
      start = end + 1;
    }
    this.#hold(chunk.subarray(start));
    return lines;
  }

  #hold(part: Buffer): void {
    if (part.length === 0) return;
    this.#held += part.length;
    if (this.#held > this.#limit) throw new LineTooLongError(`a line is longer than ${this.#limit} bytes`);
    this.#parts.push(part);
  }
}
