/**
 * Which interface and address the underlay is, from the kernel's facts and the settings; flannel's rules (`pkg/ipmatch`,
 * `pkg/ip/iface.go`): names and addresses in the order given, else the interface that has --public-ip, else the default
 * route's. Pure.
 */
import type { AddressFacts, HostFacts, LinkFacts } from '../dataplane/protocol.ts';
import { type Ipv4, type Ipv6, parseIpv4, parseIpv6 } from '../net/ip.ts';
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

export class InterfaceError extends Error {
  readonly code = 'NO_INTERFACE';
}

const LINK_LOCAL = parseNetworkOf('169.254.0.0/16');
const DEFAULT_ROUTE = '0.0.0.0/0';

export function chooseUnderlay(
  facts: HostFacts,
  wanted: { readonly iface: readonly string[]; readonly publicIp?: Ipv4 | undefined },
): Underlay {
  const { link, address } = choose(facts, wanted);
  return { name: link.name, mtu: link.mtu, address, publicIp: wanted.publicIp ?? address };
}

/** The IPv6 side of the interface that was chosen: flannel wants both families on one. */
export function chooseIpv6(facts: HostFacts, name: string, wanted: Ipv6 | undefined): UnderlayIpv6 {
  const link = facts.links.find((candidate) => candidate.name === name);
  const usable = (link?.addresses ?? []).filter((fact) => fact.address.includes(':') && fact.scope === 'global');
  const [best] = usable.toSorted((a, b) => rank6(a) - rank6(b));
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

function choose(facts: HostFacts, { iface, publicIp }: Parameters<typeof chooseUnderlay>[1]): Choice {
  const complaints: string[] = [];
  for (const wish of iface) {
    const found = isAddress(wish) ? byAddress(facts, wish) : byName(facts, wish);
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
  return link === undefined ? `no interface has the address ${address}` : { link, address: parseIpv4(address) };
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
  const usable = addresses.filter((fact) => isAddress(bare(fact)) && fact.scope !== 'host');
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
  return /^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$/.test(text);
}
