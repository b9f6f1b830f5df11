/**
 * What this instance has made on the host, one file a network, so that `vtepd cleanup` can remove it when nobody is
 * left to ask. A TAP is ours only if its name, its interface index and the boot all match: an index is not given twice
 * until it wraps at 2^31.
 */
import { readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { networkPaths, type Paths } from '../config/paths.ts';
import { errnoOf } from '../dataplane/errors.ts';
import type { NetworkState } from '../dataplane/protocol.ts';
import { type Prefix, parsePrefix } from '../net/prefix.ts';
import { bootId, readIfThere, removeIfThere, writeWhole } from './files.ts';

export interface NetworkRecord {
  readonly name: string;
  readonly netns: string | null;
  readonly ifindex: number;
  readonly bootId: string;
}

/** What `vtepd run` remembers from one run to the next. */
export interface DaemonRecord {
  readonly mac?: string;
  /** The MACs of earlier runs, the latest first: a lease with one of them is ours. */
  readonly macs?: readonly string[];
  readonly device?: string;
  /** The same of the tunnel for the IPv6 overlay. */
  readonly mac6?: string;
  readonly device6?: string;
  /** Networks that may have routes beside those on their devices: on the underlay, and blackholes. */
  readonly direct?: readonly string[];
  /** What peers sent to. */
  readonly publicIp?: string;
  readonly subnet?: string;
  readonly subnet6?: string;
  readonly subnetFile?: string;
}

export function recordNetwork(paths: Paths, state: NetworkState): void {
  const record: NetworkRecord = {
    name: state.spec.name,
    netns: state.spec.netns,
    ifindex: state.ifindex,
    bootId: bootId(),
  };
  const path = recordPath(paths, state.spec.name);
  const text = `${JSON.stringify(record)}\n`;
  // Asked for at every look at the network: the disk is not to be worn out by it.
  if (readIfThere(path) !== text) writeWhole(path, text);
}

export function forgetNetwork(paths: Paths, name: string): void {
  removeIfThere(recordPath(paths, name));
}

/** Records of this instance; a file that cannot be read as one is left out. */
export function recordedNetworks(paths: Paths): NetworkRecord[] {
  return recordFiles(paths).flatMap((file) => {
    const value = parseObject(readIfThere(join(paths.networkRecords, file)));
    if (typeof value?.name !== 'string' || typeof value.ifindex !== 'number' || typeof value.bootId !== 'string')
      return [];
    const netns = typeof value.netns === 'string' ? value.netns : null;
    return [{ name: value.name, netns, ifindex: value.ifindex, bootId: value.bootId }];
  });
}

/** Removes all records; returns the files removed. */
export function forgetAllNetworks(paths: Paths): string[] {
  const removed = recordFiles(paths)
    .map((file) => join(paths.networkRecords, file))
    .filter(removeIfThere);
  try {
    rmdirSync(paths.networkRecords);
  } catch {
    // Absent, or something that is not ours lies in it.
  }
  return removed;
}

export function readDaemonRecord(paths: Pick<Paths, 'daemonState'>): DaemonRecord {
  const value = parseObject(readIfThere(paths.daemonState)) ?? {};
  const text = (key: Exclude<keyof DaemonRecord, 'macs' | 'direct'>): Partial<DaemonRecord> => {
    const found = value[key];
    return typeof found === 'string' ? { [key]: found } : {};
  };
  const list = (given: unknown): string[] =>
    Array.isArray(given) ? given.filter((each) => typeof each === 'string') : [];
  const macs = list(value.macs);
  const direct = list(value.direct);
  return {
    ...text('mac'),
    ...(macs.length > 0 ? { macs } : {}),
    ...(direct.length > 0 ? { direct } : {}),
    ...text('device'),
    ...text('mac6'),
    ...text('device6'),
    ...text('publicIp'),
    ...text('subnet'),
    ...text('subnet6'),
    ...text('subnetFile'),
  };
}

/** Names of the several networks of which there is a record. */
export function recordedDaemonNetworks({ stateDir, instance }: Paths): string[] {
  const start = `${instance}@`;
  return filesIn(stateDir)
    .filter((file) => file.startsWith(start) && file.endsWith('.json') && !file.endsWith('.leases.json'))
    .map((file) => file.slice(start.length, -'.json'.length));
}

/** Networks of this instance, of any run, whose routes may lie on the underlay and do not go with a TAP. */
export function recordedDirect(paths: Paths): Prefix[] {
  const instance = join(paths.stateDir, `${paths.instance}.json`);
  const records = [
    { daemonState: instance },
    ...recordedDaemonNetworks(paths).map((name) => networkPaths(paths, name)),
  ];
  const texts = records.flatMap((record) => readDaemonRecord(record).direct ?? []);
  return [...new Set(texts)].flatMap((text) => {
    try {
      return [parsePrefix(text)];
    } catch {
      return [];
    }
  });
}

export function writeDaemonRecord(paths: Paths, record: DaemonRecord): void {
  writeWhole(paths.daemonState, `${JSON.stringify(record)}\n`);
}

function recordPath(paths: Paths, name: string): string {
  return join(paths.networkRecords, `${encodeURIComponent(name)}.json`);
}

function recordFiles(paths: Paths): string[] {
  return filesIn(paths.networkRecords).filter((file) => file.endsWith('.json'));
}

function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

function parseObject(text: string | undefined): Record<string, unknown> | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
