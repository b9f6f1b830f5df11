/**
 * Desired addresses and routes of one network against what the kernel holds -> operations. Ours are, on our device, the
 * routes marked with `ROUTE_PROTOCOL` and the addresses of full length (`/32`, `/128`, the only ones that we set), and on
 * other devices and on none the marked routes to the network's subnets: what an operator adds by hand stays.
 */
import {
  type BlackholeFacts,
  type HostFacts,
  type HostOperation,
  ROUTE_PROTOCOL,
  type RouteFacts,
} from '../dataplane/protocol.ts';
import { type Prefix, prefixContains } from '../net/prefix.ts';
import type { DesiredRoute } from './desired.ts';

/** Weaker than any route that leads somewhere: a bridge's own, to the same destination, has 0 or 256. */
const BLACKHOLE_METRIC = 2 ** 31 - 1;

export interface DesiredHost {
  /** Absent for a network without a device of its own. */
  readonly dev?: string | undefined;
  /** The network whose marked routes on other devices are ours. */
  readonly within?: Prefix | undefined;
  /** Address and length, such as `10.246.30.0/32`. */
  readonly addresses: readonly string[];
  readonly routes: readonly DesiredRoute[];
  /** What is thrown away where no other route is. */
  readonly blackholes?: readonly Prefix[] | undefined;
}

export interface HostPlan {
  readonly operations: readonly HostOperation[];
  /** What was left alone because something else on the host stands in its place: sentences for the log. */
  readonly conflicts: readonly string[];
}

/** What makes `facts` equal to `desired`; empty when they are. */
export function planHost(facts: HostFacts, desired: DesiredHost): HostPlan {
  const { dev } = desired;
  const routes = planRoutes(facts.routes, desired);
  const blackholes = planBlackholes(facts.blackholes, desired);
  if (dev === undefined) return { ...routes, operations: [...routes.operations, ...blackholes] };
  const link = facts.links.find((candidate) => candidate.name === dev);
  if (link === undefined) {
    return { operations: blackholes, conflicts: [`device ${dev} does not exist: no address and no route is set`] };
  }
  const addresses = planAddresses(link.addresses, dev, desired.addresses);
  const up: HostOperation[] = link.up ? [] : [{ op: 'link.set', dev, up: true }];
  return { operations: [...up, ...addresses, ...routes.operations, ...blackholes], conflicts: routes.conflicts };
}

/** Takes away the marked routes to subnets of former networks, but for those that are wanted now. */
export function planFormer(
  facts: HostFacts,
  former: readonly Prefix[],
  wanted: ReadonlySet<string>,
): readonly HostOperation[] {
  const isFormer = (destination: string): boolean =>
    former.some((prefix) => prefixContains(prefix, destination as Prefix));
  const routes = facts.routes.filter((fact) => isMarked(fact) && isFormer(fact.destination));
  const blackholes = facts.blackholes.filter((fact) => isOurBlackhole(fact) && isFormer(fact.destination));
  return [
    ...routes.map(({ dev, destination, via, metric }) => deletion(dev ?? '', destination, via, metric)),
    ...blackholes.map(blackholeDeletion),
  ].filter((operation) => !('destination' in operation) || !wanted.has(operation.destination));
}

/** The operations for a difference that is already known; deletions come first, a replaced route needs none. */
export function routeOperations(
  dev: string | undefined,
  routes: { readonly added: readonly DesiredRoute[]; readonly removed: readonly DesiredRoute[] },
): HostOperation[] {
  const replaced = new Set(routes.added.map((route) => route.destination));
  return [
    ...routes.removed.flatMap((route) =>
      replaced.has(route.destination)
        ? []
        : [deletion(deviceOf(route, dev), route.destination, route.via ?? null, null)],
    ),
    ...routes.added.map((route) => replacement(deviceOf(route, dev), route)),
  ];
}

/** Additions first: without any IPv4 address the kernel flushes the device's routes (fib_inetaddr_event, NETDEV_DOWN). */
function planAddresses(
  held: HostFacts['links'][number]['addresses'],
  dev: string,
  addresses: readonly string[],
): HostOperation[] {
  const wanted = new Set(addresses);
  const present = new Set(held.map((fact) => fact.address));
  const operations: HostOperation[] = [];
  for (const address of wanted) {
    if (!present.has(address)) operations.push({ op: 'address.add', dev, address });
  }
  for (const { address, scope } of held) {
    if (!wanted.has(address) && scope === 'global' && /\/(?:32|128)$/.test(address) && !/:.*\/32$/.test(address)) {
      operations.push({ op: 'address.del', dev, address });
    }
  }
  return operations;
}

function planRoutes(held: readonly RouteFacts[], desired: DesiredHost): HostPlan {
  const byDestination = new Map<string, RouteFacts[]>();
  for (const fact of held) {
    const facts = byDestination.get(fact.destination);
    if (facts === undefined) byDestination.set(fact.destination, [fact]);
    else facts.push(fact);
  }
  const deletions: HostOperation[] = [];
  const additions: HostOperation[] = [];
  const conflicts: string[] = [];
  const kept = new Set<RouteFacts>();
  const wanted = new Set(desired.routes.map((route) => route.destination));
  // A direct route of a lease outside the network is ours while it is wanted.
  const isOurs = (fact: RouteFacts): boolean =>
    isMarked(fact) && (isWithin(fact, desired) || wanted.has(fact.destination as Prefix));
  for (const route of desired.routes) {
    const dev = deviceOf(route, desired.dev);
    const metric = defaultMetric(route.destination);
    const rivals = (byDestination.get(route.destination) ?? []).filter((fact) => fact.metric === metric);
    const other = rivals.find((fact) => fact.dev !== dev && !isOurs(fact));
    const equal = rivals.find(
      (fact) =>
        fact.dev === dev && isOurs(fact) && (fact.via ?? undefined) === route.via && fact.onlink === route.onlink,
    );
    if (equal !== undefined) {
      kept.add(equal);
    } else if (other !== undefined) {
      // A replacing request takes the first route of this destination and metric, whatever its device.
      conflicts.push(
        `route ${route.destination} goes to ${other.dev ?? other.via ?? 'elsewhere'} on this host and was left alone; ` +
          `traffic to that subnet does not reach ${dev} until it is deleted (ip route del ${route.destination})`,
      );
    } else {
      for (const fact of rivals) kept.add(fact);
      additions.push(replacement(dev, route));
    }
  }
  for (const fact of held) {
    if (isOurs(fact) && !kept.has(fact)) {
      deletions.push(deletion(fact.dev ?? '', fact.destination, fact.via, fact.metric));
    }
  }
  return { operations: [...deletions, ...additions], conflicts };
}

function planBlackholes(held: readonly BlackholeFacts[], { within, blackholes = [] }: DesiredHost): HostOperation[] {
  const wanted = new Set<string>(blackholes);
  const ours = held.filter(
    (fact) => isOurBlackhole(fact) && within !== undefined && prefixContains(within, fact.destination as Prefix),
  );
  const present = new Set(ours.map((fact) => fact.destination));
  return [
    ...ours.filter((fact) => !wanted.has(fact.destination)).map(blackholeDeletion),
    ...[...wanted]
      .filter((destination) => !present.has(destination))
      .map((destination): HostOperation => ({ op: 'blackhole.add', destination, metric: BLACKHOLE_METRIC })),
  ];
}

function isOurBlackhole({ protocol, metric }: BlackholeFacts): boolean {
  return protocol === ROUTE_PROTOCOL && metric === BLACKHOLE_METRIC;
}

function blackholeDeletion({ destination, metric }: BlackholeFacts): HostOperation {
  return { op: 'blackhole.del', destination, metric };
}

function isMarked(fact: RouteFacts): boolean {
  return fact.protocol === ROUTE_PROTOCOL && fact.dev !== null;
}

function isWithin(fact: RouteFacts, { dev, within }: DesiredHost): boolean {
  return fact.dev === dev || (within !== undefined && prefixContains(within, fact.destination as Prefix));
}

/** A route without a device of its own is on the network's; a network without one has only direct routes. */
function deviceOf(route: DesiredRoute, dev: string | undefined): string {
  return route.dev ?? dev ?? '';
}

/** Priority of a route made without one: 0 for IPv4, IP6_RT_PRIO_USER for IPv6 (linux/ipv6_route.h). */
function defaultMetric(destination: string): number {
  return destination.includes(':') ? 1024 : 0;
}

function replacement(dev: string, route: DesiredRoute): HostOperation {
  const { destination, via, onlink } = route;
  return { op: 'route.replace', dev, destination, via: via ?? null, onlink, metric: null };
}

function deletion(dev: string, destination: string, via: string | null, metric: number | null): HostOperation {
  return { op: 'route.del', dev, destination, via, metric };
}
