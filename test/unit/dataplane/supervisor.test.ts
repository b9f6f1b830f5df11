import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { instancePaths, type Paths } from '../../../src/config/paths.ts';
import { DataplaneError } from '../../../src/dataplane/client.ts';
import { adoptDataplane, endDataplane, startDataplane } from '../../../src/dataplane/spawn.ts';
import { type Session, superviseDataplane } from '../../../src/dataplane/supervisor.ts';

const directory = mkdtempSync(join(tmpdir(), 'vtepd-supervisor-'));
const program = join(directory, 'dataplane');
writeFileSync(
  program,
  `#!/bin/sh\nexec "${process.execPath}" "${fileURLToPath(new URL('dataplane-program.mjs', import.meta.url))}" "$@"\n`,
);
chmodSync(program, 0o755);

const started: number[] = [];
after(() => {
  for (const pid of started) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // Ended in its test.
    }
  }
  rmSync(directory, { recursive: true });
});

function setting(instance: string): {
  paths: Paths;
  env: Record<string, string>;
  lines: { msg: string; level: number }[];
} {
  const env = {
    PATH: process.env.PATH ?? '',
    VTEPD_RUNTIME_DIR: directory,
    VTEPD_DATAPLANE: program,
    FLANNELD_ETCD_PASSWORD: 'secret',
  };
  return { paths: instancePaths(instance, env), env, lines: [] };
}

function options({ paths, env, lines }: ReturnType<typeof setting>) {
  const logger = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) });
  return { paths, env, logger };
}

async function next(sessions: AsyncGenerator<Session>): Promise<Session> {
  const { value } = await sessions.next();
  assert.ok(value !== undefined);
  started.push(value.hello.pid);
  return value;
}

test('starts a dataplane where none runs, without the store password in its environment', async () => {
  const set = setting('start');
  const end = new AbortController();
  const sessions = superviseDataplane(options(set), end.signal);
  const session = await next(sessions);
  assert.equal(session.adopted, false);
  assert.equal(session.diedAt, undefined);
  const { environment } = JSON.parse(readFileSync(set.paths.log, 'utf8').split('\n')[0] ?? '');
  assert.deepEqual(
    environment.filter((name: string) => /FLANNELD|VTEPD|PASSWORD/.test(name)),
    [],
  );
  end.abort();
  await sessions.return(undefined);
  const again = await adoptDataplane(set.paths);
  assert.equal(again.hello.pid, session.hello.pid, 'it outlives its supervisor');
  await endDataplane(again.client, again.hello.pid, false);
});

test('adopts the one that runs', async () => {
  const set = setting('adopt');
  const { client, hello } = await startDataplane(set.paths, set.env);
  client.close();
  const end = new AbortController();
  const sessions = superviseDataplane(options(set), end.signal);
  const session = await next(sessions);
  assert.deepEqual([session.adopted, session.hello.pid], [true, hello.pid]);
  end.abort();
  await sessions.return(undefined);
});

test('a dataplane that dies is told of, with how, and another takes its place', async () => {
  const set = setting('death');
  const end = new AbortController();
  const sessions = superviseDataplane(options(set), end.signal);
  const first = await next(sessions);
  process.kill(first.hello.pid, 'SIGKILL');
  const second = await next(sessions);
  assert.notEqual(second.hello.pid, first.hello.pid);
  assert.equal(second.adopted, false);
  assert.ok(second.diedAt !== undefined && second.diedAt <= performance.now());
  assert.ok(
    set.lines.some(({ msg }) => msg === 'the dataplane died: it was killed by SIGKILL'),
    JSON.stringify(set.lines),
  );
  process.kill(second.hello.pid, 'SIGKILL');
  await next(sessions);
  end.abort();
  await sessions.return(undefined);
});

test('only the connection lost: the same dataplane is taken again, and nobody calls it dead', async () => {
  const set = setting('connection');
  const end = new AbortController();
  const sessions = superviseDataplane(options(set), end.signal);
  const first = await next(sessions);
  first.client.close();
  const second = await next(sessions);
  assert.deepEqual([second.hello.pid, second.adopted, second.diedAt], [first.hello.pid, true, undefined]);
  end.abort();
  await sessions.return(undefined);
});

test('a start that fails says why, with the end of the log', async () => {
  const set = setting('fails');
  const env = { ...set.env, RUST_LOG: 'fail' };
  await assert.rejects(startDataplane(set.paths, env), (error) => {
    assert.ok(error instanceof DataplaneError);
    assert.match(
      error.message,
      /could not be started: it ended with status 3; the end of .*fails\.log:\n.*\/dev\/net\/tun: ENOENT/,
    );
    return true;
  });
  await assert.rejects(
    superviseDataplane(options({ ...set, env }), new AbortController().signal).next(),
    /could not be started/,
  );
});

test('one that a signal ends before it listens is started again, but not for ever', async () => {
  const set = setting('killed');
  const end = new AbortController();
  const sessions = superviseDataplane(options({ ...set, env: { ...set.env, RUST_LOG: 'killed2' } }), end.signal);
  const session = await next(sessions);
  assert.deepEqual([session.adopted, session.diedAt], [false, undefined]);
  assert.equal(set.lines.filter(({ msg }) => msg === 'no dataplane; trying again').length, 2);
  end.abort();
  await sessions.return(undefined);
  const always = setting('always-killed');
  const env = { ...always.env, RUST_LOG: 'killed99' };
  await assert.rejects(
    superviseDataplane(options({ ...always, env }), new AbortController().signal).next(),
    /could not be started: it was killed by SIGKILL/,
  );
  assert.equal(readFileSync(always.paths.log, 'utf8'), 'killed\n'.repeat(3));
});

test('a program that is missing is named, with what to do', async () => {
  const set = setting('missing');
  const env = { ...set.env, VTEPD_DATAPLANE: '/nonexistent/dataplane' };
  await assert.rejects(startDataplane(set.paths, env), /\/nonexistent\/dataplane is missing .*npm run build/);
});
