/**
 * Real etcd servers for tests: own process, own data directory, own ports, ended by pid. On 127.0.0.1 with free ports,
 * or in a network namespace on an address of its own with etcd's usual ports.
 */
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Background, run, tryRun } from './exec.ts';

export interface EtcdTls {
  /** Authority of the server's and, if `clientAuth`, of the clients' certificates. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Clients must show a certificate. */
  readonly clientAuth?: boolean;
}

export interface EtcdOptions {
  /** Data directory that outlives `stop`; one of its own if left out. */
  readonly dir?: string;
  /** Switches authentication on, with the user `root` and this password, for `ctl` too. */
  readonly rootPassword?: string;
  readonly tls?: EtcdTls;
  /** Name of a network namespace to run in; `address` is then to be one of its addresses. */
  readonly netns?: string;
  /** Address to listen on; 127.0.0.1 if left out. */
  readonly address?: string;
  /** More flags of etcd. */
  readonly args?: readonly string[];
}

export interface EtcdServer {
  /** `http://address:port`, or `https://`. */
  readonly endpoint: string;
  readonly address: string;
  readonly port: number;
  readonly dataDir: string;
  readonly pid: number;
  /** What the server has written to its log. */
  readonly output: string;
  /** Runs etcdctl against this server and gives what it printed, without the last newline. */
  ctl(...args: string[]): Promise<string>;
  /** Puts a key whose value may be anything. */
  put(key: string, value: string): Promise<void>;
  /** The key's value, or undefined if it is not there. */
  get(key: string): Promise<string | undefined>;
  /** Sends a signal; SIGTERM and SIGKILL are waited for. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Starts the server again on the same ports and data, after ending it if it runs. */
  restart(): Promise<void>;
  /** Ends the server, puts what `snapshot save` wrote in the place of its data, and starts it. The file is removed. */
  restore(snapshot: string): Promise<void>;
  /** Ends the server and removes its data directory, if that was made here. */
  stop(): Promise<void>;
}

/** False if etcd can be run here, else why not; for node:test's `skip`. In CI a missing tool is a failure. */
export async function withoutEtcd(): Promise<string | false> {
  if (process.env.CI) return false;
  for (const argv of [
    ['etcd', '--version'],
    ['etcdctl', 'version'],
  ]) {
    const found = await tryRun(argv, { env: { ETCDCTL_API: '3' } }).catch(() => undefined);
    if (found?.status !== 0) return `${argv[0]} is not installed (Debian: etcd-server, etcd-client)`;
  }
  return false;
}

export async function startEtcd(options: EtcdOptions = {}): Promise<EtcdServer> {
  const [server] = await startMembers(1, options);
  return server as EtcdServer;
}

/** Starts the members of one cluster, on 127.0.0.1. */
export function startEtcdCluster(
  count: number,
  options: Omit<EtcdOptions, 'netns' | 'dir'> = {},
): Promise<EtcdServer[]> {
  return startMembers(count, options);
}

async function startMembers(count: number, options: EtcdOptions): Promise<EtcdServer[]> {
  const address = options.address ?? '127.0.0.1';
  const scheme = options.tls === undefined ? 'http' : 'https';
  const members: Member[] = [];
  for (let index = 0; index < count; index += 1) {
    const [port, peerPort] = options.netns === undefined ? await freePorts(address, 2) : [2379, 2380];
    members.push({ name: `m${index}`, address, port: port as number, peerPort: peerPort as number });
  }
  const cluster = members.map(({ name, peerPort }) => `${name}=http://${address}:${peerPort}`).join(',');
  const servers = await Promise.all(members.map((member) => RealEtcd.create(member, cluster, scheme, options)));
  try {
    await Promise.all(servers.map((server) => server.start()));
    if (options.rootPassword !== undefined) {
      const [first] = servers;
      await first?.enableAuth(options.rootPassword);
      for (const server of servers) server.rootPassword = options.rootPassword;
    }
  } catch (error) {
    // Nobody gets to know these servers, so nobody else would end them.
    await Promise.all(servers.map((server) => server.stop()));
    throw error;
  }
  return servers;
}

interface Member {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly peerPort: number;
}

/** Starting and electing a leader takes 1 s; a machine at work on other things may need long. */
const START_TIMEOUT_MS = 60_000;

class RealEtcd implements EtcdServer {
  readonly endpoint: string;
  readonly address: string;
  readonly port: number;
  readonly dataDir: string;
  rootPassword: string | undefined;
  readonly #member: Member;
  readonly #cluster: string;
  readonly #options: EtcdOptions;
  #process: Background | undefined;

  private constructor(member: Member, cluster: string, scheme: string, dataDir: string, options: EtcdOptions) {
    this.address = member.address;
    this.port = member.port;
    this.endpoint = `${scheme}://${member.address}:${member.port}`;
    this.dataDir = dataDir;
    this.#member = member;
    this.#cluster = cluster;
    this.#options = options;
  }

  static async create(member: Member, cluster: string, scheme: string, options: EtcdOptions): Promise<RealEtcd> {
    const dataDir = options.dir ?? (await mkdtemp(join(tmpdir(), 'vtepd-etcd-')));
    return new RealEtcd(member, cluster, scheme, dataDir, options);
  }

  get pid(): number {
    if (this.#process === undefined) throw new Error(`etcd at ${this.endpoint} is not running`);
    return this.#process.pid;
  }

  get output(): string {
    return this.#process?.output ?? '';
  }

  async start(): Promise<void> {
    this.#process = new Background(this.#enter(this.#argv()), { env: { ETCD_LOG_LEVEL: 'info' } });
    await this.#process.waitFor(
      /ready to serve client requests|serving (insecure )?client (requests|traffic)/,
      START_TIMEOUT_MS,
    );
  }

  async enableAuth(password: string): Promise<void> {
    await this.ctl('user', 'add', `root:${password}`);
    await this.ctl('user', 'grant-role', 'root', 'root');
    await this.ctl('auth', 'enable');
  }

  async ctl(...args: string[]): Promise<string> {
    const { tls } = this.#options;
    const flags = [
      `--endpoints=${this.endpoint}`,
      ...(this.rootPassword === undefined ? [] : [`--user=root:${this.rootPassword}`]),
      ...(tls === undefined ? [] : [`--cacert=${tls.ca}`]),
      ...(tls?.clientAuth === true ? [`--cert=${tls.cert}`, `--key=${tls.key}`] : []),
    ];
    const text = await run(this.#enter(['etcdctl', ...flags, ...args]), { env: { ETCDCTL_API: '3' } });
    return text.replace(/\n$/, '');
  }

  async put(key: string, value: string): Promise<void> {
    await this.ctl('put', '--', key, value);
  }

  async get(key: string): Promise<string | undefined> {
    const text = await this.ctl('get', '--', key);
    return text === '' ? undefined : text.slice(text.indexOf('\n') + 1);
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    if (signal === 'SIGTERM' || signal === 'SIGKILL') await this.#process?.stop(signal);
    else this.#process?.kill(signal);
  }

  async restart(): Promise<void> {
    await this.#process?.stop();
    await this.start();
  }

  async restore(snapshot: string): Promise<void> {
    await this.#process?.stop();
    const restored = `${this.dataDir}.restored`;
    const argv = ['etcdctl', 'snapshot', 'restore', snapshot, `--data-dir=${restored}`];
    await run(argv, { env: { ETCDCTL_API: '3' }, timeoutMs: START_TIMEOUT_MS });
    await rm(this.dataDir, { recursive: true });
    await rename(restored, this.dataDir);
    await rm(snapshot);
    await this.start();
  }

  async stop(): Promise<void> {
    // A stopped (SIGSTOP) server would not take the SIGTERM.
    this.#process?.kill('SIGCONT');
    await this.#process?.stop('SIGKILL');
    if (this.#options.dir === undefined) await rm(this.dataDir, { recursive: true, force: true });
  }

  #argv(): string[] {
    const { name, address, peerPort } = this.#member;
    const { tls, args = [] } = this.#options;
    return [
      'etcd',
      `--name=${name}`,
      `--data-dir=${this.dataDir}`,
      `--listen-client-urls=${this.endpoint}`,
      `--advertise-client-urls=${this.endpoint}`,
      `--listen-peer-urls=http://${address}:${peerPort}`,
      `--initial-advertise-peer-urls=http://${address}:${peerPort}`,
      `--initial-cluster=${this.#cluster}`,
      '--initial-cluster-state=new',
      '--logger=zap',
      ...(tls === undefined ? [] : [`--cert-file=${tls.cert}`, `--key-file=${tls.key}`]),
      // A trusted authority by itself already makes etcd demand a client's certificate.
      ...(tls?.clientAuth === true ? ['--client-cert-auth', `--trusted-ca-file=${tls.ca}`] : []),
      ...args,
    ];
  }

  #enter(argv: readonly string[]): string[] {
    const { netns } = this.#options;
    return netns === undefined ? [...argv] : ['nsenter', `--net=/run/netns/${netns}`, '--', ...argv];
  }
}

/** Ports that are free now. All are held until all are known, so that they differ. */
async function freePorts(address: string, count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, address, resolve);
      });
      return server;
    }),
  );
  const ports = servers.map((server) => {
    const bound = server.address();
    if (bound === null || typeof bound === 'string') throw new Error('a TCP server has an address and a port');
    return bound.port;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
