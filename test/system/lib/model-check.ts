/** Random scenarios against one rig; what fails is made small and put in words. */
import assert from 'node:assert/strict';
import { type Action, listWords } from './model-actions.ts';
import { Unsendable } from './model-frames.ts';
import { scenario } from './model-generate.ts';
import { Random } from './model-random.ts';
import type { ModelRig } from './model-rig.ts';
import { Disagreement, Run } from './model-run.ts';
import { shrink } from './model-shrink.ts';

/** Actions of one scenario. */
const ACTIONS = 200;
/** Steps are settled within milliseconds; this is for a machine that does ten other things. */
const PATIENCE_MS = 3_000;
const SHRINK_PATIENCE_MS = 300;

/** Runs scenarios until there were so many cases; gives how often each counter moved, networks taken together. */
export async function checkMany(rig: ModelRig, seed: number, cases: number): Promise<Map<string, number>> {
  const moved = new Map<string, number>();
  for (let done = 0, next = seed; done < cases; next += 1) {
    const actions = scenario(new Random(next), { actions: ACTIONS });
    done += actions.length;
    for (const [name, count] of (await checkOne(rig, next, actions)).counters) {
      const bare = name.replace(/^m\d /, '');
      moved.set(bare, (moved.get(bare) ?? 0) + count);
    }
  }
  return moved;
}

export async function checkOne(rig: ModelRig, seed: number, actions: readonly Action[]): Promise<Run> {
  try {
    return await Run.scenario(rig, actions, { patienceMs: PATIENCE_MS });
  } catch (error) {
    if (!(error instanceof Disagreement)) throw new Error(`in scenario VTEPD_MODEL_SEED=${seed}`, { cause: error });
    return explain(rig, seed, actions, error);
  }
}

async function disagreement(
  rig: ModelRig,
  actions: readonly Action[],
  patienceMs: number,
): Promise<string | undefined> {
  try {
    await Run.scenario(rig, actions, { patienceMs });
    return undefined;
  } catch (error) {
    if (error instanceof Disagreement) return error.message;
    // Shrinking took away what made room for a frame.
    if (error instanceof Unsendable) return undefined;
    throw error;
  }
}

async function explain(rig: ModelRig, seed: number, actions: readonly Action[], first: Disagreement): Promise<never> {
  const fails = async (list: readonly Action[]) => (await disagreement(rig, list, SHRINK_PATIENCE_MS)) !== undefined;
  const small = await shrink(actions, fails);
  const why = await disagreement(rig, small, PATIENCE_MS);
  const again = why === undefined ? `\n(it does not show again; the first time:)\n${first.message}` : `\n${why}`;
  assert.fail(`VTEPD_MODEL_SEED=${seed} VTEPD_MODEL_CASES=1\nthese actions:\n${listWords(small)}${again}`);
}
