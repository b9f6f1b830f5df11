/** Traffic between two containers, and what the kernels counted meanwhile. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Netns } from './netns.ts';

const PROGRAMS = fileURLToPath(new URL('../programs/', import.meta.url));

/** See its head. */
export const TCP_PROGRAM = `${PROGRAMS}tcp.mjs`;

export interface PingResult {
  readonly sent: number;
  readonly received: number;
  readonly perSecond: number;
  /** Longest time between two answers in milliseconds. */
  readonly longestGapMs: number;
  /** What is missing and how it ended, for a message. */
  readonly text: string;
  /** All that ping printed. */
  readonly output: string;
}

/** Pings until `count` packets have come back, at most 2 s longer than they take; does not fail, the caller judges. */
export async function ping(
  from: Netns,
  to: string,
  {
    count = 3,
    interval = 0.02,
    size = 56,
    dontFragment = false,
  }: { count?: number; interval?: number; size?: number; dontFragment?: boolean } = {},
): Promise<PingResult> {
  const deadline = Math.ceil(count * interval) + 2;
  const argv = [
    'ping',
    '-n',
    '-D',
    '-c',
    String(count),
    '-w',
    String(deadline),
    '-i',
    String(interval),
    '-s',
    String(size),
  ];
  if (dontFragment) argv.push('-M', 'do');
  const { stdout, stderr } = await from.tryExec([...argv, to], { timeoutMs: deadline * 1_000 + 10_000 });
  return pingResult(stdout + stderr);
}

/** Pings at least 100 times a second until stopped. */
export function startPing(from: Netns, to: string): { stop(): Promise<PingResult>; readonly received: number } {
  // 8 ms, as ping rounds up to the kernel's tick: 10 ms may become 16.
  const pinging = from.background(['ping', '-n', '-D', '-i', '0.008', to]);
  return {
    get received() {
      return pingResult(pinging.output).received;
    },
    async stop() {
      await pinging.stop('SIGINT');
      return pingResult(pinging.output);
    },
  };
}

/**
 * What counts as sent is everything up to the last packet that came back: one that was under way when ping ended is not
 * lost (`-W` does not wait for it: iputils waits two round trips once anything was answered).
 */
function pingResult(output: string): PingResult {
  const answers = [...output.matchAll(/^\[([\d.]+)\] .*icmp_seq=(\d+) (?:ttl|hoplimit)/gm)];
  const times = answers.map((match) => Number(match[1]) * 1_000);
  const back = new Set(answers.map((match) => Number(match[2])));
  const transmitted = Number(/(\d+) packets transmitted/.exec(output)?.[1] ?? 0);
  const sent = back.size === 0 ? transmitted : Math.max(...back);
  const missing = Array.from({ length: sent }, (_, at) => at + 1).filter((sequence) => !back.has(sequence));
  const seconds = ((times.at(-1) ?? 0) - (times[0] ?? 0)) / 1_000;
  return {
    sent,
    received: back.size,
    perSecond: seconds > 0 ? Math.round(sent / seconds) : 0,
    longestGapMs: Math.round(Math.max(0, ...times.map((time, at) => time - (times[at - 1] ?? time)))),
    text: `missing: ${missing.join(' ') || 'none'}\n${output.slice(-800)}`,
    output,
  };
}

export interface Bytes {
  readonly bytes: number;
  readonly sha256: string;
}

export interface TcpSide {
  readonly sent: Bytes;
  readonly received: Bytes;
  readonly ms: number;
}

/** Sends `bytes` over one TCP connection from caller to server, then as many back. */
export async function tcpBothWays(
  caller: Netns,
  server: Netns,
  address: string,
  bytes: number,
  timeoutMs = 60_000,
): Promise<{ caller: TcpSide; server: TcpSide }> {
  const port = '7000';
  const listening = server.background([process.execPath, TCP_PROGRAM, 'serve', address, port, String(bytes)]);
  try {
    await listening.waitFor(/listening\n/);
    const said = await caller.exec([process.execPath, TCP_PROGRAM, 'call', address, port, String(bytes)], {
      timeoutMs,
    });
    const status = await Promise.race([listening.exited, sleep(5_000, undefined, { ref: false })]);
    if (status !== 0) throw new Error(`the TCP server ended with ${status ?? 'nothing'}:\n${listening.output}`);
    return { caller: JSON.parse(said), server: JSON.parse(listening.output.replace('listening\n', '')) };
  } finally {
    await listening.stop('SIGKILL');
  }
}

export interface UdpTally {
  readonly sent: number;
  readonly received: number;
  readonly damaged: number;
}

/** Sends datagrams to an echo server and back: `counts` by payload size. */
export async function udpEcho(
  caller: Netns,
  server: Netns,
  address: string,
  counts: Readonly<Record<number, number>>,
): Promise<Map<number, UdpTally>> {
  const port = '7001';
  const listening = server.background([process.execPath, `${PROGRAMS}udp.mjs`, 'serve', address, port]);
  try {
    await listening.waitFor(/listening\n/);
    const plan = Object.entries(counts).map(([size, count]) => `${size}:${count}`);
    const said = await caller.exec([process.execPath, `${PROGRAMS}udp.mjs`, 'call', address, port, ...plan], {
      timeoutMs: 60_000,
    });
    const { sizes } = JSON.parse(said) as { sizes: Record<string, UdpTally> };
    return new Map(Object.entries(sizes).map(([size, tally]) => [Number(size), tally]));
  } finally {
    await listening.stop();
  }
}

/** Sends `each` datagrams from each of `flows` source ports; nobody needs to listen. */
export async function udpFlows(from: Netns, address: string, flows: number, each: number): Promise<void> {
  await from.exec([process.execPath, `${PROGRAMS}udp.mjs`, 'flows', address, '7002', String(flows), String(each)]);
}

/** Counters of /proc/net/snmp and snmp6 of one namespace, by names such as `TcpInCsumErrors` and `Udp6InErrors`. */
export async function netCounters(ns: Netns): Promise<Map<string, number>> {
  const counters = new Map<string, number>();
  const [snmp, snmp6] = (await ns.exec(['sh', '-c', 'cat /proc/net/snmp; echo ====; cat /proc/net/snmp6'])).split(
    '====\n',
  );
  const lines = (snmp ?? '').split('\n');
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [group, ...names] = (lines[i] ?? '').split(' ');
    const values = (lines[i + 1] ?? '').split(' ').slice(1);
    for (const [at, name] of names.entries()) counters.set(`${group?.replace(':', '')}${name}`, Number(values[at]));
  }
  for (const line of (snmp6 ?? '').split('\n')) {
    const [name, value] = line.split(/\s+/);
    if (name !== undefined && value !== undefined) counters.set(name, Number(value));
  }
  return counters;
}

/** Everything that counts a packet with a wrong checksum. */
export const CHECKSUM_ERRORS = [
  'TcpInCsumErrors',
  'UdpInCsumErrors',
  'Udp6InCsumErrors',
  'IcmpInCsumErrors',
  'Icmp6InCsumErrors',
  'IpInHdrErrors',
] as const;

/** Sum of checksum errors in the namespaces, by name; names with nothing are absent. */
export async function checksumErrors(...namespaces: readonly Netns[]): Promise<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (const ns of namespaces) {
    const counters = await netCounters(ns);
    for (const name of CHECKSUM_ERRORS) {
      const value = counters.get(name) ?? 0;
      if (value > 0) sums[`${ns.name} ${name}`] = value;
    }
  }
  return sums;
}
