/** The kernel's own vxlan device: what everything is measured against. */
import { ip, run } from '../bed/exec.ts';
import { PREFIX } from '../bed/leftovers.ts';
import { OVERLAY_DEVICE, UNDERLAY_DEVICE } from '../bed/pair.ts';
import type { System } from './system.ts';

export const kernel: System = {
  name: 'kernel',
  title: "the kernel's vxlan device",
  async unavailable() {
    const probe = `${PREFIX}probe`;
    await run('ip', ['netns', 'add', probe]);
    try {
      await ip(probe, 'link add vx0 type vxlan id 1 dstport 4789');
      return undefined;
    } catch (error) {
      return `this kernel has no vxlan: ${error instanceof Error ? error.message : String(error)}`;
    } finally {
      await run('ip', ['netns', 'del', probe]);
    }
  },
  async install(pair) {
    for (const end of pair.ends) {
      const where = `id 2 local ${end.underlay} remote ${pair.other(end).underlay} dstport 4789 dev ${UNDERLAY_DEVICE}`;
      await ip(end.netns, `link add ${OVERLAY_DEVICE} address ${end.overlayMac} type vxlan ${where}`);
      await pair.configureOverlay(end);
    }
    return { address: pair.far.overlay };
  },
};
