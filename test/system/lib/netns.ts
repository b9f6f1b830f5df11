/**
 * Network namespaces with names of our own (`vt<pid in base 36>-<label>`), so that several runs on one machine never meet.
 *
 * `nsenter --net` rather than `ip netns exec`: the latter gives each command a mount namespace of its own, and a daemon
 * that outlives the command would keep it.
 */
import { spawnSync } from 'node:child_process';
import { Background, type RunOptions, type RunResult, run, tryRun } from './exec.ts';

/** Names everything that this process makes; `VTEPD_BED` marks what belongs to one run of scripts/test.sh. */
export const RUN_ID = `${process.env.VTEPD_BED ?? 'vt'}${process.pid.toString(36)}`;

const held = new Set<string>();

// The last resort, after the teardown or without one (a crash): nothing of ours stays. Synchronous, as `exit` demands.
process.on('exit', () => {
  for (const name of held) {
    for (const pid of pidsIn(spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).stdout ?? ''))
      kill(pid, 'SIGKILL');
    spawnSync('ip', ['netns', 'del', name]);
  }
});

export class Netns {
  readonly name: string;

  private constructor(name: string) {
    this.name = name;
  }

  /** Makes a namespace with its loopback up, IPv6 addresses usable at once, and forwarding on. */
  static async create(label: string): Promise<Netns> {
    const netns = new Netns(`${RUN_ID}-${label}`);
    await run(['ip', 'netns', 'add', netns.name]);
    held.add(netns.name);
    await netns.exec(['sh', '-ec', SYSCTLS]);
    await netns.ip('link set lo up');
    return netns;
  }

  get path(): string {
    return `/run/netns/${this.name}`;
  }

  #enter(argv: readonly string[]): string[] {
    return ['nsenter', `--net=${this.path}`, '--', ...argv];
  }

  exec(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    return run(this.#enter(argv), options);
  }

  tryExec(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return tryRun(this.#enter(argv), options);
  }

  background(argv: readonly string[], options: RunOptions = {}): Background {
    return new Background(this.#enter(argv), options);
  }

  /** Runs `ip` commands, given without the leading `ip`, in one process; stops at the first that fails. */
  async ip(...commands: string[]): Promise<void> {
    await run(['ip', '-n', this.name, '-batch', '-'], { input: `${commands.join('\n')}\n` });
  }

  /** Runs `bridge` commands, given without the leading `bridge`. */
  async bridge(...commands: string[]): Promise<void> {
    await this.exec(['bridge', '-batch', '-'], { input: `${commands.join('\n')}\n` });
  }

  async pids(): Promise<number[]> {
    return pidsIn(await run(['ip', 'netns', 'pids', this.name]));
  }

  /** Ends every process inside (SIGTERM, then SIGKILL after 3 s) and removes the namespace with all its devices. */
  async delete(): Promise<void> {
    await this.#endAll('SIGTERM', 3_000);
    await this.#endAll('SIGKILL', 3_000);
    await run(['ip', 'netns', 'del', this.name]);
    held.delete(this.name);
  }

  /** Leaves the namespace behind when this process ends. */
  abandon(): void {
    held.delete(this.name);
  }

  async #endAll(signal: NodeJS.Signals, timeoutMs: number): Promise<void> {
    for (const pid of await this.pids()) kill(pid, signal);
    for (const until = Date.now() + timeoutMs; Date.now() < until; ) {
      if ((await this.pids()).length === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

// devconf of a new namespace may be inherited from the first one: say what the tests rely on. accept_dad=0: no second of
// waiting before an IPv6 address may be used. The lines for devices that come later are those of `default`.
const SYSCTLS = `
cd /proc/sys/net
echo 1 >ipv4/ip_forward
for c in all default; do
  echo 0 >ipv4/conf/$c/rp_filter
  echo 0 >ipv6/conf/$c/accept_dad
  echo 0 >ipv6/conf/$c/accept_ra
done
echo 1 >ipv6/conf/all/forwarding
`;

function pidsIn(text: string): number[] {
  return text
    .split(/\s+/)
    .filter((word) => word !== '')
    .map(Number);
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Ended by itself meanwhile.
  }
}
