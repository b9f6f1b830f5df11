/** What a system test needs of the machine. Missing, it is skipped with the reason; in CI it runs, and fails. */
import { randomBytes } from 'node:crypto';
import { tryRun } from './exec.ts';

/** False when the kernel has a vxlan device of its own, else why the test cannot run; for node:test's `skip`. */
export async function withoutKernelVxlan(): Promise<string | false> {
  return unlessInCi(async () => {
    const name = `vt${randomBytes(4).toString('hex')}-probe`;
    await tryRun(['ip', 'netns', 'add', name]);
    const probe = await tryRun(['ip', '-n', name, 'link', 'add', 'vx0', 'type', 'vxlan', 'id', '1', 'dstport', '4789']);
    await tryRun(['ip', 'netns', 'del', name]);
    return probe.status === 0 ? false : `this kernel has no vxlan device to test against: ${probe.stderr.trim()}`;
  });
}

/** False on the machine that the virtual machine's image is made for. */
export async function withoutVm(): Promise<string | false> {
  return unlessInCi(() =>
    process.arch === 'x64' ? false : `the virtual machine is made for x64, this is ${process.arch}`,
  );
}

async function unlessInCi(probe: () => Promise<string | false> | string | false): Promise<string | false> {
  return process.env.CI ? false : probe();
}
