/** In a run of scripts/nightly.sh: every dataplane has the offloads off that the run is about. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OffloadState } from '../../src/dataplane/protocol.ts';
import { Bed, DEFAULT_MODE } from './lib/bed.ts';
import { eventually } from './lib/exec.ts';
import { join } from './lib/overlay.ts';

const off = process.env.VTEPD_TEST_OFFLOADS_OFF?.split(' ').filter((word) => word !== '');

test(`offloads off: ${off?.join(', ') || 'none'}; underlay ${DEFAULT_MODE}`, {
  skip: off === undefined ? 'this is no run of scripts/nightly.sh' : false,
}, async () => {
  const bed = await Bed.create();
  try {
    const [end] = await join(bed, ['vtepd', 'vtepd'], { underlay: 4 });
    await eventually('the offloads are off', async () => {
      const states = (await end?.vtepd?.json<OffloadState[]>('offloads', 'show')) ?? [];
      return off?.every((name) => states.find(({ offload }) => offload === name)?.active === false) ?? false;
    });
    const [host] = bed.hosts;
    const features = (await host?.ns.exec(['ethtool', '-k', 'eth0'])) ?? '';
    assert.match(features, DEFAULT_MODE === 'wire' ? /^tx-checksumming: off/m : /^tx-checksumming: on/m);
  } finally {
    await bed.destroy();
  }
});
