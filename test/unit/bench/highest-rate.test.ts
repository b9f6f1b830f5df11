import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_SEARCH, highestRate, type Trial } from '../../../bench/measure/highest-rate.ts';

/** A link that carries `capacity` a second and loses the rest; the sender makes at most `sender` a second. */
function link(capacity: number, sender: number): (offered: number) => Promise<Trial> {
  return (offered) => {
    const sent = offered === 0 ? sender : Math.min(offered, sender);
    const received = Math.min(sent, capacity);
    return Promise.resolve({ offered, sent, received, loss: 1 - received / sent });
  };
}

test('a sender slower than the link is the limit, known after one trial', async () => {
  const { rate, trials } = await highestRate(link(500, 200), DEFAULT_SEARCH);
  assert.deepEqual([rate, trials.length], [200, 1]);
});

test('the capacity is found within the precision', async () => {
  for (const capacity of [1_000, 33_333, 250_000, 890_000]) {
    const { rate } = await highestRate(link(capacity, 900_000), DEFAULT_SEARCH);
    // Up to 1 % more than the capacity may be offered, and all of it that arrives counts.
    assert.ok(rate >= capacity / 1.04 && rate <= capacity, `${capacity}: found ${rate}`);
  }
});

test('a link that collapses under overload is still searched from below', async () => {
  const collapsing = (offered: number): Promise<Trial> => {
    const sent = offered === 0 ? 1_000_000 : offered;
    const received = sent <= 100_000 ? sent : 100;
    return Promise.resolve({ offered, sent, received, loss: 1 - received / sent });
  };
  const { rate, trials } = await highestRate(collapsing, { ...DEFAULT_SEARCH, maxTrials: 20 });
  assert.ok(rate > 90_000 && rate <= 100_000, `found ${rate} in ${trials.length} trials`);
});

test('one hiccup does not cap the search', async () => {
  let trials = 0;
  const steady = link(300_000, 900_000);
  const { rate } = await highestRate(
    async (offered) => {
      trials += 1;
      const result = await steady(offered);
      return trials === 2 ? { ...result, loss: 0.5 } : result;
    },
    { ...DEFAULT_SEARCH, maxTrials: 30 },
  );
  assert.ok(rate > 280_000, `found ${rate}`);
});

test('a link that carries nothing ends the search with nothing', async () => {
  const { rate, trials } = await highestRate(link(0, 1_000), DEFAULT_SEARCH);
  assert.deepEqual([rate, trials.length], [0, DEFAULT_SEARCH.maxTrials]);
  assert.equal((await highestRate(link(0, 0), DEFAULT_SEARCH)).rate, 0);
});
