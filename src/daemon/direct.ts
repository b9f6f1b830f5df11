/**
 * Which peers are reached without a gateway: flannel's test for DirectRouting and host-gw, `ip route get`. Flannel asks when
 * a peer comes and again when it goes, so that a change in between leaves the wrong entries; here the answers count until
 * the kernel's links or routes change, which is looked at every few seconds because nobody tells of it.
 */
import { type DataplaneClient, DataplaneError } from '../dataplane/client.ts';
import { isConnectionLoss } from '../dataplane/errors.ts';
import { type HostFacts, ROUTE_PROTOCOL, type RouteFacts } from '../dataplane/protocol.ts';
import type { Reach } from '../host/interface.ts';
import type { Ip } from '../net/ip.ts';

/** Questions under way at once. */
const AT_ONCE = 64;

export type Hop = readonly [ip: Ip, dev: string | undefined];

/** The interface by which each address is reached without a gateway; undefined where there is none. */
export async function hopsTo(client: DataplaneClient, ips: readonly Ip[]): Promise<Hop[]> {
  const hops: Hop[] = [];
  for (let at = 0; at < ips.length; at += AT_ONCE) {
    hops.push(...(await Promise.all(ips.slice(at, at + AT_ONCE).map((ip) => hopTo(client, ip)))));
  }
  return hops;
}

async function hopTo(client: DataplaneClient, ip: Ip): Promise<Hop> {
  const route = await routeTo(client, ip);
  // Our own address is reached by `lo`; a lease that names it is dealt with elsewhere.
  return [ip, route?.via === null && route.dev !== null && route.dev !== 'lo' ? route.dev : undefined];
}

/** The way to an address, gateway or not. */
export async function reachOf(client: DataplaneClient, to: Ip): Promise<Reach> {
  const route = await routeTo(client, to);
  return { to, dev: route?.dev ?? undefined, source: route?.source ?? undefined };
}

/** What `ip route get` says; undefined where the kernel has no way. */
async function routeTo(client: DataplaneClient, to: Ip): Promise<RouteFacts | undefined> {
  try {
    return await client.request('host.route_get', { to, netns: null });
  } catch (error) {
    if (isConnectionLoss(error) || !(error instanceof DataplaneError)) throw error;
    return undefined;
  }
}

/** Differs when an answer of `hopsTo` may: links, addresses, and the routes that are not ours. */
export function topologyOf({ links, routes }: HostFacts): string {
  return JSON.stringify([
    links.map(({ index, name, up, carrier, addresses }) => [index, name, up, carrier, addresses.map((a) => a.address)]),
    routes.filter(({ protocol }) => protocol !== ROUTE_PROTOCOL),
  ]);
}
