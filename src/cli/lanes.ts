/** `vtepd lanes show|set`: the packet threads, how much of their time is work, how many there are, and how they wait. */
import type { LaneStats, LanesSet, Stats } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print, withDataplane } from './context.ts';
import { EXIT_OK, UsageError } from './errors.ts';
import { bytes, table } from './output.ts';

export async function lanesShow(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`lanes show takes no words, not ${input.words.join(' ')}`);
  const { uptime, lanes } = await withDataplane(context, (client) => client.request('stats', {}));
  print(context, { uptime, lanes }, laneTable);
  return EXIT_OK;
}

export async function lanesSet(context: Context, input: ParsedArguments): Promise<number> {
  const { lanes, spin_us } = await withDataplane(context, (client) =>
    client.request('lanes.set', lanesWords(input.words)),
  );
  print(context, { lanes, spin_us }, () => `${lanes} ${lanes === 1 ? 'lane' : 'lanes'}, spin ${spin_us} us\n`);
  return EXIT_OK;
}

/** `[N] [spin US]`, one of them at least. */
export function lanesWords(words: readonly string[]): LanesSet {
  const match = /^(\d{1,3})?(?:(?:^| )spin (\d{1,5}))?$/.exec(words.join(' '));
  const [, lanes, spin] = match ?? [];
  if (lanes === undefined && spin === undefined) {
    throw new UsageError(
      'lanes set takes a number from 1 to 16, or spin with microseconds from 0 to 1000, or both: vtepd lanes set 2 spin 50',
    );
  }
  return {
    ...(lanes === undefined ? {} : { lanes: Number(lanes) }),
    ...(spin === undefined ? {} : { spin_us: Number(spin) }),
  };
}

const HEAD = [
  'LANE',
  'RX-PKTS',
  'RX',
  'TX-PKTS',
  'TX',
  'SEG/WRITE',
  'SEG/READ',
  'PKT/RECV',
  'PKT/SEND',
  'BUSY',
  'SPIN',
  'LONGEST',
];

/**
 * Segments a superframe, in (SEG/WRITE) and out (SEG/READ), and frames a system call tell the load at a glance: about 40 where
 * superframes are full, 1 where every frame costs a call of its own.
 */
export function laneTable({ uptime, lanes }: Pick<Stats, 'uptime' | 'lanes'>): string {
  return table(
    HEAD,
    lanes.map((lane) => row(lane, uptime)),
    HEAD,
  );
}

function row(lane: LaneStats, uptime: number): string[] {
  return [
    String(lane.lane),
    String(lane.rx.packets),
    bytes(lane.rx.bytes),
    String(lane.tx.packets),
    bytes(lane.tx.bytes),
    ratio(lane.rx.packets, lane.tap_writes),
    ratio(lane.tx.packets, lane.tap_reads),
    ratio(lane.rx.packets, lane.udp_receives),
    ratio(lane.tx.packets, lane.udp_sends),
    share(lane.busy_us, uptime),
    share(lane.spin_us, uptime),
    `${lane.longest_turn_us}us`,
  ];
}

function share(microseconds: number, uptime: number): string {
  return uptime > 0 ? `${Math.min(100, microseconds / uptime / 1e4).toFixed(1)}%` : '-';
}

function ratio(frames: number, calls: number): string {
  return calls > 0 ? (frames / calls).toFixed(1) : '-';
}
