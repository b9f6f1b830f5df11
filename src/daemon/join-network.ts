/**
 * Joins this host to one network, in flannel's order: configuration, interface, device, lease, then what the lease decides.
 * Whatever of an earlier run can be read back is kept: the MAC, the subnet, an adopted device.
 */
import type { HostFacts } from '../dataplane/protocol.ts';
import type { Lease } from '../datastore/types.ts';
import type { NetworkConfig } from '../flannel/config.ts';
import { HOST_GW, UDP } from '../flannel/lease.ts';
import { readDaemonRecord } from '../host/records.ts';
import type { Family } from '../net/ip.ts';
import { PeerState } from '../reconcile/desired.ts';
import type { Desired } from './desired-network.ts';
import { decideDevices } from './devices.ts';
import type { UnderlayFollower } from './follow-underlay.ts';
import { attributesOf, type Ground } from './ground.ts';
import { previousSubnets } from './identity.ts';
import type { Joined } from './joined.ts';
import type { RunnerParts } from './network-options.ts';
import { addressesOf, blackholesOf, type OurLease, ownOf } from './our-lease.ts';
import { leaseStatus } from './status-board.ts';
import { gbpWarning, Teller } from './teller.ts';
import { optionProblem, type Tunnel } from './tunnel.ts';

export async function joinNetwork(
  parts: RunnerParts,
  underlay: UnderlayFollower,
  ourLease: OurLease,
  signal: AbortSignal,
): Promise<Joined> {
  const { settings, paths, datastore, plane, board, logger } = parts;
  // A dataplane first, which may have to be started.
  await underlay.facts(signal);
  board.phase = 'config';
  const config = await datastore.config(signal);
  refuse(config, parts);
  board.phase = 'interface';
  const { facts, ground, ownLease } = await whereWeAre(config, parts, underlay, signal);
  const { publicIp } = ground.underlay;
  const record = readDaemonRecord(paths);
  const previous = previousSubnets(settings.subnetFile, record);
  board.phase = 'network';
  const teller = new Teller(board, logger, config);
  const netns = settings.netns ?? null;
  const [states, inNetns] = await plane.use(signal, (client) =>
    Promise.all([client.request('network.list', {}), client.request('host.read', { netns })]),
  );
  const { desired, macs } = decideDevices(config, ground, settings, {
    source: datastore.source,
    states,
    facts: inNetns,
    hostFacts: facts,
    ownLease,
    record,
    previousSubnet: previous.subnet,
  });
  for (const each of desired) plane.add(each);
  parts.decided();
  for (const each of desired) await plane.bring(each, signal);
  teller.network(ground.underlay, desired);
  const gbp = gbpWarning(config);
  if (gbp !== undefined) logger.warn(gbp);
  board.phase = 'lease';
  const attributes = attributesOf(config, ground, desired);
  const former = record.publicIp === undefined || record.publicIp === publicIp ? [] : [record.publicIp];
  const lease = await datastore.join(
    {
      attributes,
      previousSubnet: previous.subnet,
      previousSubnet6: previous.subnet6,
      ourMacs: macs,
      formerPublicIps: former,
    },
    signal,
  );
  board.lease = lease;
  logger.info({ lease: leaseStatus(lease) }, 'lease held');
  const tunnels = desired.map((each, index) => tunnelOf(each, index === 0 ? 4 : 6, config, lease, parts));
  const stands = { ground, published: ground, settled: true };
  const joined: Joined = { config, tunnels, teller, macs, ...stands, lease, masquerades: false };
  teller.tunnels(tunnels);
  await ourLease.settle(joined);
  return joined;
}

/** Throws where settings and network do not go together, and tells which of them have no effect. */
function refuse(config: NetworkConfig, { settings, logger }: RunnerParts): void {
  const { netns, mac, tunnelOptions = {} } = settings;
  const { backend } = config;
  const problem = optionProblem(tunnelOptions, config);
  if (problem !== undefined) throw new Error(problem);
  if (backend.type === UDP && mac !== undefined) {
    logger.warn('--mac has no effect with the backend udp: a layer-3 network has no MAC');
  }
  if (netns === undefined) return;
  if (backend.type === HOST_GW) {
    throw new Error('the network is of type host-gw, whose routes are on the underlay: leave --netns out');
  }
  if (backend.directRouting) {
    logger.warn('Backend.DirectRouting has no effect with --netns: the underlay is in another namespace');
  }
}

/** The host as it is, and the lease with its address. The datastore may let us wait while the address changes. */
async function whereWeAre(
  config: NetworkConfig,
  { datastore, logger }: RunnerParts,
  underlay: UnderlayFollower,
  signal: AbortSignal,
): Promise<{ facts: HostFacts; ground: Ground; ownLease: Lease | undefined }> {
  for (;;) {
    const facts = await underlay.facts(signal);
    const ground = await underlay.ground(facts, config, signal);
    logger.info(ground, 'underlay chosen');
    const ownLease = await datastore.ownLease(ground.underlay.publicIp, signal);
    const now = await underlay.ground(await underlay.facts(signal), config, signal);
    if (JSON.stringify(now) === JSON.stringify(ground)) return { facts, ground, ownLease };
    logger.warn({ before: ground, now }, 'the underlay has changed while the datastore was asked');
  }
}

function tunnelOf(
  desired: Desired,
  family: Family,
  config: NetworkConfig,
  lease: Lease,
  { settings }: RunnerParts,
): Tunnel {
  const network = family === 4 ? config.network : (config.ipv6?.network ?? config.network);
  const { type, directRouting } = config.backend;
  const { routeMode } = settings;
  const peers = new PeerState({ own: ownOf(lease, family, desired), network, routeMode, backend: type });
  const direct = desired.netns === null && (type === HOST_GW || directRouting);
  const content = {
    peers,
    within: network,
    direct,
    addresses: addressesOf(lease, family, desired),
    blackholes: blackholesOf(lease, family, settings),
    complete: false,
  };
  return { family, peers, desired: Object.assign(desired, { content }) };
}
