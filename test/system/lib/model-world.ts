/** The few addresses that random tables and random frames share, so that they meet. */
import type { Random } from './model-random.ts';
import { KERNEL_NETWORKS, NETWORKS, PEERS4, PEERS6 } from './model-rig.ts';

export const BROADCAST = 'ff:ff:ff:ff:ff:ff';
export const FLOOD = '00:00:00:00:00:00';
export const GROUPS = [BROADCAST, '01:00:5e:00:00:05', '33:33:00:00:00:01'];
export const HOSTS = [1, 2, 3, 4, 5, 6, 7, 8].map((last) => `02:00:00:00:01:0${last}`);

/** Single addresses and nested subnets, for the neighbour table. */
export const PREFIXES = [
  '10.246.0.0/16',
  '10.246.1.0/24',
  '10.246.1.128/25',
  '10.246.1.5/32',
  '10.246.2.7/32',
  '0.0.0.0/0',
  'fd00:246::/32',
  'fd00:246:1::/64',
  'fd00:246:1::5/128',
];

export const INNER4 = ['10.246.1.5', '10.246.1.6', '10.246.1.200', '10.246.2.7', '10.246.2.8', '10.247.0.1'];
export const INNER6 = ['fd00:246:1::5', 'fd00:246:1::6', 'fd00:246:2::7', 'fd00:247::1'];

export function networkOf(name: string): (typeof NETWORKS)[number] {
  const network = [...NETWORKS, ...KERNEL_NETWORKS].find((each) => each.name === name);
  if (network === undefined) throw new Error(`no network ${name}`);
  return network;
}

export function isV6(name: string): boolean {
  return networkOf(name).local.includes(':');
}

export function peersOf(name: string): readonly string[] {
  return isV6(name) ? PEERS6 : PEERS4;
}

export function unicastMac(random: Random): string {
  return random.pick(HOSTS);
}

/** Where frames go: somebody, a group, somebody unknown. */
export function destinationMac(random: Random, network: string): string {
  return random.weighted([
    [70, random.pick(HOSTS)],
    [15, random.pick(GROUPS)],
    [4, networkOf(network).mac],
    [2, FLOOD],
    [9, `02:00:00:00:02:0${random.int(1, 9)}`],
  ]);
}

/** Each host's MAC is mostly behind one and the same peer. */
export function sourceMac(random: Random, peer: string): string {
  const home = Number(peer.slice(-1));
  return random.chance(80) ? (HOSTS[home] ?? HOSTS[0] ?? '') : random.pick(HOSTS);
}
