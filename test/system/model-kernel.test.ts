/**
 * The executable model against the kernel's own vxlan device: what the model says of the endpoint is what the kernel does, but for
 * the list in lib/model-differences.ts. VTEPD_MODEL_CASES (default 16000 here) and VTEPD_MODEL_SEED as in model.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Action, listWords } from './lib/model-actions.ts';
import { DIFFERENCES } from './lib/model-differences.ts';
import { fromTap, fromWire } from './lib/model-generate.ts';
import { KernelRig, type KernelTables } from './lib/model-kernel.ts';
import { Random } from './lib/model-random.ts';
import { KERNEL_NETWORKS, PEERS4 } from './lib/model-rig.ts';
import { Disagreement } from './lib/model-run.ts';
import { shrink } from './lib/model-shrink.ts';
import { FLOOD, GROUPS, HOSTS, INNER4, INNER6, networkOf } from './lib/model-world.ts';
import { withoutKernelVxlan } from './lib/requirements.ts';

const CASES = Number(process.env.VTEPD_MODEL_CASES ?? 16_000);
const SEED = Number(process.env.VTEPD_MODEL_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** From here on, every difference must have shown: the rarest does so once in some 100,000 cases. */
const MANY = 1_000_000;
const skip = await withoutKernelVxlan();

test(`model and kernel device agree on ${CASES} random cases (seed ${SEED})`, {
  skip,
  timeout: 2 ** 31 - 1,
}, async (context) => {
  const rig = await KernelRig.create();
  try {
    let cases = 0;
    for (let seed = SEED; cases < CASES; seed += 1) {
      const random = new Random(seed);
      const { name, mtu } = random.pick(KERNEL_NETWORKS);
      const tables = tablesOf(random, name);
      const actions = actionsOf(random, name, mtu);
      cases += actions.length;
      await check(rig, seed, name, tables, actions);
    }
    for (const { name } of DIFFERENCES) {
      const count = [...rig.differences].find(([difference]) => difference.name === name)?.[1] ?? 0;
      context.diagnostic(`differs on purpose ${count} times: ${name}`);
      if (cases >= MANY) assert.ok(count > 0, `"${name}" never showed`);
    }
  } finally {
    await rig.destroy();
  }
});

function tablesOf(random: Random, name: string): KernelTables {
  // What does not fit is too big here before anybody looks for a route.
  const unusual = networkOf(name).df === undefined ? ['192.0.2.1', '239.1.1.1'] : ['239.1.1.1'];
  const ip = (): string => (random.chance(4) ? random.pick(unusual) : random.pick(PEERS4));
  const lists = [FLOOD, ...GROUPS].filter(() => random.chance(45));
  const fdb = [
    ...HOSTS.filter(() => random.chance(50)).map((mac) => ({ mac, ips: [ip()], router: random.chance(30) })),
    ...lists.map((mac) => ({ mac, ips: [...new Set([ip(), ip(), ip()])] })),
  ].map((entry) => ({ ...entry, state: random.pick(['permanent', 'static'] as const) }));
  const neighbours = [...INNER4, ...INNER6]
    .filter(() => random.chance(45))
    .map((each) => ({ ip: each, mac: random.pick(HOSTS) }));
  return { fdb, neighbours };
}

function actionsOf(random: Random, name: string, mtu: number): Action[] {
  return Array.from({ length: 6 }, (_, at) =>
    Array.from({ length: 30 }, () => (at % 2 === 0 ? fromTap(random, name, mtu) : fromWire(random, name, mtu))).flat(),
  ).flat();
}

async function check(
  rig: KernelRig,
  seed: number,
  name: string,
  tables: KernelTables,
  actions: readonly Action[],
): Promise<void> {
  const disagreement = async (list: readonly Action[]): Promise<string | undefined> => {
    try {
      await rig.scenario(name, tables, list);
      return undefined;
    } catch (error) {
      if (error instanceof Disagreement) return error.message;
      throw new Error(`in VTEPD_MODEL_SEED=${seed}: ${String(error)}`, { cause: error });
    }
  };
  const first = await disagreement(actions);
  if (first === undefined) return;
  const small = await shrink(actions, async (list) => (await disagreement(list)) !== undefined, 80);
  const why = (await disagreement(small)) ?? `(it does not show again; the first time:)\n${first}`;
  const held = JSON.stringify(tables, null, 1).replaceAll(/\n\s*/g, ' ');
  assert.fail(
    `VTEPD_MODEL_SEED=${seed} VTEPD_MODEL_CASES=1\n${name} with ${held}\nthese actions:\n${listWords(small)}\n${why}`,
  );
}
