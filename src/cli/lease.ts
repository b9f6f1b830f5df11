/** `vtepd lease`: who holds which subnet, and the two things that an operator decides about it: reserve and release. */
import type { EtcdSettings } from '../config/settings.ts';
import { type Entry, ownerOf } from '../datastore/etcd/lease-table.ts';
import { fitsConfig, fitsRange6 } from '../flannel/allocate.ts';
import { type Ipv6Range, type NetworkConfig, parseNetworkConfig } from '../flannel/config.ts';
import { formatLeaseAttributes, parseLeaseAttributes } from '../flannel/lease.ts';
import { formatSubnetKey, type SubnetKey } from '../flannel/subnet-key.ts';
import { type Ipv4, parseIpv4, parseIpv6 } from '../net/ip.ts';
import { type Prefix, parsePrefix, prefixesOverlap, prefixFamily } from '../net/prefix.ts';
import { isOn, optionValue, type ParsedArguments } from './arguments.ts';
import { type Context, print } from './context.ts';
import { askController, askLeases } from './controller.ts';
import { CommandError, EXIT_OK, UsageError } from './errors.ts';
import { EtcdLeases } from './lease-etcd.ts';
import {
  controllerRow,
  entryRow,
  fileRow,
  inOrder,
  type LeaseRow,
  leaseLines,
  leaseTable,
  named,
} from './lease-row.ts';
import { namesDatastore, readDatastore } from './settings.ts';

export async function leaseList(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`lease list takes no words; \`vtepd lease show ${input.words[0]}\``);
  print(context, await rows(context, input), leaseTable);
  return EXIT_OK;
}

export async function leaseShow(context: Context, input: ParsedArguments): Promise<number> {
  const [word, ...more] = input.words;
  if (word === undefined) return leaseList(context, input);
  if (more.length > 0) throw new UsageError('lease show takes one word: a key, a subnet or a PublicIP');
  const found = named(await rows(context, input), word);
  if (found.length === 0) throw new CommandError('ENOENT', `no lease has the key, subnet or PublicIP ${word}`);
  print(context, found, (all) => all.map(leaseLines).join('\n'));
  return EXIT_OK;
}

/** From the datastore that is named; where none is, from the controller that runs; else from etcd's default place. */
async function rows(context: Context, input: ParsedArguments): Promise<LeaseRow[]> {
  if (!namesDatastore(context, input)) {
    const [status, others] = await Promise.all([askController(context.paths), askLeases(context.paths)]);
    if (status !== undefined) {
      const own = status.networks.flatMap(({ lease }) => (lease === null ? [] : [lease]));
      return inOrder([...own, ...(others ?? [])].map(controllerRow));
    }
  }
  const datastore = readDatastore(context, input);
  if (datastore.type === 'file') {
    const { readHosts } = await import('./lease-file.ts');
    return inOrder([...(await readHosts(datastore.path)).leases.values()].map(fileRow));
  }
  return withEtcd(datastore, async (etcd) => {
    const entries = await etcd.entries();
    const lives = await etcd.lives(entries);
    return inOrder(entries.map((entry) => entryRow(entry, lives.get(entry.etcdLease), datastore.renewMarginMinutes)));
  });
}

/**
 * Writes a lease without an etcd lease and without a backend: flannel's hosts pass over it ("ignoring non-vxlan"), and
 * the host that has the PublicIP takes it over when it joins; vtepd then leaves it reserved (flanneld gives it a life of a
 * day, flannel issue 1329).
 */
export async function leaseReserve(context: Context, input: ParsedArguments): Promise<number> {
  const { key, ...subnets } = readReservation(input);
  const value = readValue(input);
  const { publicIp } = parseLeaseAttributes(value);
  return withEtcd(etcdSettings(context, input), async (etcd) => {
    const entries = await etcd.entries();
    const there = entries.find((entry) => entry.name === key);
    const already = there !== undefined && there.etcdLease === 0n && ownerOf(there) === publicIp;
    if (!already) {
      refuseTaken(subnets, publicIp, entries);
      await refuseUnfit(etcd, subnets);
      if (!(await etcd.create(key, value))) throw changed(key);
    }
    print(context, { key, reserved: true, changed: !already }, () =>
      already ? `${key} was reserved for ${publicIp} already` : `${key} is reserved for ${publicIp}`,
    );
    return EXIT_OK;
  });
}

function readReservation({ words }: ParsedArguments): SubnetKey & { key: string } {
  const [first, second, ...more] = words;
  if (first === undefined || more.length > 0) throw reserveUsage();
  const subnet = read('subnet', () => parsePrefix(first));
  const subnet6 = second === undefined ? undefined : read('subnet', () => parsePrefix(second));
  if (prefixFamily(subnet) !== 4 || (subnet6 !== undefined && prefixFamily(subnet6) !== 6)) throw reserveUsage();
  return { key: formatSubnetKey(subnet, subnet6), subnet, ...(subnet6 === undefined ? {} : { subnet6 }) };
}

function readValue(input: ParsedArguments): string {
  const [ip, ip6] = [optionValue(input, 'public-ip'), optionValue(input, 'public-ipv6')];
  if (ip === undefined) throw reserveUsage();
  const publicIp = read('public-ip', () => parseIpv4(ip));
  const publicIpv6 = ip6 === undefined ? {} : { publicIpv6: read('public-ipv6', () => parseIpv6(ip6)) };
  const value = formatLeaseAttributes({ publicIp, ...publicIpv6, backendType: '' });
  read('public-ip', () => parseLeaseAttributes(value));
  return value;
}

function reserveUsage(): UsageError {
  return new UsageError(
    'lease reserve needs a subnet and a host: lease reserve 10.246.30.0/24 --public-ip 10.245.1.3; in a network with IPv6 the IPv6 subnet behind the other',
  );
}

export async function leaseRelease(context: Context, input: ParsedArguments): Promise<number> {
  const [key, ...more] = input.words;
  if (key === undefined || more.length > 0)
    throw new UsageError('lease release needs a key: lease release 10.246.30.0-24');
  return withEtcd(etcdSettings(context, input), async (etcd) => {
    const entry = (await etcd.entries()).find((each) => each.name === key);
    if (entry === undefined) {
      throw new CommandError('ENOENT', `there is no key ${key} below ${etcd.place}; \`vtepd lease list\` shows them`);
    }
    const inUse = whyInUse(entry);
    if (inUse !== undefined && !isOn(input, 'force')) {
      throw new CommandError('EBUSY', `${key} ${inUse}; repeat with --force if it is to go all the same`);
    }
    if (!(await etcd.delete(entry))) throw changed(key);
    print(context, { released: key }, () => `${key} is released`);
    return EXIT_OK;
  });
}

/** Only a reservation that nobody has taken up goes without another word. */
function whyInUse(entry: Entry): string | undefined {
  const owner = ownerOf(entry) ?? 'a host that cannot be read';
  if (entry.problem !== undefined) return `cannot be read (${entry.problem}), so nobody knows whose it is`;
  if (entry.etcdLease !== 0n) {
    return `is the live lease of ${owner}, which loses its subnet: flanneld stops, vtepd takes a free one`;
  }
  return entry.attributes?.backendType === '' ? undefined : `is reserved and in use by ${owner}`;
}

function refuseTaken(wanted: SubnetKey, publicIp: Ipv4, entries: readonly Entry[]): void {
  const overlapping = entries.find(({ subnetKey }) => subnetKey !== undefined && overlap(subnetKey, wanted));
  if (overlapping !== undefined) {
    const owner = ownerOf(overlapping) ?? 'an unknown host';
    throw new CommandError('EEXIST', `${overlapping.name} of ${owner} has that subnet`);
  }
  const other = entries.find((entry) => ownerOf(entry) === publicIp);
  if (other !== undefined) {
    throw new CommandError('EEXIST', `${publicIp} has ${other.name}, and a host has one lease; release that one first`);
  }
}

function overlap(a: SubnetKey, b: SubnetKey): boolean {
  if (prefixesOverlap(a.subnet, b.subnet)) return true;
  return a.subnet6 !== undefined && b.subnet6 !== undefined && prefixesOverlap(a.subnet6, b.subnet6);
}

/**
 * A subnet that the network does not lease would be thrown away by its host at the next start; and a key of the wrong form
 * stops every flanneld of a network without IPv6 for good.
 */
async function refuseUnfit(etcd: EtcdLeases, { subnet, subnet6 }: SubnetKey): Promise<void> {
  const text = await etcd.configText();
  if (text === undefined) {
    throw new CommandError('NO_CONFIG', `there is no network configuration at ${etcd.configKey}; write it first`);
  }
  const config = parseNetworkConfig(text);
  const { ipv6 } = config;
  if (!fitsConfig(config, subnet)) throw notLeased(subnet, config);
  if (ipv6 === undefined && subnet6 !== undefined) {
    throw new CommandError('NOT_IN_NETWORK', `${subnet6}: this network has no IPv6; leave the IPv6 subnet out`);
  }
  if (ipv6 === undefined) return;
  if (subnet6 === undefined) throw new CommandError('NOT_IN_NETWORK', 'this network has IPv6: name an IPv6 subnet too');
  if (!fitsRange6(ipv6, subnet6)) throw notLeased(subnet6, ipv6);
}

function notLeased(
  subnet: Prefix,
  range: Pick<Ipv6Range | NetworkConfig, 'subnetLen' | 'subnetMin' | 'subnetMax'>,
): Error {
  return new CommandError(
    'NOT_IN_NETWORK',
    `${subnet} is not leased by this network: its subnets are /${range.subnetLen}, from ${range.subnetMin} to ${range.subnetMax}`,
  );
}

function changed(key: string): CommandError {
  return new CommandError('CONFLICT', `${key} was changed by somebody meanwhile; look at it again`);
}

function etcdSettings(context: Context, input: ParsedArguments): EtcdSettings {
  const datastore = readDatastore(context, input);
  if (datastore.type === 'etcd') return datastore;
  throw new UsageError(`leases of a file are changed in the file: edit ${datastore.path}`);
}

async function withEtcd<T>(settings: EtcdSettings, use: (etcd: EtcdLeases) => Promise<T>): Promise<T> {
  const etcd = new EtcdLeases(settings);
  try {
    return await use(etcd);
  } finally {
    etcd.close();
  }
}

function read<T>(name: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new UsageError(`${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
