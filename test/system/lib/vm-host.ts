/** vtepd in the virtual machine: a host of the cluster whose container side is a bridge with the subnet's first address. */
import type { BedHost } from './bed.ts';
import { type Cluster, ENDPOINT } from './cluster.ts';
import { eventually } from './exec.ts';
import type { FlannelPeer } from './kernel-vxlan.ts';
import type { TcpSide } from './traffic.ts';
import { TCP_PROGRAM } from './traffic.ts';
import type { Vm } from './vm.ts';

const SUBNET_FILE = '/run/flannel/subnet.env';
const TCP_PORT = 7000;

export class VmHost {
  /** `10.246.81.0/24`, its base, and the bridge's address. */
  readonly subnet: string;
  readonly base: string;
  readonly address: string;
  readonly peer: FlannelPeer;
  readonly #vm: Vm;
  readonly #device: string;

  private constructor(vm: Vm, device: string, address: string, mac: string) {
    this.#vm = vm;
    this.#device = device;
    this.address = address;
    this.base = address.replace(/\.1$/, '.0');
    this.subnet = `${this.base}/24`;
    this.peer = { subnet: this.subnet, base: this.base, mac, vtep: vm.address };
  }

  /** Starts `vtepd run` in the guest, waits for subnet.env, and sets up the bridge from it as docker would. */
  static async join(vm: Vm, cluster: Cluster): Promise<VmHost> {
    await vm.exec(`vtepd run --etcd-endpoints ${ENDPOINT} --iface eth0 >/run/vtepd.log 2>&1 &`);
    const env = await eventually(
      'vtepd run in the virtual machine writes subnet.env',
      async () => {
        const result = await vm.tryExec(`cat ${SUBNET_FILE}`);
        return result.status === 0 && result.stdout;
      },
      { timeoutMs: 60_000, everyMs: 250 },
    ).catch(async (cause: unknown) => {
      throw new Error(`vtepd run in the virtual machine said:\n${await vm.exec('cat /run/vtepd.log')}`, { cause });
    });
    const address = /^FLANNEL_SUBNET=(.*)\/24$/m.exec(env)?.[1];
    const mtu = /^FLANNEL_MTU=(\d+)$/m.exec(env)?.[1];
    const mac = (await vm.exec(`cat /sys/class/net/${cluster.device}/address`)).trim();
    if (address === undefined || mtu === undefined)
      throw new Error(`subnet.env in the virtual machine is incomplete:\n${env}`);
    await vm.exec(`ip link add br0 type bridge && ip addr add ${address}/24 dev br0 && ip link set br0 mtu ${mtu} up`);
    return new VmHost(vm, cluster.device, address, mac);
  }

  /** Waits until the guest has a route to a host's subnet. */
  async knows(host: BedHost): Promise<void> {
    await eventually(
      `the virtual machine has a route to ${host.subnet}`,
      async () => (await this.#vm.exec(`ip route show ${host.subnet}`)).includes(this.#device),
      { timeoutMs: 20_000, everyMs: 200 },
    );
  }

  /** As tcpBothWays between containers; one side is the guest's bridge address. */
  async tcpBothWays(
    host: BedHost,
    caller: 'guest' | 'container',
    bytes: number,
  ): Promise<{ call: TcpSide; serve: TcpSide }> {
    const inGuest = `node /vtepd/programs/tcp.mjs`;
    let call: TcpSide;
    let serve: TcpSide;
    if (caller === 'guest') {
      const server = host.container.background([
        process.execPath,
        TCP_PROGRAM,
        'serve',
        host.address,
        String(TCP_PORT),
        String(bytes),
      ]);
      try {
        await server.waitFor(/listening\n/);
        call = JSON.parse(await this.#vm.exec(`${inGuest} call ${host.address} ${TCP_PORT} ${bytes}`));
        await server.exited;
        serve = JSON.parse(server.output.replace('listening\n', ''));
      } finally {
        await server.stop('SIGKILL');
      }
    } else {
      await this.#vm.exec(`${inGuest} serve ${this.address} ${TCP_PORT} ${bytes} >/run/tcp.out 2>&1 &`);
      await eventually(
        'the server in the guest listens',
        async () => (await this.#vm.exec('cat /run/tcp.out')).includes('listening'),
        { timeoutMs: 20_000 },
      );
      call = JSON.parse(
        await host.container.exec(
          [process.execPath, TCP_PROGRAM, 'call', this.address, String(TCP_PORT), String(bytes)],
          { timeoutMs: 60_000 },
        ),
      );
      const said = await eventually('the server in the guest reports', async () => {
        const text = await this.#vm.exec('cat /run/tcp.out');
        return text.includes('}\n') && text;
      });
      serve = JSON.parse(said.replace('listening\n', ''));
    }
    return { call, serve };
  }
}
