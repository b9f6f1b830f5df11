import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OptionsError, parseOptions } from '../../../bench/options.ts';
import { DEFAULT_SYSTEMS, PROFILES, TESTS } from '../../../bench/vocabulary.ts';

test('without a word, everything is measured', () => {
  const options = parseOptions([]);
  assert.deepEqual([options.systems, options.profiles, options.tests], [DEFAULT_SYSTEMS, PROFILES, TESTS]);
  assert.equal(options.repetitions, 5);
});

test('lists are taken in the order of the table', () => {
  const options = parseOptions(['--systems', 'vtepd, kernel', '--tests', 'rr1,tcp1', '--profiles=jumbo']);
  assert.deepEqual(options.systems, ['kernel', 'vtepd']);
  assert.deepEqual(options.tests, ['tcp1', 'rr1']);
  assert.deepEqual(options.profiles, ['jumbo']);
});

test('--quick is short, and gives way to what is said', () => {
  const quick = parseOptions(['--quick']);
  assert.deepEqual([quick.profiles, quick.repetitions], [['nic'], 2]);
  assert.ok(quick.timing.budget < 120);
  assert.ok(!quick.tests.includes('rr1-tcp'));
  const told = parseOptions(['--quick', '--profiles', 'veth', '--repetitions', '3', '--tests', 'rr1-tcp']);
  assert.deepEqual([told.profiles, told.repetitions, told.tests], [['veth'], 3, ['rr1-tcp']]);
});

test('--compare names another build', () => {
  assert.deepEqual(parseOptions(['--compare', 'before=/opt/a=b']).compare, [{ name: 'before', path: '/opt/a=b' }]);
});

test('what is wrong is refused by name', () => {
  const wrong: readonly (readonly [RegExp, ...string[]])[] = [
    [/--systems: 'nosuch' is not one of kernel/, '--systems', 'kernel,nosuch'],
    [/--tests: '' is not one of/, '--tests', ''],
    [/--repetitions takes a whole number, not '1.5'/, '--repetitions', '1.5'],
    [/--repetitions takes a number from 1/, '--repetitions', '0'],
    [/--duration takes a number/, '--duration', 'long'],
    [/--compare takes NAME=PATH/, '--compare', 'kernel=/x'],
    [/--compare takes NAME=PATH/, '--compare', '/x'],
    [/--nosuch/, '--nosuch'],
  ];
  for (const [message, ...words] of wrong) {
    assert.throws(
      () => parseOptions(words),
      (error) => error instanceof OptionsError && message.test(error.message),
    );
  }
});
