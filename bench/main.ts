/** `npm run bench`: builds the bed, measures, reports, and leaves nothing behind, however it ends. */
import { join } from 'node:path';
import { run } from './bed/exec.ts';
import { removeLeftovers } from './bed/leftovers.ts';
import { BENCH_DIR, requireLoadTool } from './bed/load-tool.ts';
import { machineFacts } from './measure/machine.ts';
import { measureProfile, type ProfileResult, type Session } from './measure/session.ts';
import { HELP, type Options, OptionsError, parseOptions } from './options.ts';
import { plainSummary, writeReport } from './report/files.ts';
import { renderPlot } from './report/plot.ts';
import { Progress } from './report/progress.ts';
import { type Summary, summarize } from './report/summary.ts';
import { renderTable } from './report/table.ts';
import { chooseSystems } from './systems/registry.ts';
import type { Profile } from './vocabulary.ts';

const EXIT_USAGE = 2;
/** As a shell says of a program that SIGINT ended. */
const EXIT_INTERRUPTED = 130;

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    console.log(HELP);
    return 0;
  }
  await requireLoadTool();
  for (const name of await removeLeftovers()) console.error(`removed ${name}, left by a run that was killed`);

  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (!stop.signal.aborted) console.error('\nending: taking everything down');
      stop.abort();
    });
  }
  const systems = chooseSystems(options);
  const turns = options.profiles.length * options.repetitions * options.tests.length * systems.length;
  const progress = new Progress(turns);
  const deadline = performance.now() + options.timing.budget * 1000;
  const session: Session = { options, systems, progress, signal: stop.signal, deadline };

  const started = new Date();
  const results = new Map<Profile, ProfileResult>();
  for (const profile of options.profiles) {
    if (stop.signal.aborted) break;
    const result = await measureProfile(session, profile).catch((error: unknown) => {
      if (stop.signal.aborted) return undefined;
      throw error;
    });
    if (result !== undefined) results.set(profile, result);
  }
  progress.end();
  await report(options, session, started, results);
  return stop.signal.aborted ? EXIT_INTERRUPTED : 0;
}

async function report(
  options: Options,
  session: Session,
  started: Date,
  results: ReadonlyMap<Profile, ProfileResult>,
): Promise<void> {
  if (![...results.values()].some((result) => result.samples.length > 0)) return;
  const summaries: Summary[] = [];
  const texts: string[] = [];
  for (const [profile, result] of results) {
    const names = session.systems.map(({ name }) => name).filter((name) => result.skipped[name] === undefined);
    const summary = summarize(profile, names, result.samples);
    summaries.push(summary);
    texts.push(renderTable(summary));
    for (const [name, reason] of Object.entries(result.skipped)) texts.push(`left out: ${name}: ${reason}\n`);
    for (const [name, count] of Object.entries(result.checksumErrors)) {
      if (count > 0)
        texts.push(`WRONG CHECKSUMS: the hosts of ${name} refused ${count} packets; its figures do not count\n`);
    }
    if (result.cut) texts.push('time ran out before everything was measured\n');
  }
  const machine = machineFacts();
  const commit = await run('git', ['-C', BENCH_DIR, 'describe', '--always', '--dirty', '--abbrev=12']).catch(() => '');
  const place = `${machine.cpus} CPUs (${machine.cpu}), Linux ${machine.kernel}, Node ${machine.node}, commit ${commit.trim() || 'unknown'}`;
  const heading = `${started.toISOString().slice(0, 16).replace('T', ' ')} UTC, ${place}`;
  const text = `${heading}\n\n${texts.join('\n')}`;
  const json = JSON.stringify(
    {
      started: started.toISOString(),
      machine,
      commit: commit.trim(),
      options,
      titles: Object.fromEntries(session.systems.map(({ name, title }) => [name, title])),
      summaries: summaries.map(plainSummary),
      profiles: Object.fromEntries(results),
    },
    // The budget of a run without one is Infinity, which JSON does not know.
    (_, value: unknown) => (value === Number.POSITIVE_INFINITY ? null : value),
    1,
  );
  console.log(options.json ? json : text);
  const stamp = started.toISOString().slice(0, 19).replaceAll(':', '').replace('T', '-');
  const files = await writeReport(options.out ?? join(BENCH_DIR, 'results'), {
    stamp,
    json: `${json}\n`,
    svg: renderPlot(summaries, 'vtepd against the kernel and others', heading),
    text,
  });
  console.error(`written: ${files.join(' ')}`);
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  if (error instanceof OptionsError) console.error('npm run bench -- --help says what there is');
  process.exitCode = error instanceof OptionsError ? EXIT_USAGE : 1;
}
