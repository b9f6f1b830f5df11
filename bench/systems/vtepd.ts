/** vtepd: its dataplane, told over the control socket what `vtepd link add` would tell it. */
import { access, constants, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DataplaneClient, DataplaneError } from '../../src/dataplane/client.ts';
import { Child } from '../bed/child.ts';
import { makeDirectory } from '../bed/leftovers.ts';
import { BENCH_DIR } from '../bed/load-tool.ts';
import { type End, OVERLAY_DEVICE, type Pair, UNDERLAY_DEVICE } from '../bed/pair.ts';
import type { System } from './system.ts';

export const DEFAULT_DATAPLANE =
  process.env.VTEPD_DATAPLANE ?? join(BENCH_DIR, '../native/target/release/vtepd-dataplane');

const START_MS = 5_000;

export interface VtepdOptions {
  readonly name: string;
  readonly title: string;
  readonly binary: string;
  readonly lanes: number | undefined;
}

/** Starts one end's dataplane and makes its network. */
type Start = (options: VtepdOptions, pair: Pair, end: End, dir: string) => Promise<DataplaneClient>;

export function vtepd(options: VtepdOptions, start: Start = startVxlan): System {
  return {
    name: options.name,
    title: options.title,
    unavailable: () => reachable(options),
    async install(pair) {
      const dir = await makeDirectory();
      const clients: DataplaneClient[] = [];
      const close = async (): Promise<void> => {
        for (const client of clients) client.close();
        await rm(dir, { recursive: true, force: true });
      };
      try {
        for (const end of pair.ends) clients.push(await start(options, pair, end, dir));
      } catch (error) {
        await close();
        throw error;
      }
      return {
        address: pair.far.overlay,
        counters: () => Promise.all(clients.map((client) => client.request('stats', {}))),
        close,
      };
    },
  };
}

/** Why its program cannot be run. */
export async function reachable({ binary }: VtepdOptions): Promise<string | undefined> {
  return await access(binary, constants.X_OK).then(
    () => undefined,
    () => `${binary} is not there or cannot be run`,
  );
}

/** A dataplane for one end. */
export async function launch(options: VtepdOptions, end: End, dir: string): Promise<DataplaneClient> {
  const socket = join(dir, `${end.side}.sock`);
  const lanes = options.lanes === undefined ? [] : ['--lanes', String(options.lanes)];
  const child = Child.start(`${options.name} (${end.side})`, {
    netns: end.netns,
    words: [options.binary, '--socket', socket, ...lanes],
  });
  end.children.push(child);
  const client = await connect(socket, child);
  await client.hello();
  return client;
}

async function startVxlan(options: VtepdOptions, pair: Pair, end: End, dir: string): Promise<DataplaneClient> {
  const client = await launch(options, end, dir);
  await client.request('network.create', {
    name: OVERLAY_DEVICE,
    vni: 2,
    owner: 'hand',
    netns: null,
    local: end.underlay,
    port: 4789,
    dev: UNDERLAY_DEVICE,
    remote: pair.other(end).underlay,
    mac: end.overlayMac,
    mtu: null,
    // As the kernel's device beside it: learning, no proxy, no peer filter, its ageing time.
    proxy: false,
    learning: true,
    peersonly: false,
    ageing: 300,
    maxaddress: 0,
  });
  await pair.configureOverlay(end);
  return client;
}

async function connect(socket: string, child: Child): Promise<DataplaneClient> {
  const deadline = performance.now() + START_MS;
  for (;;) {
    try {
      return await DataplaneClient.connect(socket);
    } catch (error) {
      child.check();
      if (!(error instanceof DataplaneError) || performance.now() > deadline) throw error;
    }
    await sleep(20);
  }
}
