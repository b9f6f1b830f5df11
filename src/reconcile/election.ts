/**
 * Which leases count. Each is judged by itself first (rules.ts); those that contradict each other are settled by key, in two
 * steps, so that the order of events never matters: of several keys for one subnet the lowest is elected; of the elected
 * leases with one MAC the lowest names the PublicIP (`winner`), and those with another PublicIP stay out of the tables until
 * it goes. What contradicts is told. The work for an event grows with what the event changes and with the leases that
 * contradict it, not with the number of hosts.
 */
import type { Lease } from '../datastore/types.ts';
import type { Ip } from '../net/ip.ts';
import type { Mac } from '../net/mac.ts';
import type { Prefix } from '../net/prefix.ts';
import { compare, Groups, sorted } from './groups.ts';
import {
  contradiction,
  judge,
  type OwnIdentity,
  type Peer,
  type PeerWarning,
  type Scope,
  type Verdict,
} from './rules.ts';

export class Election {
  /** Who we are; every lease is to be put anew when that changes. */
  own: OwnIdentity;
  private readonly scope: Scope;

  private readonly held = new Map<string, Lease>();
  private readonly verdicts = new Map<string, Verdict>();
  private otherBackends = 0;
  private usable = 0;

  private readonly bySubnet = new Groups<Prefix, string>();
  private readonly byMac = new Groups<Mac, Prefix>();
  private readonly byPublicIp = new Groups<Ip, string>();
  private readonly elected = new Map<Prefix, Peer>();
  private readonly warningsByCause = new Map<string, PeerWarning>();

  constructor(own: OwnIdentity, scope: Scope) {
    this.own = own;
    this.scope = scope;
  }

  /** Every lease, usable or not. */
  get leases(): ReadonlyMap<string, Lease> {
    return this.held;
  }

  /** Usable leases of other hosts. */
  get peerCount(): number {
    return this.usable;
  }

  /** Leases of hosts with another backend: ignored, as every vxlan host ignores them. */
  get otherBackendCount(): number {
    return this.otherBackends;
  }

  /** PublicIPs of all usable leases. */
  get publicIps(): Ip[] {
    return [...this.byPublicIp.keys()];
  }

  /** Every usable lease, sorted by key. */
  peers(): Peer[] {
    return sorted(this.verdicts).flatMap(([, { peer }]) => peer ?? []);
  }

  /** Takes leases away and takes others; returns what that touches. */
  update(gone: Iterable<string>, put: Iterable<Lease>): Touched {
    const touched = new Touched();
    for (const key of gone) {
      this.withdraw(key, touched);
      this.held.delete(key);
    }
    for (const lease of put) {
      this.withdraw(lease.key, touched);
      this.held.set(lease.key, lease);
      this.enter(lease, touched);
    }
    this.elect(touched);
    return touched;
  }

  /** Adds what stands at a PublicIP to what is touched. */
  touch(ip: Ip, touched: Touched): void {
    for (const key of this.byPublicIp.members(ip)) {
      const peer = this.verdicts.get(key)?.peer;
      if (peer !== undefined) touched.add(peer);
      if (peer?.mac !== undefined) touched.macs.add(peer.mac);
    }
  }

  /** Whose lease counts for a subnet. */
  electedFor(subnet: Prefix): Peer | undefined {
    return this.elected.get(subnet);
  }

  /** Which PublicIP counts for a MAC. */
  winner(mac: Mac): Ip | undefined {
    return this.claimants(mac)[0]?.publicIp;
  }

  /** Subnets whose elected lease has this MAC. */
  subnetsOf(mac: Mac): Prefix[] {
    return this.byMac.members(mac);
  }

  /** True if a usable lease carries this PublicIP. */
  hasPublicIp(ip: Ip): boolean {
    return this.byPublicIp.has(ip);
  }

  /** All warnings that hold now, sorted by their first key. */
  warnings(): PeerWarning[] {
    return [...this.warningsByCause.values()].sort((a, b) => compare(a.keys[0] ?? '', b.keys[0] ?? ''));
  }

  /** Brings the warnings about all that was touched up to date; yields the new ones. */
  warn(touched: Touched): PeerWarning[] {
    const fresh: PeerWarning[] = [];
    const set = (cause: string, warning: PeerWarning | undefined) => {
      const before = this.warningsByCause.get(cause);
      if (warning === undefined) this.warningsByCause.delete(cause);
      else this.warningsByCause.set(cause, warning);
      if (warning !== undefined && warning.message !== before?.message) fresh.push(warning);
    };
    for (const key of touched.keys) set(`key ${key}`, this.verdicts.get(key)?.warning);
    for (const subnet of touched.subnets) {
      set(
        `subnet ${subnet}`,
        contradiction('duplicate-subnet', this.bySubnet.members(subnet), `name the subnet ${subnet}`),
      );
    }
    for (const mac of touched.macs) {
      const claimants = this.claimants(mac);
      const contradicts = claimants.some((peer) => peer.publicIp !== claimants[0]?.publicIp);
      const keys = contradicts ? claimants.map((peer) => peer.key) : [];
      set(`mac ${mac}`, contradiction('duplicate-mac', keys, `publish the VtepMAC ${mac} at different PublicIPs`));
    }
    for (const ip of touched.publicIps) {
      set(`ip ${ip}`, contradiction('duplicate-public-ip', this.byPublicIp.members(ip), `carry the PublicIP ${ip}`));
    }
    return fresh;
  }

  /** Takes a lease out of the groups. */
  private withdraw(key: string, touched: Touched): void {
    const verdict = this.verdicts.get(key);
    if (verdict === undefined) return;
    this.verdicts.delete(key);
    touched.keys.add(key);
    if (verdict.otherBackend) this.otherBackends -= 1;
    if (verdict.peer === undefined) return;
    this.usable -= 1;
    this.bySubnet.remove(verdict.peer.subnet, key);
    this.byPublicIp.remove(verdict.peer.publicIp, key);
    touched.add(verdict.peer);
  }

  private enter(lease: Lease, touched: Touched): void {
    const verdict = judge(lease, this.own, this.scope);
    this.verdicts.set(lease.key, verdict);
    touched.keys.add(lease.key);
    if (verdict.otherBackend) this.otherBackends += 1;
    if (verdict.peer === undefined) return;
    this.usable += 1;
    this.bySubnet.add(verdict.peer.subnet, lease.key);
    this.byPublicIp.add(verdict.peer.publicIp, lease.key);
    touched.add(verdict.peer);
  }

  /** First step: one lease a subnet. */
  private elect(touched: Touched): void {
    for (const subnet of touched.subnets) {
      const before = this.elected.get(subnet);
      if (before?.mac !== undefined) {
        this.byMac.remove(before.mac, subnet);
        touched.macs.add(before.mac);
      }
      const key = this.bySubnet.members(subnet)[0];
      const peer = key === undefined ? undefined : this.verdicts.get(key)?.peer;
      if (peer === undefined) {
        this.elected.delete(subnet);
      } else {
        this.elected.set(subnet, peer);
        if (peer.mac === undefined) continue;
        this.byMac.add(peer.mac, subnet);
        touched.macs.add(peer.mac);
      }
    }
  }

  /** Second step: the elected leases with one MAC, by key; the first names the PublicIP. */
  private claimants(mac: Mac): Peer[] {
    return this.byMac
      .members(mac)
      .flatMap((subnet) => this.elected.get(subnet) ?? [])
      .sort((a, b) => compare(a.key, b.key));
  }
}

/** What an event touched. */
export class Touched {
  readonly keys = new Set<string>();
  readonly subnets = new Set<Prefix>();
  readonly macs = new Set<Mac>();
  readonly publicIps = new Set<Ip>();

  add(peer: Peer): void {
    this.subnets.add(peer.subnet);
    this.publicIps.add(peer.publicIp);
  }
}
