/**
 * The two ends of flannel's `udp` backend: bare packets between a TUN and UDP, moved by a program with the semantics of flannel's own
 * proxy (one packet a system call), and by vtepd's dataplane.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DataplaneClient } from '../../src/dataplane/client.ts';
import { Child } from '../bed/child.ts';
import { ip, run } from '../bed/exec.ts';
import { makeDirectory } from '../bed/leftovers.ts';
import { BENCH_DIR } from '../bed/load-tool.ts';
import { type End, OVERLAY_DEVICE, type Pair, UNDERLAY_DEVICE } from '../bed/pair.ts';
import type { System } from './system.ts';
import { launch, type VtepdOptions, vtepd } from './vtepd.ts';

const PROGRAM = join(BENCH_DIR, 'baselines/flannel-proxy.c');
const PORT = 8285;
/** Outer IPv4 20, UDP 8. */
const OVERHEAD = 28;
const NETWORK = '10.246.0.0/16';
/** Only a name: a layer-3 network has no MACs. */
const PEER = '02:00:00:00:00:01';
const START_MS = 5_000;

export const flannelUdp: System = {
  name: 'flannel-udp',
  title: "flannel's udp backend: a proxy in C, one packet a system call",
  async unavailable() {
    return await run('cc', ['--version']).then(
      () => undefined,
      () => 'there is no C compiler (cc)',
    );
  },
  async install(pair) {
    const dir = await makeDirectory();
    const close = (): Promise<void> => rm(dir, { recursive: true, force: true });
    try {
      const program = join(dir, 'flannel-proxy');
      await run('cc', ['-std=gnu11', '-O2', '-o', program, PROGRAM]);
      for (const end of pair.ends) {
        const other = pair.other(end);
        const routes = join(dir, end.side);
        await writeFile(routes, `${other.overlay}/32 ${other.underlay}\n`);
        const mtu = String(pair.underlayMtu - OVERHEAD);
        const words = [program, OVERLAY_DEVICE, end.underlay, String(PORT), end.overlay, mtu, routes];
        const child = Child.start(`flannel-proxy (${end.side})`, { netns: end.netns, words });
        end.children.push(child);
        await appears(end, child);
        await configure(pair, end);
      }
    } catch (error) {
      await close();
      throw error;
    }
    return { address: pair.far.overlay, close };
  },
};

export function vtepdUdp(options: VtepdOptions): System {
  return vtepd(options, start);
}

async function start(options: VtepdOptions, pair: Pair, end: End, dir: string): Promise<DataplaneClient> {
  const other = pair.other(end);
  const client = await launch(options, end, dir);
  await client.request('network.create', {
    name: OVERLAY_DEVICE,
    vni: 0,
    owner: 'hand',
    netns: null,
    local: end.underlay,
    port: PORT,
    dev: UNDERLAY_DEVICE,
    remote: null,
    mac: null,
    mtu: null,
    proxy: false,
    learning: false,
    peersonly: true,
    ageing: 0,
    maxaddress: 0,
    layer3: true,
    tunnel_address: end.overlay,
  });
  const network = OVERLAY_DEVICE;
  const destination = { ip: other.underlay, port: null, vni: null };
  await client.request('fdb.change', { network, verb: 'add', mac: PEER, destination, state: 'permanent' });
  await client.request('neigh.change', { network, verb: 'add', prefix: `${other.overlay}/32`, lladdr: PEER });
  await configure(pair, end);
  return client;
}

async function configure(pair: Pair, end: End): Promise<void> {
  await ip(
    end.netns,
    `link set ${OVERLAY_DEVICE} up mtu ${pair.underlayMtu - OVERHEAD}`,
    `addr add ${end.overlay}/32 dev ${OVERLAY_DEVICE}`,
    `route add ${NETWORK} dev ${OVERLAY_DEVICE}`,
  );
}

/** The program makes its device itself. */
async function appears(end: End, child: Child): Promise<void> {
  const deadline = performance.now() + START_MS;
  for (;;) {
    try {
      return await ip(end.netns, `link show ${OVERLAY_DEVICE}`);
    } catch (error) {
      child.check();
      if (performance.now() > deadline) throw error;
    }
    await sleep(20);
  }
}
