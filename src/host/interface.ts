/**
 * Which interface and address the underlay is, from the kernel's facts and the settings; flannel's rules (`pkg/ipmatch`,
 * `pkg/ip/iface.go`): names and addresses in the order given, then regular expressions in their order, then the way to
 * --iface-can-reach; where none of these is set, the interface that has --public-ip, else the default route's. Pure.
 */
import { parseGoRegexp } from '../config/go-regexp.ts';
import type { AddressFacts, HostFacts, LinkFacts } from '../dataplane/protocol.ts';
import { type Ip, type Ipv4, type Ipv6, parseIpv4, parseIpv6 } from '../net/ip.ts';
import { parseNetworkOf, prefixContains } from '../net/prefix.ts';

export interface Underlay {
  readonly name: string;
  readonly mtu: number;
  /** To bind and to send from. */
  readonly address: Ipv4;
  /** What peers send to; another than `address` behind a NAT. */
  readonly publicIp: Ipv4;
}

export interface UnderlayIpv6 {
  readonly address: Ipv6;
  readonly publicIp: Ipv6;
}

/** What the host has, and which way it would take. */
export interface UnderlayWishes {
  readonly iface: readonly string[];
  readonly ifaceRegex?: readonly string[] | undefined;
  readonly reach?: Reach | undefined;
  readonly publicIp?: Ipv4 | undefined;
}

/** By which interface, and from which address, the kernel sends to an address; absent: by none. */
export interface Reach {
  readonly to: Ip;
  readonly dev?: string | undefined;
  readonly source?: string | undefined;
}

export class InterfaceError extends Error {
  readonly code = 'NO_INTERFACE';
}

const LINK_LOCAL = parseNetworkOf('169.254.0.0/16');
const DEFAULT_ROUTE = '0.0.0.0/0';

export function chooseUnderlay(facts: HostFacts, wanted: UnderlayWishes): Underlay {
  const { link, address } = choose(facts, wanted);
  return { name: link.name, mtu: link.mtu, address, publicIp: wanted.publicIp ?? address };
}

/** The IPv6 side of the interface that was chosen: flannel wants both families on one. */
export function chooseIpv6(
  facts: HostFacts,
  name: string,
  wanted: Ipv6 | undefined,
  iface: readonly string[] = [],
): UnderlayIpv6 {
  const link = facts.links.find((candidate) => candidate.name === name);
  const usable = (link?.addresses ?? []).filter((fact) => fact.address.includes(':') && fact.scope === 'global');
  const named = usable.find((fact) => iface.includes(bare(fact)));
  const best = named ?? usable.toSorted((a, b) => rank6(a) - rank6(b))[0];
  if (best === undefined) {
    throw new InterfaceError(
      `${name} has no global IPv6 address, and the network has EnableIPv6: add one, or name another interface with --iface`,
    );
  }
  const address = parseIpv6(bare(best));
  return { address, publicIp: wanted ?? address };
}

function rank6(fact: AddressFacts): number {
  return (fact.deprecated ? 4 : 0) + (fact.permanent ? 0 : 2) + (fact.temporary ? 1 : 0);
}

interface Choice {
  readonly link: LinkFacts;
  readonly address: Ipv4;
}

function choose(facts: HostFacts, { iface, ifaceRegex = [], reach, publicIp }: UnderlayWishes): Choice {
  const complaints: string[] = [];
  const attempts = [
    ...iface.map((wish) => () => (isAddress(wish) ? byAddress(facts, wish) : byName(facts, wish))),
    ...ifaceRegex.map((wish) => () => byRegexp(facts, wish)),
    ...(reach === undefined ? [] : [() => byReach(facts, reach)]),
  ];
  for (const attempt of attempts) {
    const found = attempt();
    if (typeof found !== 'string') return found;
    complaints.push(found);
  }
  if (complaints.length > 0) throw new InterfaceError(`iface: ${complaints.join('; ')}`);
  if (publicIp !== undefined) {
    const found = byAddress(facts, publicIp);
    if (typeof found !== 'string') return found;
    throw new InterfaceError(`public-ip: ${found}; an address of a NAT needs --iface beside it`);
  }
  return byDefaultRoute(facts);
}

function byName(facts: HostFacts, name: string): Choice | string {
  const link = facts.links.find((candidate) => candidate.name === name);
  if (link === undefined)
    return `there is no interface ${name} (there are ${facts.links.map((each) => each.name).join(', ')})`;
  const address = bestAddress(link.addresses);
  return address === undefined ? `${name} has no IPv4 address` : { link, address };
}

function byAddress(facts: HostFacts, address: string): Choice | string {
  const link = facts.links.find((candidate) => candidate.addresses.some((fact) => bare(fact) === address));
  if (link === undefined) return `no interface has the address ${address}`;
  return address.includes(':') ? byName(facts, link.name) : { link, address: parseIpv4(address) };
}

/** Addresses of all interfaces before their names, both in the kernel's order. */
function byRegexp(facts: HostFacts, text: string): Choice | string {
  const regexp = parseGoRegexp(text);
  for (const link of facts.links) {
    const found = link.addresses.find((fact) => isIpv4(bare(fact)) && regexp.test(bare(fact)));
    if (found !== undefined) return { link, address: parseIpv4(bare(found)) };
  }
  const link = facts.links.find((candidate) => regexp.test(candidate.name));
  if (link !== undefined) return byName(facts, link.name);
  const all = facts.links.map(({ name, addresses }) => [name, ...addresses.map(bare).filter(isIpv4)].join(' '));
  return `nothing matches ${text} (there are ${all.join(', ')})`;
}

function byReach(facts: HostFacts, { to, dev, source }: Reach): Choice | string {
  const found = dev === undefined ? `no route leads to ${to}` : byName(facts, dev);
  if (typeof found === 'string' || source === undefined || !isIpv4(source)) return found;
  return { link: found.link, address: parseIpv4(source) };
}

function byDefaultRoute(facts: HostFacts): Choice {
  const routes = facts.routes
    .filter((route) => route.destination === DEFAULT_ROUTE && route.dev !== null && route.dev !== undefined)
    .toSorted((a, b) => a.metric - b.metric);
  for (const route of routes) {
    const found = byName(facts, route.dev ?? '');
    if (typeof found !== 'string') return found;
  }
  throw new InterfaceError(
    routes.length === 0
      ? 'there is no IPv4 default route to tell the underlay interface; name it with --iface'
      : `the interface of the default route (${routes.map((route) => route.dev).join(', ')}) has no IPv4 address; name another with --iface`,
  );
}

/** Global before link-local, permanent before leased, as flannel; of equals the kernel's first. */
function bestAddress(addresses: readonly AddressFacts[]): Ipv4 | undefined {
  const usable = addresses.filter((fact) => isIpv4(bare(fact)) && fact.scope !== 'host');
  const [best] = usable.toSorted((a, b) => rank(a) - rank(b));
  return best === undefined ? undefined : parseIpv4(bare(best));
}

function rank(fact: AddressFacts): number {
  const local = prefixContains(LINK_LOCAL, parseIpv4(bare(fact)));
  return (local ? 8 : 0) + (fact.deprecated ? 4 : 0) + (fact.permanent ? 0 : 2) + (fact.temporary ? 1 : 0);
}

function bare(fact: AddressFacts): string {
  return fact.address.replace(/\/.*/, '');
}

function isAddress(text: string): boolean {
  return isIpv4(text) || text.includes(':');
}

function isIpv4(text: string): boolean {
  return /^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$/.test(text);
}
