/** The underlay without a tunnel: what the machine can do at all. */
import type { System } from './system.ts';

export const bare: System = {
  name: 'bare',
  title: 'the underlay itself, no tunnel',
  unavailable: () => Promise.resolve(undefined),
  install: (pair) => Promise.resolve({ address: pair.far.underlay }),
};
