/** vtepd on one host of the bed: the built command, with directories of its own, inside the host's namespace. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ControllerStatus } from '../../../src/daemon/status-types.ts';
import { DataplaneClient } from '../../../src/dataplane/client.ts';
import type { FdbDump, NeighbourDump, Stats } from '../../../src/dataplane/protocol.ts';
import type { BedHost } from './bed.ts';
import { type Background, eventually, type RunResult } from './exec.ts';

const VTEPD = fileURLToPath(new URL('../../../bin/vtepd', import.meta.url));
export const DATAPLANE = fileURLToPath(new URL('../../../native/target/release/vtepd-dataplane', import.meta.url));

export class VtepdHost {
  readonly host: BedHost;
  readonly command = VTEPD;
  readonly env: Readonly<Record<string, string>>;
  readonly runtimeDir: string;
  readonly stateDir: string;

  private constructor(host: BedHost) {
    this.host = host;
    this.runtimeDir = join(host.dir, 'run');
    this.stateDir = join(host.dir, 'state');
    this.env = { VTEPD_RUNTIME_DIR: this.runtimeDir, VTEPD_STATE_DIR: this.stateDir, NO_COLOR: '1' };
  }

  static async on(host: BedHost): Promise<VtepdHost> {
    const vtepd = new VtepdHost(host);
    await mkdir(vtepd.runtimeDir, { recursive: true });
    await mkdir(vtepd.stateDir, { recursive: true });
    return vtepd;
  }

  get socket(): string {
    return join(this.runtimeDir, 'default.sock');
  }

  get subnetFile(): string {
    return join(this.host.dir, 'subnet.env');
  }

  /** Runs `vtepd WORDS`, which must succeed. */
  cli(...words: string[]): Promise<string> {
    return this.host.ns.exec([VTEPD, ...words], { env: this.env });
  }

  tryCli(...words: string[]): Promise<RunResult> {
    return this.host.ns.tryExec([VTEPD, ...words], { env: this.env });
  }

  /** Runs `vtepd WORDS --json` and reads what it printed. */
  async json<T>(...words: string[]): Promise<T> {
    return JSON.parse(await this.cli(...words, '--json')) as T;
  }

  /** Starts `vtepd WORDS` and leaves it running. */
  background(...words: string[]): Background {
    return this.host.ns.background([VTEPD, ...words], { env: this.env });
  }

  /** Starts `vtepd run FLAGS`; the process belongs to the namespace and ends with the bed at the latest. */
  run(...flags: string[]): Background {
    return this.background('run', '--subnet-file', this.subnetFile, ...flags);
  }

  /** `vtepd status`, whose exit status tells that something is not running. */
  async status(): Promise<{ controller: ({ running: true } & ControllerStatus) | { running: false } }> {
    return JSON.parse((await this.tryCli('status', '--json')).stdout);
  }

  /** Waits until `vtepd run` says that everything is up. */
  async isRunning(daemon: Background, timeoutMs = 20_000): Promise<ControllerStatus> {
    const up = eventually(
      `vtepd run on host ${this.host.label} is up`,
      async () => {
        const { controller } = await this.status();
        return controller.running && controller.ready && controller.pid === daemon.pid
          ? controller
          : !daemon.running && 'ended';
      },
      { timeoutMs },
    );
    try {
      const result = await up;
      if (result !== 'ended') return result;
      throw new Error(`vtepd run ended with status ${await daemon.exited}`);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`host ${this.host.label} did not come up: ${why}; it said:\n${daemon.output}`, { cause });
    }
  }

  /** Speaks to the dataplane directly; a socket's path is the same in every network namespace. */
  async withDataplane<T>(use: (client: DataplaneClient) => Promise<T>): Promise<T> {
    const client = await DataplaneClient.connect(this.socket);
    try {
      return await use(client);
    } finally {
      client.close();
    }
  }

  async dataplanePid(): Promise<number> {
    return this.withDataplane(async (client) => (await client.request('hello', {})).pid);
  }

  stats(): Promise<Stats> {
    return this.withDataplane((client) => client.request('stats', {}));
  }

  /** Drops by reason, of one network and of none, added up. */
  async drops(): Promise<Map<string, number>> {
    const stats = await this.stats();
    const sums = new Map<string, number>();
    for (const drops of [stats.drops, ...stats.networks.map((network) => network.drops)]) {
      for (const [reason, count] of Object.entries(drops)) sums.set(reason, (sums.get(reason) ?? 0) + (count ?? 0));
    }
    return sums;
  }

  async fdb(network: string): Promise<FdbDump[]> {
    return this.withDataplane(async (client) => (await client.request('tables.dump', { network })).fdb);
  }

  async neighbours(network: string): Promise<NeighbourDump[]> {
    return this.withDataplane(async (client) => (await client.request('tables.dump', { network })).neighbours);
  }
}

/** `KEY=value` lines, as flannel's subnet.env. */
export async function readEnvFile(path: string): Promise<Map<string, string>> {
  const entries = new Map<string, string>();
  for (const line of (await readFile(path, 'utf8')).split('\n')) {
    const at = line.indexOf('=');
    if (at > 0) entries.set(line.slice(0, at), line.slice(at + 1));
  }
  return entries;
}
