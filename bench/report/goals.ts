/** What vtepd is to reach, and whether it did. Pure. */
import { type Metric, metricFacts, type Profile } from '../vocabulary.ts';
import { cellOf, type Summary } from './summary.ts';

/** vtepd's ratio to the kernel in the same run. */
interface Goal {
  readonly profile: Profile;
  readonly metric: Metric;
  readonly limit: number;
}

export const GOALS: readonly Goal[] = [
  { profile: 'nic', metric: 'tcp1', limit: 0.95 },
  { profile: 'nic', metric: 'tcp4', limit: 0.95 },
  { profile: 'nic', metric: 'both', limit: 0.95 },
  { profile: 'nic', metric: 'cpu', limit: 1.3 },
  { profile: 'nic', metric: 'udp64', limit: 1.2 },
  { profile: 'nic', metric: 'udp1400', limit: 1 },
  { profile: 'nic', metric: 'rr2_p50', limit: 1.15 },
  { profile: 'nic', metric: 'rr2_p99', limit: 1.25 },
  { profile: 'nic', metric: 'rr1_p50', limit: 2 },
  { profile: 'nic', metric: 'load_p99', limit: 1 },
  { profile: 'veth', metric: 'tcp1', limit: 0.5 },
  { profile: 'jumbo', metric: 'tcp1', limit: 0.55 },
];

/** How many times another userspace endpoint's TCP, nic profile; `of`: whose, where it is not vtepd's VXLAN. */
const LEADS: readonly { readonly system: string; readonly factor: number; readonly of?: string }[] = [
  { system: 'ovs', factor: 8 },
  { system: 'node', factor: 40 },
  { system: 'flannel-udp', factor: 20, of: 'vtepd-udp' },
];
const LEAD_METRICS: readonly Metric[] = ['tcp1', 'tcp4', 'both'];

export interface Verdict {
  /** As `>= 0.95`. */
  readonly goal: string;
  readonly met: boolean | undefined;
}

/** Of one row of the table; nothing where there is no goal. */
export function verdict(summary: Summary, metric: Metric, system = 'vtepd'): Verdict | undefined {
  const goal = GOALS.find((each) => each.profile === summary.profile && each.metric === metric);
  if (goal === undefined) return undefined;
  const more = metricFacts(metric).better === 'more';
  const ratio = cellOf(summary, system, metric)?.ratio?.median;
  const met = ratio === undefined ? undefined : more ? ratio >= goal.limit : ratio <= goal.limit;
  return { goal: `${more ? '>=' : '<='} ${goal.limit}`, met };
}

/** One sentence for each other userspace endpoint: how far ahead, against how far it should be. */
export function leads(summary: Summary): readonly string[] {
  if (summary.profile !== 'nic') return [];
  return LEADS.filter((lead) => summary.systems.includes(lead.system)).flatMap((lead) => {
    const { of: system = 'vtepd' } = lead;
    const factors = LEAD_METRICS.flatMap((metric) => {
      const factor = advantage(summary, system, lead.system, metric);
      return factor === undefined ? [] : [factor];
    });
    if (factors.length === 0) return [];
    const least = Math.min(...factors);
    const behind = summary.metrics.filter((metric) => (advantage(summary, system, lead.system, metric) ?? 1) < 1);
    const elsewhere =
      behind.length === 0
        ? 'ahead in every row: met'
        : `behind in: ${behind.map((metric) => metricFacts(metric).title).join('; ')}: not met`;
    const met = least >= lead.factor ? 'met' : 'not met';
    return [
      `${lead.of === undefined ? '' : `${lead.of} `}against ${lead.system}: ${factors.map((factor) => `${factor.toFixed(1)}x`).join(', ')} its TCP (goal >= ${lead.factor}x: ${met}); ${elsewhere}`,
    ];
  });
}

/** How many times better, whichever way better is. */
function advantage(summary: Summary, system: string, other: string, metric: Metric): number | undefined {
  const ours = cellOf(summary, system, metric)?.absolute.median;
  const theirs = cellOf(summary, other, metric)?.absolute.median;
  if (ours === undefined || theirs === undefined) return undefined;
  const [better, worse] = metricFacts(metric).better === 'more' ? [ours, theirs] : [theirs, ours];
  return worse === 0 ? Number.POSITIVE_INFINITY : better / worse;
}
