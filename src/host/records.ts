/**
 * What this instance has made on the host, one file a network, so that `vtepd cleanup` can remove it when nobody is
 * left to ask. A TAP is ours only if its name, its interface index and the boot all match: an index is not given twice
 * until it wraps at 2^31.
 */
import { readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Paths } from '../config/paths.ts';
import { errnoOf } from '../dataplane/errors.ts';
import type { NetworkState } from '../dataplane/protocol.ts';
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
  readonly device?: string;
  readonly subnet?: string;
  readonly subnetFile?: string;
}

export function recordNetwork(paths: Paths, state: NetworkState): void {
  const record: NetworkRecord = {
    name: state.spec.name,
    netns: state.spec.netns,
    ifindex: state.ifindex,
    bootId: bootId(),
  };
  writeWhole(recordPath(paths, state.spec.name), `${JSON.stringify(record)}\n`);
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

export function readDaemonRecord(paths: Paths): DaemonRecord {
  const value = parseObject(readIfThere(paths.daemonState)) ?? {};
  const text = (key: keyof DaemonRecord): Partial<DaemonRecord> => {
    const found = value[key];
    return typeof found === 'string' ? { [key]: found } : {};
  };
  return { ...text('mac'), ...text('device'), ...text('subnet'), ...text('subnetFile') };
}

export function writeDaemonRecord(paths: Paths, record: DaemonRecord): void {
  writeWhole(paths.daemonState, `${JSON.stringify(record)}\n`);
}

function recordPath(paths: Paths, name: string): string {
  return join(paths.networkRecords, `${encodeURIComponent(name)}.json`);
}

function recordFiles(paths: Paths): string[] {
  try {
    return readdirSync(paths.networkRecords).filter((file) => file.endsWith('.json'));
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
