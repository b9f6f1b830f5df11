/**
 * `--keep`: the demo runs in a process of its own session that stays, and takes everything down at SIGTERM; the one in the
 * terminal passes its output on and ends once everything is up.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Bed } from '../test/system/lib/bed.ts';
import type { DemoHost } from './hosts.ts';
import { say, step } from './screen.ts';

const MARK = 'VTEPD_DEMO_KEEPER';

/** True in the process that stays. */
export const isKeeper = process.env[MARK] !== undefined && process.send !== undefined;

/** Starts the process that stays; gives its exit status, or 0 when everything is up. */
export function runKeeper(argv: readonly string[]): Promise<number> {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  const keeper = spawn(process.execPath, [...process.execArgv, main, ...argv], {
    env: { ...process.env, [MARK]: '1' },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    detached: true,
  });
  keeper.stdout?.pipe(process.stdout);
  keeper.stderr?.pipe(process.stderr);
  const stop = (): void => {
    keeper.kill('SIGTERM');
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  return new Promise((resolve) => {
    keeper.once('close', (code) => resolve(code ?? 1));
    keeper.once('message', () => {
      keeper.unref();
      // Process.exit would cut off what is still on its way to the terminal.
      keeper.stdout?.once('end', () => process.exit(0));
      setTimeout(() => process.exit(0), 200);
    });
  });
}

/** Says how to enter and how to remove everything, lets the terminal go, and waits for SIGTERM (see Teardown). */
export async function keep(bed: Bed, hosts: readonly DemoHost[], entrances?: readonly string[]): Promise<void> {
  await step('Everything stays up', async () => {
    const containers = bed.hosts.map(
      ({ label, container }) => `  container-${label}   ip netns exec ${container.name} bash`,
    );
    for (const line of entrances ?? containers) say(line);
    for (const { name, host, vtepd } of hosts) {
      say(`  ${name}        ip netns exec ${host.ns.name} bash`);
      if (vtepd !== undefined) {
        say(
          `    there:      export VTEPD_RUNTIME_DIR=${vtepd.runtimeDir} VTEPD_STATE_DIR=${vtepd.stateDir}; ${vtepd.command} status`,
        );
      }
    }
    if (entrances === undefined)
      say(
        `  try           ip netns exec ${bed.hosts[0]?.container.name ?? ''} ping ${bed.hosts.at(-1)?.address ?? ''}`,
      );
    say(`  remove it all kill ${process.pid}`);
  });
  // From here on nobody reads what we or our children write.
  process.stdout.on('error', () => undefined);
  process.stderr.on('error', () => undefined);
  process.send?.('kept');
  process.disconnect();
  const forever = setInterval(() => undefined, 1 << 30);
  await new Promise((resolve) => process.once('SIGTERM', resolve));
  clearInterval(forever);
}
