/** Runs `nft` in a network namespace. Thin: what to say to it is nft-rules.ts's business. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { errnoOf } from '../dataplane/errors.ts';
import type { TableFamily } from './nft-rules.ts';

export type NftErrorCode =
  /** There is no nft on this host. */
  | 'NO_NFT'
  /** The kernel has no nf_tables. */
  | 'NO_NF_TABLES'
  /** It refused, or the kernel did. */
  | 'NFT_FAILED';

export class NftError extends Error {
  readonly code: NftErrorCode;

  constructor(code: NftErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** nft answers in milliseconds; with tens of thousands of rules of others in some tenths of a second. */
const TIMEOUT_MS = 10_000;

/** Where distributions put nft, and where the PATH of a user's shell does not always reach. */
const SYSTEM_PATHS = '/usr/sbin:/sbin:/usr/local/sbin';

export class Nft {
  readonly #enter: readonly string[];
  readonly #path: string;

  /** `netns` is a name below /run/netns or a path; null is the namespace of this process. */
  constructor(netns: string | null = null) {
    const named = netns?.includes('/') === true ? netns : `/run/netns/${netns}`;
    this.#path = netns === null ? '/proc/self/ns/net' : named;
    this.#enter = netns === null ? [] : ['nsenter', `--net=${this.#path}`, '--'];
  }

  /** False once somebody has removed the namespace, with all rules in it. */
  get namespaceExists(): boolean {
    return existsSync(this.#path);
  }

  /** Applies a text as one transaction: all of it, or nothing. */
  async apply(text: string): Promise<void> {
    await this.#run(['nft', '-f', '-'], text);
  }

  /** The tables there are, as `ip filter`. */
  async tables(): Promise<string[]> {
    const text = await this.#run(['nft', 'list', 'tables']);
    return [...text.matchAll(/^table (\S+ \S+)$/gm)].map((match) => match[1] ?? '');
  }

  /** A table, `ip filter`, as nft prints it without counters; undefined where there is none. */
  async table(table: string): Promise<string | undefined> {
    try {
      return await this.#run(['nft', '-s', 'list', 'table', ...table.split(' ')]);
    } catch (error) {
      if (error instanceof NftError && /No such file or directory/.test(error.message)) return undefined;
      throw error;
    }
  }

  /** Every chain with its hook and policy, without rules. */
  chains(): Promise<string> {
    return this.#run(['nft', 'list', 'chains']);
  }

  /**
   * The filter table of iptables' legacy variant as `-S` prints it; undefined where it is not in use, and then it is not
   * brought into use by asking for it.
   */
  async legacyIptables(family: TableFamily): Promise<{ program: string; rules: string } | undefined> {
    const names = await this.#try(['cat', `/proc/self/net/${family}_tables_names`]);
    if (names?.split('\n').includes('filter') !== true) return undefined;
    const iptables = family === 'ip' ? 'iptables' : 'ip6tables';
    for (const program of [`${iptables}-legacy`, iptables]) {
      const rules = await this.#try([program, '-S']);
      if (rules !== undefined) return { program, rules };
    }
    return undefined;
  }

  async #try(argv: readonly string[]): Promise<string | undefined> {
    try {
      return await this.#run(argv);
    } catch (error) {
      if (error instanceof NftError) return undefined;
      throw error;
    }
  }

  async #run(argv: readonly string[], input = ''): Promise<string> {
    const [program = '', ...words] = [...this.#enter, ...argv];
    const { status, stdout, stderr } = await runToEnd(program, words, input);
    // 127 is what nsenter ends with when there is no such program.
    if (status === 127) throw noNft();
    if (status === 0) return stdout;
    if (/Unable to initialize Netlink socket|cache initialization failed: (Protocol|Invalid)/.test(stderr)) {
      throw new NftError(
        'NO_NF_TABLES',
        `this kernel has no nf_tables (${stderr.trim()}): load the module nf_tables, or switch the rules off`,
      );
    }
    throw new NftError(
      'NFT_FAILED',
      `\`${argv.join(' ')}\` failed: ${stderr.trim().replaceAll('\n', ' ') || `exit status ${status}`}`,
    );
  }
}

function noNft(cause?: unknown): NftError {
  return new NftError('NO_NFT', 'there is no nft on this host: apt-get install nftables', { cause });
}

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function runToEnd(program: string, words: readonly string[], input: string): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, {
      env: { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:${SYSTEM_PATHS}` },
    });
    // Not spawn's own `timeout`: that one keeps the process alive when there was no program to start.
    const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(errnoOf(error) === 'ENOENT' ? noNft(error) : error);
    });
    child.once('close', (status) => {
      clearTimeout(timer);
      resolve({ status, stdout, stderr });
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}
