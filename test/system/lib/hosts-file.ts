/** Hosts joined by the file datastore: one file that all of them read. */
import { rename, writeFile } from 'node:fs/promises';
import { join as path } from 'node:path';
import { type Bed, type BedHost, setContainerMtu } from './bed.ts';
import type { Background } from './exec.ts';
import { VtepdHost } from './vtepd.ts';

export const VNI = 1;
export const PORT = 4789;
export const DEVICE = `flannel.${VNI}`;

/** What the file says of one host; without `mac` the hosts derive one that all of them agree on. */
export interface FileHost {
  readonly ipv4: string;
  readonly subnet: string;
  readonly mac?: string;
}

/** The file's text. */
export function hostsFile(hosts: readonly FileHost[]): string {
  const list = hosts.map(({ ipv4, subnet, mac }) => {
    const lines = [`  - publicIP: ${ipv4}`, `    subnet: ${subnet}`];
    return [...lines, ...(mac === undefined ? [] : [`    mac: "${mac}"`])].join('\n');
  });
  return `network:
  Network: 10.246.0.0/16
  Backend:
    Type: vxlan
    VNI: ${VNI}
    Port: ${PORT}
hosts:
${list.join('\n')}
`;
}

export function hostsFilePath(bed: Bed): string {
  return path(bed.dir, 'hosts.yaml');
}

/** Puts a new text in the file's place in one step, as careful editors and configuration tools do. */
export async function replaceHostsFile(bed: Bed, text: string): Promise<void> {
  const file = hostsFilePath(bed);
  await writeFile(`${file}.new`, text);
  await rename(`${file}.new`, file);
}

export interface FileEnd {
  readonly host: BedHost;
  readonly vtepd: VtepdHost;
  readonly daemon: Background;
}

/** Writes the file with these hosts and starts `vtepd run` on each; returns when all are up. */
export async function joinByFile(
  bed: Bed,
  hosts: readonly BedHost[],
  others: readonly FileHost[] = [],
): Promise<FileEnd[]> {
  await writeFile(hostsFilePath(bed), hostsFile([...hosts, ...others]));
  const ends = await Promise.all(hosts.map((host) => runByFile(bed, host)));
  await setContainerMtu(hosts, 1450);
  return ends;
}

export async function runByFile(bed: Bed, host: BedHost): Promise<FileEnd> {
  const vtepd = await VtepdHost.on(host);
  const daemon = vtepd.run('--file', hostsFilePath(bed), '--iface', 'eth0');
  await vtepd.isRunning(daemon);
  return { host, vtepd, daemon };
}
