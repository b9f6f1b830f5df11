/**
 * What a datastore said last, as a file in the state directory: configuration, our own lease, the leases of all, and the
 * moment up to which it was known to be true. Written whole or not at all; a file that cannot be read is no memory.
 */
import { statSync } from 'node:fs';
import { formatNetworkConfig, type NetworkConfig, parseNetworkConfig } from '../../flannel/config.ts';
import { FlannelError } from '../../flannel/errors.ts';
import { formatLeaseAttributes, parseLeaseAttributes } from '../../flannel/lease.ts';
import { parseSubnetKey } from '../../flannel/subnet-key.ts';
import { readIfThere, writeWhole } from '../../host/files.ts';
import type { Lease } from '../types.ts';

export interface Memory {
  /** Where it is from, such as the etcd prefix: the memory of another network is none. */
  readonly place: string;
  /** Up to when the datastore was followed. */
  readonly asOf: Date;
  readonly revision: number;
  readonly config: NetworkConfig;
  readonly own: Lease;
  readonly leases: readonly Lease[];
}

const VERSION = 1;

/** 100,000 leases of 300 bytes. */
export const MEMORY_BYTES_MAX = 32 * 1024 * 1024;

/** Throws where the file cannot be written, and `RangeError` where it would be too large. */
export function writeMemory(path: string, memory: Memory): void {
  const { place, asOf, revision, config, own, leases } = memory;
  const text = JSON.stringify({
    version: VERSION,
    place,
    asOf: asOf.toISOString(),
    revision,
    config: formatNetworkConfig(config),
    own: written(own),
    leases: leases.map(written),
  });
  if (text.length > MEMORY_BYTES_MAX) {
    throw new RangeError(`${leases.length} leases are more than ${MEMORY_BYTES_MAX} bytes hold`);
  }
  writeWhole(path, `${text}\n`, 0o600);
}

/** Undefined where there is no usable memory of `place`; `complain` is told why, unless there is no file. */
export function readMemory(path: string, place: string, complain: (reason: string) => void): Memory | undefined {
  try {
    if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > MEMORY_BYTES_MAX) throw new RangeError('too large');
    const text = readIfThere(path);
    if (text === undefined) return undefined;
    const memory = parseMemory(text);
    if (memory.place === place) return memory;
    complain(`it is of ${memory.place}`);
  } catch (error) {
    complain(error instanceof Error ? error.message : String(error));
  }
  return undefined;
}

function parseMemory(text: string): Memory {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null) throw new TypeError('not an object');
  const fields = new Map<string, unknown>(Object.entries(value));
  if (fields.get('version') !== VERSION) throw new TypeError(`of version ${String(fields.get('version'))}`);
  const asOf = new Date(word(fields.get('asOf')));
  const revision = fields.get('revision');
  const leases = fields.get('leases');
  if (Number.isNaN(asOf.getTime()) || typeof revision !== 'number' || !Array.isArray(leases)) {
    throw new TypeError('incomplete');
  }
  return {
    place: word(fields.get('place')),
    asOf,
    revision,
    config: parseNetworkConfig(word(fields.get('config'))),
    own: readLease(fields.get('own')),
    leases: leases.map(readLease),
  };
}

function written({ key, attributes }: Lease): [string, string] {
  return [key, formatLeaseAttributes(attributes)];
}

function readLease(value: unknown): Lease {
  if (!Array.isArray(value)) throw new FlannelError('INVALID_LEASE', '', 'no lease');
  const key = word(value[0]);
  return { key, ...parseSubnetKey(key), attributes: parseLeaseAttributes(word(value[1])) };
}

function word(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError(`${String(value)} is no text`);
  return value;
}
