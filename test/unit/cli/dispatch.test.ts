import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { COMMANDS } from '../../../src/cli/commands.ts';
import { dispatch } from '../../../src/cli/dispatch.ts';
import { version } from '../../../src/cli/version.ts';
import { SETTINGS } from '../../../src/config/options.ts';

const directory = mkdtempSync(join(tmpdir(), 'vtepd-dispatch-'));
after(() => rmSync(directory, { recursive: true }));

async function vtepd(...argv: string[]): Promise<{ exit: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const exit = await dispatch(argv, {
    env: { VTEPD_RUNTIME_DIR: join(directory, 'run'), VTEPD_STATE_DIR: join(directory, 'state') },
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { exit, out, err };
}

test('vtepd --help lists every command and the exit statuses', async () => {
  for (const argv of [['--help'], ['-h'], ['help'], []]) {
    const { exit, out } = await vtepd(...argv);
    assert.equal(exit, 0);
    for (const { name, summary } of COMMANDS) assert.match(out, new RegExp(`  ${name} +${literal(summary)}`));
    assert.match(out, / 3 {2}no dataplane runs/);
  }
});

for (const { name, usage } of COMMANDS) {
  test(`${name} has a help, by --help and by help`, async () => {
    const words = name.split(' ');
    const asked = await vtepd(...words, '--help');
    assert.equal(asked.exit, 0);
    assert.match(asked.out, new RegExp(`Usage: vtepd ${literal(usage)}\n`));
    assert.deepEqual(await vtepd('help', ...words), asked);
  });
}

test('an object alone with --help lists its verbs', async () => {
  const { exit, out } = await vtepd('fdb', '--help');
  assert.equal(exit, 0);
  for (const verb of ['show', 'add', 'append', 'replace', 'del']) assert.match(out, new RegExp(`fdb ${verb} `));
});

test('run --help names every setting that is served and none that is not', async () => {
  const { out } = await vtepd('run', '--help');
  for (const { name } of SETTINGS) assert.match(out, new RegExp(`--${name} `));
  assert.doesNotMatch(out, /kube/);
});

test('version, in every spelling', async () => {
  for (const argv of [['--version'], ['-V'], ['version'], ['run', '--version'], ['run', '-version']]) {
    assert.deepEqual(await vtepd(...argv), { exit: 0, out: `vtepd ${version()}\n`, err: '' });
  }
});

const USAGE: [string[], RegExp][] = [
  [['statsu'], /unknown command statsu; did you mean status\?/],
  [['fdb', 'shwo'], /unknown verb fdb shwo; did you mean show\?/],
  [['status', '--jsno'], /unknown option --jsno; did you mean --json\?/],
  [['run', '--etcd-endpoint', 'x'], /unknown option --etcd-endpoint; did you mean --etcd-endpoints\?/],
  [['status', '--instance'], /--instance needs a value/],
  [['status', '--instance', 'a/b'], /instance "a\/b"/],
  [['status', 'x'], /status takes no words/],
  [['link', 'show', 'a', 'b'], /link show takes one name/],
  [['link', 'del'], /a name is needed/],
  [['run', 'x'], /run takes no words/],
  [['run', '--iface', 'a b'], /iface \(flag --iface\)/],
];

for (const [argv, message] of USAGE) {
  test(`vtepd ${argv.join(' ')}: status 2 and a word about it`, async () => {
    const { exit, out, err } = await vtepd(...argv);
    assert.equal(exit, 2);
    assert.equal(out, '');
    assert.match(err, message);
  });
}

test('without a dataplane, queries end with 3 and say where they looked', async () => {
  for (const argv of [['fdb', 'show'], ['neigh'], ['link'], ['peers'], ['stats'], ['drops'], ['link', 'del', 'vx0']]) {
    const { exit, err } = await vtepd(...argv);
    assert.equal(exit, 3, argv.join(' '));
    assert.match(err, /no dataplane runs: nothing listens on .*default\.sock/);
  }
});

test('status without a dataplane is an answer, with exit status 3', async () => {
  const { exit, out } = await vtepd('status', '--json');
  assert.equal(exit, 3);
  assert.deepEqual(JSON.parse(out), {
    instance: 'default',
    dataplane: { running: false },
    controller: { running: false },
    networks: [],
  });
});

test('errors are JSON on standard error with --json, wherever it stands', async () => {
  for (const argv of [
    ['--json', 'stats'],
    ['stats', '--json'],
    ['-j', 'stats'],
    ['stats', '-j'],
  ]) {
    const { exit, err } = await vtepd(...argv);
    const { error } = JSON.parse(err);
    assert.deepEqual([exit, error.code, error.exit], [3, 'NOT_RUNNING', 3]);
  }
  const { err } = await vtepd('--json', 'link', 'add', 'vx0', 'id', '2', 'gpe');
  assert.equal(JSON.parse(err).error.code, 'NOT_SERVED');
});

test('the instance is taken from --instance, before or behind the command', async () => {
  for (const argv of [
    ['--instance', 'blue', 'stats'],
    ['stats', '--instance', 'blue'],
    ['stats', '--instance=blue'],
  ]) {
    assert.match((await vtepd(...argv)).err, /blue\.sock/);
  }
});

test('cleanup with nothing there removes nothing and succeeds', async () => {
  assert.deepEqual(await vtepd('cleanup'), { exit: 0, out: 'nothing to remove\n', err: '' });
});

function literal(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
