/** `npm run demo -- FLAGS`. */
import { parseArgs } from 'node:util';

export const HELP = `npm run demo -- [--etcd | --by-hand | --vm | --docker] [--peer kernel] [--keep]

Two hosts without a kernel vxlan device, as network namespaces, each with a bridge and a container of its own:

  (nothing)      joined by vtepd from a file that lists the hosts
  --etcd         joined by a real etcd with flannel's keys
  --by-hand      joined by five commands a host, printed as they run
  --vm           the first host is a virtual machine whose kernel truly has no vxlan module (needs qemu; takes a minute);
                 by etcd, the second host with the kernel's vxlan device
  --docker       by etcd, with a real Docker daemon on each host, started with bridge and MTU from subnet.env
  --peer kernel  the second host has the kernel's vxlan device, as flanneld sets it up
  --keep         leave everything up and say how to enter and how to remove it`;

export interface DemoOptions {
  readonly way: 'file' | 'etcd' | 'hand' | 'vm' | 'docker';
  readonly peer: 'vtepd' | 'kernel';
  readonly keep: boolean;
}

export class OptionError extends Error {}

/** Undefined when only help was asked for. */
export function parseOptions(argv: readonly string[]): DemoOptions | undefined {
  const { values } = parse(argv);
  if (values.help === true) return undefined;
  const ways = (['etcd', 'by-hand', 'vm', 'docker'] as const).filter((name) => values[name] === true);
  if (ways.length > 1) throw new OptionError(`--${ways.join(' and --')} exclude each other`);
  const peer = values.peer ?? 'vtepd';
  if (peer !== 'vtepd' && peer !== 'kernel') throw new OptionError(`--peer ${peer}: vtepd or kernel`);
  const [way] = ways;
  if (way === 'docker' && peer === 'kernel') throw new OptionError('--docker and --peer kernel exclude each other');
  return {
    way: way === undefined ? 'file' : way === 'by-hand' ? 'hand' : way,
    peer: way === 'vm' ? 'kernel' : peer,
    keep: values.keep === true,
  };
}

function parse(argv: readonly string[]) {
  const flag = { type: 'boolean' } as const;
  const options = {
    etcd: flag,
    'by-hand': flag,
    vm: flag,
    docker: flag,
    keep: flag,
    peer: { type: 'string' },
    help: { ...flag, short: 'h' },
  } as const;
  try {
    return parseArgs({ args: [...argv], options });
  } catch (error) {
    throw new OptionError(error instanceof Error ? error.message : String(error));
  }
}
