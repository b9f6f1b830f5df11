/** What `vtepd probe` says: what was measured, and what it means for the networks that send to the peer. Pure. */
import type { NetworkState, PeerStats } from '../dataplane/protocol.ts';
import { familyOf, type Ip } from '../net/ip.ts';
import type { PathMtu } from '../probe/path-mtu.ts';

/** What a frame of the overlay's MTU grows by: inner Ethernet 14, VXLAN 8, UDP 8, and the outer IP header. */
const OVERHEAD = { 4: 50, 6: 70 } as const;
/** RFC 791 with Linux's `min_pmtu`, RFC 8200 section 5: nothing less is believed where ICMP says it. */
export const FLOOR = { 4: 552, 6: 1280 } as const;

/** The documented keys of `probe --json`. */
export interface ProbeRow {
  readonly peer: string;
  readonly answered: boolean;
  /** Why nothing answered, where somebody said so. */
  readonly reason: string | null;
  /** The largest IP packet that gets to the peer in one piece. */
  readonly path_mtu: number | null;
  readonly limit: 'interface' | 'path' | null;
  /** False where what does not fit vanishes without an ICMP error. */
  readonly told: boolean | null;
  readonly rtt_ms: number | null;
  readonly sent: number;
  readonly lost: number | null;
  /** The largest MTU of a network whose frames to the peer fit. */
  readonly overlay_mtu: number | null;
  readonly networks: readonly ProbeNetwork[];
  readonly warnings: readonly string[];
}

export interface ProbeNetwork {
  readonly network: string;
  readonly mtu: number;
  readonly df: 'unset' | 'set' | 'inherit';
  readonly fits: boolean | null;
  /** What ICMP errors have told the dataplane. */
  readonly known_path_mtu: number | null;
}

export interface Sender {
  readonly state: NetworkState;
  readonly stats: PeerStats | undefined;
}

export function probeRow(peer: Ip, found: PathMtu, senders: readonly Sender[]): ProbeRow {
  const family = familyOf(peer);
  const overlay = found.answered ? found.mtu - OVERHEAD[family] : null;
  const networks = senders.map(({ state, stats }): ProbeNetwork => {
    const { mtu, spec } = state;
    const known = stats?.path_mtu ?? null;
    const fits = overlay === null ? null : mtu <= overlay;
    return { network: spec.name, mtu, df: spec.df ?? 'unset', fits, known_path_mtu: known };
  });
  const row = { peer, sent: found.sent, overlay_mtu: overlay, networks };
  if (!found.answered) {
    const warnings = [
      found.reason === undefined
        ? `${peer} does not answer ICMP echo: it is away, or something drops echo; this says nothing about its path MTU`
        : `${peer} cannot be reached (${found.reason})`,
    ];
    const nothing = { path_mtu: null, limit: null, told: null, rtt_ms: null, lost: null } as const;
    return { ...row, ...nothing, answered: false, reason: found.reason ?? null, warnings };
  }
  const { mtu, limit, told, rttMs, lost } = found;
  const warnings = networks.flatMap((network) =>
    network.fits === false ? [tooLarge(peer, network, overlay ?? 0)] : [],
  );
  if (!told) warnings.push(`packets to ${peer} beyond ${mtu} bytes vanish and nobody says so by ICMP (a black hole)`);
  if (mtu < FLOOR[family])
    warnings.push(
      `the path to ${peer} carries ${mtu} bytes, less than ${FLOOR[family]}: \`df set\` and \`df inherit\` do not go that low`,
    );
  const rtt = Math.round(rttMs * 1_000) / 1_000;
  return { ...row, answered: true, reason: null, path_mtu: mtu, limit, told, rtt_ms: rtt, lost, warnings };
}

function tooLarge(peer: string, { network, mtu, df }: ProbeNetwork, overlay: number): string {
  const what =
    df === 'unset'
      ? 'leave in fragments, which is slow and not let through everywhere'
      : df === 'set'
        ? 'are dropped (tx_too_big)'
        : 'leave in fragments, or are dropped (tx_too_big) if they may not be fragmented';
  return `network ${network} has MTU ${mtu}: packets beyond ${overlay} bytes to ${peer} ${what}; set MTU ${overlay} on all its hosts, or raise the path's`;
}

export function describeProbe(row: ProbeRow): string {
  const lines: string[] = [];
  if (row.path_mtu !== null && row.overlay_mtu !== null) {
    const limit = row.limit === 'interface' ? "this host's interface" : 'the path';
    const lost = row.lost === 0 ? '' : `, ${row.lost} of ${row.sent} without an answer`;
    lines.push(`${row.peer}: path MTU ${row.path_mtu} (limit: ${limit}), round trip ${row.rtt_ms} ms${lost}`);
    lines.push(`  an overlay MTU of up to ${row.overlay_mtu} fits`);
  }
  for (const { network, mtu, fits, known_path_mtu: known } of row.networks) {
    const icmp = known === null ? '' : `, path MTU ${known} known by ICMP`;
    const verdict = fits === null ? '' : fits ? ': fits' : ': does not fit';
    lines.push(`  network ${network}: MTU ${mtu}${verdict}${icmp}`);
  }
  lines.push(...row.warnings.map((warning) => `warning: ${warning}`));
  return lines.map((line) => `${line}\n`).join('');
}
