/** Does to a real cluster what the actions say; what the cluster makes of it is for the caller to judge. */
import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bed } from './bed.ts';
import { type Cluster, ENDPOINT, leaseValue, PREFIX } from './cluster.ts';
import { type Action, addressOf, BY_HAND, type Verb } from './cluster-actions.ts';
import type { Background } from './exec.ts';
import type { VtepdHost } from './vtepd.ts';

/** As long as etcd may take for a request while it is slow. */
const PATIENT = ['--dial-timeout=20s', '--command-timeout=20s'] as const;
const SLOW = { stoppedMs: 160, runningMs: 40 } as const;

export class ClusterRun {
  readonly #bed: Bed;
  readonly #cluster: Cluster;
  readonly #hosts = new Map<
    string,
    { readonly vtepd: VtepdHost; daemon: Background; wanted: boolean; left: boolean }
  >();
  /** Said with the milliseconds since the start. */
  readonly story: string[] = [];
  readonly #began = performance.now();
  #quicken = async (): Promise<void> => undefined;

  constructor(bed: Bed, cluster: Cluster) {
    this.#bed = bed;
    this.#cluster = cluster;
    // An etcd that is stopped, or a path that is cut, would keep the teardown waiting.
    bed.teardown.defer('faults', () => this.#quicken());
  }

  /** Starts all hosts and waits until they are up. */
  async begin(labels: readonly string[]): Promise<void> {
    const joined = await Promise.all(labels.map((label) => this.#cluster.addVtepd(this.#bed.host(label))));
    for (const { vtepd, daemon } of joined) {
      this.#hosts.set(vtepd.host.label, { vtepd, daemon, wanted: true, left: false });
    }
  }

  /** Hosts that have not left. */
  members(): VtepdHost[] {
    return [...this.#hosts.values()].filter(({ left }) => !left).map(({ vtepd }) => vtepd);
  }

  /** Does one action. Throws when it cannot be done, or when a controller has ended that nobody ended. */
  async act([verb, ...words]: Action): Promise<void> {
    this.story.push(`${Math.round(performance.now() - this.#began)} ms: ${[verb, ...words].join(' ')}`);
    await this.#acts[verb](...words);
    for (const [label, { daemon, wanted }] of this.#hosts) {
      if (wanted && !daemon.running)
        throw new Error(`vtepd run on host ${label} ended with status ${await daemon.exited}`);
    }
  }

  /** The last lines of every controller. */
  said(): string {
    return [...this.#hosts]
      .map(([label, { daemon }]) => `host ${label}:\n${daemon.output.split('\n').slice(-40).join('\n')}`)
      .join('\n');
  }

  readonly #acts: Readonly<Record<Verb, (...words: string[]) => Promise<void>>> = {
    wait: async (ms = '0') => sleep(Number(ms)),
    run: async (label = '', mac) => this.#run(label, mac),
    stop: async (label = '') => this.#end(label, 'SIGTERM'),
    kill: async (label = '') => this.#end(label, 'SIGKILL'),
    'kill-plane': async (label = '') => this.#killPlane(label),
    'kill-both': async (label = '') => {
      const pid = await this.#planePid(label);
      await this.#end(label, 'SIGKILL');
      if (pid !== undefined) kill(pid);
    },
    leave: async (label = '') => this.#leave(label),
    address: async (label = '', address = '') => {
      const other = address === addressOf(label, true) ? addressOf(label, false) : addressOf(label, true);
      // Deleting a first address takes the second ones of its subnet with it.
      const words = [
        `addr replace ${address}/24 dev eth0`,
        `addr del ${other}/24 dev eth0`,
        `addr replace ${address}/24 dev eth0`,
      ];
      await this.#host(label).vtepd.host.ns.ip(...words);
    },
    'device-mac': async (label = '', mac = '') => {
      const { ns } = this.#host(label).vtepd.host;
      // Between the death of a dataplane and the next there is no device.
      await ns.tryExec(['ip', 'link', 'set', this.#cluster.device, 'address', mac]);
    },
    'lose-key': async (label = '') => this.#deleteLeases(label),
    put: async (n = '', generation = '') => {
      await this.#ctl('put', ...byHand(Number(n), Number(generation), this.#cluster.vni));
    },
    del: async (n = '') => {
      await this.#ctl('del', keyByHand(Number(n)));
    },
    burst: async (generation = '') => {
      const entries = Array.from({ length: BY_HAND }, (_, n) => byHand(n, Number(generation), this.#cluster.vni));
      await this.#cluster.putTogether(entries);
    },
    bad: async (n = '') => {
      await this.#ctl('put', `${PREFIX}/subnets/nonsense-${n}`, '{}');
      await this.#ctl('put', keyByHand(Number(n)), '{"PublicIP":');
    },
    // Refused where nothing has happened since the last time.
    compact: () => this.#cluster.compactEtcd(...PATIENT).catch(() => undefined),
    'etcd-kill': () => this.#cluster.signalEtcd('SIGKILL'),
    'etcd-start': () => this.#cluster.startEtcd(),
    'etcd-freeze': () => this.#cluster.signalEtcd('SIGSTOP'),
    'etcd-thaw': () => this.#cluster.signalEtcd('SIGCONT'),
    'etcd-slow': async () => {
      this.#quicken = this.#cluster.slowEtcd(SLOW);
    },
    'etcd-quick': () => this.#quicken(),
    cut: (how = '', labels = '') => this.#cut(how, labels.split(',')),
    join: async () => {
      await this.#cluster.joinEtcd();
      await this.#bed.underlay.ip(...[...this.#hosts.keys()].map((label) => `link set to-${label} up`));
    },
  };

  async #run(label: string, mac: string | undefined): Promise<void> {
    const host = this.#host(label);
    if (host.wanted) return;
    const flags = mac === undefined ? [] : ['--mac', mac];
    host.daemon = host.vtepd.run('--etcd-endpoints', ENDPOINT, '--iface', 'eth0', ...flags);
    host.wanted = true;
    host.left = false;
  }

  async #end(label: string, signal: NodeJS.Signals): Promise<void> {
    const host = this.#host(label);
    host.wanted = false;
    await host.daemon.stop(signal);
  }

  async #killPlane(label: string): Promise<void> {
    const pid = await this.#planePid(label);
    if (pid !== undefined) kill(pid);
  }

  /** Undefined where none runs at the moment. */
  #planePid(label: string): Promise<number | undefined> {
    return this.#host(label)
      .vtepd.dataplanePid()
      .catch(() => undefined);
  }

  async #leave(label: string): Promise<void> {
    const host = this.#host(label);
    await this.#end(label, 'SIGTERM');
    host.left = true;
    await host.vtepd.cli('cleanup');
    await rm(host.vtepd.stateDir, { recursive: true, force: true });
    await rm(host.vtepd.subnetFile, { force: true });
    await this.#deleteLeases(label);
  }

  /** A host's lease is known by its PublicIP, of which it may have had two. */
  async #deleteLeases(label: string): Promise<void> {
    const answer = JSON.parse(await this.#ctl('get', '--prefix', `${PREFIX}/subnets/`, '-w', 'json')) as {
      kvs?: { key: string; value: string }[];
    };
    const own = [false, true].map((second) => `"PublicIP":"${addressOf(label, second)}"`);
    for (const { key, value } of answer.kvs ?? []) {
      const text = Buffer.from(value, 'base64').toString();
      if (own.some((words) => text.includes(words))) await this.#ctl('del', Buffer.from(key, 'base64').toString());
    }
  }

  #ctl(...words: string[]): Promise<string> {
    return this.#cluster.etcdctl(...PATIENT, ...words);
  }

  async #cut(how: string, labels: readonly string[]): Promise<void> {
    if (how === 'link') {
      await this.#bed.underlay.ip(...labels.map((label) => `link set to-${label} down`));
      return;
    }
    const addresses = labels.flatMap((label) => [addressOf(label, false), addressOf(label, true)]);
    await this.#cluster.cutEtcd(addresses, how === 'drop' ? 'drop' : 'reject with tcp reset');
  }

  #host(label: string) {
    const host = this.#hosts.get(label);
    if (host === undefined) throw new Error(`host ${label} is none of the run's`);
    return host;
  }
}

function keyByHand(n: number): string {
  return `${PREFIX}/subnets/10.246.${200 + n}.0-24`;
}

/** Key and value; no two generations share MAC or PublicIP. */
function byHand(n: number, generation: number, vni: number): [key: string, value: string] {
  const byte = (value: number): string => (value & 255).toString(16).padStart(2, '0');
  const mac = `0a:0d:${byte(n)}:${byte(generation >> 16)}:${byte(generation >> 8)}:${byte(generation)}`;
  const publicIp = `10.${128 + n}.${(generation >> 8) & 255}.${generation & 255}`;
  return [keyByHand(n), leaseValue(publicIp, vni, mac)];
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself meanwhile.
  }
}
