/** The reference's tables row by row, and every value of what has few, on the real endpoint: it does what the model says. */
import { after, before, test } from 'node:test';
import type { Action } from './lib/model-actions.ts';
import { checkOne } from './lib/model-check.ts';
import {
  arpMatrix,
  cutFrames,
  decapsulatedMarks,
  encapsulatedMarks,
  extensionMatrix,
  ndMatrix,
  oddLengths,
  pathErrorMatrix,
  strangeHeaders,
} from './lib/model-corners.ts';
import { ModelRig } from './lib/model-rig.ts';

let rig: ModelRig;
before(async () => {
  rig = await ModelRig.create({ lanes: 1, underlay: 'wire' });
});
after(() => rig?.destroy());

const CORNERS: Readonly<Record<string, (network: string) => Action[]>> = {
  'every inner congestion mark under every outer one': decapsulatedMarks,
  'every TOS on the way out': encapsulatedMarks,
  'every bit of the VXLAN header, every length below it': strangeHeaders,
  'every length of an inner frame up to whole headers': cutFrames,
  'the ARP matrix, with and without the proxy': arpMatrix,
  'the neighbour discovery matrix, with and without the proxy': ndMatrix,
  'padding, a length beyond the frame, a frame beyond the MTU': oddLengths,
};

for (const [what, actions] of Object.entries(CORNERS)) {
  for (const [network, underlay] of [
    ['m1', 'IPv4'],
    ['m4', 'IPv6'],
  ] as const) {
    test(`${what} (${underlay} underlay)`, async () => {
      await checkOne(rig, 0, actions(network));
    });
  }
}

for (const [network, underlay] of [
  ['m7', 'IPv4, df set'],
  ['m8', 'IPv4, df inherit'],
  ['m9', 'IPv6, df inherit'],
] as const) {
  test(`path MTUs, ICMP errors from the underlay and to the host (${underlay})`, async () => {
    await checkOne(rig, 0, pathErrorMatrix(network));
  });

  test(`IPv6 extension headers in what does not fit (${underlay})`, async () => {
    await checkOne(rig, 0, extensionMatrix(network));
  });
}
