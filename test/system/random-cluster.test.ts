/**
 * Hosts join, leave, change and die, etcd fails in every way, at random; two hosts that nothing happens to but the death of
 * their controllers, and one with the kernel's device, must go on talking all the while. When all is over, every host's
 * tables, routes and addresses are what etcd's content says.
 *
 * VTEPD_CLUSTER_SECONDS says how long (default 60; hours are fine), VTEPD_CLUSTER_SEED which; a failure prints the actions
 * as words, and VTEPD_CLUSTER_ACTIONS=FILE plays such a list again, whole or shortened.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { assertEqualToEtcd } from './lib/against-etcd.ts';
import { Bed, type BedHost, type HostPlan } from './lib/bed.ts';
import { assertPing } from './lib/checks.ts';
import { Cluster } from './lib/cluster.ts';
import {
  type Action,
  ActionSource,
  addressOf,
  formatActions,
  parseActions,
  STEADY,
  TOUCHED,
} from './lib/cluster-actions.ts';
import { ClusterRun } from './lib/cluster-run.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { eventually } from './lib/exec.ts';
import { Random } from './lib/model-random.ts';
import { SteadyPing } from './lib/steady-ping.ts';
import { ping } from './lib/traffic.ts';

const SEED = Number(process.env.VTEPD_CLUSTER_SEED ?? Math.floor(Math.random() * 2 ** 31));
const SECONDS = Number(process.env.VTEPD_CLUSTER_SECONDS ?? 60);
const REPLAY = process.env.VTEPD_CLUSTER_ACTIONS;
/** Black holes are found out by pings, moved addresses by two looks, and pauses grow: but it ends. */
const CONVERGED_MS = 120_000;

const KERNEL_MAC = '02:00:00:00:00:0e';

function plan(label: string): HostPlan {
  const number = label.charCodeAt(0) - 'a'.charCodeAt(0);
  const ipv4 = addressOf(label, false);
  return { label, ipv4, ipv6: `fd00:245::${ipv4.split('.')[3]}`, net: `10.246.${130 + number}` };
}

test('the same seed makes the same actions, and they are read as they are written', () => {
  const actions = (seed: number): Action[] => {
    const source = new ActionSource(new Random(seed));
    return Array.from({ length: 500 }, () => source.next());
  };
  assert.deepEqual(actions(SEED), actions(SEED));
  assert.notDeepEqual(actions(SEED), actions(SEED + 1));
  assert.deepEqual(parseActions(formatActions(actions(SEED))), actions(SEED));
});

test(`a cluster to which anything happens: seed ${SEED}`, {
  skip: await withoutEtcd(),
  timeout: 2 ** 31 - 1,
}, async (context) => {
  const replayed = REPLAY === undefined ? undefined : parseActions(await readFile(REPLAY, 'utf8'));
  const labels = [...STEADY, ...TOUCHED];
  const bed = await Bed.create({ hosts: [...labels, 'e'].map(plan) });
  const done: Action[] = [];
  const pings: SteadyPing[] = [];
  let run: ClusterRun | undefined;
  try {
    const [a, b, e] = ['a', 'b', 'e'].map((label) => bed.host(label)) as [BedHost, BedHost, BedHost];
    const cluster = await Cluster.start(bed);
    run = new ClusterRun(bed, cluster);
    await run.begin(labels);
    await cluster.addKernel(e, KERNEL_MAC, [await cluster.peer(a), await cluster.peer(b)]);
    const members = () => (run as ClusterRun).members();
    await assertEqualToEtcd(cluster, members());
    for (const [from, to] of [
      [a, b],
      [b, e],
      [e, a],
    ] as const) {
      await assertPing(from, to);
      pings.push(new SteadyPing(from, to));
    }
    const planes = await Promise.all(
      members()
        .slice(0, STEADY.length)
        .map((vtepd) => vtepd.dataplanePid()),
    );

    const source = new ActionSource(new Random(SEED));
    const until = performance.now() + SECONDS * 1_000;
    for (const action of replayed ?? endless(source, () => performance.now() < until)) {
      done.push(action);
      await run.act(action);
    }
    if (replayed === undefined) {
      for (const action of source.ending()) {
        done.push(action);
        await run.act(action);
      }
    }

    const ended = performance.now();
    await assertEqualToEtcd(cluster, members(), { timeoutMs: CONVERGED_MS });
    const converged = performance.now() - ended;
    const lost = (await Promise.all(pings.splice(0).map((each) => each.stop()))).flat();
    assert.deepEqual(lost, [], 'traffic between hosts to which nothing happened');
    assert.deepEqual(
      await Promise.all(
        members()
          .slice(0, STEADY.length)
          .map((vtepd) => vtepd.dataplanePid()),
      ),
      planes,
      'their dataplanes are the same as before',
    );
    for (const from of members()) {
      for (const to of members()) {
        if (from === to) continue;
        const { controller } = await to.status();
        const base = (controller.running ? controller.lease?.subnet : undefined)?.split('/')[0] ?? '';
        await eventually(`${from.host.label} -> ${to.host.label}`, async () => {
          const { received } = await ping(from.host.ns, base, { count: 1 });
          return received === 1;
        });
      }
    }
    const count = done.filter(([verb]) => verb !== 'wait').length;
    context.diagnostic(`${count} actions; equal to etcd ${Math.round(converged)} ms after the last`);
  } catch (error) {
    const how = `VTEPD_CLUSTER_SEED=${SEED} VTEPD_CLUSTER_SECONDS=${SECONDS}, or VTEPD_CLUSTER_ACTIONS=FILE with:`;
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    assert.fail(`${why}\n\n${how}\n${formatActions(done)}\n\n${run?.story.join('\n')}\n\n${run?.said()}`);
  } finally {
    await Promise.all(pings.map((each) => each.stop()));
    await bed.destroy();
  }
});

function* endless(source: ActionSource, goOn: () => boolean): Iterable<Action> {
  while (goOn()) yield source.next();
}
