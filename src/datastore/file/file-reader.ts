/** Reads a file whole, within a limit, and tells whether it is still the same one. */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';

/** What is at a path. */
export type FileContent =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'missing' }
  | { readonly type: 'unreadable'; readonly reason: string };

/** What tells one state of a file from the next, and when it was last written. */
export interface FileMark {
  readonly id: string;
  /** Milliseconds since the epoch; absent where there is no file. */
  readonly modified?: number;
}

export async function markFile(path: string): Promise<FileMark> {
  try {
    return markOf(await stat(path, { bigint: true }));
  } catch (error) {
    return { id: errorCode(error) };
  }
}

/** Reads the file. Yields undefined if it changed under the reader. */
export async function readTextFile(path: string, maxBytes: number): Promise<FileContent | undefined> {
  let file: FileHandle | undefined;
  try {
    // Without O_NONBLOCK the opening of a FIFO waits for its writer.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const before = await file.stat({ bigint: true });
    if (!before.isFile()) return unreadable(`${path} is not a regular file: put the list of hosts there`);
    if (before.size > BigInt(maxBytes)) {
      return unreadable(`${path} has ${before.size} bytes, at most ${maxBytes} are read: shorten it`);
    }
    const bytes = Buffer.alloc(Number(before.size));
    let length = 0;
    while (length < bytes.length) {
      const { bytesRead } = await file.read(bytes, length, bytes.length - length, length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    const after = await file.stat({ bigint: true });
    if (length !== bytes.length || markOf(after).id !== markOf(before).id) return undefined;
    return { type: 'text', text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT') return { type: 'missing' };
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return unreadable(`${path} is not UTF-8: save it as UTF-8`);
    return unreadable(`cannot read ${path}: ${error instanceof Error ? error.message : code}`);
  } finally {
    await file?.close();
  }
}

function unreadable(reason: string): FileContent {
  return { type: 'unreadable', reason };
}

function markOf(stats: { dev: bigint; ino: bigint; size: bigint; mtimeNs: bigint; ctimeNs: bigint }): FileMark {
  const { dev, ino, size, mtimeNs, ctimeNs } = stats;
  return { id: `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`, modified: Number(mtimeNs / 1_000_000n) };
}

function errorCode(error: unknown): string {
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : 'UNKNOWN';
}
