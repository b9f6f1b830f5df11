/** The search for a path MTU on paths that are made up: honest, lying, silent, lossy. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Echo, type PathMtu, searchPathMtu, type Verdict } from '../../../src/probe/path-mtu.ts';

const OPTIONS = { least: 84, most: 65_535, guesses: [1500, 1501, 552], tries: 3, timeoutMs: 1_000 };

interface Path {
  readonly interface: number;
  readonly mtu: number;
  /** What a router says of packets that do not fit; absent: it says nothing. */
  readonly says?: number | undefined;
  /** Every so many packets one is lost. */
  readonly losesEach?: number | undefined;
}

function echoOf(path: Path): { echo: Echo; sizes: number[] } {
  const sizes: number[] = [];
  const echo: Echo = async (size) => {
    if (size > path.interface) return { kind: 'refused' };
    sizes.push(size);
    if (path.losesEach !== undefined && sizes.length % path.losesEach === 0) return { kind: 'silent' };
    if (size <= path.mtu) return { kind: 'answered', rttMs: 3 };
    return path.says === undefined ? { kind: 'silent' } : { kind: 'too-big', mtu: path.says };
  };
  return { echo, sizes };
}

function facts(found: PathMtu): unknown[] {
  return found.answered ? [found.mtu, found.limit, found.told] : ['no answer', found.reason];
}

test('where the path carries what the interface takes, two packets say so', async () => {
  const { echo, sizes } = echoOf({ interface: 1500, mtu: 9000 });
  assert.deepEqual(facts(await searchPathMtu(echo, OPTIONS)), [1500, 'interface', true]);
  assert.deepEqual(sizes, [84, 1500]);
});

test('what a router says is tried, and one byte more', async () => {
  const { echo, sizes } = echoOf({ interface: 1500, mtu: 1400, says: 1400 });
  assert.deepEqual(facts(await searchPathMtu(echo, OPTIONS)), [1400, 'path', true]);
  assert.deepEqual(sizes, [84, 1500, 1400, 1401]);
});

test('whatever a router says, the path itself is what is found', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 84, max: 70_000 }),
      fc.integer({ min: 84, max: 70_000 }),
      fc.option(fc.integer({ min: 0, max: 70_000 }), { nil: undefined }),
      async (device, mtu, says) => {
        const found = await searchPathMtu(echoOf({ interface: device, mtu, says }).echo, OPTIONS);
        const limit = Math.min(device, mtu, OPTIONS.most);
        assert.deepEqual(facts(found).slice(0, 2), [
          limit,
          limit === Math.min(device, OPTIONS.most) ? 'interface' : 'path',
        ]);
      },
    ),
  );
});

test('a black hole is found by silence, and asked once more', async () => {
  const { echo, sizes } = echoOf({ interface: 1500, mtu: 1391 });
  assert.deepEqual(facts(await searchPathMtu(echo, OPTIONS)), [1391, 'path', false]);
  assert.equal(sizes.filter((size) => size === 1392).length, 2 * OPTIONS.tries);
});

test('packets that are lost now and then change nothing', async () => {
  for (const losesEach of [2, 3, 5]) {
    const { echo } = echoOf({ interface: 1500, mtu: 1400, losesEach });
    assert.deepEqual(facts(await searchPathMtu(echo, OPTIONS)), [1400, 'path', false]);
  }
});

test('a size that was lost three times running is asked again before it counts', async () => {
  let unlucky = OPTIONS.tries;
  const echo: Echo = async (size): Promise<Verdict> => {
    if (size > 1500) return { kind: 'refused' };
    if (size === 1500 && unlucky-- > 0) return { kind: 'silent' };
    return { kind: 'answered', rttMs: 3 };
  };
  assert.deepEqual(facts(await searchPathMtu(echo, OPTIONS)), [1500, 'interface', true]);
});

test('a peer that does not answer, or cannot be reached, is no small MTU', async () => {
  const silent = await searchPathMtu(async () => ({ kind: 'silent' }), OPTIONS);
  assert.deepEqual([...facts(silent), silent.sent], ['no answer', undefined, OPTIONS.tries]);
  const away = await searchPathMtu(
    async () => ({ kind: 'unreachable', reason: '10.0.0.1: host unreachable' }),
    OPTIONS,
  );
  assert.deepEqual(facts(away), ['no answer', '10.0.0.1: host unreachable']);
});

test('waits follow the round trip, within what was allowed', async () => {
  const waits: number[] = [];
  const echo: Echo = async (size, timeoutMs) => {
    waits.push(timeoutMs);
    return size > 1400 ? { kind: 'silent' } : { kind: 'answered', rttMs: 100 };
  };
  await searchPathMtu(echo, OPTIONS);
  assert.deepEqual([...new Set(waits)], [1_000, 400]);
});
