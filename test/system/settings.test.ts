/** What the settings file of `vtepd run` says in the words of `vtepd link add`: networks by hand, and options of a datastore's. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MissStatus } from '../../src/daemon/status-types.ts';
import { Bed, type BedHost } from './lib/bed.ts';
import { assertPing } from './lib/checks.ts';
import { type Background, eventually } from './lib/exec.ts';
import { DEVICE, type FileEnd, hostsFilePath, joinByFile } from './lib/hosts-file.ts';
import { macOf } from './lib/overlay.ts';
import { ping } from './lib/traffic.ts';
import { VtepdHost } from './lib/vtepd.ts';

interface LinkRow {
  readonly name: string;
  readonly owner: string;
  readonly ifindex: number;
  readonly ttl: number | string;
  readonly tos: number | string;
  readonly learning: boolean;
}

describe('links and options of the settings file', () => {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let vtepd: VtepdHost;
  let daemon: Background;

  const settings = (text: string): Promise<void> => writeFile(join(bed.dir, 'vtepd.yaml'), text);
  const flags = (): string[] => ['--config', join(bed.dir, 'vtepd.yaml')];

  const rows = async (): Promise<Map<string, LinkRow>> =>
    new Map((await vtepd.json<LinkRow[]>('link', 'show')).map((row) => [row.name, row]));

  async function restart(): Promise<void> {
    await daemon.stop();
    daemon = vtepd.run(...flags());
    await vtepd.isRunning(daemon);
  }

  const file = (links: string, options: string): string =>
    `file: ${hostsFilePath(bed)}\niface: eth0\nip-masq: false\niptables-forward-rules: false\n${links}\noptions: ${options}\n`;

  before(async () => {
    bed = await Bed.create();
    [a, b] = [bed.host('a'), bed.host('b')];
    const [first]: FileEnd[] = await joinByFile(bed, [a, b]);
    vtepd = first?.vtepd ?? assert.fail('host a did not join');
    daemon = first?.daemon ?? assert.fail('host a did not join');
    const far = await VtepdHost.on(b);
    await far.cli(...`link add vx0 id 7 local ${b.ipv4} remote ${a.ipv4} address ${macOf(b)}`.split(' '));
    await b.ns.ip('addr add 10.9.0.2/24 dev vx0');
  });
  after(() => bed?.destroy());

  const link = (name: string, id: number, more: string): string =>
    `  - { name: ${name}, id: ${id}, local: ${a.ipv4}, remote: ${b.ipv4}, dev: eth0, address: "${macOf(a)}"${more} }\n`;

  test('config check reads them and says what is wrong, before anything is made', async () => {
    await settings(file(`links:\n${link('vx0', 7, ', ttl: 0')}`, '{ learning: true }'));
    const check = await vtepd.tryCli('config', 'check', ...flags(), '--json');
    const { problems } = JSON.parse(check.stdout) as { problems: string[] };
    assert.equal(check.status, 1);
    assert.match(
      problems.join('\n'),
      /links\[0\]: ttl 0: must be .*\n.*options: learning is no option .*Backend\.Learning/,
    );
    const refused = await vtepd.tryCli('run', ...flags());
    assert.deepEqual([refused.status, /links\[0\]: ttl 0/.test(refused.stderr)], [2, true], refused.stderr);
    await settings(file('', '{ flowlabel: 7 }'));
    const none = await vtepd.tryCli('config', 'check', ...flags());
    assert.match(none.stdout, /problem: options flowlabel: .* over IPv6, and the network has none/);
    assert.deepEqual([...(await rows()).keys()], [DEVICE]);
  });

  test('a link is made, options hold, and the other networks go on', async () => {
    await settings(
      file(
        `links:\n${link('vx0', 7, ', ttl: 9, tos: inherit')}  - { name: vx2, id: 9, dev: later0 }\n${link('vx1', 8, '')}`,
        '{ ttl: 33, tos: 0x20 }',
      ),
    );
    const checked = await vtepd.cli('config', 'check', ...flags());
    assert.match(checked, /^links .*name vx0 id 7 .*, name vx2 id 9 dev later0, name vx1 id 8 /m);
    assert.match(checked, /^ok$/m);
    await restart();
    await eventually('the links are there', async () => (await rows()).has('vx1'));
    const held = await rows();
    const [vx0, fed] = [held.get('vx0'), held.get(DEVICE)];
    assert.deepEqual([vx0?.owner, vx0?.ttl, vx0?.tos, fed?.ttl, fed?.tos], ['settings', 9, 'inherit', 33, 0x20]);
    await a.ns.ip('addr add 10.9.0.1/24 dev vx0');
    assert.ok((await ping(a.ns, '10.9.0.2')).received > 0);
    await assertPing(a, b);
  });

  test('a link that cannot be made is told of, and made when it can', async () => {
    const warnings = async (): Promise<readonly string[]> => {
      const { controller } = await vtepd.status();
      return controller.running ? controller.warnings : [];
    };
    assert.match((await warnings()).join(), /link vx2: dev later0: no such interface/);
    await a.ns.ip('link add later0 type bridge', 'link set later0 up');
    await eventually('the link is there', async () => (await rows()).has('vx2'), { timeoutMs: 30_000 });
    assert.deepEqual(await warnings(), []);
  });

  test('what belongs to the settings is not changed or deleted by hand', async () => {
    for (const words of ['link del vx0', 'link set vx0 ttl 5']) {
      const { status, stderr } = await vtepd.tryCli(...words.split(' '));
      assert.deepEqual([status, /`links` of its settings file/.test(stderr)], [1, true], stderr);
    }
  });

  test('misses are remembered, with their count', async () => {
    // The proxy of the datastore's network has no answer for an address that no lease covers.
    await a.ns.ip(`route add 10.246.99.0/24 dev ${DEVICE}`);
    await ping(a.ns, '10.246.99.9', { count: 1 });
    const found = await eventually('the miss is there', async () =>
      (await vtepd.json<MissStatus[]>('misses')).find(({ key }) => key === '10.246.99.9'),
    );
    assert.deepEqual([found.network, found.layer, found.count > 0], [DEVICE, 'l3', true]);
    assert.match(await vtepd.cli('misses', 'dev', DEVICE), /10\.246\.99\.9/);
    assert.deepEqual(await vtepd.json('misses', 'dev', 'vx0'), []);
  });

  test('they are back after the death of the dataplane', async () => {
    const before = (await rows()).get('vx0')?.ifindex;
    process.kill(await vtepd.dataplanePid(), 'SIGKILL');
    await eventually('the link is back', async () => (await rows().catch(() => new Map())).has('vx0'));
    assert.equal((await rows()).get('vx0')?.ifindex, before);
    assert.ok((await eventually('it carries', async () => (await ping(a.ns, '10.9.0.2')).received)) > 0);
  });

  test('a changed file counts at the next start: what can change does so in place, what is gone goes', async () => {
    const before = (await rows()).get('vx0')?.ifindex;
    await settings(file(`links:\n${link('vx0', 7, ', tos: 0x10, learning: false')}`, '{ ttl: 34 }'));
    await restart();
    await eventually('the other link is gone', async () => !(await rows()).has('vx1'));
    const held = await rows();
    const [vx0, fed] = [held.get('vx0'), held.get(DEVICE)];
    assert.deepEqual([vx0?.ifindex, vx0?.ttl, vx0?.tos, vx0?.learning], [before, 'auto', 0x10, false]);
    assert.equal(fed?.ttl, 34);
    assert.ok((await ping(a.ns, '10.9.0.2')).received > 0);
  });
});

test('without a datastore the links are all there is', async () => {
  const bed = await Bed.create();
  try {
    const [a, b] = [bed.host('a'), bed.host('b')];
    const daemons = await Promise.all(
      [a, b].map(async (host, index) => {
        const file = join(bed.dir, `${host.label}.yaml`);
        const remote = host === a ? b.ipv4 : a.ipv4;
        const link = `{ name: vx0, id: 7, local: ${host.ipv4}, remote: ${remote}, dev: eth0, address: "${macOf(host)}" }`;
        await writeFile(file, `datastore: none\nlinks:\n  - ${link}\n`);
        const vtepd = await VtepdHost.on(host);
        const daemon = vtepd.run('--config', file);
        const { datastore, ready } = await vtepd.isRunning(daemon);
        assert.deepEqual([datastore.source, datastore.state, ready], ['none', 'fresh', true]);
        await host.ns.ip(`addr add 10.9.0.${index + 1}/24 dev vx0`);
        return daemon;
      }),
    );
    assert.ok((await ping(a.ns, '10.9.0.2')).received > 0);
    assert.deepEqual(await Promise.all(daemons.map((daemon) => daemon.stop())), [0, 0]);
    // As with a datastore, the dataplane forwards on.
    assert.ok((await ping(a.ns, '10.9.0.2')).received > 0);
  } finally {
    await bed.destroy();
  }
});
