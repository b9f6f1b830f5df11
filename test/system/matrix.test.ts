/** Every dataplane of a run has the offloads off that the run is about: those that scripts/nightly.sh names, else none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OffloadState } from '../../src/dataplane/protocol.ts';
import { Bed, DEFAULT_MODE } from './lib/bed.ts';
import { eventually } from './lib/exec.ts';
import { join } from './lib/overlay.ts';

const off = (process.env.VTEPD_TEST_OFFLOADS_OFF ?? '').split(' ').filter((word) => word !== '');

test(`offloads off: ${off.join(', ') || 'none'}; underlay ${DEFAULT_MODE}`, async () => {
  const bed = await Bed.create();
  try {
    const [end] = await join(bed, ['vtepd', 'vtepd'], { underlay: 4 });
    await eventually('those are off, and no others', async () => {
      const states = (await end?.vtepd?.json<OffloadState[]>('offloads', 'show')) ?? [];
      return states.length > 0 && states.every(({ offload, enabled }) => enabled !== off.includes(offload));
    });
    const [host] = bed.hosts;
    const features = (await host?.ns.exec(['ethtool', '-k', 'eth0'])) ?? '';
    assert.match(features, DEFAULT_MODE === 'wire' ? /^tx-checksumming: off/m : /^tx-checksumming: on/m);
  } finally {
    await bed.destroy();
  }
});
