/**
 * A host whose kernel has no vxlan module: Debian's cloud kernel in software emulation, its network card a TAP in the
 * underlay's bridge. Commands reach it through a small agent (scripts/vm/guest/agent.mjs) over the underlay.
 */
import { fileURLToPath } from 'node:url';
import type { Bed } from './bed.ts';
import { type Background, CommandError, eventually, type RunResult, run } from './exec.ts';

const TOP = fileURLToPath(new URL('../../../', import.meta.url));
const CALL = fileURLToPath(new URL('../programs/vm-call.mjs', import.meta.url));

export class Vm {
  readonly address: string;
  readonly #bed: Bed;
  readonly #process: Background;

  private constructor(bed: Bed, address: string, process: Background) {
    this.#bed = bed;
    this.address = address;
    this.#process = process;
  }

  /** Builds the image if needed, boots, and waits until the agent answers. Ends with the bed. */
  static async boot(bed: Bed, address: string): Promise<Vm> {
    const said = await run(['bash', `${TOP}scripts/vm/image.sh`], { timeoutMs: 300_000 });
    const [kernel, initramfs] = said.trim().split('\n').slice(-2);
    if (kernel === undefined || initramfs === undefined)
      throw new Error(`scripts/vm/image.sh named no kernel and initramfs:\n${said}`);
    await bed.underlay.ip('tuntap add dev vm0 mode tap', 'link set vm0 master ul0', 'link set vm0 up');
    // Without KVM on purpose: nested virtualisation cannot be relied upon, software emulation runs everywhere.
    const machine = bed.underlay.background([
      'qemu-system-x86_64',
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', '1500', '-nographic', '-no-reboot'],
      ...[
        '-kernel',
        kernel,
        '-initrd',
        initramfs,
        '-append',
        `console=ttyS0 quiet panic=-1 vtepd.address=${address}/24`,
      ],
      ...['-netdev', 'tap,id=n0,ifname=vm0,script=no,downscript=no', '-device', 'virtio-net-pci,netdev=n0,romfile='],
    ]);
    bed.teardown.defer('the virtual machine', async () => {
      await machine.stop();
    });
    const vm = new Vm(bed, address, machine);
    await machine.waitFor(/agent: Node/, 120_000);
    await eventually(
      'the agent in the virtual machine answers',
      async () => (await vm.tryExec('true', 5_000)).status === 0,
      { timeoutMs: 30_000, everyMs: 200 },
    );
    return vm;
  }

  /** What the guest wrote to its serial console. */
  get console(): string {
    return this.#process.output;
  }

  async tryExec(script: string, timeoutMs = 60_000): Promise<RunResult> {
    const argv = [process.execPath, CALL, this.address, String(timeoutMs)];
    try {
      return JSON.parse(
        await this.#bed.underlay.exec(argv, { input: script, timeoutMs: timeoutMs + 5_000 }),
      ) as RunResult;
    } catch (cause) {
      throw new Error(`the virtual machine did not run '${script}'; its console:\n${this.console}`, { cause });
    }
  }

  async exec(script: string, timeoutMs = 60_000): Promise<string> {
    const result = await this.tryExec(script, timeoutMs);
    if (result.status !== 0) throw new CommandError(['(in the virtual machine)', 'sh', '-c', script], result);
    return result.stdout;
  }
}
