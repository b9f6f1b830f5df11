/**
 * A Docker daemon for one host of the bed: in the host's network namespace, with directories of its own, and process and
 * mount namespaces that take everything along when it ends, however that happens.
 *
 * `unshare` and not `ip netns exec`, which hides the cgroup mounts ("Devices cgroup isn't mounted").
 */
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BedHost } from './bed.ts';
import { type Background, eventually, run, tryRun } from './exec.ts';
import { RUN_ID } from './netns.ts';

/** What runs in the containers: one static program and its names. */
const BUSYBOX = '/bin/busybox';
const APPLETS = ['sh', 'cat', 'head', 'ip', 'mkfifo', 'nc', 'ping', 'sha256sum', 'sleep', 'wc'];
export const IMAGE = 'vtepd-test:1';

/** Starting takes 2 s; a machine at work on other things may need long. */
const START_TIMEOUT_MS = 60_000;

/** The options of a Docker daemon by flannel's environment file, as flannel's `mk-docker-opts.sh` makes them. */
export const DOCKER_OPTIONS = 'case $FLANNEL_IPMASQ in true) masq=false ;; *) masq=true ;; esac';
/**
 * What every daemon uses whatever it is told: the machine's settings and key, plugins, and the sockets of containerd's
 * shims. Hidden in the daemon's mount namespace.
 */
const PRIVATE = 'for dir in /etc/docker /run/docker /run/containerd; do mkdir -p $dir; mount -t tmpfs none $dir; done';
const OWN = 'exec dockerd --bip="$FLANNEL_SUBNET" --mtu="$FLANNEL_MTU" --ip-masq="$masq" "$@"';

/** False if a Docker daemon can be run here, else why not; for node:test's `skip`. In CI a missing tool is a failure. */
export async function withoutDocker(): Promise<string | false> {
  if (process.env.CI) return false;
  for (const argv of [
    ['dockerd', '--version'],
    ['docker', '--version'],
    ['iptables', '--version'],
    [BUSYBOX, 'true'],
  ]) {
    const found = await tryRun(argv).catch(() => undefined);
    if (found?.status !== 0) return `${argv[0]} is not installed (Debian: docker.io, iptables, busybox-static)`;
  }
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  return / cgroup2? /.test(mounts) ? false : 'no cgroups are mounted';
}

export class DockerHost {
  readonly host: BedHost;
  readonly #dir: string;
  readonly #daemon: Background;
  readonly #cgroup: string;
  readonly #env: Readonly<Record<string, string>>;

  private constructor(host: BedHost, dir: string, cgroup: string, daemon: Background) {
    this.host = host;
    this.#dir = dir;
    this.#cgroup = cgroup;
    this.#daemon = daemon;
    // Nothing of the user's own Docker: no context, no registry, no credentials.
    this.#env = { DOCKER_HOST: this.endpoint, DOCKER_CONFIG: join(dir, 'client'), DOCKER_CONTEXT: '' };
  }

  /** Starts a daemon with bridge address, MTU and masquerading from `subnetFile`; the bed's own bridge makes room. */
  static async start(host: BedHost, subnetFile: string): Promise<DockerHost> {
    const dir = join(host.dir, 'docker');
    const cgroup = `${RUN_ID}-docker-${host.label}`;
    await mkdir(join(dir, 'client'), { recursive: true });
    await host.ns.ip('link del br0', 'link del box');
    const flags = [
      `--host=unix://${dir}/docker.sock`,
      `--data-root=${dir}/data`,
      `--exec-root=${dir}/exec`,
      `--pidfile=${dir}/docker.pid`,
      `--cgroup-parent=/${cgroup}`,
      '--storage-driver=vfs',
      '--exec-opt=native.cgroupdriver=cgroupfs',
      '--shutdown-timeout=1',
    ];
    const script = `set -eu; ${PRIVATE}; . "$1"; shift; ${DOCKER_OPTIONS}; ${OWN}`;
    const alone = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const daemon = host.ns.background([...alone, 'sh', '-c', script, 'sh', subnetFile, ...flags]);
    const docker = new DockerHost(host, dir, cgroup, daemon);
    try {
      await eventually(
        `dockerd on host ${host.label} answers`,
        async () => {
          if (!daemon.running) throw new Error(`dockerd ended:\n${daemon.output}`);
          return (await docker.docker('version', '--format', '{{.Server.Version}}')) !== '';
        },
        { timeoutMs: START_TIMEOUT_MS, everyMs: 200 },
      );
      await docker.#importImage();
    } catch (cause) {
      await docker.stop();
      throw new Error(`no Docker daemon on host ${host.label}:\n${daemon.output.slice(-4_000)}`, { cause });
    }
    return docker;
  }

  get endpoint(): string {
    return `unix://${this.#dir}/docker.sock`;
  }

  /** Runs `docker WORDS`, which must succeed. */
  docker(...words: string[]): Promise<string> {
    return run(['docker', ...words], { env: this.#env, timeoutMs: 60_000 });
  }

  /** Runs a shell line in a container. */
  async sh(container: string, line: string): Promise<string> {
    return (await this.docker('exec', container, 'sh', '-c', line)).trim();
  }

  /** Starts a container that waits, and ends without waiting; gives the address that Docker has given it. */
  async start(container: string): Promise<string> {
    await this.docker('run', '--detach', '--stop-signal=KILL', '--name', container, IMAGE, 'sleep', '1000');
    const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
    return (await this.docker('inspect', '--format', format, container)).trim();
  }

  /** Ends the daemon with its containers and removes what it made: files, control groups, mounts. */
  async stop(): Promise<void> {
    const [pid] = await this.#children(this.#daemon.pid);
    // `unshare` itself passes no signal on.
    if (this.#daemon.running && pid !== undefined) {
      process.kill(pid, 'SIGTERM');
      await Promise.race([this.#daemon.exited, sleep(10_000, undefined, { ref: false })]);
    }
    await this.#daemon.stop('SIGKILL');
    // A group that is gone meanwhile is as good: the caller sees what is left.
    await tryRun([
      'find',
      '/sys/fs/cgroup',
      '-depth',
      '-type',
      'd',
      '-path',
      `*/${this.#cgroup}*`,
      '-exec',
      'rmdir',
      '{}',
      ';',
    ]);
    await rm(this.#dir, { recursive: true, force: true });
  }

  async #children(pid: number): Promise<number[]> {
    const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    return text
      .split(' ')
      .filter((word) => word !== '')
      .map(Number);
  }

  async #importImage(): Promise<void> {
    const root = join(this.#dir, 'root');
    await mkdir(join(root, 'bin'), { recursive: true });
    await writeFile(join(root, 'bin/busybox'), await readFile(BUSYBOX), { mode: 0o755 });
    for (const applet of APPLETS) await symlink('busybox', join(root, 'bin', applet));
    const tar = join(this.#dir, 'image.tar');
    await run(['tar', '-C', root, '-cf', tar, '.']);
    await this.docker('import', tar, IMAGE);
  }
}

/**
 * Moves a file of random bytes by netcat from a container to one of another host; gives its sha256 as counted at either
 * end.
 */
export async function moveFile(
  from: DockerHost,
  to: DockerHost,
  container: string,
  address: string,
  bytes: number,
): Promise<{ sent: string; received: string }> {
  // With an input that ends, netcat ends its side of the connection, and the other netcat leaves with it.
  const receiving = to.sh(container, 'mkfifo /never; nc -l -p 7000 <>/never | sha256sum');
  const sending = from.sh(
    container,
    `head -c ${bytes} /dev/urandom >/file; sha256sum </file; until nc ${address} 7000 </file; do sleep 0.1; done`,
  );
  const [sent, received] = await Promise.all([sending, receiving]);
  return { sent: sent.slice(0, 64), received: received.slice(0, 64) };
}
