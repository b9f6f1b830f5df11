/** From the words of the command line to systems, in the order of the table. */
import type { Options } from '../options.ts';
import type { BuiltInSystem } from '../vocabulary.ts';
import { bare } from './bare.ts';
import { kernel } from './kernel.ts';
import { node } from './node.ts';
import { ovs } from './ovs.ts';
import type { System } from './system.ts';
import { flannelUdp, vtepdUdp } from './udp.ts';
import { DEFAULT_DATAPLANE, vtepd } from './vtepd.ts';

export function chooseSystems(options: Options): readonly System[] {
  const { lanes } = options;
  const builtIn: Readonly<Record<BuiltInSystem, System>> = {
    kernel,
    vtepd: vtepd({ name: 'vtepd', title: 'vtepd', binary: DEFAULT_DATAPLANE, lanes }),
    ovs,
    node,
    bare,
    'flannel-udp': flannelUdp,
    'vtepd-udp': vtepdUdp({
      name: 'vtepd-udp',
      title: "vtepd as a host of flannel's udp backend",
      binary: DEFAULT_DATAPLANE,
      lanes,
    }),
  };
  const compared = options.compare.map(({ name, path }) =>
    vtepd({ name, title: `vtepd, ${path}`, binary: path, lanes }),
  );
  const first = options.systems.filter((name) => name === 'kernel' || name === 'vtepd');
  const rest = options.systems.filter((name) => name !== 'kernel' && name !== 'vtepd');
  return [...first.map((name) => builtIn[name]), ...compared, ...rest.map((name) => builtIn[name])];
}
