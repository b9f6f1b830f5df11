/**
 * What a network keeps on this host's disk: subnet.env, which tells who starts containers their subnet, and the record by
 * which the next run, and `vtepd cleanup`, know what was here.
 */
import { formatSubnetEnv } from '../flannel/subnet-env.ts';
import { readIfThere, writeWhole } from '../host/files.ts';
import type { KeptFiles } from '../host/kept-files.ts';
import { readDaemonRecord, writeDaemonRecord } from '../host/records.ts';
import { rememberMac } from './identity.ts';
import type { Joined } from './joined.ts';
import type { RunnerParts } from './network-options.ts';
import { containerMtu } from './tunnel.ts';

export class NetworkFiles {
  readonly #parts: RunnerParts;
  readonly #files: KeptFiles;

  constructor(parts: RunnerParts, files: KeptFiles) {
    this.#parts = parts;
    this.#files = files;
  }

  /** Calls `then` once it is written, now or later. */
  writeSubnetEnv(joined: Joined, then = (): void => undefined): void {
    const { subnetFile } = this.#parts.settings;
    this.#files.keep(subnetFile, 'who starts containers does not know their subnet', () => {
      const text = subnetEnv(joined);
      try {
        writeWhole(subnetFile, text);
      } catch (error) {
        // A disk without room for a second copy may hold the right one.
        if (readIfThere(subnetFile) !== text) throw error;
      }
      then();
    });
  }

  remember(joined: Joined): void {
    const { paths, settings, plane } = this.#parts;
    this.#files.keep(paths.daemonState, 'MAC and subnet are known to the lease alone', () => {
      const { lease, tunnels } = joined;
      const [four, six] = tunnels.map(({ desired }) => desired.spec);
      const before = readDaemonRecord(paths);
      writeDaemonRecord(paths, {
        ...(typeof four?.mac !== 'string' ? {} : { mac: four.mac, macs: rememberMac(four.mac, before) }),
        ...(four === undefined ? {} : { device: four.name }),
        ...(typeof six?.mac !== 'string' ? {} : { mac6: six.mac, device6: six.name }),
        // The former ones too, until their routes are gone: this run may end before.
        direct: [
          ...new Set([
            ...tunnels.flatMap(({ desired: { content } }) =>
              content.direct || (content.blackholes ?? []).length > 0 ? [content.within] : [],
            ),
            ...plane.formerDirect,
          ]),
        ],
        publicIp: lease.attributes.publicIp,
        subnet: lease.subnet,
        ...(lease.subnet6 === undefined ? {} : { subnet6: lease.subnet6 }),
        subnetFile: settings.subnetFile,
      });
    });
  }

  /** Writes what could not be written. */
  retry(): void {
    this.#files.retry();
  }
}

function subnetEnv({ config, lease, ground, masquerades }: Joined): string {
  const six =
    config.ipv6 === undefined || lease.subnet6 === undefined
      ? {}
      : { network6: config.ipv6.network, subnet6: lease.subnet6 };
  return formatSubnetEnv({
    network: config.network,
    subnet: lease.subnet,
    ...six,
    mtu: containerMtu(config, ground.underlay.mtu),
    ipMasq: masquerades,
  });
}
