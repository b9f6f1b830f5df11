/**
 * The test bed: hosts as network namespaces, joined by an underlay, each with containers' bridge and one container.
 *
 *     container-a          host-a                 underlay                host-b          container-b
 *     eth0 10.246.30.2 --- br0 10.246.30.1        bridge ul0             br0 ---------- eth0 10.246.13.2
 *                          eth0 10.245.1.3 - to-a ... to-b ----------- eth0 10.245.1.4
 *
 * All devices live inside namespaces of this run: the machine's own network is not touched.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Netns } from './netns.ts';
import { Teardown } from './teardown.ts';

/**
 * What the underlay does to packets. `veth`: the kernel's defaults, where a tunnel's datagram crosses as one piece of up to
 * 64 KiB with its checksums left open. `wire`: cut and checksummed by the sender, merged by the receiver, as with a
 * network card.
 */
export type UnderlayMode = 'veth' | 'wire';

/** Where a test does not say which: scripts/nightly.sh runs them all in both. */
export const DEFAULT_MODE: UnderlayMode = process.env.VTEPD_TEST_UNDERLAY === 'wire' ? 'wire' : 'veth';

export interface HostPlan {
  readonly label: string;
  /** Underlay addresses. */
  readonly ipv4: string;
  readonly ipv6: string;
  /** First three bytes of the container subnet, a /24. */
  readonly net: string;
}

export const HOST_A: HostPlan = { label: 'a', ipv4: '10.245.1.3', ipv6: 'fd00:245::3', net: '10.246.30' };
export const HOST_B: HostPlan = { label: 'b', ipv4: '10.245.1.4', ipv6: 'fd00:245::4', net: '10.246.13' };
export const HOST_C: HostPlan = { label: 'c', ipv4: '10.245.1.5', ipv6: 'fd00:245::5', net: '10.246.81' };

export interface BedHost {
  readonly label: string;
  readonly ns: Netns;
  readonly container: Netns;
  readonly ipv4: string;
  readonly ipv6: string;
  /** `10.246.30.0/24`, its base, the bridge's address and the container's. */
  readonly subnet: string;
  readonly base: string;
  readonly gateway: string;
  readonly address: string;
  /** A directory for sockets, state and files of this host. */
  readonly dir: string;
}

export interface BedOptions {
  readonly hosts?: readonly HostPlan[];
  readonly mode?: UnderlayMode;
}

/** The five settings that turn a veth into a wire. */
const WIRE = ['tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'on'];

export class Bed {
  readonly hosts: readonly BedHost[];
  /** Namespace of the underlay's bridge `ul0`; one port for each host, `to-<label>`. */
  readonly underlay: Netns;
  readonly dir: string;
  readonly teardown: Teardown;

  private constructor(hosts: readonly BedHost[], underlay: Netns, dir: string, teardown: Teardown) {
    this.hosts = hosts;
    this.underlay = underlay;
    this.dir = dir;
    this.teardown = teardown;
  }

  static async create(options: BedOptions = {}): Promise<Bed> {
    const teardown = new Teardown();
    try {
      const dir = await mkdtemp(join(tmpdir(), 'vtepd-bed-'));
      teardown.defer(dir, () => rm(dir, { recursive: true, force: true }));
      const underlay = await Netns.create(`net${sequence()}`);
      teardown.defer(underlay.name, () => underlay.delete());
      await underlay.ip(
        'link add ul0 type bridge',
        'link set ul0 up',
        'addr add 10.245.1.1/24 dev ul0',
        'addr add fd00:245::1/64 dev ul0',
      );
      const hosts: BedHost[] = [];
      for (const plan of options.hosts ?? [HOST_A, HOST_B]) {
        hosts.push(await addHost(plan, underlay, dir, options.mode ?? DEFAULT_MODE, teardown));
      }
      return new Bed(hosts, underlay, dir, teardown);
    } catch (error) {
      await teardown.run();
      throw error;
    }
  }

  host(label: string): BedHost {
    const host = this.hosts.find((each) => each.label === label);
    if (host === undefined) throw new Error(`the bed has no host ${label}`);
    return host;
  }

  destroy(): Promise<void> {
    return this.teardown.run();
  }

  /** Leaves the namespaces and files in place when this process ends. */
  abandon(): void {
    this.teardown.abandon();
    for (const ns of [this.underlay, ...this.hosts.flatMap((host) => [host.ns, host.container])]) ns.abandon();
  }
}

let beds = 0;

/** Tells the namespaces of several beds of one process apart; empty for the first. */
function sequence(): string {
  beds += 1;
  return beds === 1 ? '' : String(beds);
}

async function addHost(
  plan: HostPlan,
  underlay: Netns,
  dir: string,
  mode: UnderlayMode,
  teardown: Teardown,
): Promise<BedHost> {
  const suffix = beds === 1 ? '' : String(beds);
  const ns = await Netns.create(`host-${plan.label}${suffix}`);
  teardown.defer(ns.name, () => ns.delete());
  const container = await Netns.create(`box-${plan.label}${suffix}`);
  teardown.defer(container.name, () => container.delete());
  const address = `${plan.net}.2`;
  const gateway = `${plan.net}.1`;
  await underlay.ip(
    `link add name to-${plan.label} type veth peer name eth0 netns ${ns.name}`,
    `link set to-${plan.label} master ul0`,
    `link set to-${plan.label} up`,
  );
  await ns.ip(
    'link set eth0 up',
    `addr add ${plan.ipv4}/24 dev eth0`,
    `addr add ${plan.ipv6}/64 dev eth0`,
    'link add br0 type bridge',
    'link set br0 up',
    `addr add ${gateway}/24 dev br0`,
    `link add box type veth peer name eth0 netns ${container.name}`,
    'link set box master br0',
    'link set box up',
  );
  await container.ip('link set eth0 up', `addr add ${address}/24 dev eth0`, `route add default via ${gateway}`);
  if (mode === 'wire') {
    await ns.exec(['ethtool', '-K', 'eth0', ...WIRE]);
    await underlay.exec(['ethtool', '-K', `to-${plan.label}`, ...WIRE]);
  }
  const { label, ipv4, ipv6 } = plan;
  const base = `${plan.net}.0`;
  return { label, ns, container, ipv4, ipv6, subnet: `${base}/24`, base, gateway, address, dir: join(dir, label) };
}

/** Sets a device's MTU in every container of the bed to what the overlay carries, as docker's `--mtu` would. */
export async function setContainerMtu(hosts: readonly BedHost[], mtu: number): Promise<void> {
  for (const host of hosts) await host.container.ip(`link set eth0 mtu ${mtu}`);
}
