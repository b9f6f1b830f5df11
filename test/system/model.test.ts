/**
 * The real endpoint and the executable model (test/model), driven with the same random tables, frames, datagrams and table
 * changes. VTEPD_MODEL_CASES says how many (default 45000; millions are fine), VTEPD_MODEL_SEED which; a failure prints the
 * seed, and VTEPD_MODEL_SEED=<it> VTEPD_MODEL_CASES=1 runs that scenario alone.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DropReason } from '../../src/dataplane/protocol.ts';
import { checkMany, checkOne } from './lib/model-check.ts';
import { scenario } from './lib/model-generate.ts';
import { Random } from './lib/model-random.ts';
import { ModelRig, type RigOptions } from './lib/model-rig.ts';
import { text } from './lib/model-tables.ts';

const CASES = Number(process.env.VTEPD_MODEL_CASES ?? 45_000);
const SEED = Number(process.env.VTEPD_MODEL_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** From here on, what is rare must have shown, too. */
const MANY = 20_000;
const timeout = 2 ** 31 - 1;

/** Every way for a frame to die that needs no broken machine. */
const REASONS: readonly DropReason[] = [
  'tx_no_destination',
  'tx_destination_unspecified',
  'tx_unroutable',
  'tx_too_big',
  'tx_recursion',
  'tx_arp_malformed',
  'tx_arp_unanswered',
  'tx_arp_swallowed',
  'tx_nd_malformed',
  'tx_nd_unanswered',
  'rx_short',
  'rx_no_vni',
  'rx_reserved_bits',
  'rx_unknown_vni',
  'rx_not_peer',
  'rx_inner_runt',
  'rx_inner_truncated',
  'rx_source_mac_invalid',
  'rx_source_mac_own',
  'rx_source_mac_conflict',
  'rx_ecn',
];
const OTHERS = [
  'arp replies',
  'nd replies',
  'partial checksums',
  'whole superframes',
  'rx packets',
  'tx packets',
  'too big replies',
];

const RIGS: readonly (RigOptions & { readonly share: number })[] = [
  { lanes: 1, underlay: 'wire', share: 0.5 },
  { lanes: 1, underlay: 'veth', share: 0.25 },
  { lanes: 2, underlay: 'wire', share: 0.25 },
];

for (const [at, { share, ...options }] of RIGS.entries()) {
  // One case is a failed one that is played again, on whichever rig it failed.
  const first = CASES > 1 ? SEED + at * 1_000_000 : SEED;
  const cases = Math.ceil(CASES * share);
  const how = `${options.lanes} lane(s), underlay ${options.underlay}`;
  test(`model and endpoint agree on ${cases} random cases: ${how} (seed ${first})`, { timeout }, async (context) => {
    const rig = await ModelRig.create(options);
    try {
      const began = Date.now();
      const moved = await checkMany(rig, first, cases);
      context.diagnostic(`${((Date.now() - began) / 1000).toFixed(1)} s; ${text(Object.fromEntries(moved))}`);
      if (cases < MANY) return;
      const never = [...REASONS.map((reason) => `drop ${reason}`), ...OTHERS].filter((name) => !moved.has(name));
      assert.deepEqual(never, [], 'these never happened: the generator no longer reaches them');
    } finally {
      await rig.destroy();
    }
  });
}

test('learning, table changes and misses are told as the model says', { timeout }, async () => {
  const rig = await ModelRig.create({ lanes: 1, underlay: 'wire' });
  try {
    const told: string[] = [];
    for (const name of ['learned', 'moved', 'aged', 'changed'] as const) {
      // The rig itself updates networks, to begin every scenario alike.
      rig.client.on(name, (event) =>
        'what' in event && event.what === 'updated' ? 0 : told.push(`${name} ${text(event)}`),
      );
    }
    rig.client.on('miss', ({ count, ...event }) => {
      for (let times = 0; times < count; times += 1) told.push(`miss ${text(event)}`);
    });
    await rig.client.request('events.subscribe', {});
    for (let seed = SEED; seed < SEED + 4; seed += 1) {
      await rig.reset();
      // Notifications are limited to a number each second, and misses are told at its end.
      await sleep(TICK_MS);
      told.length = 0;
      const { events } = await checkOne(rig, seed, scenario(new Random(seed), { actions: 50 }));
      await sleep(TICK_MS);
      assert.deepEqual(told.sort(), [...events].sort(), `VTEPD_MODEL_SEED=${seed}`);
    }
  } finally {
    await rig.destroy();
  }
});

const TICK_MS = 1_300;
