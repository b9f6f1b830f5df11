/**
 * A cluster of so many hosts on a bed of its own: etcd with all leases, one host with vtepd, one with the kernel's device
 * that answers it. The others are leases only, as most of a cluster is to a host at any moment.
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type BedHost } from '../../test/system/lib/bed.ts';
import { Cluster, ENDPOINT, leaseKey, leaseValue, PREFIX } from '../../test/system/lib/cluster.ts';
import { type Background, eventually } from '../../test/system/lib/exec.ts';
import { VtepdHost } from '../../test/system/lib/vtepd.ts';
import { LeaseWriter } from './writer.ts';

export interface ScalePlan {
  /** Leases that change in a second. */
  readonly rate: number;
  readonly seconds: number;
}

export interface ProcessCost {
  readonly residentMiB: number;
  /** The most it ever had. */
  readonly peakMiB: number;
  /** Share of one CPU while nothing changes, in percent. */
  readonly idleCpu: number;
  /** The same while leases change. */
  readonly busyCpu: number;
  /** CPU time of a new host that comes alone: the median, which the comparison of the host every 10 s does not touch. */
  readonly loneMicroseconds: number;
  /** The mean while many change, several in one event of etcd, less what the process uses idle. */
  readonly changeMicroseconds: number;
}

export interface SizeResult {
  readonly hosts: number;
  /** From the start of `vtepd run`, without a dataplane, to the first answer from another host. */
  readonly firstPacketMs: number;
  /** From the start until all leases are in the tables and `subnet.env` is written. */
  readonly readyMs: number;
  readonly controller: ProcessCost;
  readonly dataplane: ProcessCost;
  /** Changes in a second that were made. */
  readonly rate: number;
  /** From the put to the kernel's route, in a quiet cluster. */
  readonly latency: Latencies;
  /** The same while leases change. */
  readonly busyLatency: Latencies;
}

export interface Latencies {
  /** In milliseconds, as `max`. */
  readonly median: number;
  readonly max: number;
}

interface Probes {
  readonly latency: Latencies;
  /** CPU seconds of a change, median. */
  readonly cost: { readonly controller: number; readonly dataplane: number };
  /** Hosts that came and went. */
  readonly changes: number;
}

interface Pids {
  readonly controller: number;
  readonly dataplane: number;
}

const MAC_A = '02:00:00:00:00:0a';
const MAC_B = '02:00:00:00:00:0b';
/** First probes are slower: code is compiled. */
const PROBES_WARM = 5;
/** Hosts that a series of probes may add: 16 times 256 subnets, 10.240.0.0/24 and on. */
const MAX_PROBES = 4_096;
/** After which a process has done all that belongs to a change. */
const PROBE_SETTLE_MS = 20;
const SETTLE_MS = 3_000;

export async function measureSize(hosts: number, plan: ScalePlan): Promise<SizeResult> {
  const bed = await Bed.create();
  const writer = new LeaseWriter(bed);
  try {
    const [a, b] = [bed.host('a'), bed.host('b')];
    const cluster = await Cluster.start(bed);
    const config = {
      Network: '10.0.0.0/8',
      SubnetLen: 24,
      Backend: { Type: 'vxlan', VNI: cluster.vni, Port: cluster.port },
    };
    await cluster.etcdctl('put', `${PREFIX}/config`, JSON.stringify(config));
    await writer.start();
    // The two of the bed are hosts as well.
    const others = Math.max(1, hosts - 2);
    await writer.put(Array.from({ length: others }, (_, n) => leaseOf(n, 0, cluster.vni)));
    await cluster.addKernel(b, MAC_B, [{ subnet: a.subnet, base: a.base, mac: MAC_A, vtep: a.ipv4 }]);

    const { vtepd, daemon, firstPacketMs, readyMs } = await startHost(a, b);
    await eventually('all leases are in', async () => (await vtepd.fdb(cluster.device)).length === others + 1, {
      timeoutMs: 120_000,
    });
    await sleep(SETTLE_MS);

    const pids = { controller: daemon.pid, dataplane: await vtepd.dataplanePid() };
    const idle = await cpuOver(pids, () => sleep(plan.seconds * 1_000));
    const lone = await probes(a, writer, cluster.vni, pids, AbortSignal.timeout(plan.seconds * 1_000));
    let made = 0;
    let added: Probes = lone;
    const busy = await cpuOver(pids, async () => {
      const end = new AbortController();
      const probing = probes(a, writer, cluster.vni, pids, end.signal);
      made = await churn(writer, others, plan, cluster.vni);
      end.abort();
      added = await probing;
    });
    const rate = made / busy.seconds;
    const cost = async (name: keyof Pids): Promise<ProcessCost> => ({
      ...(await memoryOf(pids[name])),
      idleCpu: (100 * idle[name]) / idle.seconds,
      busyCpu: (100 * busy[name]) / busy.seconds,
      loneMicroseconds: lone.cost[name] * 1e6,
      changeMicroseconds: ((busy[name] - (idle[name] / idle.seconds) * busy.seconds) / (made + added.changes)) * 1e6,
    });
    const [controller, dataplane] = [await cost('controller'), await cost('dataplane')];
    const [latency, busyLatency] = [lone.latency, added.latency];
    return { hosts, firstPacketMs, readyMs, controller, dataplane, rate, latency, busyLatency };
  } finally {
    writer.close();
    await bed.destroy();
  }
}

/** Key and value of the n-th host's lease; each generation has another MAC and PublicIP. */
function leaseOf(n: number, generation: number, vni: number): [key: string, value: string] {
  const at = n + 256;
  const hex = (value: number): string => (value & 255).toString(16).padStart(2, '0');
  const base = `10.${at >> 8}.${at & 255}.0`;
  const mac = `0a:0e:${hex(generation >> 8)}:${hex(generation)}:${hex(at >> 8)}:${hex(at)}`;
  return [leaseKey({ base }), leaseValue(`172.${16 + (generation % 16)}.${at >> 8}.${at & 255}`, vni, mac)];
}

interface Started {
  readonly vtepd: VtepdHost;
  readonly daemon: Background;
  readonly firstPacketMs: number;
  readonly readyMs: number;
}

/** Starts vtepd as after a reboot: nothing runs, but the subnet of the last run is known. */
async function startHost(a: BedHost, b: BedHost): Promise<Started> {
  const vtepd = await VtepdHost.on(a);
  await mkdir(a.dir, { recursive: true });
  await writeFile(vtepd.subnetFile, `FLANNEL_SUBNET=${a.gateway}/24\n`);
  const pinging = a.container.background(['ping', '-n', '-i', '0.01', b.address]);
  try {
    const started = performance.now();
    const daemon = vtepd.run('--etcd-endpoints', ENDPOINT, '--iface', 'eth0', '--mac', MAC_A);
    await pinging.waitFor(/bytes from/, 120_000);
    const firstPacketMs = performance.now() - started;
    await daemon.waitFor(/"msg":"ready"/, 120_000);
    return { vtepd, daemon, firstPacketMs, readyMs: performance.now() - started };
  } finally {
    await pinging.stop('SIGINT');
  }
}

/**
 * Adds one host after the other until `signal` aborts: how long each lease takes to become a route, which comes after the tables, and
 * what it costs. They leave together at the end.
 */
async function probes(a: BedHost, writer: LeaseWriter, vni: number, pids: Pids, signal: AbortSignal): Promise<Probes> {
  const monitor = a.ns.background(['ip', 'monitor', 'route']);
  const times: number[] = [];
  const costs: { controller: number; dataplane: number }[] = [];
  const keys: string[] = [];
  try {
    // It listens when it has seen a route of ours.
    await eventually('ip monitor listens', async () => {
      await a.ns.ip('route replace 10.239.0.0/24 dev lo', 'route del 10.239.0.0/24 dev lo');
      return monitor.output.includes('10.239.0.0');
    });
    await until(() => /Deleted 10\.239\.0\.0.*\n$/.test(monitor.output));
    for (let at = 0; at < MAX_PROBES && !signal.aborted; at += 1) {
      const base = `10.${240 + (at >> 8)}.${at & 255}.0`;
      const mac = `0a:0f:00:00:${[at >> 8, at & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
      const key = leaseKey({ base });
      const cpu = await cpuOf(pids);
      const started = performance.now();
      await writer.put([[key, leaseValue(`172.32.${at >> 8}.${at & 255}`, vni, mac)]]);
      keys.push(key);
      await until(() => monitor.output.includes(`${base}/24 `));
      const took = performance.now() - started;
      await sleep(PROBE_SETTLE_MS);
      const after = await cpuOf(pids);
      if (at < PROBES_WARM) continue;
      times.push(took);
      costs.push({ controller: after.controller - cpu.controller, dataplane: after.dataplane - cpu.dataplane });
    }
    for (const key of keys) await writer.delete(key);
    const last = keys.at(-1)?.split('/').at(-1)?.split('-')[0];
    await until(() => monitor.output.includes(`Deleted ${last}/24 `));
  } finally {
    await monitor.stop('SIGKILL');
  }
  return {
    latency: { median: median(times), max: Math.max(...times) },
    cost: {
      controller: median(costs.map(({ controller }) => controller)),
      dataplane: median(costs.map(({ dataplane }) => dataplane)),
    },
    changes: 2 * keys.length,
  };
}

function median(values: readonly number[]): number {
  return [...values].sort((x, y) => x - y)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function until(holds: () => boolean): Promise<void> {
  const limit = performance.now() + 60_000;
  while (!holds()) {
    if (performance.now() > limit) throw new Error('a change was not seen within a minute');
    await sleep(1);
  }
}

/** Changes `rate` leases a second for so long, one after the other through the cluster; returns how many. */
async function churn(writer: LeaseWriter, others: number, { rate, seconds }: ScalePlan, vni: number): Promise<number> {
  const started = performance.now();
  let made = 0;
  const writes: Promise<void>[] = [];
  while (performance.now() - started < seconds * 1_000) {
    const due = Math.floor(((performance.now() - started) * rate) / 1_000);
    for (; made < due; made += 1) {
      // A step that meets every host before it comes back, and never two in order.
      const n = (made * 7_919) % others;
      writes.push(writer.put([leaseOf(n, 1 + made, vni)]));
    }
    await sleep(5);
  }
  await Promise.all(writes);
  return made;
}

interface Cpu {
  /** CPU seconds. */
  readonly controller: number;
  readonly dataplane: number;
  /** That it took. */
  readonly seconds: number;
}

/** What each process uses while `act` goes on. */
async function cpuOver(pids: Pids, act: () => Promise<unknown>): Promise<Cpu> {
  const before = await cpuOf(pids);
  const started = performance.now();
  await act();
  const after = await cpuOf(pids);
  return {
    controller: after.controller - before.controller,
    dataplane: after.dataplane - before.dataplane,
    seconds: (performance.now() - started) / 1_000,
  };
}

/** CPU seconds so far. */
async function cpuOf({ controller, dataplane }: Pids): Promise<{ controller: number; dataplane: number }> {
  return { controller: await processCpu(controller), dataplane: await processCpu(dataplane) };
}

/** Nanoseconds on a CPU, the first field of each thread's schedstat; /proc/PID/stat counts in hundredths of a second. */
async function processCpu(pid: number): Promise<number> {
  let sum = 0;
  for (const task of await readdir(`/proc/${pid}/task`)) {
    const text = await readFile(`/proc/${pid}/task/${task}/schedstat`, 'utf8').catch(() => '0');
    sum += Number(text.split(' ')[0]);
  }
  return sum / 1e9;
}

async function memoryOf(pid: number): Promise<{ residentMiB: number; peakMiB: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const mib = (name: string): number => Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0) / 1024;
  return { residentMiB: mib('VmRSS'), peakMiB: mib('VmHWM') };
}
