/**
 * Tells when the content of a file changes. The *directory* is watched, because an editor that saves by renaming leaves a
 * watch on the file with the old inode; and the file is looked at every two seconds besides, because inotify sees neither
 * network file systems nor a symbolic link that is turned (a Kubernetes ConfigMap), and a machine can run out of watches.
 *
 * A file is read once nobody has written to it for a moment: half a file can be a valid list of half the hosts. The same
 * pause makes the comparison of time stamps safe, whose grain is a tick of the kernel (4 ms at CONFIG_HZ=250).
 */
import { type FSWatcher, watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import { type FileContent, markFile, readTextFile } from './file-reader.ts';

export interface FileWatcherOptions {
  readonly path: string;
  readonly maxBytes: number;
  readonly logger: Logger;
  /** Takes the content at the start and after each change; what it throws is logged. */
  readonly onContent: (content: FileContent) => void;
  /** Time between two looks at the file. */
  readonly pollMs?: number;
  /** How long a file must have been at rest. */
  readonly settleMs?: number;
}

/** A file that is written to without a pause is read after this time all the same. */
const UNSETTLED_MAX_MS = 2000;

export class FileWatcher {
  private readonly options: FileWatcherOptions;
  private readonly settleMs: number;
  private seen: string | undefined;
  private unsettledSince: number | undefined;
  private directory: FSWatcher | undefined;
  private directoryId = '';
  private warned = false;
  private poll: NodeJS.Timeout | undefined;
  private soon: NodeJS.Timeout | undefined;
  private checking: Promise<void> | undefined;
  private again = false;
  private stopped = false;

  constructor(options: FileWatcherOptions) {
    this.options = options;
    this.settleMs = options.settleMs ?? 150;
  }

  /** Reads the file at once, then watches it until `stop`. */
  async start(): Promise<void> {
    this.checking = this.first();
    try {
      await this.checking;
    } finally {
      this.checking = undefined;
    }
    if (this.stopped) return;
    this.poll = setInterval(() => this.check(), this.options.pollMs ?? 2000);
    this.checkIn(this.settleMs);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    clearInterval(this.poll);
    clearTimeout(this.soon);
    this.directory?.close();
    this.directory = undefined;
    await this.checking;
  }

  private checkIn(delay: number): void {
    if (this.stopped) return;
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.check(), delay);
  }

  /** Starts a look at the file, or has the running one repeated. */
  private check(): void {
    if (this.stopped) return;
    if (this.checking !== undefined) {
      this.again = true;
      return;
    }
    this.checking = this.look()
      .catch((error: unknown) => this.options.logger.error({ err: error }, `cannot watch ${this.options.path}`))
      .finally(() => {
        this.checking = undefined;
        if (this.again) this.checkIn(0);
        this.again = false;
      });
  }

  /** Reads the file as it is; one that is still being written is read again when it has settled. */
  private async first(): Promise<void> {
    await this.arm();
    const { id, modified = 0 } = await markFile(this.options.path);
    await this.take(id);
    if (Math.abs(Date.now() - modified) < this.settleMs) this.seen = undefined;
  }

  private async look(): Promise<void> {
    await this.arm();
    const mark = await markFile(this.options.path);
    if (mark.id === this.seen) {
      this.unsettledSince = undefined;
      return;
    }
    const now = Date.now();
    this.unsettledSince ??= now;
    const waited = now - this.unsettledSince;
    // A file that is gone may be on its way back, and has no time stamp. One from the future is taken as old.
    const age = mark.modified === undefined ? waited : now - mark.modified;
    if (age >= 0 && age < this.settleMs && waited < UNSETTLED_MAX_MS) {
      this.checkIn(this.settleMs - age);
      return;
    }
    await this.take(mark.id);
  }

  private async take(id: string): Promise<void> {
    const content = await readTextFile(this.options.path, this.options.maxBytes);
    if (this.stopped) return;
    if (content === undefined) {
      this.checkIn(this.settleMs);
      return;
    }
    this.seen = id;
    this.unsettledSince = undefined;
    this.options.onContent(content);
  }

  /** Watches the directory that is now at the path; without it the poll alone has to do. */
  private async arm(): Promise<void> {
    const path = dirname(this.options.path);
    const id = await stat(path, { bigint: true }).then(
      ({ dev, ino }) => `${dev} ${ino}`,
      () => '',
    );
    if (this.stopped || id === '' || (id === this.directoryId && this.directory !== undefined)) return;
    this.directory?.close();
    try {
      this.directory = watch(path, () => this.checkIn(Math.min(20, this.settleMs)));
      this.directory.on('error', (error) => this.disarm(error));
      this.directoryId = id;
      this.warned = false;
    } catch (error) {
      this.disarm(error);
    }
  }

  private disarm(error: unknown): void {
    this.directory?.close();
    this.directory = undefined;
    if (this.warned || this.stopped) return;
    this.warned = true;
    this.options.logger.warn(
      { err: error },
      `cannot watch the directory of ${this.options.path}; the file is looked at every two seconds instead`,
    );
  }
}
