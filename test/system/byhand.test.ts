/**
 * By hand, as with the kernel's device: five commands a host, bridges and containers on top, no store, no settings file, no
 * controller.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost } from './lib/bed.ts';
import { assertNoChecksumErrors, assertPing } from './lib/checks.ts';
import { eventually } from './lib/exec.ts';
import { type HostsBed, hostsBed } from './lib/fixtures.ts';
import { addPlainDevice } from './lib/kernel-vxlan.ts';
import { type End, join } from './lib/overlay.ts';
import { withoutKernelVxlan } from './lib/requirements.ts';
import { ping, tcpBothWays } from './lib/traffic.ts';
import type { VtepdHost } from './lib/vtepd.ts';

const noKernel = await withoutKernelVxlan();

interface LinkRow {
  readonly name: string;
  readonly vni: number;
  readonly mtu: number;
  readonly mac: string;
  readonly up: boolean;
}

async function devices(host: BedHost): Promise<string[]> {
  const links = JSON.parse(await host.ns.exec(['ip', '-j', 'link'])) as { ifname: string }[];
  return links.map((link) => link.ifname);
}

describe('five commands a host join two hosts, routed', () => {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let vtepd: VtepdHost;

  before(async () => {
    bed = await Bed.create();
    const ends: End[] = await join(bed, ['vtepd', 'vtepd'], { underlay: 4, name: 'vx2', vni: 2, port: 4789 });
    [a, b] = [bed.host('a'), bed.host('b')];
    vtepd = ends[0]?.vtepd ?? assert.fail('host a has no vtepd');
  });
  after(() => bed?.destroy());

  test('containers reach each other', async () => {
    await assertPing(a, b);
    await assertPing(b, a);
  });

  test('what was added is shown, as the kernel tools show it', async () => {
    const [link] = await vtepd.json<LinkRow[]>('link', 'show', 'vx2');
    assert.deepEqual(
      [link?.name, link?.vni, link?.mtu, link?.mac, link?.up],
      ['vx2', 2, 1450, '02:00:00:00:00:0a', true],
    );
    assert.match(
      await vtepd.cli('fdb', 'show', 'dev', 'vx2'),
      /^02:00:00:00:00:0b dst 10\.245\.1\.4 self static source hand/m,
    );
    assert.match(await vtepd.cli('neigh', 'show', 'dev', 'vx2'), /10\.246\.13\.0\/24.*lladdr 02:00:00:00:00:0b/);
  });

  test('what is there already is refused, what is not there cannot be removed', async () => {
    const again = await vtepd.tryCli('fdb', 'add', '02:00:00:00:00:0b', 'dst', '10.245.1.4', 'dev', 'vx2');
    assert.notEqual(again.status, 0);
    assert.match(again.stderr, /02:00:00:00:00:0b/);
    const absent = await vtepd.tryCli('fdb', 'del', '02:00:00:00:00:99', 'dev', 'vx2');
    assert.notEqual(absent.status, 0);
    assert.match(absent.stderr, /02:00:00:00:00:99/);
  });

  test('an entry replaced sends to the new VTEP, and back', async () => {
    await vtepd.cli('fdb', 'replace', '02:00:00:00:00:0b', 'dst', '10.245.1.99', 'dev', 'vx2');
    const lost = await ping(a.container, b.address, { count: 2, interval: 0.2 });
    assert.equal(lost.received, 0, 'nobody is at 10.245.1.99');
    await vtepd.cli('fdb', 'replace', '02:00:00:00:00:0b', 'dst', '10.245.1.4', 'dev', 'vx2');
    await assertPing(a, b);
  });

  test('a word of ip that is not served is refused by name', async () => {
    const refused = await vtepd.tryCli('link', 'add', 'vx3', 'id', '3', 'gpe', 'dev', 'eth0');
    assert.notEqual(refused.status, 0);
    assert.match(refused.stderr, /gpe/);
    assert.ok(!(await devices(a)).includes('vx3'));
  });

  test('a second network shares port and dataplane; link del takes it away and leaves the first', async () => {
    await vtepd.cli('link', 'add', 'vx3', 'id', '3', 'local', a.ipv4, 'dstport', '4789', 'dev', 'eth0');
    assert.ok((await devices(a)).includes('vx3'));
    await vtepd.cli('link', 'del', 'vx3');
    assert.ok(!(await devices(a)).includes('vx3'));
    await assertPing(a, b);
  });

  test('the last link del ends the dataplane and leaves nothing', async () => {
    const pid = await vtepd.dataplanePid();
    await vtepd.cli('link', 'del', 'vx2');
    await eventually('the dataplane ends', async () => !(await a.ns.pids()).includes(pid));
    assert.ok(!(await devices(a)).includes('vx2'));
  });
});

describe('link add --foreground', () => {
  test('stays until SIGTERM, then removes what it made', async () => {
    const { bed, a, onA: vtepd } = await hostsBed();
    try {
      const words = ['link', 'add', 'vx2', 'id', '2', 'local', a.ipv4, 'dev', 'eth0', '--foreground'];
      const stays = vtepd.background(...words);
      await stays.waitFor(/vx2/);
      assert.ok((await devices(a)).includes('vx2'));
      assert.equal(await stays.stop('SIGTERM'), 0, stays.output);
      assert.ok(!(await devices(a)).includes('vx2'));
      await eventually('no process is left', async () => (await a.ns.pids()).length === 0);
    } finally {
      await bed.destroy();
    }
  });
});

describe('instances', () => {
  test('one a namespace, side by side in one runtime directory', async () => {
    const { bed, a, b, onA, onB } = await hostsBed();
    try {
      const dirs = { VTEPD_RUNTIME_DIR: onA.runtimeDir, VTEPD_STATE_DIR: onA.stateDir };
      const vtepd = (host: BedHost, instance: string, ...words: string[]): Promise<string> =>
        host.ns.exec([onB.command, ...words, '--instance', instance], { env: dirs });
      const add = (host: BedHost, other: BedHost, instance: string): Promise<string> =>
        vtepd(host, instance, 'link', 'add', 'vx2', 'id', '2', 'local', host.ipv4, 'remote', other.ipv4, 'dev', 'eth0');
      await add(a, b, 'left');
      await add(b, a, 'right');
      await a.ns.ip('addr add 10.9.0.1/24 dev vx2');
      await b.ns.ip('addr add 10.9.0.2/24 dev vx2');
      const result = await ping(a.ns, '10.9.0.2');
      assert.equal(result.received, result.sent, result.text);
      // `cleanup` takes away one instance and leaves the other.
      await vtepd(a, 'left', 'cleanup');
      assert.ok(!(await devices(a)).includes('vx2'));
      assert.ok((await devices(b)).includes('vx2'));
    } finally {
      await bed.destroy();
    }
  });
});

for (const peer of ['vtepd', 'kernel'] as const) {
  describe(`two commands a host join two bridges, vtepd and ${peer}`, {
    skip: peer === 'kernel' ? noKernel : false,
  }, () => {
    let { bed, a, b, onA: vtepd, onB } = {} as HostsBed;

    before(async () => {
      ({ bed, a, b, onA: vtepd, onB } = await hostsBed());
      const words = (host: BedHost, other: BedHost): string[] => [
        'link',
        'add',
        'vx9',
        'id',
        '9',
        'local',
        host.ipv4,
        'remote',
        other.ipv4,
        'dstport',
        '4789',
        'dev',
        'eth0',
      ];
      await vtepd.cli(...words(a, b));
      if (peer === 'vtepd') await onB.cli(...words(b, a));
      else await addPlainDevice(b, { name: 'vx9', vni: 9, port: 4789, local: b.ipv4, remote: a.ipv4 });
      for (const [host, number] of [
        [a, 1],
        [b, 2],
      ] as const) {
        await host.ns.ip('link set vx9 master br0');
        await host.container.ip(
          'link set eth0 mtu 1450',
          `addr add 10.9.0.${number}/24 dev eth0`,
          `addr add fd00:9::${number}/64 dev eth0`,
        );
      }
    });
    after(() => bed?.destroy());

    test('ARP and ND cross, and what was learned is shown as dynamic', async () => {
      for (const address of ['10.9.0.2', 'fd00:9::2']) {
        const result = await ping(a.container, address);
        assert.equal(result.received, result.sent, result.text);
      }
      const [link] = JSON.parse(await b.container.exec(['ip', '-j', 'link', 'show', 'dev', 'eth0'])) as {
        address: string;
      }[];
      const learned = (await vtepd.fdb('vx9')).find((entry) => entry.mac === link?.address);
      assert.equal(learned?.state, 'dynamic');
      assert.deepEqual(
        learned?.destinations.map((destination) => destination.ip),
        [b.ipv4],
      );
    });

    test('TCP over IPv4 and IPv6', async () => {
      for (const address of ['10.9.0.2', 'fd00:9::2']) {
        const { caller, server } = await tcpBothWays(a.container, b.container, address, 2_000_000);
        assert.deepEqual([server.received, caller.received], [caller.sent, server.sent]);
      }
      await assertNoChecksumErrors(a, b);
    });
  });
}

describe('link add ... netns NAME', () => {
  test('puts the TAP into the container, the sockets stay on the host', async () => {
    const { bed, a, b, onA, onB } = await hostsBed();
    try {
      for (const [vtepd, other, last] of [
        [onA, b, 1],
        [onB, a, 2],
      ] as const) {
        const { host } = vtepd;
        const words = `link add vx2 id 2 local ${host.ipv4} remote ${other.ipv4} dev eth0 netns ${host.container.name}`;
        await vtepd.cli(...words.split(' '));
        assert.ok(!(await devices(host)).includes('vx2'));
        await host.container.ip(`addr add 10.9.0.${last}/24 dev vx2`);
      }
      const result = await ping(a.container, '10.9.0.2');
      assert.equal(result.received, result.sent, result.text);
    } finally {
      await bed.destroy();
    }
  });
});

describe('cleanup', () => {
  test('removes every device, process and file, and may be run again', async () => {
    const { bed, a, onA: vtepd } = await hostsBed();
    try {
      for (const vni of ['2', '3'])
        await vtepd.cli('link', 'add', `vx${vni}`, 'id', vni, 'local', a.ipv4, 'dev', 'eth0');
      await vtepd.cli('cleanup');
      assert.deepEqual(
        (await devices(a)).filter((name) => name.startsWith('vx')),
        [],
      );
      await eventually('no process is left', async () => (await a.ns.pids()).length === 0);
      await vtepd.cli('cleanup');
    } finally {
      await bed.destroy();
    }
  });
});
