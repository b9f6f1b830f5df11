/** A host that flannel's `udp` backend has set up, with a program of its proxy's semantics (bench/baselines/flannel-proxy.c). */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Bed, BedHost } from './bed.ts';
import { NETWORK } from './cluster.ts';
import { type Background, run } from './exec.ts';

const SOURCE = fileURLToPath(new URL('../../../bench/baselines/flannel-proxy.c', import.meta.url));
const MTU = 1472;

export class FlannelProxy {
  readonly #routes: string;
  readonly #process: Background;

  private constructor(routes: string, process: Background) {
    this.#routes = routes;
    this.#process = process;
  }

  /** Starts it on a host of the bed, with `flannel0`, its address and the one route, as flanneld makes them. */
  static async start(bed: Bed, host: BedHost, peers: readonly BedHost[], port = 8285): Promise<FlannelProxy> {
    const program = join(bed.dir, 'flannel-proxy');
    await run(['cc', '-std=gnu11', '-O2', '-o', program, SOURCE]);
    const routes = join(bed.dir, `routes-${host.label}`);
    await writeFile(routes, lines(peers));
    const words = ['flannel0', host.ipv4, String(port), host.base, String(MTU), routes];
    const process = host.ns.background([program, ...words]);
    await process.waitFor(/ready/);
    await host.ns.ip(
      `addr add ${host.base}/32 dev flannel0`,
      `link set flannel0 mtu ${MTU} up`,
      `route add ${NETWORK} dev flannel0`,
    );
    return new FlannelProxy(routes, process);
  }

  /** From now on it knows these peers. */
  async know(peers: readonly BedHost[]): Promise<void> {
    await writeFile(this.#routes, lines(peers));
    this.#process.kill('SIGHUP');
  }
}

function lines(peers: readonly BedHost[]): string {
  return peers.map(({ subnet, ipv4 }) => `${subnet} ${ipv4}\n`).join('');
}
