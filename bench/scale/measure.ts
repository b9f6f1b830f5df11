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
  /** CPU time of a change that comes alone, less what the process uses idle. */
  readonly loneMicroseconds: number;
  /** The same while many come: several in one event of etcd. */
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
  /** How many changes it made. */
  readonly changes: number;
}

const NO_LATENCIES: Latencies = { median: Number.NaN, max: Number.NaN, changes: 0 };

const MAC_A = '02:00:00:00:00:0a';
const MAC_B = '02:00:00:00:00:0b';
/** First probes are slower: code is compiled. */
const LATENCY_WARM = 5;
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
    let quiet: Latencies = NO_LATENCIES;
    const lone = await cpuOver(pids, async () => {
      quiet = await latencies(a, writer, cluster.vni, AbortSignal.timeout(plan.seconds * 1_000));
    });
    let made = 0;
    let whileBusy: Latencies = NO_LATENCIES;
    const busy = await cpuOver(pids, async () => {
      const end = new AbortController();
      const probing = latencies(a, writer, cluster.vni, end.signal);
      made = await churn(writer, others, plan, cluster.vni);
      end.abort();
      whileBusy = await probing;
    });
    const rate = made / busy.seconds;
    const perChange = (over: Cpu, name: 'controller' | 'dataplane', changes: number): number =>
      ((over[name] - (idle[name] / idle.seconds) * over.seconds) / changes) * 1e6;
    const cost = async (name: 'controller' | 'dataplane'): Promise<ProcessCost> => ({
      ...(await memoryOf(pids[name])),
      idleCpu: (100 * idle[name]) / idle.seconds,
      busyCpu: (100 * busy[name]) / busy.seconds,
      loneMicroseconds: perChange(lone, name, quiet.changes),
      changeMicroseconds: perChange(busy, name, made + whileBusy.changes),
    });
    const [controller, dataplane] = [await cost('controller'), await cost('dataplane')];
    return { hosts, firstPacketMs, readyMs, controller, dataplane, rate, latency: quiet, busyLatency: whileBusy };
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

/** How long a new host's lease takes to become a route, which comes after the tables. */
async function latencies(a: BedHost, writer: LeaseWriter, vni: number, signal: AbortSignal): Promise<Latencies> {
  const base = '10.250.0.0';
  const lease = [leaseKey({ base }), leaseValue('172.32.0.1', vni, '0a:0f:00:00:00:01')] as const;
  const monitor = a.ns.background(['ip', 'monitor', 'route']);
  const times: number[] = [];
  let changes = 0;
  try {
    // It listens when it has seen a route of ours.
    await eventually('ip monitor listens', async () => {
      await a.ns.ip('route replace 10.251.0.0/24 dev lo', 'route del 10.251.0.0/24 dev lo');
      return monitor.output.includes('10.251.0.0');
    });
    await until(() => /Deleted 10\.251\.0\.0.*\n$/.test(monitor.output));
    for (let at = 0; !signal.aborted; at += 1) {
      const before = monitor.output.length;
      const started = performance.now();
      await writer.put([lease]);
      await until(
        () => monitor.output.slice(before).includes(`\n${base}`) || monitor.output.slice(before).startsWith(base),
      );
      if (at >= LATENCY_WARM) times.push(performance.now() - started);
      const added = monitor.output.length;
      await writer.delete(lease[0]);
      await until(() => monitor.output.slice(added).includes(`Deleted ${base}`));
      changes += 2;
      await sleep(20);
    }
  } finally {
    await monitor.stop('SIGKILL');
  }
  times.sort((x, y) => x - y);
  return { median: times[Math.floor(times.length / 2)] ?? Number.NaN, max: times.at(-1) ?? Number.NaN, changes };
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
async function cpuOver(pids: { controller: number; dataplane: number }, act: () => Promise<unknown>): Promise<Cpu> {
  const before = { controller: await cpuOf(pids.controller), dataplane: await cpuOf(pids.dataplane) };
  const started = performance.now();
  await act();
  return {
    controller: (await cpuOf(pids.controller)) - before.controller,
    dataplane: (await cpuOf(pids.dataplane)) - before.dataplane,
    seconds: (performance.now() - started) / 1_000,
  };
}

/** Nanoseconds on a CPU, the first field of each thread's schedstat; /proc/PID/stat counts in hundredths of a second. */
async function cpuOf(pid: number): Promise<number> {
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
