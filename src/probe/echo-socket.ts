/**
 * A raw ICMP socket, by the npm package raw-socket: optional, because it is compiled when it is installed. Loaded when it is needed;
 * nothing else of vtepd depends on it.
 */
import { createRequire } from 'node:module';
import { type Family, familyOf, type Ip } from '../net/ip.ts';
import { type EchoId, echoRequest, readEcho } from './icmp.ts';
import type { Echo, Verdict } from './path-mtu.ts';

/** The part of raw-socket 1.8 that is used. */
interface RawSocket {
  on(event: 'message', listener: (bytes: Buffer, source: string) => void): void;
  on(event: 'error', listener: (error: Error) => void): void;
  send(bytes: Buffer, offset: number, length: number, to: string, done: (error: Error | null) => void): void;
  setOption(level: number, option: number, value: number): void;
  setOption(level: number, option: number, value: Buffer, length: number): void;
  close(): void;
}

interface RawSocketModule {
  createSocket(options: { addressFamily: number; protocol: number; bufferSize: number }): RawSocket;
}

export class ProbeError extends Error {
  readonly code: 'NO_RAW_SOCKET' | 'EPERM' | 'PROBE_FAILED';

  constructor(code: ProbeError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/** As in package.json. */
const PACKAGE = 'raw-socket@1.8.1';

export function loadRawSocket(load: (name: string) => unknown = createRequire(import.meta.url)): RawSocketModule {
  try {
    return load('raw-socket') as RawSocketModule;
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n', 1)[0] : String(error);
    throw new ProbeError(
      'NO_RAW_SOCKET',
      `probe needs the npm package raw-socket, which is optional and is not here (${why}): it is compiled when it is installed, ` +
        `so install python3, make and a C++ compiler, then \`npm install --no-save ${PACKAGE}\` where vtepd is installed`,
    );
  }
}

/** linux/in.h, linux/in6.h, asm-generic/socket.h. */
const MTU_DISCOVER = {
  4: { level: 0, option: 10, dontFragment: undefined },
  6: { level: 41, option: 23, dontFragment: 62 },
} as const;
/** DF is set, and the kernel's own idea of the path's MTU left aside (ip(7), IP_PMTUDISC_PROBE). */
const PMTUDISC_PROBE = 3;
const SOL_SOCKET = 1;
const SO_BINDTODEVICE = 25;
const PROTOCOL = { 4: 1, 6: 58 } as const;
/** raw-socket's own numbers. */
const ADDRESS_FAMILY = { 4: 1, 6: 2 } as const;
/** A whole answer of the largest size. */
const BUFFER_SIZE = 1 << 17;

/** One peer's echo; one size at a time. */
export class EchoSocket {
  readonly #socket: RawSocket;
  readonly #id: EchoId;
  #sequence = 0;
  /** Sequence numbers of the size that is being tried: an answer that comes late counts too. */
  #ours = new Set<number>();
  #size = 0;
  #settle: ((verdict: Verdict) => void) | undefined;
  #failure: Error | undefined;

  /** `dev`: the only interface to send by. */
  constructor(module: RawSocketModule, to: Ip, dev: string | null) {
    const family = familyOf(to);
    this.#id = { to, id: process.pid & 0xffff };
    this.#socket = open(module, family);
    try {
      const { level, option, dontFragment } = MTU_DISCOVER[family];
      this.#socket.setOption(level, option, PMTUDISC_PROBE);
      if (dontFragment !== undefined) this.#socket.setOption(level, dontFragment, 1);
      if (dev !== null) {
        const name = Buffer.from(`${dev}\0`);
        this.#socket.setOption(SOL_SOCKET, SO_BINDTODEVICE, name, name.length);
      }
    } catch (error) {
      this.#socket.close();
      throw failed(error, dev === null ? 'the ICMP socket' : `interface ${dev}`);
    }
    this.#socket.on('message', (bytes, source) => this.#take(bytes, source));
    this.#socket.on('error', (error) => {
      this.#failure ??= error;
    });
  }

  close(): void {
    this.#socket.close();
  }

  readonly echo: Echo = async (size, timeoutMs) => {
    if (size !== this.#size) this.#ours = new Set();
    this.#size = size;
    this.#sequence = (this.#sequence + 1) & 0xffff;
    this.#ours.add(this.#sequence);
    const message = echoRequest(this.#id, this.#sequence, size);
    const begin = performance.now();
    let timer: NodeJS.Timeout | undefined;
    try {
      const verdict = await new Promise<Verdict>((resolve, reject) => {
        this.#settle = resolve;
        timer = setTimeout(() => resolve({ kind: 'silent' }), timeoutMs);
        this.#socket.send(message, 0, message.length, this.#id.to, (error) => {
          if (error === null) return;
          const refused = refusal(error);
          if (refused === undefined) reject(failed(error, this.#id.to));
          else resolve(refused);
        });
      });
      if (this.#failure !== undefined) throw failed(this.#failure, 'the ICMP socket');
      return verdict.kind === 'answered' ? { kind: 'answered', rttMs: performance.now() - begin } : verdict;
    } finally {
      clearTimeout(timer);
      this.#settle = undefined;
    }
  };

  #take(bytes: Buffer, source: string): void {
    const found = readEcho(this.#id, bytes, source);
    if (found === undefined || !this.#ours.has(found.sequence)) return;
    if (found.kind === 'reply') {
      if (found.size === this.#size) this.#settle?.({ kind: 'answered', rttMs: 0 });
    } else {
      this.#settle?.(found);
    }
  }
}

function open(module: RawSocketModule, family: Family): RawSocket {
  try {
    return module.createSocket({
      addressFamily: ADDRESS_FAMILY[family],
      protocol: PROTOCOL[family],
      bufferSize: BUFFER_SIZE,
    });
  } catch (error) {
    throw failed(error, 'the ICMP socket');
  }
}

/** raw-socket gives the text of strerror(3) and no number. */
function refusal(error: Error): Verdict | undefined {
  if (/message too long/i.test(error.message)) return { kind: 'refused' };
  if (/unreachable|no route|host is down/i.test(error.message))
    return { kind: 'unreachable', reason: `this host: ${error.message.toLowerCase()}` };
  // ENOBUFS, EAGAIN: no different from a packet that is lost a moment later.
  return /no buffer space|temporarily unavailable/i.test(error.message) ? { kind: 'silent' } : undefined;
}

function failed(error: unknown, object: string): ProbeError {
  const why = error instanceof Error ? error.message : String(error);
  if (/not permitted|permission denied/i.test(why))
    return new ProbeError('EPERM', `probe needs CAP_NET_RAW for ${object}: run it as root (${why})`);
  return new ProbeError('PROBE_FAILED', `${object}: ${why}`);
}
