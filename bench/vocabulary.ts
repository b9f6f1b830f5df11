/** The words of the benchmark: profiles, systems, tests, and the metrics that a test yields. Everything else refers to these. */

export const PROFILES = ['nic', 'veth', 'jumbo'] as const;
export type Profile = (typeof PROFILES)[number];

export const PROFILE_TITLES: Readonly<Record<Profile, string>> = {
  nic: 'underlay without tunnel and UDP segmentation, GRO on, MTU 1500: what a common network card looks like',
  veth: 'underlay with all offloads, MTU 1500: the kernel never segments, an unreal best case for it',
  jumbo: 'as veth, with MTU 9000',
};

/** The systems that come with the benchmark; `--compare` adds more dataplanes of vtepd. */
export const SYSTEMS = ['kernel', 'vtepd', 'ovs', 'node', 'bare', 'flannel-udp', 'vtepd-udp'] as const;
export type BuiltInSystem = (typeof SYSTEMS)[number];

/** Measured where nothing is said: the last two are a comparison of their own. */
export const DEFAULT_SYSTEMS: readonly BuiltInSystem[] = SYSTEMS.slice(0, -2);

/** What all others are divided by. */
export const BASE = 'kernel' satisfies BuiltInSystem;

export const TESTS = ['tcp1', 'tcp4', 'both', 'udp64', 'udp1400', 'rr2', 'rr1', 'rr2-tcp', 'rr1-tcp', 'load'] as const;
export type TestName = (typeof TESTS)[number];

interface MetricFacts {
  readonly test: TestName;
  readonly title: string;
  readonly unit: string;
  /** Which way is better. */
  readonly better: 'more' | 'less';
  /** Figures of the kernel are shown with so many decimals. */
  readonly decimals: number;
}

export const METRICS = {
  tcp1: { test: 'tcp1', title: 'TCP, 1 flow', unit: 'Gbit/s', better: 'more', decimals: 2 },
  tcp4: { test: 'tcp4', title: 'TCP, 4 flows', unit: 'Gbit/s', better: 'more', decimals: 2 },
  both: { test: 'both', title: 'TCP, both ways at once', unit: 'Gbit/s', better: 'more', decimals: 2 },
  cpu: { test: 'tcp1', title: 'CPU, TCP 1 flow', unit: 's/GB', better: 'less', decimals: 3 },
  udp64: { test: 'udp64', title: 'UDP 64 B, < 1 % lost', unit: 'M/s', better: 'more', decimals: 3 },
  udp1400: { test: 'udp1400', title: 'UDP 1400 B, < 1 % lost', unit: 'M/s', better: 'more', decimals: 3 },
  rr2_p50: { test: 'rr2', title: 'round trip, 2 CPUs, p50', unit: 'us', better: 'less', decimals: 1 },
  rr2_p99: { test: 'rr2', title: 'round trip, 2 CPUs, p99', unit: 'us', better: 'less', decimals: 1 },
  rr1_p50: { test: 'rr1', title: 'round trip, 1 CPU, p50', unit: 'us', better: 'less', decimals: 1 },
  rr1_p99: { test: 'rr1', title: 'round trip, 1 CPU, p99', unit: 'us', better: 'less', decimals: 1 },
  rr2_tcp_p50: { test: 'rr2-tcp', title: 'TCP round trip, 2 CPUs, p50', unit: 'us', better: 'less', decimals: 1 },
  rr2_tcp_p99: { test: 'rr2-tcp', title: 'TCP round trip, 2 CPUs, p99', unit: 'us', better: 'less', decimals: 1 },
  rr1_tcp_p50: { test: 'rr1-tcp', title: 'TCP round trip, 1 CPU, p50', unit: 'us', better: 'less', decimals: 1 },
  rr1_tcp_p99: { test: 'rr1-tcp', title: 'TCP round trip, 1 CPU, p99', unit: 'us', better: 'less', decimals: 1 },
  load_p50: { test: 'load', title: 'round trip beside 4 flows, p50', unit: 'us', better: 'less', decimals: 0 },
  load_p99: { test: 'load', title: 'round trip beside 4 flows, p99', unit: 'us', better: 'less', decimals: 0 },
} as const satisfies Readonly<Record<string, MetricFacts>>;

export type Metric = keyof typeof METRICS;
export const METRIC_NAMES = Object.keys(METRICS) as readonly Metric[];

export function metricFacts(metric: Metric): MetricFacts {
  return METRICS[metric];
}

export type Values = { readonly [metric in Metric]?: number };

/** One test of one system in one repetition. */
export interface Sample {
  readonly profile: Profile;
  readonly repetition: number;
  readonly system: string;
  readonly test: TestName;
  readonly values: Values;
  /** Share of the machine's CPU time that the hypervisor took meanwhile. */
  readonly steal: number;
  /** How often the test was run until so little was stolen. */
  readonly attempts: number;
  /** Share of the machine that something else used: what was busy just before, or what other processes used meanwhile. */
  readonly noise: number;
  /** Set when there are no values. */
  readonly error?: string;
  /** What the load tool said, whole. */
  readonly raw: readonly unknown[];
}
