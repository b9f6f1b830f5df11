/**
 * Hosts of a cluster against etcd's content: what every host's FDB, neighbours, routes and addresses are to be is read from
 * the keys as they lie there, by a reader of its own, and nothing may be missing, left over or doubled.
 */
import assert from 'node:assert/strict';
import { type Cluster, PREFIX } from './cluster.ts';
import { eventually } from './exec.ts';
import type { VtepdHost } from './vtepd.ts';

/** `RTPROT` of vtepd's routes. */
const ROUTE_PROTOCOL = '86';

interface Peer {
  /** `10.246.81.0/24` */
  readonly subnet: string;
  readonly base: string;
  readonly publicIp: string;
  readonly mac: string;
}

/** Waits until every host is as etcd's content says; fails with what differs. */
export async function assertEqualToEtcd(
  cluster: Cluster,
  hosts: readonly VtepdHost[],
  { timeoutMs = 60_000 } = {},
): Promise<void> {
  let last: string[] = [];
  await eventually(
    'all hosts as etcd says',
    async () => {
      last = await differences(cluster, hosts);
      return last.length === 0;
    },
    { timeoutMs, everyMs: 300 },
  ).catch((error: Error) => {
    const thrown = error.cause instanceof Error ? error.cause.message : '';
    assert.fail([error.message, ...last, thrown].join('\n'));
  });
}

/** What is not as etcd says, in words. */
async function differences(cluster: Cluster, hosts: readonly VtepdHost[]): Promise<string[]> {
  const leases = await readLeases(cluster);
  const found = [...doubled(leases)];
  const held = new Map<string, string>();
  for (const vtepd of hosts) {
    const name = `host ${vtepd.host.label}`;
    const { controller } = await vtepd.status();
    if (!controller.running || !controller.ready || controller.lease === null) {
      found.push(`${name} is not ready`);
      continue;
    }
    const { lease, datastore, leaseLost } = controller;
    if (datastore.state !== 'fresh') found.push(`${name} is ${datastore.state}: ${datastore.reason}`);
    if (leaseLost !== null) found.push(`${name} has lost its lease: ${leaseLost}`);
    const other = held.get(lease.key);
    if (other !== undefined) found.push(`${name} and ${other} both hold ${lease.key}`);
    held.set(lease.key, name);
    found.push(...(await ofHost(vtepd, cluster.device, lease.key, leases)).map((text) => `${name}: ${text}`));
  }
  return found;
}

/** Usable leases of the network's form by key; what flannel's own hosts would skip is skipped. */
async function readLeases(cluster: Cluster): Promise<Map<string, Peer>> {
  const prefix = `${PREFIX}/subnets/`;
  const answer = JSON.parse(await cluster.etcdctl('get', '--prefix', prefix, '-w', 'json')) as {
    kvs?: { key: string; value: string }[];
  };
  const leases = new Map<string, Peer>();
  for (const { key, value } of answer.kvs ?? []) {
    const name = Buffer.from(key, 'base64').toString().slice(prefix.length);
    const base = /^(\d+\.\d+\.\d+\.0)-24$/.exec(name)?.[1];
    const fields = /"PublicIP":"([\d.]+)".*"BackendType":"vxlan".*"VtepMAC":"([\da-f:]{17})"/.exec(
      Buffer.from(value, 'base64').toString(),
    );
    if (base === undefined || fields === null) continue;
    const [, publicIp = '', mac = ''] = fields;
    leases.set(name, { subnet: `${base}/24`, base, publicIp, mac });
  }
  return leases;
}

/** Keys are unique in etcd; their hosts have to be as well. */
function* doubled(leases: ReadonlyMap<string, Peer>): Iterable<string> {
  const owners = new Map<string, string>();
  for (const [key, { publicIp, mac }] of leases) {
    for (const owner of [publicIp, mac]) {
      const before = owners.get(owner);
      if (before !== undefined) yield `${owner} has two leases: ${before} and ${key}`;
      owners.set(owner, key);
    }
  }
}

async function ofHost(
  vtepd: VtepdHost,
  device: string,
  ownKey: string,
  leases: ReadonlyMap<string, Peer>,
): Promise<string[]> {
  const own = leases.get(ownKey);
  if (own === undefined) return [`its lease ${ownKey} is not in etcd`];
  const peers = [...leases.values()].filter((peer) => peer !== own);
  const { ns } = vtepd.host;
  const [link] = await json<{ address: string; addr_info: { family: string; local: string; prefixlen: number }[] }>(
    ns.exec(['ip', '-j', 'addr', 'show', 'dev', device]),
  );
  const routes = await json<{ dst: string; gateway?: string; dev: string; protocol: string; flags: string[] }>(
    ns.exec(['ip', '-j', '-N', 'route', 'show', 'table', '254']),
  );
  const fdb = (await vtepd.fdb(device)).filter(({ source }) => source === 'etcd');
  const neighbours = (await vtepd.neighbours(device)).filter(({ source }) => source === 'etcd');
  return [
    ...unequal('MAC', [link?.address ?? 'no device'], [own.mac]),
    ...unequal(
      'address',
      (link?.addr_info ?? [])
        .filter(({ family }) => family === 'inet')
        .map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      [`${own.base}/32`],
    ),
    ...unequal(
      'FDB entry',
      fdb.map(({ mac, destinations }) => `${mac} ${destinations.map(({ ip }) => ip).join()}`),
      peers.map(({ mac, publicIp }) => `${mac} ${publicIp}`),
    ),
    ...unequal(
      'neighbour',
      neighbours.map(({ prefix, lladdr }) => `${prefix} ${lladdr}`),
      peers.map(({ subnet, mac }) => `${subnet} ${mac}`),
    ),
    ...unequal(
      'route',
      routes
        .filter(({ dev, protocol }) => dev === device || protocol === ROUTE_PROTOCOL)
        .map(({ dst, gateway, dev, flags }) => `${dst} via ${gateway} dev ${dev} ${flags.join()}`),
      peers.map(({ subnet, base }) => `${subnet} via ${base} dev ${device} onlink`),
    ),
  ];
}

function* unequal(what: string, held: readonly string[], wanted: readonly string[]): Iterable<string> {
  for (const each of wanted) if (!held.includes(each)) yield `${what} ${each} is missing`;
  for (const each of held) if (!wanted.includes(each)) yield `${what} ${each} is left over`;
  if (new Set(held).size < held.length) yield `a ${what} is there twice`;
}

async function json<T>(text: Promise<string>): Promise<T[]> {
  return JSON.parse(await text) as T[];
}
