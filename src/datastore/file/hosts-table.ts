/**
 * The hosts file as a value: the network in flannel's words and the hosts with their subnets. Pure; docs/file-datastore.md
 * is the form in full. Everything is checked before anything is used, and every problem has its line and column.
 */
import { fitsConfig, fitsRange6 } from '../../flannel/allocate.ts';
import { type Ipv6Range, type NetworkConfig, networkConfigOf } from '../../flannel/config.ts';
import { FlannelError } from '../../flannel/errors.ts';
import { describe } from '../../flannel/go-json.ts';
import { VXLAN } from '../../flannel/lease.ts';
import { formatSubnetKey } from '../../flannel/subnet-key.ts';
import { AddressError, quote } from '../../net/errors.ts';
import { type Ip, type Ipv4, type Ipv6, ipv4ToNumber, parseIpv4, parseIpv6 } from '../../net/ip.ts';
import { deriveMac, isUnicastMac, type Mac, parseMac } from '../../net/mac.ts';
import { type Prefix, parsePrefix, prefixContains, prefixLength, prefixOf } from '../../net/prefix.ts';
import type { Lease } from '../types.ts';
import { HostsFileError } from './errors.ts';
import { type LocatedValue, type Problem, parseLocated, type ValuePath } from './located-yaml.ts';

export interface HostsTable {
  /** The file's own network section. */
  readonly config: NetworkConfig;
  /** True if that is not what the daemon runs on. */
  readonly networkChanged: boolean;
  readonly leases: ReadonlyMap<string, Lease>;
  readonly byPublicIp: ReadonlyMap<string, Lease>;
}

/** Most hosts that a file may list. */
export const HOSTS_MAX = 100_000;

/** The MAC of a host that the file names none for: the same on every host that reads the file. */
export function deriveVtepMac(vni: number, publicIp: Ip): Mac {
  return deriveMac(`vtepd ${vni} ${publicIp}`);
}

/**
 * Reads the text of a hosts file; `name` is what messages call it. With `running`, the configuration that the daemon
 * started with, hosts are read for that one, because a network cannot change under running hosts. Throws `HostsFileError`.
 */
export function readHostsTable(text: string, name: string, running?: NetworkConfig): HostsTable {
  if (text.trim() === '') throw invalid(name, [{ line: 1, column: 1, message: 'is empty: write network and hosts' }]);
  const located = parseLocated(text);
  if ('problems' in located) throw invalid(name, located.problems);
  const reader = new Reader(located);
  const { network, hosts } = reader.sections();
  const config = network === undefined ? undefined : reader.network(network);
  if (config === undefined) throw invalid(name, reader.problems);
  const networkChanged = running !== undefined && !sameConfig(config, running);
  const list = reader.hosts(hosts, running ?? config);
  if (reader.problems.length === 0) return { config, networkChanged, ...list };
  const why = networkChanged ? `${NETWORK_CHANGED}; its hosts do not fit the running network:\n` : '';
  throw invalid(name, reader.problems, why);
}

/** Said while the file's network section is not the one that the daemon runs on. */
export const NETWORK_CHANGED = 'network section changed; restart vtepd to apply';

/** Most problems that one message spells out. */
const PROBLEMS_NAMED = 10;

function invalid(name: string, problems: readonly Problem[], why = ''): HostsFileError {
  const lines = problems
    .slice(0, PROBLEMS_NAMED)
    .map(({ line, column, message }) => `${name}:${line}:${column}: ${message}`);
  if (problems.length > PROBLEMS_NAMED) lines.push(`and ${problems.length - PROBLEMS_NAMED} more`);
  return new HostsFileError('HOSTS_FILE_INVALID', why + lines.join('\n'));
}

function sameConfig(a: NetworkConfig, b: NetworkConfig): boolean {
  // Both come out of one constructor, with their fields in one order.
  return JSON.stringify(a) === JSON.stringify(b);
}

const EXAMPLE: Readonly<Record<string, string>> = {
  network: '"network: { Network: 10.246.0.0/16, Backend: { Type: vxlan } }"',
  hosts: '"hosts:" and below it "- { publicIP: 10.245.1.3, subnet: 10.246.30.0/24 }" for each host',
};
const SECTIONS = Object.keys(EXAMPLE);
const HOST_FIELDS = ['publicIP', 'subnet', 'mac', 'publicIPv6', 'subnet6', 'mac6'];

/** Reads the parts of one file and gathers what is wrong with them. */
class Reader {
  readonly problems: Problem[] = [];
  private readonly located: LocatedValue;

  constructor(located: LocatedValue) {
    this.located = located;
  }

  sections(): { network?: unknown; hosts?: unknown } {
    const fields = this.mapping(this.located.value, [], SECTIONS);
    for (const section of SECTIONS) {
      if (fields !== undefined && fields.get(section) === undefined) {
        this.refuse([section], `${section} is missing: write ${EXAMPLE[section]}`);
      }
    }
    return { network: fields?.get('network'), hosts: fields?.get('hosts') };
  }

  network(value: unknown): NetworkConfig | undefined {
    try {
      return networkConfigOf(value);
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
      this.refuse(['network', ...error.field.split('.').filter((word) => word !== '')], `network ${error.message}`);
      return undefined;
    }
  }

  hosts(value: unknown, config: NetworkConfig): Pick<HostsTable, 'leases' | 'byPublicIp'> {
    const list = new HostList();
    if (value === undefined) return list;
    if (!Array.isArray(value)) {
      this.refuse(['hosts'], 'hosts is not a list: write "- publicIP: ..." for each host');
    } else if (value.length > HOSTS_MAX) {
      this.refuse(['hosts', HOSTS_MAX], `hosts has ${value.length} entries: at most ${HOSTS_MAX} are served`);
    } else {
      for (const [index, entry] of value.entries()) this.host(entry, ['hosts', index], config, list);
      this.underlayInside(list, config);
    }
    return list;
  }

  private host(value: unknown, path: ValuePath, config: NetworkConfig, list: HostList): void {
    const fields = this.mapping(value, path, HOST_FIELDS);
    if (fields === undefined) return;
    const publicIp = this.field(fields, path, 'publicIP', true, readPublicIp);
    const subnet = this.field(fields, path, 'subnet', true, (text) => readSubnet(text, config));
    const given = this.field(fields, path, 'mac', false, readVtepMac);
    const six = this.half(fields, path, config);
    if (publicIp === undefined || subnet === undefined || given === REFUSED) return;
    if (publicIp === REFUSED || subnet === REFUSED || six === REFUSED) return;
    const { type, vni } = config.backend;
    const isVxlan = type === VXLAN;
    const attributes = {
      publicIp,
      backendType: type,
      ...(isVxlan ? { vtepMac: given ?? deriveVtepMac(vni, publicIp), vni } : {}),
      ...(six === undefined ? {} : { publicIpv6: six.publicIp }),
      ...(six !== undefined && isVxlan ? { vtepMac6: six.mac ?? deriveVtepMac(vni, six.publicIp) } : {}),
    };
    const subnets = six === undefined ? { subnet } : { subnet, subnet6: six.subnet };
    const clash = list.add({ key: formatSubnetKey(subnet, six?.subnet), ...subnets, attributes }, path);
    for (const { field, message } of clash) this.refuse([...path, field], message);
  }

  /** The IPv6 half of a host, which every host of a dual-stack network has and no other. */
  private half(
    fields: Map<string, unknown>,
    path: ValuePath,
    { ipv6 }: NetworkConfig,
  ): Half | undefined | typeof REFUSED {
    if (ipv6 === undefined) {
      const extra = ['publicIPv6', 'subnet6', 'mac6'].filter((name) => fields.has(name));
      for (const name of extra) {
        this.refuse([...path, name], `${name} is for a network with EnableIPv6: leave it out, or set EnableIPv6`);
      }
      return extra.length === 0 ? undefined : REFUSED;
    }
    const publicIp = this.field(fields, path, 'publicIPv6', true, readPublicIpv6);
    const subnet = this.field(fields, path, 'subnet6', true, (text) => readSubnet6(text, ipv6));
    const mac = this.field(fields, path, 'mac6', false, readVtepMac);
    if (publicIp === undefined || publicIp === REFUSED || subnet === undefined || subnet === REFUSED) return REFUSED;
    return mac === REFUSED ? REFUSED : { publicIp, subnet, mac };
  }

  /** A tunnel address inside a host's subnet would send the tunnel's own packets into the tunnel. */
  private underlayInside(list: HostList, config: NetworkConfig): void {
    const check = (path: ValuePath, field: string, ip: Ip, length: number): void => {
      const subnet = prefixOf(ip, length);
      if (!list.bySubnet.has(subnet)) return;
      this.refuse([...path, field], `${field} ${ip} lies inside the subnet ${subnet} of the overlay: move one`);
    };
    for (const [{ publicIp, publicIpv6 }, path] of list.paths) {
      check(path, 'publicIP', publicIp, config.subnetLen);
      if (publicIpv6 !== undefined && config.ipv6 !== undefined) {
        check(path, 'publicIPv6', publicIpv6, config.ipv6.subnetLen);
      }
    }
  }

  /** The fields of a mapping by their proper names. */
  private mapping(value: unknown, path: ValuePath, names: readonly string[]): Map<string, unknown> | undefined {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.refuse(path, `is no mapping: write the fields ${names.join(', ')}`);
      return undefined;
    }
    const fields = new Map<string, unknown>();
    for (const [given, field] of Object.entries(value)) {
      const name = names.find((candidate) => candidate.toLowerCase() === given.toLowerCase());
      if (name === undefined) {
        this.refuse([...path, given], `${quote(given)} is not known here: the fields are ${names.join(', ')}`);
      } else if (field !== null) {
        fields.set(name, field);
      }
    }
    return fields;
  }

  private field<T>(
    fields: Map<string, unknown>,
    path: ValuePath,
    name: string,
    required: boolean,
    read: (text: string) => T,
  ): T | undefined | typeof REFUSED {
    const value = fields.get(name);
    if (value === undefined) {
      if (required) this.refuse([...path, name], `${name} is missing: every host has one`);
      return undefined;
    }
    try {
      if (typeof value !== 'string') throw new RangeError(`is ${describe(value)}: write a text`);
      return read(value);
    } catch (error) {
      if (!(error instanceof AddressError || error instanceof RangeError)) throw error;
      this.refuse([...path, name], `${name} ${error.message}`);
      return REFUSED;
    }
  }

  private refuse(path: ValuePath, message: string): void {
    this.problems.push(this.located.problemAt(path, message));
  }
}

interface Half {
  readonly publicIp: Ipv6;
  readonly subnet: Prefix;
  readonly mac: Mac | undefined;
}

/** Stands for a field that is there and unusable; its problem is noted already. */
const REFUSED = Symbol('refused');

/** Hosts by all that must be theirs alone. */
class HostList {
  readonly leases = new Map<string, Lease>();
  readonly byPublicIp = new Map<string, Lease>();
  readonly bySubnet = new Map<Prefix, Lease>();
  readonly paths = new Map<Lease['attributes'], ValuePath>();
  private readonly byPublicIpv6 = new Map<string, Lease>();
  private readonly byMac = new Map<string, Lease>();

  add(lease: Lease, path: ValuePath): { field: string; message: string }[] {
    const { attributes, subnet, subnet6 } = lease;
    const { publicIp, publicIpv6, vtepMac, vtepMac6 } = attributes;
    const clashes: { field: string; message: string }[] = [];
    const check = (field: string, value: string, holder: Lease | undefined) => {
      if (holder === undefined) return;
      const whose = field.startsWith('publicIP')
        ? `the host with ${holder.subnet}`
        : `host ${holder.attributes.publicIp}`;
      clashes.push({ field, message: `${field} ${value} is already that of ${whose}: each host needs its own` });
    };
    check('publicIP', publicIp, this.byPublicIp.get(publicIp));
    if (publicIpv6 !== undefined) check('publicIPv6', publicIpv6, this.byPublicIpv6.get(publicIpv6));
    // All subnets of a family have the network's one length: to overlap is to be equal.
    check('subnet', subnet, this.bySubnet.get(subnet));
    if (subnet6 !== undefined) check('subnet6', subnet6, this.bySubnet.get(subnet6));
    if (clashes.length === 0 && vtepMac !== undefined) check('mac', vtepMac, this.byMac.get(vtepMac));
    if (clashes.length === 0 && vtepMac6 !== undefined) {
      check('mac6', vtepMac6, vtepMac6 === vtepMac ? lease : this.byMac.get(vtepMac6));
    }
    if (clashes.length > 0) return clashes;
    this.leases.set(lease.key, lease);
    this.byPublicIp.set(publicIp, lease);
    if (publicIpv6 !== undefined) this.byPublicIpv6.set(publicIpv6, lease);
    for (const prefix of [subnet, subnet6]) if (prefix !== undefined) this.bySubnet.set(prefix, lease);
    for (const mac of [vtepMac, vtepMac6]) if (mac !== undefined) this.byMac.set(mac, lease);
    this.paths.set(attributes, path);
    return clashes;
  }
}

function readPublicIp(text: string): Ipv4 {
  const publicIp = parseIpv4(text);
  const value = ipv4ToNumber(publicIp);
  // 224.0.0.0 and above: multicast, reserved, broadcast.
  if (value === 0 || value >= 0xe000_0000) {
    throw new RangeError(`${publicIp} is not the address of a host: write the host's underlay IPv4 address`);
  }
  return publicIp;
}

function readSubnet(text: string, config: NetworkConfig): Prefix {
  const subnet = parsePrefix(text);
  const { network, subnetLen, subnetMin, subnetMax } = config;
  if (fitsConfig(config, subnet)) return subnet;
  if (!prefixContains(network, subnet)) {
    throw new RangeError(`${subnet} lies outside the network ${network}: write a /${subnetLen} inside it`);
  }
  if (prefixLength(subnet) !== subnetLen) {
    throw new RangeError(
      `${subnet} is no /${subnetLen}, the network's SubnetLen: write a /${subnetLen}, or set SubnetLen`,
    );
  }
  const range = `${subnetMin} to ${subnetMax}`;
  throw new RangeError(`${subnet} lies outside SubnetMin to SubnetMax (${range}): write another, or widen the range`);
}

/** Loopback, link-local and multicast addresses are no way to a host. */
function readPublicIpv6(text: string): Ipv6 {
  const publicIp = parseIpv6(text);
  if (!/^(?:::1?$|ff|fe[89ab])/.test(publicIp)) return publicIp;
  throw new RangeError(`${publicIp} is not the address of a host: write the host's underlay IPv6 address`);
}

function readSubnet6(text: string, range: Ipv6Range): Prefix {
  const subnet = parsePrefix(text);
  if (fitsRange6(range, subnet)) return subnet;
  const { network, subnetLen, subnetMin, subnetMax } = range;
  throw new RangeError(
    `${subnet} is no /${subnetLen} of the network ${network} from ${subnetMin} to ${subnetMax}: write one that is`,
  );
}

function readVtepMac(text: string): Mac {
  const mac = parseMac(text);
  if (!isUnicastMac(mac)) {
    throw new RangeError(`${mac} belongs to no device: write a unicast MAC, or leave it out`);
  }
  return mac;
}
