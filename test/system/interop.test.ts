/**
 * vtepd with vtepd, and vtepd with the kernel's device, cannot be told apart by what they carry: over both families, with
 * superframes and open checksums crossing the underlay as they are (`veth`) and with everything cut and summed (`wire`).
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost, type UnderlayMode } from './lib/bed.ts';
import { assertNoChecksumErrors, assertNoDrops, assertPing, assertTcp, assertUdp } from './lib/checks.ts';
import { type End, type EndKind, join } from './lib/overlay.ts';
import { withoutKernelVxlan } from './lib/requirements.ts';
import { ping } from './lib/traffic.ts';

const noKernel = await withoutKernelVxlan();
const TCP_BYTES = 8_000_000;

for (const peer of ['vtepd', 'kernel'] as const satisfies EndKind[]) {
  for (const underlay of [4, 6] as const) {
    for (const mode of ['veth', 'wire'] as const satisfies UnderlayMode[]) {
      const skip = peer === 'kernel' ? noKernel : false;
      describe(`vtepd and ${peer}, IPv${underlay} underlay, ${mode}`, { skip }, () => pair(peer, underlay, mode));
    }
  }
}

function pair(peer: EndKind, underlay: 4 | 6, mode: UnderlayMode): void {
  const mtu = underlay === 4 ? 1450 : 1430;
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let ends: End[];

  before(async () => {
    bed = await Bed.create({ mode });
    ends = await join(bed, ['vtepd', peer], { underlay });
    [a, b] = [bed.host('a'), bed.host('b')];
  });
  after(() => bed?.destroy());

  test(`the device takes an MTU of ${mtu} from the underlay's 1500`, async () => {
    const [link] = JSON.parse(await a.ns.exec(['ip', '-j', 'link', 'show', 'dev', 'flannel.1'])) as { mtu: number }[];
    assert.equal(link?.mtu, mtu);
  });

  test('ping both ways, and with the largest packet that must not be cut', async () => {
    await assertPing(a, b);
    await assertPing(b, a);
    const largest = await ping(a.container, b.address, { size: mtu - 28, dontFragment: true });
    assert.equal(largest.received, largest.sent, largest.text);
  });

  test(`${TCP_BYTES} bytes over TCP each way, called from either side`, async () => {
    await assertTcp(a, b, TCP_BYTES);
    await assertTcp(b, a, TCP_BYTES);
  });

  test('UDP up to the full MTU, and beyond it in fragments', async () => {
    await assertUdp(a, b, mtu);
    await assertUdp(b, a, mtu);
  });

  test('no checksum was ever wrong and nothing was dropped on the way', async () => {
    await assertNoChecksumErrors(a, b);
    for (const { vtepd } of ends) if (vtepd !== undefined) await assertNoDrops(vtepd);
  });
}
