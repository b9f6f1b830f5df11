/**
 * The rig itself, with kernel devices on both sides: what these tests demand of vtepd, the kernel gives. A failure here says
 * that the machine, not vtepd, is at fault.
 */
import { test } from 'node:test';
import { Bed } from './lib/bed.ts';
import { assertNoChecksumErrors, assertPing, assertTcp, assertUdp } from './lib/checks.ts';
import { join } from './lib/overlay.ts';
import { withoutKernelVxlan } from './lib/requirements.ts';

const skip = await withoutKernelVxlan();

for (const mode of ['veth', 'wire'] as const) {
  test(`two kernel devices carry ping, TCP and UDP without a checksum error (${mode})`, { skip }, async () => {
    const bed = await Bed.create({ mode });
    try {
      await join(bed, ['kernel', 'kernel'], { underlay: 4 });
      const [a, b] = [bed.host('a'), bed.host('b')];
      await assertPing(a, b);
      await assertTcp(a, b, 8_000_000);
      await assertUdp(a, b, 1450);
      await assertNoChecksumErrors(a, b);
    } finally {
      await bed.destroy();
    }
  });
}
