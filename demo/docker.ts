/** `--docker`: a real Docker daemon on each host, with bridge and MTU from the subnet.env that vtepd writes. */
import { readFile } from 'node:fs/promises';
import { Bed } from '../test/system/lib/bed.ts';
import { Cluster, ENDPOINT, PREFIX } from '../test/system/lib/cluster.ts';
import { DockerHost, moveFile } from '../test/system/lib/docker.ts';
import type { VtepdHost } from '../test/system/lib/vtepd.ts';
import { type DemoHost, PORT, VNI, vtepdHost } from './hosts.ts';
import { output, say, step, typed } from './screen.ts';
import { showInside } from './show.ts';

const FILE_BYTES = 20_000_000;
const CONTAINER = 'box';

interface Docked {
  readonly name: string;
  readonly docker: DockerHost;
  readonly address: string;
}

export interface DockerDemo {
  readonly hosts: readonly DemoHost[];
  /** How to enter the containers. */
  readonly entrances: readonly string[];
}

export async function createDockerBed(): Promise<Bed> {
  return step('Two hosts and an underlay', async () => {
    say(
      '    container-a --- docker0   host-a 10.245.1.3 ===== underlay ===== 10.245.1.4 host-b   docker0 --- container-b',
    );
    return Bed.create({ mode: 'wire' });
  });
}

export async function dockerDemo(bed: Bed): Promise<DockerDemo> {
  const cluster = await step('A real etcd on the underlay, with the network as flannel has it', async () => {
    const started = await Cluster.start(bed, { vni: VNI, port: PORT });
    typed('etcd', 'etcdctl', 'put', `${PREFIX}/config`, started.config);
    return started;
  });
  const hosts = await step('vtepd runs on both hosts and masquerades for Docker', () =>
    Promise.all(
      bed.hosts.map(async (host) => {
        const demo = await vtepdHost(host);
        typed(demo.name, 'vtepd', 'run', '--etcd-endpoints', ENDPOINT, '--iface', 'eth0', '--ip-masq', '&');
        await cluster.addVtepd(host, '--ip-masq');
        return demo;
      }),
    ),
  );
  const docked = await step('A Docker daemon on each, told by subnet.env; a container on each', async () => {
    const all: Docked[] = [];
    for (const { name, vtepd } of hosts) all.push(await dock(bed, name, vtepd));
    return all;
  });
  const [a, b] = docked as [Docked, Docked];
  await step('Container to container: ping', () => inside(a, `ping -c 3 ${b.address}`));
  await step(`Container to container: a file of ${FILE_BYTES / 1e6} MB over TCP, and one back`, async () => {
    await show(a, b);
    await show(b, a);
  });
  await step('A container to the world outside, by its host', () =>
    inside(a, `ping -c 2 ${new URL(ENDPOINT).hostname}`),
  );
  await step('The traffic rules on host-a', async () => {
    await hosts[0]?.shell.run('nft', 'list', 'table', 'ip', 'vtepd-default');
  });
  await showInside(hosts);
  const entrances = docked.map(
    ({ name, docker }) =>
      `  ${name.replace('host', 'container')}   docker -H ${docker.endpoint} exec -it ${CONTAINER} sh`,
  );
  return { hosts, entrances };
}

async function dock(bed: Bed, name: string, vtepd: VtepdHost): Promise<Docked> {
  typed(name, 'cat', '/run/flannel/subnet.env');
  output(await readFile(vtepd.subnetFile, 'utf8'));
  say(`  ${name}# . /run/flannel/subnet.env; dockerd --bip=$FLANNEL_SUBNET --mtu=$FLANNEL_MTU --ip-masq=false &`);
  const docker = await DockerHost.start(vtepd.host, vtepd.subnetFile);
  bed.teardown.defer(`dockerd on ${name}`, () => docker.stop());
  typed(name, 'docker', 'run', '--detach', '--name', CONTAINER, 'busybox', 'sleep', '1000');
  const address = await docker.start(CONTAINER);
  await inside({ name, docker, address }, 'ip -4 addr show dev eth0');
  return { name, docker, address };
}

/** Shows a command of a container and what it prints. */
async function inside({ name, docker }: Docked, line: string): Promise<void> {
  typed(name.replace('host', 'container'), ...line.split(' '));
  output(await docker.sh(CONTAINER, line));
}

async function show(from: Docked, to: Docked): Promise<void> {
  const way = `${from.name} -> ${to.name}`.replaceAll('host', 'container');
  const { sent, received } = await moveFile(from.docker, to.docker, CONTAINER, to.address, FILE_BYTES);
  say(`  ${way}: ${FILE_BYTES} bytes`);
  output(`sent      sha256 ${sent}\nreceived  sha256 ${received}`);
  if (sent !== received) throw new Error(`${way}: the file has changed on the way`);
}
