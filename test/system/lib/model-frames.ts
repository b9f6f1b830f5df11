/** The test's hands and eyes on network devices: `native/examples/frames.rs`, one process for each namespace. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { parseVirtio, type Virtio, virtioBytes } from '../../model/offload.ts';
import { transportOf } from '../../model/packet.ts';
import type { Netns } from './netns.ts';

/** Built by `cargo build --release --example frames`. */
const FRAMES =
  process.env.VTEPD_FRAMES ?? fileURLToPath(new URL('../../../native/target/debug/examples/frames', import.meta.url));

export interface Captured {
  readonly frame: Buffer;
  readonly virtio: Virtio;
}

/** The kernel would not send a frame as it is: the test is wrong. */
export class Unsendable extends Error {
  constructor(device: string, errno: number) {
    super(`the kernel would not send a frame on ${device}: errno ${errno}`);
    this.name = 'Unsendable';
  }
}

type Helper = ChildProcessByStdio<Writable, Readable, Readable>;

export class Frames {
  readonly devices: readonly string[];
  readonly #child: Helper;
  readonly #arrived = new Map<string, Captured[]>();
  #outgoing: Buffer[] = [];
  #input: Buffer = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  #failure: Error | undefined;
  #refused: Unsendable | undefined;
  /** How often the helper said that it has told everything. */
  #told = 0;
  #said = '';

  /** Returns once all devices are being watched. */
  static async on(ns: Netns, devices: readonly string[]): Promise<Frames> {
    if (!existsSync(FRAMES)) {
      throw new Error(
        `${FRAMES} is missing: run cargo build --release --example frames --manifest-path native/Cargo.toml`,
      );
    }
    const frames = new Frames(ns, devices);
    while (frames.#told === 0) await frames.activity(10_000);
    return frames;
  }

  private constructor(ns: Netns, devices: readonly string[]) {
    this.devices = devices;
    this.#child = spawn('nsenter', [`--net=${ns.path}`, '--', FRAMES, ...devices], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stdout.on('data', (bytes: Buffer) => this.#take(bytes));
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text;
    });
    this.#child.stdin.on('error', () => undefined);
    this.#child.once('error', (error) => this.#fail(error));
    this.#child.once('close', (code) => this.#fail(new Error(`${FRAMES} ended with ${code}: ${this.#said.trim()}`)));
  }

  /** Queues a frame; `flush` sends all that is queued, in order. */
  queue(device: string, frame: Buffer, virtio: Virtio = {}): void {
    const at = transportOf(frame);
    const head = Buffer.alloc(6);
    head.writeUInt32LE(2 + 10 + frame.length, 0);
    head.writeUInt8(this.devices.indexOf(device), 4);
    this.#outgoing.push(head, virtioBytes(virtio, at?.payload ?? 0), frame);
  }

  flush(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#outgoing.length > 0) this.#child.stdin.write(Buffer.concat(this.#outgoing));
    this.#outgoing = [];
  }

  /** What arrived on a device so far. */
  arrived(device: string): readonly Captured[] {
    const failure = this.#failure ?? this.#refused;
    if (failure !== undefined) throw failure;
    return this.#arrived.get(device) ?? [];
  }

  /** Returns when everything that had arrived at the devices before the call is in `arrived`. */
  async sync(): Promise<void> {
    const before = this.#told;
    const record = Buffer.alloc(4 + 2 + 10);
    record.writeUInt32LE(2 + 10, 0);
    record.writeUInt8(2, 5);
    this.#outgoing.push(record);
    this.flush();
    for (const until = Date.now() + 10_000; this.#told === before; await this.activity(1_000)) {
      if (Date.now() > until)
        throw new Error(`${FRAMES} does not answer: build it anew (cargo build --release --example frames)`);
    }
  }

  forget(): void {
    this.#refused = undefined;
    this.#arrived.clear();
  }

  /** Resolves when something new arrived, or the time is over. */
  activity(timeoutMs: number): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Ends the process. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const closed = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin.end();
    await closed;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  #take(bytes: Buffer): void {
    this.#input = this.#input.length === 0 ? bytes : Buffer.concat([this.#input, bytes]);
    while (this.#input.length >= 4 && this.#input.length >= 4 + this.#input.readUInt32LE(0)) {
      const end = 4 + this.#input.readUInt32LE(0);
      this.#record(this.#input.subarray(4, end));
      this.#input = this.#input.subarray(end);
    }
    this.#wake();
  }

  #record(record: Buffer): void {
    const device = this.devices[record.readUInt8(0)] ?? '';
    const kind = record.readUInt8(1);
    if (kind === 2) this.#told += 1;
    if (kind === 1) this.#refused = new Unsendable(device, record.readInt32LE(12));
    if (kind !== 0) return;
    const arrived = this.#arrived.get(device) ?? [];
    arrived.push({ virtio: parseVirtio(record.subarray(2, 12)), frame: record.subarray(12) });
    this.#arrived.set(device, arrived);
  }
}
