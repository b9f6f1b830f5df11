/**
 * The bed of one system: two namespaces joined by a veth, whose two ends are set to look like the profile's underlay.
 *
 *     near (10.245.1.3, und0) ---- (und0, 10.245.1.4) far
 *
 * Every system uses the same addresses: the namespaces keep them apart. Nothing is resolved while it is measured: IPv6 is off
 * and neighbours are permanent, underlay and overlay.
 */
import type { Profile } from '../vocabulary.ts';
import type { Child } from './child.ts';
import { ip, run } from './exec.ts';
import { PREFIX } from './leftovers.ts';
import { inNamespace, LOAD_TOOL } from './load-tool.ts';

export interface End {
  readonly side: 'near' | 'far';
  readonly netns: string;
  readonly underlay: string;
  readonly underlayMac: string;
  readonly overlay: string;
  readonly overlayMac: string;
  readonly children: Child[];
}

export const UNDERLAY_DEVICE = 'und0';
export const OVERLAY_DEVICE = 'vx0';
/** VXLAN over IPv4: outer IP 20, UDP 8, VXLAN 8, inner Ethernet 14. */
const OVERHEAD = 50;

export class Pair {
  readonly name: string;
  readonly profile: Profile;
  readonly near: End;
  readonly far: End;
  readonly underlayMtu: number;

  private constructor(name: string, profile: Profile) {
    const netns = (side: string): string => `${PREFIX}${name}-${side}`;
    this.name = name;
    this.profile = profile;
    this.underlayMtu = profile === 'jumbo' ? 9000 : 1500;
    this.near = {
      side: 'near',
      netns: netns('near'),
      underlay: '10.245.1.3',
      underlayMac: '02:00:00:00:45:03',
      overlay: '10.246.0.3',
      overlayMac: '02:00:00:00:46:03',
      children: [],
    };
    this.far = {
      side: 'far',
      netns: netns('far'),
      underlay: '10.245.1.4',
      underlayMac: '02:00:00:00:45:04',
      overlay: '10.246.0.4',
      overlayMac: '02:00:00:00:46:04',
      children: [],
    };
  }

  static async create(name: string, profile: Profile): Promise<Pair> {
    const pair = new Pair(name, profile);
    try {
      await pair.#build();
      return pair;
    } catch (error) {
      await pair.destroy();
      throw error;
    }
  }

  get ends(): readonly [End, End] {
    return [this.near, this.far];
  }

  get overlayMtu(): number {
    return this.underlayMtu - OVERHEAD;
  }

  other(end: End): End {
    return end === this.near ? this.far : this.near;
  }

  /** Gives the overlay device of one end its address and the other end's MAC. */
  async configureOverlay(end: End, device: string = OVERLAY_DEVICE): Promise<void> {
    const other = this.other(end);
    await ip(
      end.netns,
      `link set ${device} up mtu ${this.overlayMtu}`,
      `addr add ${end.overlay}/24 dev ${device}`,
      `neigh replace ${other.overlay} lladdr ${other.overlayMac} dev ${device} nud permanent`,
    );
  }

  /** Fails unless packets pass, waiting for a while for those who need it. */
  async verify(address: string): Promise<void> {
    const words = inNamespace(this.near.netns, ['ping', '-q', '-n', '-i', '0.2', '-c', '1', '-w', '10', address]);
    await run(LOAD_TOOL, words).catch((error: unknown) => {
      this.check();
      throw new Error(`${this.name}: no answer from ${address} within 10 s`, { cause: error });
    });
  }

  /** Fails when one of the system's processes has ended. */
  check(): void {
    for (const child of this.#children()) child.check();
  }

  pause(): void {
    for (const child of this.#children()) child.pause();
  }

  resume(): void {
    for (const child of this.#children()) child.resume();
  }

  /** Keeps the processes of each end on the CPUs given. */
  async pin(near: string, far: string): Promise<void> {
    for (const child of this.near.children) await child.pin(near);
    for (const child of this.far.children) await child.pin(far);
  }

  async destroy(): Promise<void> {
    await Promise.all(this.#children().map((child) => child.end()));
    for (const end of this.ends) await run('ip', ['netns', 'del', end.netns]).catch(() => {});
  }

  #children(): readonly Child[] {
    return this.ends.flatMap((end) => end.children);
  }

  async #build(): Promise<void> {
    for (const end of this.ends) {
      await run('ip', ['netns', 'add', end.netns]);
      const quiet = 'for all in all default; do echo 1 >/proc/sys/net/ipv6/conf/$all/disable_ipv6; done';
      await run(LOAD_TOOL, inNamespace(end.netns, ['sh', '-c', quiet]));
      await ip(end.netns, 'link set lo up');
    }
    const [near, far] = this.ends;
    await ip(near.netns, `link add ${UNDERLAY_DEVICE} type veth peer name ${UNDERLAY_DEVICE} netns ${far.netns}`);
    for (const end of this.ends) {
      await ip(
        end.netns,
        `link set ${UNDERLAY_DEVICE} address ${end.underlayMac} mtu ${this.underlayMtu} up`,
        `addr add ${end.underlay}/24 dev ${UNDERLAY_DEVICE}`,
      );
      if (this.profile === 'nic') await this.#likeNetworkCard(end);
    }
    for (const end of this.ends) {
      const other = this.other(end);
      await ip(
        end.netns,
        `neigh replace ${other.underlay} lladdr ${other.underlayMac} dev ${UNDERLAY_DEVICE} nud permanent`,
      );
    }
  }

  async #likeNetworkCard(end: End): Promise<void> {
    const off = ['tx-udp_tnl-segmentation', 'tx-udp_tnl-csum-segmentation', 'tx-udp-segmentation', 'tso'];
    const words = ['ethtool', '-K', UNDERLAY_DEVICE, ...off.flatMap((feature) => [feature, 'off']), 'gro', 'on'];
    await run(LOAD_TOOL, inNamespace(end.netns, words));
  }
}
