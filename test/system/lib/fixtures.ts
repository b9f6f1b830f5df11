/**
 * What most suites stand on, under the names that tests give to it: hosts `a`, `b`, `c` of a bed, vtepd's places on them (`onA`),
 * the cluster, and the daemons that run (`daemonA`). A suite names what it needs, fills it before its tests and takes it down
 * after them:
 *
 *     let { bed, a, b } = {} as ClusterBed;
 *     before(async () => {
 *       ({ bed, a, b } = await clusterBed());
 *     });
 *     after(() => bed?.destroy());
 */
import { Bed, type BedHost, HOST_A, HOST_B, HOST_C, type UnderlayMode } from './bed.ts';
import { Cluster } from './cluster.ts';
import type { Background } from './exec.ts';
import { VtepdHost } from './vtepd.ts';

const PLANS = { a: HOST_A, b: HOST_B, c: HOST_C };
type Label = keyof typeof PLANS;

export type HostsBed<L extends Label = 'a' | 'b'> = { bed: Bed } & { [K in L]: BedHost } & {
  [K in L as `on${Uppercase<K>}`]: VtepdHost;
};

/** Two hosts, or those that are named; nothing runs on them. */
export async function hostsBed<L extends Label = 'a' | 'b'>(
  labels: readonly string[] = ['a', 'b'],
  mode?: UnderlayMode,
): Promise<HostsBed<L>> {
  const hosts = Object.values(PLANS).filter(({ label }) => labels.includes(label));
  const bed = await Bed.create(mode === undefined ? { hosts } : { hosts, mode });
  const named = bed.hosts.map(async (host) => ({
    [host.label]: host,
    [`on${host.label.toUpperCase()}`]: await VtepdHost.on(host),
  }));
  // The type makes the same names of the labels.
  return Object.assign({ bed }, ...(await Promise.all(named)));
}

/** `R`: hosts on which vtepd runs; `B`: hosts on which nothing does yet. */
export type ClusterBed<R extends Label = 'a' | 'b', B extends Label = never> = HostsBed<R | B> & {
  cluster: Cluster;
} & {
  [K in R as `daemon${Uppercase<K>}`]: Background;
};

export interface ClusterBedOptions<R extends Label, B extends Label> {
  /** Flags of `vtepd run` on each host where it runs; hosts a and b without any if left out. */
  readonly run?: Readonly<Record<R, readonly string[]>>;
  readonly bare?: readonly B[];
  readonly mode?: UnderlayMode;
  /** The network's configuration, where it is not the usual one. */
  readonly config?: object;
}

/** A cluster that hosts have joined; each has its planned subnet. */
export async function clusterBed<R extends Label = 'a' | 'b', B extends Label = never>(
  options: ClusterBedOptions<R, B> = {},
): Promise<ClusterBed<R, B>> {
  const run: Readonly<Record<string, readonly string[]>> = options.run ?? { a: [], b: [] };
  const hosts = await hostsBed([...Object.keys(run), ...(options.bare ?? [])], options.mode);
  const { bed } = hosts;
  try {
    const cluster = await Cluster.start(bed);
    if (options.config !== undefined) await cluster.configure(options.config);
    const daemons = Object.entries(run).map(async ([label, flags]) => {
      const { daemon } = await cluster.addVtepd(bed.host(label), ...flags);
      return { [`daemon${label.toUpperCase()}`]: daemon };
    });
    return Object.assign(hosts, { cluster }, ...(await Promise.all(daemons)));
  } catch (error) {
    await bed.destroy();
    throw error;
  }
}
