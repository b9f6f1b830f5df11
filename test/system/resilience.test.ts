/**
 * What happens when a process dies. The forwarder outlives the controller: not one packet is lost. The forwarder itself comes
 * back by itself with everything it held; the gap is measured and printed.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type BedHost } from './lib/bed.ts';
import { assertPing, assertTcp } from './lib/checks.ts';
import { eventually } from './lib/exec.ts';
import { DEVICE, type FileEnd, joinByFile, runByFile } from './lib/hosts-file.ts';
import { startPing } from './lib/traffic.ts';
import { DATAPLANE, type VtepdHost } from './lib/vtepd.ts';

describe('processes that die', () => {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let endA: FileEnd;
  let onA: VtepdHost;

  before(async () => {
    bed = await Bed.create();
    [a, b] = [bed.host('a'), bed.host('b')];
    const [first] = await joinByFile(bed, [a, b]);
    endA = first ?? assert.fail('host a did not join');
    onA = endA.vtepd;
  });
  after(() => bed?.destroy());

  /** Everything that must be the same afterwards. */
  async function everything(): Promise<unknown> {
    const addresses = JSON.parse(await a.ns.exec(['ip', '-j', 'addr', 'show', 'dev', DEVICE])) as {
      addr_info: { local: string; prefixlen: number; family: string }[];
      mtu: number;
      address: string;
    }[];
    const [link] = addresses;
    return {
      fdb: await onA.fdb(DEVICE),
      neighbours: await onA.neighbours(DEVICE),
      mac: link?.address,
      mtu: link?.mtu,
      addresses: link?.addr_info
        .filter((each) => each.family === 'inet')
        .map((each) => `${each.local}/${each.prefixlen}`),
      routes: await a.ns.exec(['ip', 'route', 'show', 'dev', DEVICE]),
    };
  }

  test('controller killed with SIGKILL and started again under a 100/s ping: no packet is lost', async (t) => {
    const before = await everything();
    const pid = await onA.dataplanePid();
    const pinging = startPing(a.container, b.address);
    await sleep(500);
    endA.daemon.kill('SIGKILL');
    await endA.daemon.exited;
    await sleep(1_000);
    endA = await runByFile(bed, a);
    await sleep(500);
    const result = await pinging.stop();
    t.diagnostic(`${result.sent} sent at ${result.perSecond}/s, ${result.received} received`);
    assert.ok(result.sent >= 100, `only ${result.sent} sent: the restart was hardly looked at`);
    assert.equal(result.received, result.sent, result.text);
    assert.equal(await onA.dataplanePid(), pid, 'the dataplane was adopted, not started again');
    assert.deepEqual(await everything(), before);
  });

  test('the same with SIGTERM', async () => {
    const pinging = startPing(a.container, b.address);
    await sleep(200);
    assert.equal(await endA.daemon.stop('SIGTERM'), 0, endA.daemon.output);
    await sleep(300);
    endA = await runByFile(bed, a);
    const result = await pinging.stop();
    assert.equal(result.received, result.sent, result.text);
  });

  test('dataplane killed with SIGKILL: back by itself with tables, addresses and routes intact', async (t) => {
    await onA.cli('fdb', 'add', '02:00:00:00:00:77', 'dst', '10.245.1.77', 'static', 'dev', DEVICE);
    await onA.cli('neigh', 'add', '10.246.77.0/24', 'lladdr', '02:00:00:00:00:77', 'dev', DEVICE);
    const before = await everything();
    const pid = await onA.dataplanePid();
    const pinging = startPing(a.container, b.address);
    await sleep(500);
    process.kill(pid, 'SIGKILL');
    await eventually('another dataplane runs', async () => (await onA.dataplanePid()) !== pid);
    await eventually('the controller says that it is up', async () => {
      const { controller } = await onA.status();
      return controller.running && controller.ready && controller.plane.state === 'up' && controller.plane.deaths > 0;
    });
    const soFar = pinging.received;
    await eventually('packets come back again', async () => pinging.received > soFar + 20, { timeoutMs: 10_000 });
    const result = await pinging.stop();
    t.diagnostic(`gap: ${result.longestGapMs} ms, ${result.sent - result.received} of ${result.sent} packets lost`);
    assert.ok(result.longestGapMs < 3_000, `traffic stood still for ${result.longestGapMs} ms`);
    assert.deepEqual(await everything(), before);
    await endA.daemon.waitFor(/died|ended|killed/i);
    const { controller } = await onA.status();
    assert.ok(controller.running && controller.plane.lastGapMs !== null, 'the gap is told');
    t.diagnostic(`gap as the controller tells it: ${controller.running ? controller.plane.lastGapMs : ''} ms`);
    await assertTcp(a, b, 1_000_000);
  });

  test('a second dataplane on the same socket is refused and says who holds it', async () => {
    const second = await a.ns.tryExec([DATAPLANE, '--socket', onA.socket], { timeoutMs: 10_000 });
    assert.notEqual(second.status, 0);
    assert.match(second.stderr + second.stdout, new RegExp(String(await onA.dataplanePid())));
    await assertPing(a, b);
  });

  test('a second attacher of the TAP is refused with an error that names the device', async () => {
    const other = { env: { VTEPD_RUNTIME_DIR: `${onA.runtimeDir}2`, VTEPD_STATE_DIR: `${onA.stateDir}2` } };
    const words = ['link', 'add', DEVICE, 'id', '99', 'local', a.ipv4, 'dstport', '4799', 'dev', 'eth0'];
    const second = await a.ns.tryExec([onA.command, ...words], other);
    assert.notEqual(second.status, 0);
    assert.match(second.stderr, new RegExp(DEVICE.replace('.', '\\.')));
    await a.ns.tryExec([onA.command, 'cleanup'], other);
    await assertPing(a, b);
  });

  test('a second controller of the same instance is refused', async () => {
    const second = onA.run('--file', '/nonexistent.yaml', '--iface', 'eth0');
    assert.notEqual(await second.exited, 0);
    assert.match(second.output, new RegExp(String(endA.daemon.pid)));
    await assertPing(a, b);
  });
});
