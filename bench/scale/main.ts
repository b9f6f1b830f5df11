/** `npm run bench -- scale`: one vtepd host in clusters of growing size; what the cluster costs it, and what one change costs. */
import { parseArgs } from 'node:util';
import { run } from '../bed/exec.ts';
import { BENCH_DIR } from '../bed/load-tool.ts';
import { machineFacts } from '../measure/machine.ts';
import { measureSize, type SizeResult } from './measure.ts';
import { renderScale } from './table.ts';

const HELP = `npm run bench -- scale [options]: a host in clusters of 50, 500 and 5,000 hosts, their leases in a real etcd

  --hosts LIST  sizes (50,500,5000)
  --rate N      leases that change in a second (100)
  --seconds S   for so long, and as long idle and with lone changes (20); every 10 s the host is compared
  --quick       50 and 5000 hosts, 10 s; ends within two minutes
  --json        the result as JSON on standard output instead of the table
  --help        this`;

const { values } = parseArgs({
  args: process.argv.slice(2).filter((word) => word !== 'scale'),
  options: {
    hosts: { type: 'string' },
    rate: { type: 'string', default: '100' },
    seconds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) {
  console.log(HELP);
} else {
  const sizes = (values.hosts ?? (values.quick ? '50,5000' : '50,500,5000')).split(',').map(whole);
  const plan = { rate: whole(values.rate), seconds: whole(values.seconds ?? (values.quick ? '10' : '20')) };
  const started = new Date();
  const results: SizeResult[] = [];
  for (const hosts of sizes) {
    console.error(`${hosts} hosts`);
    results.push(await measureSize(hosts, plan));
  }
  const machine = machineFacts();
  const commit = await run('git', ['-C', BENCH_DIR, 'describe', '--always', '--dirty', '--abbrev=12']).catch(() => '');
  const place = `${machine.cpus} CPUs (${machine.cpu}), Linux ${machine.kernel}, Node ${machine.node}, commit ${commit.trim() || 'unknown'}`;
  const heading = `${started.toISOString().slice(0, 16).replace('T', ' ')} UTC, ${place}`;
  const json = { started: started.toISOString(), machine, commit: commit.trim(), plan, results };
  console.log(values.json ? JSON.stringify(json, undefined, 1) : `${heading}\n\n${renderScale(results, plan)}`);
}

function whole(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 60_000) return value;
  console.error(`bench: '${text}' is not a whole number from 1 to 60000\n${HELP}`);
  process.exit(2);
}
