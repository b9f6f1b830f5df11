/** Packets as others see them: captured by tcpdump, judged by tshark, and frames of our own put on a device by tcpreplay. */
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Background, run } from './exec.ts';
import type { Netns } from './netns.ts';

export class Capture {
  readonly file: string;
  readonly #process: Background;

  private constructor(file: string, process: Background) {
    this.file = file;
    this.#process = process;
  }

  /** Captures on a device until `stop`. Returns once tcpdump listens. */
  static async start(ns: Netns, device: string, file: string, filter: string): Promise<Capture> {
    // -Z root: Debian's tcpdump otherwise gives up root before it opens the file.
    // -s: the ring's slots are as large as the longest packet kept; with the default of 256 KiB it has eight and loses most.
    const argv = [
      'tcpdump',
      '-Z',
      'root',
      '-i',
      device,
      '-s',
      '2048',
      '-B',
      '16384',
      '-U',
      '--immediate-mode',
      '-w',
      file,
      filter,
    ];
    const process = ns.background(argv);
    await process.waitFor(/listening on/);
    return new Capture(file, process);
  }

  async stop(): Promise<void> {
    // Packets are in the kernel's ring when they are seen, in the file a moment later.
    await sleep(200);
    const status = await this.#process.stop('SIGINT');
    const whole = /^0 packets dropped by kernel$/m.test(this.#process.output);
    if (status !== 0 || !whole) throw new Error(`tcpdump ended with ${status}:\n${this.#process.output}`);
  }
}

/** Checksums are checked, and the port is VXLAN, or what is said, whatever its number. */
function tsharkOptions(port: number, carries = 'vxlan'): string[] {
  const check = ['ip', 'udp', 'tcp'].flatMap((protocol) => ['-o', `${protocol}.check_checksum:TRUE`]);
  return [...check, '-d', `udp.port==${port},${carries}`];
}

/**
 * The named fields of every captured packet, outermost first: a field that appears twice, as `ip.src` does inside a tunnel,
 * gives two values.
 */
export async function decode(
  file: string,
  port: number,
  fields: readonly string[],
  filter = '',
  carries = 'vxlan',
): Promise<Map<string, string[]>[]> {
  const wanted = fields.flatMap((field) => ['-e', field]);
  const argv = [
    'tshark',
    '-n',
    '-r',
    file,
    ...tsharkOptions(port, carries),
    '-T',
    'fields',
    '-E',
    'separator=/t',
    '-E',
    'aggregator=|',
  ];
  const text = await run([...argv, ...(filter === '' ? [] : ['-Y', filter]), ...wanted]);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const values = line.split('\t');
      return new Map(fields.map((field, at) => [field, (values[at] ?? '').split('|').filter((value) => value !== '')]));
    });
}

/** The packets as text, as `tshark -V` prints them. */
export function describe(file: string, port: number, filter = ''): Promise<string> {
  return run(['tshark', '-n', '-r', file, ...tsharkOptions(port), '-V', ...(filter === '' ? [] : ['-Y', filter])]);
}

/** A capture file (pcap, Ethernet) with these frames. */
export function pcap(frames: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262_144, 16);
  header.writeUInt32LE(1, 20);
  const records = frames.flatMap((frame, at) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(at, 0);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return [record, frame];
  });
  return Buffer.concat([header, ...records]);
}

/** Puts frames on a device exactly as they are. */
export async function inject(ns: Netns, device: string, file: string, frames: readonly Uint8Array[]): Promise<void> {
  await writeFile(file, pcap(frames));
  await ns.exec(['tcpreplay', '--quiet', '--pps=5000', `--intf1=${device}`, file]);
}
