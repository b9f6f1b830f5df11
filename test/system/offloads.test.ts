/**
 * With any offload off, and with all of them off, the job is done all the same; and lanes come and go under traffic without
 * putting a flow's datagrams out of order.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { OffloadState } from '../../src/dataplane/protocol.ts';
import { Bed, type BedHost, type UnderlayMode } from './lib/bed.ts';
import { assertNoChecksumErrors, assertNoDrops, assertPing, assertTcp, assertUdp } from './lib/checks.ts';
import { eventually } from './lib/exec.ts';
import { type End, type EndKind, join } from './lib/overlay.ts';
import { withoutKernelVxlan } from './lib/requirements.ts';
import { tcpBothWays } from './lib/traffic.ts';

const OFFLOADS = ['tap_tso', 'tap_uso', 'udp_segment', 'udp_gro'] as const;
const TCP_BYTES = 4_000_000;
const SEQUENCE = fileURLToPath(new URL('programs/sequence.mjs', import.meta.url));
const noKernel = await withoutKernelVxlan();

for (const peer of ['vtepd', 'kernel'] as const satisfies EndKind[]) {
  for (const mode of ['veth', 'wire'] as const satisfies UnderlayMode[]) {
    const skip = peer === 'kernel' ? noKernel : false;
    describe(`vtepd and ${peer}, ${mode}`, { skip }, () => matrix(peer, mode));
  }
}

function matrix(peer: EndKind, mode: UnderlayMode): void {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let ends: End[];

  before(async () => {
    bed = await Bed.create({ mode });
    ends = await join(bed, ['vtepd', peer], { underlay: 4 });
    [a, b] = [bed.host('a'), bed.host('b')];
  });
  after(() => bed?.destroy());

  for (const off of [...OFFLOADS.map((offload) => [offload]), OFFLOADS]) {
    test(`without ${off.length === 1 ? off[0] : 'any offload'}: ping, TCP and UDP both ways, no checksum wrong`, async (t) => {
      t.after(() => setAll(ends, off, 'on'));
      await setAll(ends, off, 'off');
      await assertPing(a, b);
      await assertTcp(a, b, TCP_BYTES);
      await assertTcp(b, a, TCP_BYTES);
      await assertUdp(a, b, 1450);
      await assertNoChecksumErrors(a, b);
      for (const { vtepd } of ends) if (vtepd !== undefined) await assertNoDrops(vtepd);
    });
  }
}

/** Switches offloads on every end that is vtepd and checks that each says so. */
async function setAll(ends: readonly End[], offloads: readonly string[], value: 'on' | 'off'): Promise<void> {
  for (const { vtepd } of ends) {
    for (const offload of vtepd === undefined ? [] : offloads) {
      const states = await vtepd?.json<OffloadState[]>('offloads', 'set', offload, value);
      const state = states?.find((each) => each.offload === offload);
      // Where the kernel refused the offload at start, off is what it already is and on is refused.
      assert.equal(state?.active, value === 'on', JSON.stringify(state));
    }
  }
}

describe('lanes', () => {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let ends: End[];

  before(async () => {
    bed = await Bed.create({ mode: 'wire' });
    ends = await join(bed, ['vtepd', 'vtepd'], { underlay: 4 });
    [a, b] = [bed.host('a'), bed.host('b')];
    // Once every neighbour on the way is known, nothing waits for an answer in a short queue.
    await assertPing(a, b);
  });
  after(() => bed?.destroy());

  async function setLanes(count: number): Promise<void> {
    for (const { vtepd } of ends) {
      assert.deepEqual(await vtepd?.json('lanes', 'set', String(count)), { lanes: count, spin_us: 50 });
      const [network] = (await vtepd?.json<{ queues: number }[]>('link', 'show')) ?? [];
      // Sixteen for each lane where the kernel can steer flows to them.
      assert.ok([count, 16 * count].includes(network?.queues ?? 0), `${network?.queues} queues of ${count} lanes`);
    }
  }

  for (const count of [1, 2, 4]) {
    test(`${count}: 64 flows of 200 datagrams arrive in order`, async () => {
      await setLanes(count);
      const server = b.container.background([process.execPath, SEQUENCE, 'serve', b.address, '7003']);
      await server.waitFor(/listening\n/);
      await a.container.exec([process.execPath, SEQUENCE, 'call', b.address, '7003', '64', '200'], {
        timeoutMs: 60_000,
      });
      await server.stop();
      const { flows, received, reordered } = JSON.parse(server.output.replace('listening\n', ''));
      assert.deepEqual({ flows, reordered }, { flows: 64, reordered: 0 });
      // The receiving program's socket overflows when the machine leaves it no time.
      assert.ok(received > 12_800 * 0.8, `${received} of 12800 arrived`);
      if (count > 1) {
        const { lanes } = (await ends[1]?.vtepd?.stats()) ?? { lanes: [] };
        const used = lanes.filter((lane) => lane.rx.packets > 0).length;
        assert.ok(used > 1, `flows spread over lanes: ${JSON.stringify(lanes.map((lane) => lane.rx.packets))}`);
      }
    });
  }

  test('come and go under a TCP transfer, which ends whole', async () => {
    const bytes = 64_000_000;
    const transfer = tcpBothWays(a.container, b.container, b.address, bytes);
    for (const count of [2, 4, 1, 3, 1]) await setLanes(count);
    const { caller, server } = await transfer;
    assert.deepEqual(server.received, caller.sent);
    assert.deepEqual(caller.received, server.sent);
    await assertNoChecksumErrors(a, b);
  });

  test('in a dialogue a lane looks for the answer before it sleeps, unless it is told not to', async () => {
    const spun = async (): Promise<number> => {
      const { lanes } = (await ends[0]?.vtepd?.stats()) ?? { lanes: [] };
      return lanes.reduce((sum, lane) => sum + lane.spin_us, 0);
    };
    const setSpin = async (microseconds: number): Promise<void> => {
      for (const { vtepd } of ends) {
        assert.deepEqual(await vtepd?.json('lanes', 'set', 'spin', String(microseconds)), {
          lanes: 1,
          spin_us: microseconds,
        });
      }
    };
    const talk = (): Promise<unknown> => a.container.exec(['ping', '-q', '-f', '-c', '500', b.address]);
    // Long enough for a machine that has much else to do.
    await setSpin(1_000);
    const before = await spun();
    await eventually('it has looked', () => talk().then(async () => (await spun()) > before), { timeoutMs: 60_000 });
    await setSpin(0);
    const told = await spun();
    await talk();
    assert.equal(await spun(), told);
    await setSpin(50);
  });

  test('a number that makes no sense is refused, and so is an unknown offload', async () => {
    const vtepd = ends[0]?.vtepd;
    assert.match((await vtepd?.tryCli('lanes', 'set', '0'))?.stderr ?? '', /1 to 16/);
    assert.match((await vtepd?.tryCli('lanes', 'set', '17'))?.stderr ?? '', /1 to 16/);
    assert.match((await vtepd?.tryCli('lanes', 'set', 'spin', '1001'))?.stderr ?? '', /0 to 1000/);
    assert.match(
      (await vtepd?.tryCli('offloads', 'set', 'rocket', 'on'))?.stderr ?? '',
      /no offload 'rocket'; there are tap_tso/,
    );
  });
});
