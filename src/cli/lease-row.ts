/** A lease as `vtepd lease` shows it. Pure. */
import type { LeaseStatus } from '../daemon/status-types.ts';
import { type Entry, ownerOf } from '../datastore/etcd/lease-table.ts';
import type { Lease } from '../datastore/types.ts';
import { ipToBigInt } from '../net/ip.ts';
import { parsePrefix, prefixBase } from '../net/prefix.ts';
import type { Life } from './lease-etcd.ts';
import { duration, table } from './output.ts';

/** The documented keys of `lease list --json`; null is "not known" or "none". */
export interface LeaseRow {
  readonly key: string;
  readonly subnet: string | null;
  /** In a network with IPv6. */
  readonly subnet6: string | null;
  readonly public_ip: string | null;
  readonly mac: string | null;
  readonly backend: string | null;
  /** The key has no etcd lease: it stays until somebody releases it. */
  readonly reserved: boolean | null;
  /** Seconds. */
  readonly ttl: number | null;
  readonly granted_ttl: number | null;
  /** Its host should have renewed it by now. */
  readonly overdue: boolean | null;
  /** Why nobody can read it. */
  readonly problem: string | null;
}

/** flanneld renews at its margin and repeats every minute: below the margin less this much, its host is probably gone. */
const GRACE_SECONDS = 120;

export function entryRow(entry: Entry, life: Life | undefined, renewMarginMinutes: number): LeaseRow {
  const { attributes } = entry;
  const ttl = life === undefined ? null : Math.max(0, life.ttl);
  // A lease shorter than the margin is renewed after a third of its life.
  const margin = Math.min(renewMarginMinutes * 60 - GRACE_SECONDS, (life?.granted ?? 0) / 2);
  return {
    key: entry.name,
    subnet: entry.subnetKey?.subnet ?? null,
    subnet6: entry.subnetKey?.subnet6 ?? null,
    public_ip: ownerOf(entry) ?? null,
    mac: attributes?.vtepMac ?? null,
    backend: attributes === undefined || attributes.backendType === '' ? null : attributes.backendType,
    reserved: entry.etcdLease === 0n,
    ttl,
    granted_ttl: life?.granted ?? null,
    overdue: ttl === null ? false : ttl < margin,
    problem: entry.problem ?? null,
  };
}

/** A host of a file: it has no life, and nobody can take it. */
export function fileRow({ key, subnet, subnet6, attributes }: Lease): LeaseRow {
  return {
    key,
    subnet,
    subnet6: subnet6 ?? null,
    public_ip: attributes.publicIp,
    mac: attributes.vtepMac ?? null,
    backend: attributes.backendType,
    reserved: true,
    ttl: null,
    granted_ttl: null,
    overdue: false,
    problem: null,
  };
}

/** As the controller tells it, which knows nothing of lives. */
export function controllerRow({ key, subnet, subnet6, publicIp, mac }: LeaseStatus): LeaseRow {
  const unknown = { backend: null, reserved: null, ttl: null, granted_ttl: null, overdue: null };
  return { key, subnet, subnet6, public_ip: publicIp, mac, ...unknown, problem: null };
}

/** By address; what has none comes last. */
export function inOrder(rows: readonly LeaseRow[]): LeaseRow[] {
  const place = (row: LeaseRow): bigint =>
    row.subnet === null ? 1n << 128n : ipToBigInt(prefixBase(parsePrefix(row.subnet)));
  return rows.toSorted((a, b) => Number(place(a) - place(b)) || a.key.localeCompare(b.key));
}

/** Those that a key, a subnet or a PublicIP names. */
export function named(rows: readonly LeaseRow[], word: string): LeaseRow[] {
  return rows.filter((row) => [row.key, row.subnet, row.subnet6, row.public_ip].includes(word));
}

export function leaseTable(rows: readonly LeaseRow[]): string {
  const head = ['KEY', 'PUBLIC-IP', 'MAC', 'BACKEND', 'TTL', 'STATE'];
  const cells = rows.map((row) => [
    row.key,
    row.public_ip ?? '-',
    row.mac ?? '-',
    row.backend ?? '-',
    row.ttl === null ? '-' : duration(row.ttl),
    stateOf(row),
  ]);
  return table(head, cells, ['TTL']);
}

export function leaseLines(row: LeaseRow): string {
  const lines: (readonly [string, string])[] = [
    ['key', row.key],
    ['subnet', [row.subnet ?? '-', ...(row.subnet6 === null ? [] : [row.subnet6])].join(' ')],
    ['public-ip', row.public_ip ?? '-'],
    ['mac', row.mac ?? '-'],
    ['backend', row.backend ?? '-'],
    ['ttl', row.ttl === null ? '-' : `${duration(row.ttl)} of ${duration(row.granted_ttl ?? 0)}`],
    ['state', stateOf(row)],
  ];
  return lines.map(([name, value]) => `${name.padEnd(10)}  ${value}\n`).join('');
}

function stateOf(row: LeaseRow): string {
  if (row.problem !== null) return `unreadable: ${row.problem}`;
  if (row.reserved === null) return '-';
  if (row.reserved) return row.mac === null ? 'reserved' : 'reserved, in use';
  return row.overdue === true ? 'overdue: its host has not renewed it' : 'live';
}
