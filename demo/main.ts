/** `npm run demo`: two hosts joined before your eyes; every step is checked, and everything is removed at the end. */
import { Bed, setContainerMtu } from '../test/system/lib/bed.ts';
import { createDockerBed, dockerDemo } from './docker.ts';
import type { DemoHost } from './hosts.ts';
import { byEtcd, byFile, byHand } from './join.ts';
import { isKeeper, keep, runKeeper } from './keep.ts';
import { type DemoOptions, HELP, OptionError, parseOptions } from './options.ts';
import { bold, StepError, say, step } from './screen.ts';
import { showInside, showPacket, showTraffic } from './show.ts';
import { createVmBed, vmDemo } from './vm.ts';

const WAYS = { file: byFile, etcd: byEtcd, hand: byHand };
const HOW = { file: 'a file', etcd: 'etcd', hand: 'hand', vm: 'etcd', docker: 'etcd, with Docker' };

async function demo(options: DemoOptions): Promise<number> {
  say(bold(`vtepd: two hosts joined by ${HOW[options.way]}`));
  let bed: Bed | undefined;
  try {
    let hosts: readonly DemoHost[];
    let entrances: readonly string[] | undefined;
    if (options.way === 'vm') {
      bed = await createVmBed();
      hosts = await vmDemo(bed);
    } else if (options.way === 'docker') {
      bed = await createDockerBed();
      ({ hosts, entrances } = await dockerDemo(bed));
    } else {
      bed = await step('Two hosts and an underlay, a bridge and a container on each', createBed);
      hosts = await WAYS[options.way](bed, options.peer);
      // As a container runtime sets it from subnet.env.
      await setContainerMtu(bed.hosts, 1450);
      await showTraffic(bed);
      await showPacket(bed);
      await showInside(hosts);
    }
    if (options.keep) {
      await keep(bed, hosts, entrances);
      return 0;
    }
    await step('Everything is removed', () => bed?.destroy() ?? Promise.resolve());
    say('\nDone: it works on this machine.');
    return 0;
  } catch (error) {
    process.stderr.write(`\n${error instanceof StepError ? error.message : String(error)}\n`);
    return 1;
  } finally {
    await bed?.destroy();
  }
}

async function createBed(): Promise<Bed> {
  const bed = await Bed.create({ mode: 'wire' });
  for (const line of [
    'container-a             host-a                               host-b             container-b',
    '10.246.30.2 --- bridge 10.246.30.1                     10.246.13.1 bridge --- 10.246.13.2',
    '                       10.245.1.3 ===== underlay ===== 10.245.1.4',
  ]) {
    say(`    ${line}`);
  }
  return bed;
}

async function main(argv: readonly string[]): Promise<number> {
  const options = parseOptions(argv);
  if (options === undefined) {
    say(HELP);
    return 0;
  }
  return options.keep && !isKeeper ? runKeeper(argv) : demo(options);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof OptionError)) throw error;
  process.stderr.write(`${error.message}\n\n${HELP}\n`);
  process.exitCode = 2;
}
