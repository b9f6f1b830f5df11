/** Files that cannot be written: told once, tried again, forgotten when they are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { KeptFiles } from '../../../src/host/kept-files.ts';

function setUp() {
  const lines: { level: number; msg: string }[] = [];
  const files = new KeptFiles(pino({}, { write: (line: string) => lines.push(JSON.parse(line)) }));
  let full = true;
  const written: string[] = [];
  const write = (text: string) => (): void => {
    if (full) throw new Error('ENOSPC: no space left on device');
    written.push(text);
  };
  return { files, lines, write, written, makeRoom: () => (full = false) };
}

test('what cannot be written is a warning with the reason and what is missing meanwhile, in the log once', () => {
  const { files, lines, write } = setUp();
  files.keep('/run/subnet.env', 'nobody knows the subnet', write('first'));
  files.retry();
  files.keep('/run/subnet.env', 'nobody knows the subnet', write('second'));
  const warning =
    '/run/subnet.env cannot be written (ENOSPC: no space left on device): nobody knows the subnet; make room or correct its rights, it is tried again';
  assert.deepEqual(files.warnings, [warning]);
  assert.deepEqual(
    lines.map(({ level, msg }) => [level, msg]),
    [[50, warning]],
  );
});

test('it is written with the first retry that finds room, as it was asked for last', () => {
  const { files, write, written, makeRoom } = setUp();
  files.keep('/a', 'a', write('first'));
  files.keep('/a', 'a', write('second'));
  files.keep('/b', 'b', write('other'));
  files.failed('/c', 'c', new Error('EROFS: read-only file system'));
  makeRoom();
  files.retry();
  files.retry();
  assert.deepEqual(written, ['second', 'other']);
  assert.deepEqual(
    files.warnings.map((text) => text.slice(0, 2)),
    ['/c'],
    'whose owner tries by itself',
  );
  files.written('/c');
  assert.deepEqual(files.warnings, []);
});
