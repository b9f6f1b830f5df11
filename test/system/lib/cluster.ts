/**
 * A flannel cluster on the bed: a real etcd on the underlay (10.245.1.1), the network's configuration in flannel's form, hosts
 * with `vtepd run`, and hosts with the kernel's device whose lease is put by etcdctl.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join as path } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bed, BedHost } from './bed.ts';
import { type EtcdServer, startEtcd } from './etcd.ts';
import type { Background } from './exec.ts';
import { addFlannelDevice, addFlannelPeer, type FlannelPeer } from './kernel-vxlan.ts';
import { VtepdHost } from './vtepd.ts';

export const PREFIX = '/coreos.com/network';
export const NETWORK = '10.246.0.0/16';
export const ENDPOINT = 'http://10.245.1.1:2379';

export interface ClusterOptions {
  readonly vni?: number;
  readonly port?: number;
}

export class Cluster {
  readonly vni: number;
  readonly port: number;
  /** Name of the device on every host. */
  readonly device: string;
  readonly #bed: Bed;
  readonly #etcd: EtcdServer;

  private constructor(bed: Bed, etcd: EtcdServer, vni: number, port: number) {
    this.#bed = bed;
    this.#etcd = etcd;
    this.vni = vni;
    this.port = port;
    this.device = `flannel.${vni}`;
  }

  /** Starts etcd and puts the network's configuration. */
  static async start(bed: Bed, { vni = 3, port = 4789 }: ClusterOptions = {}): Promise<Cluster> {
    const address = new URL(ENDPOINT).hostname;
    const etcd = await startEtcd({ netns: bed.underlay.name, address, dir: path(bed.dir, 'etcd') });
    bed.teardown.defer('etcd', () => etcd.stop());
    const cluster = new Cluster(bed, etcd, vni, port);
    await cluster.etcdctl('put', `${PREFIX}/config`, cluster.config);
    return cluster;
  }

  get config(): string {
    return JSON.stringify({ Network: NETWORK, Backend: { Type: 'vxlan', VNI: this.vni, Port: this.port } });
  }

  etcdctl(...words: string[]): Promise<string> {
    return this.#etcd.ctl(...words);
  }

  /** Puts another configuration of the network. */
  async configure(config: object): Promise<void> {
    await this.etcdctl('put', `${PREFIX}/config`, JSON.stringify(config));
  }

  /** All puts in one revision. */
  async putTogether(entries: readonly (readonly [key: string, value: string])[]): Promise<void> {
    const puts = entries.map(([key, value]) => `put ${key} '${value}'\n`).join('');
    // No condition; what to do then; nothing otherwise.
    const argv = ['etcdctl', `--endpoints=${ENDPOINT}`, '--dial-timeout=20s', '--command-timeout=20s', 'txn'];
    await this.#bed.underlay.exec(argv, { input: `\n${puts}\n\n`, env: { ETCDCTL_API: '3' } });
  }

  /** SIGTERM and SIGKILL are waited for. */
  signalEtcd(signal: NodeJS.Signals): Promise<void> {
    return this.#etcd.kill(signal);
  }

  /** Stops etcd for most of the time until the returned act: every answer comes late. */
  slowEtcd({ stoppedMs, runningMs }: { stoppedMs: number; runningMs: number }): () => Promise<void> {
    const end = new AbortController();
    const slowing = (async (): Promise<void> => {
      while (!end.signal.aborted) {
        await this.signalEtcd('SIGSTOP');
        await sleep(stoppedMs);
        await this.signalEtcd('SIGCONT');
        await sleep(runningMs);
      }
    })();
    return () => {
      end.abort();
      return slowing;
    };
  }

  /** Cuts off the history so far. */
  async compactEtcd(...flags: string[]): Promise<void> {
    const answer = await this.etcdctl(...flags, 'get', 'none', '-w', 'json');
    const { header } = JSON.parse(answer) as { header: { revision: number } };
    await this.etcdctl(...flags, 'compact', String(header.revision));
  }

  /** Keeps etcd from the hosts with these addresses: what they send is lost, or refused. */
  async cutEtcd(addresses: readonly string[], verdict: 'drop' | 'reject with tcp reset'): Promise<void> {
    const rule = `ip saddr { ${addresses.join(', ')} } tcp dport 2379 ${verdict}`;
    const chain = `chain in {\n type filter hook input priority 0\n ${rule}\n }`;
    await this.#bed.underlay.exec(['nft', '-f', '-'], { input: `table inet faults {\n ${chain}\n }\n` });
  }

  /** Ends a cut, if there is one. */
  async joinEtcd(): Promise<void> {
    await this.#bed.underlay.tryExec(['nft', 'delete', 'table', 'inet', 'faults']);
  }

  /** Sets etcd back to what it was at a `snapshot save`: a cluster of its own on the same address, as its manual says. */
  async restoreEtcd(snapshot: string): Promise<void> {
    await this.#etcd.restore(snapshot);
  }

  async stopEtcd(): Promise<void> {
    await this.#etcd.kill('SIGTERM');
  }

  /** With the data it had. */
  async startEtcd(): Promise<void> {
    await this.#etcd.restart();
  }

  /** Value of a host's lease; undefined without one. */
  lease(host: { readonly base: string }): Promise<string | undefined> {
    return this.#etcd.get(leaseKey(host));
  }

  /** Puts a lease as flanneld writes it. */
  async putLease(host: { readonly base: string }, publicIp: string, mac: string): Promise<void> {
    await this.etcdctl('put', leaseKey(host), leaseValue(publicIp, this.vni, mac));
  }

  async deleteLease(host: { readonly base: string }): Promise<void> {
    await this.etcdctl('del', leaseKey(host));
  }

  /** A host that runs vtepd and takes its planned subnet, as after a restart: by the subnet.env of the last run. */
  async addVtepd(host: BedHost, ...flags: string[]): Promise<{ vtepd: VtepdHost; daemon: Background }> {
    const vtepd = await VtepdHost.on(host);
    await mkdir(host.dir, { recursive: true });
    const env = `FLANNEL_NETWORK=${NETWORK}\nFLANNEL_SUBNET=${host.gateway}/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n`;
    await writeFile(vtepd.subnetFile, env);
    const daemon = vtepd.run('--etcd-endpoints', ENDPOINT, '--iface', 'eth0', ...flags);
    await vtepd.isRunning(daemon);
    return { vtepd, daemon };
  }

  /** A host with the kernel's device as flanneld sets it up, its lease put; it knows the peers it is given. */
  async addKernel(host: BedHost, mac: string, peers: readonly FlannelPeer[]): Promise<void> {
    const { device: name, vni, port } = this;
    await addFlannelDevice(host, { name, vni, port, mac, underlay: 4 });
    for (const peer of peers) await addFlannelPeer(host, name, peer);
    await this.putLease(host, host.ipv4, mac);
  }

  /** A peer of the kernel's device, from what the peer itself has published. */
  async peer(host: BedHost): Promise<FlannelPeer> {
    const lease = JSON.parse((await this.lease(host)) ?? '{}') as { BackendData?: { VtepMAC?: string } };
    const mac = lease.BackendData?.VtepMAC;
    if (mac === undefined) throw new Error(`host ${host.label} has published no MAC`);
    return { subnet: host.subnet, base: host.base, mac, vtep: host.ipv4 };
  }
}

export function leaseKey(host: { readonly base: string }): string {
  return `${PREFIX}/subnets/${host.base}-24`;
}

/** One line of JSON in flannel's order of fields. */
export function leaseValue(publicIp: string, vni: number, mac: string): string {
  return `{"PublicIP":"${publicIp}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":${vni},"VtepMAC":"${mac}"}}`;
}
