/** The steps after the hosts are joined: traffic, one packet taken apart, a look inside. */
import { join } from 'node:path';
import type { Bed } from '../test/system/lib/bed.ts';
import { Capture } from '../test/system/lib/capture.ts';
import { run } from '../test/system/lib/exec.ts';
import { ping, type TcpSide, tcpBothWays } from '../test/system/lib/traffic.ts';
import { DEVICE, type DemoHost, PORT } from './hosts.ts';
import { output, say, step, typed } from './screen.ts';

const FILE_BYTES = 8_000_000;

export async function showTraffic(bed: Bed): Promise<void> {
  const [a, b] = [bed.host('a'), bed.host('b')];
  await step('Container to container: ping', async () => {
    typed('container-a', 'ping', '-c', '3', b.address);
    const result = await ping(a.container, b.address, { count: 3, interval: 0.2 });
    output(result.output.replaceAll(/^\[[\d.]+\] /gm, ''));
    if (result.received < 3) throw new Error(`${3 - result.received} of 3 packets were lost`);
  });
  await step(`Container to container: a file of ${FILE_BYTES / 1e6} MB over TCP, and one back`, async () => {
    const { caller, server } = await tcpBothWays(a.container, b.container, b.address, FILE_BYTES);
    compare('container-a -> container-b', caller, server);
    compare('container-b -> container-a', server, caller);
  });
}

/** Prints both hashes; fails unless they are one. */
export function compare(way: string, from: TcpSide, to: TcpSide): void {
  say(`  ${way}: ${to.received.bytes} bytes`);
  output(`sent      sha256 ${from.sent.sha256}\nreceived  sha256 ${to.received.sha256}`);
  if (from.sent.sha256 !== to.received.sha256) throw new Error(`${way}: the file has changed on the way`);
}

/** Captures a ping on the underlay of the second host and shows the packet of the first as tcpdump decodes it. */
export async function showPacket(bed: Bed): Promise<void> {
  const [a, b] = [bed.host('a'), bed.host('b')];
  await step('One packet on the underlay, decoded down to the inner frame', async () => {
    const file = join(bed.dir, 'demo.pcap');
    const capture = await Capture.start(b.ns, 'eth0', file, `src host ${a.ipv4} and udp dst port ${PORT}`);
    await ping(a.container, b.address, { count: 1 });
    await capture.stop();
    typed('host-b', 'tcpdump', '-nn', '-e', '-v', '-c', '1', '-i', 'eth0', 'udp', 'port', String(PORT));
    output(await run(['tcpdump', '-nn', '-e', '-v', '-c', '1', '-r', file]));
  });
}

export async function showInside(hosts: readonly DemoHost[]): Promise<void> {
  for (const { name, shell, vtepd } of hosts) {
    if (vtepd === undefined) {
      await step(`What the kernel holds on ${name}`, async () => {
        await shell.run('ip', '-s', '-d', 'link', 'show', 'dev', DEVICE);
        await shell.run('bridge', 'fdb', 'show', 'dev', DEVICE);
      });
      continue;
    }
    await step(`What vtepd holds on ${name}`, async () => {
      const look = [['status'], ['fdb', 'show'], ['neigh', 'show'], ['peers'], ['stats'], ['drops']];
      for (const words of look) await shell.run('vtepd', ...words);
    });
  }
}
