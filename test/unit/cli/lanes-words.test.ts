import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lanesWords } from '../../../src/cli/lanes.ts';

const TAKEN = {
  '2': { lanes: 2 },
  'spin 0': { spin_us: 0 },
  '4 spin 100': { lanes: 4, spin_us: 100 },
};

for (const [line, request] of Object.entries(TAKEN)) {
  test(`lanes set ${line}`, () => assert.deepEqual(lanesWords(line.split(' ')), request));
}

for (const line of ['', 'many', 'spin', '2 3', '2 spin', 'spin 5 2', 'spin -1', '2spin 5', '1000']) {
  test(`lanes set ${line}: refused, with what is possible`, () => {
    assert.throws(() => lanesWords(line.split(' ').filter((word) => word !== '')), /from 1 to 16.*from 0 to 1000/);
  });
}
