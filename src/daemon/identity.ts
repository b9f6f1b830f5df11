/** Which MAC and which subnet this host had before: peers hold both, so they are kept wherever they can be read back. */
import type { HostFacts, NetworkState } from '../dataplane/protocol.ts';
import type { Lease } from '../datastore/types.ts';
import { parseSubnetEnv } from '../flannel/subnet-env.ts';
import { readIfThere } from '../host/files.ts';
import type { DaemonRecord } from '../host/records.ts';
import { isUnicastMac, type Mac, parseMac, randomMac, ZERO_MAC } from '../net/mac.ts';
import { type Prefix, parsePrefix } from '../net/prefix.ts';

export interface MacSources {
  /** `--mac`. */
  readonly asked: Mac | undefined;
  readonly device: string;
  readonly source: 'etcd' | 'file';
  /** What the dataplane holds. */
  readonly states: readonly NetworkState[];
  /** Of the TAP's namespace. */
  readonly facts: HostFacts;
  readonly ownLease: Lease | undefined;
  readonly record: DaemonRecord;
}

/**
 * The first of: the one asked for, the device's, the lease's, the one remembered, a random one. With a file the lease
 * comes first, because every other host reads our MAC in that file.
 */
export function chooseMac(sources: MacSources): Mac {
  const { asked, device, source, states, facts, ownLease, record } = sources;
  const held = states.find((state) => state.spec.name === device)?.mac;
  const left = facts.links.find((link) => link.name === device && link.kind === 'tun')?.mac;
  const leased = ownLease?.attributes.vtepMac;
  const candidates = source === 'file' ? [leased, asked, held, left] : [asked, held, left, leased];
  for (const candidate of [...candidates, record.device === device ? record.mac : undefined]) {
    const mac = usable(candidate ?? undefined);
    if (mac !== undefined) return mac;
  }
  return randomMac();
}

/** The subnet of the last run: the environment file's, else the one remembered. */
export function previousSubnet(subnetFile: string, record: DaemonRecord): Prefix | undefined {
  const text = readIfThere(subnetFile);
  const fromFile = text === undefined ? undefined : parseSubnetEnv(text).subnet;
  if (fromFile !== undefined) return fromFile;
  try {
    return record.subnet === undefined ? undefined : parsePrefix(record.subnet);
  } catch {
    return undefined;
  }
}

function usable(text: string | undefined): Mac | undefined {
  if (text === undefined) return undefined;
  try {
    const mac = parseMac(text);
    return isUnicastMac(mac) && mac !== ZERO_MAC ? mac : undefined;
  } catch {
    return undefined;
  }
}
