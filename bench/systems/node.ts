/** The program that one would write in an afternoon: `bench/baselines/node-endpoint.ts`. */
import { join } from 'node:path';
import { Child } from '../bed/child.ts';
import { ip } from '../bed/exec.ts';
import { BENCH_DIR } from '../bed/load-tool.ts';
import { OVERLAY_DEVICE } from '../bed/pair.ts';
import type { System } from './system.ts';

const PROGRAM = join(BENCH_DIR, 'baselines/node-endpoint.ts');

export const node: System = {
  name: 'node',
  title: 'a naive Node program, one frame a system call',
  unavailable: () => Promise.resolve(undefined),
  async install(pair) {
    for (const end of pair.ends) {
      await ip(
        end.netns,
        `tuntap add ${OVERLAY_DEVICE} mode tap`,
        `link set ${OVERLAY_DEVICE} address ${end.overlayMac}`,
      );
      const child = Child.start(`node (${end.side})`, {
        netns: end.netns,
        tap: OVERLAY_DEVICE,
        words: [process.execPath, '--import', 'tsx', PROGRAM, end.underlay, pair.other(end).underlay],
      });
      end.children.push(child);
      await pair.configureOverlay(end);
    }
    return { address: pair.far.overlay };
  },
};
