/**
 * The network that the datastore feeds: makes the dataplane hold it as it should be, changing no more than needed, so
 * that an adopted one goes on forwarding.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Paths } from '../config/paths.ts';
import type { DataplaneClient } from '../dataplane/client.ts';
import type { HostFacts, NetworkSpec, NetworkState, NetworkUpdate } from '../dataplane/protocol.ts';
import { recordNetwork } from '../host/records.ts';
import type { Logger } from '../observe/log.ts';
import type { FedSpec } from './desired-network.ts';
import { TUNNEL_OPTIONS } from './tunnel.ts';

export class NetworkConflictError extends Error {
  readonly code = 'NETWORK_CONFLICT';
}

export interface Held {
  readonly state: NetworkState;
  /** True where it was not there, or had to be made anew: its tables are empty. */
  readonly made: boolean;
  /** True where it was there and not what it should be. */
  readonly mended: boolean;
}

export async function holdNetwork(client: DataplaneClient, spec: FedSpec, paths: Paths, logger: Logger): Promise<Held> {
  const states = await client.request('network.list', {});
  const held = states.find((state) => state.spec.name === spec.name);
  if (held?.spec.owner === 'hand') {
    throw new NetworkConflictError(
      `network ${spec.name} was made by hand; remove it (vtepd link del ${spec.name}) or choose another --device`,
    );
  }
  const facts = await client.request('host.read', { netns: spec.netns });
  const device = facts.links.find((link) => link.name === spec.name);
  if (held !== undefined && device !== undefined && incompatible(held.spec, spec) === undefined) {
    const state = await adjust(client, held, device, spec, logger);
    remember(paths, state, logger);
    return { state, made: false, mended: state !== held };
  }
  if (held !== undefined) {
    const why = incompatible(held.spec, spec) ?? 'its device is gone';
    logger.warn({ network: spec.name, why }, 'the network is made anew');
    await client.request('network.delete', { network: spec.name });
  } else if (device?.kind === 'vxlan') {
    await deleteKernelDevice(client, spec, logger);
  }
  const state = await client.request('network.create', spec);
  remember(paths, state, logger);
  return { state, made: true, mended: held !== undefined };
}

/** A full disk keeps nobody's traffic waiting; `cleanup` then knows less. */
export function remember(paths: Paths, state: NetworkState, logger: Logger): void {
  try {
    recordNetwork(paths, state);
  } catch (error) {
    logger.error({ err: error, network: state.spec.name }, 'what was made on this host cannot be kept on disk');
  }
}

/** flanneld treats a device of another kind under its name the same way (`pkg/backend/vxlan/device.go`). */
async function deleteKernelDevice(client: DataplaneClient, spec: FedSpec, logger: Logger): Promise<void> {
  logger.warn(
    { device: spec.name },
    "a kernel vxlan device has the network's name and is deleted; is flanneld still running?",
  );
  const { errors } = await client.request('host.change', {
    netns: spec.netns,
    operations: [{ op: 'link.del', dev: spec.name }],
  });
  const [error] = errors;
  if (error === null || error === undefined) return;
  throw new NetworkConflictError(`device ${spec.name} cannot be deleted: ${error.message}`);
}

/** Why a network cannot become `wanted` while packets flow; `undefined` when it can. */
function incompatible(held: NetworkSpec, wanted: NetworkSpec): string | undefined {
  const fixed = ['vni', 'owner', 'netns', 'local', 'port', 'dev', 'remote', 'layer3'] as const;
  const differing = fixed.find((field) => (held[field] ?? null) !== (wanted[field] ?? null));
  if (differing !== undefined) return `${differing} was ${held[differing]}, is ${wanted[differing]}`;
  const { udp6zerocsumrx } = wanted;
  const taken = udp6zerocsumrx === undefined || udp6zerocsumrx === (held.udp6zerocsumrx ?? false);
  return taken ? undefined : `udp6zerocsumrx is now ${udp6zerocsumrx}`;
}

function takesGbp({ gbp = false }: NetworkSpec): boolean {
  return gbp;
}

async function adjust(
  client: DataplaneClient,
  held: NetworkState,
  device: HostFacts['links'][number],
  spec: FedSpec,
  logger: Logger,
): Promise<NetworkState> {
  const update: NetworkUpdate = {
    network: spec.name,
    mac: spec.mac === null || (held.mac === spec.mac && device.mac === spec.mac) ? null : spec.mac,
    mtu: held.mtu === spec.mtu && device.mtu === spec.mtu ? null : spec.mtu,
    learning: held.spec.learning === spec.learning ? null : spec.learning,
    proxy: held.spec.proxy === spec.proxy ? null : spec.proxy,
    peersonly: held.spec.peersonly === spec.peersonly ? null : spec.peersonly,
    up: held.up && device.up ? null : true,
    ...(held.spec.ageing === spec.ageing ? {} : { ageing: spec.ageing }),
    ...(held.spec.maxaddress === spec.maxaddress ? {} : { maxaddress: spec.maxaddress }),
    ...Object.fromEntries(
      TUNNEL_OPTIONS.filter((name) => spec[name] !== undefined && !isDeepStrictEqual(spec[name], held.spec[name])).map(
        (name) => [name, spec[name]],
      ),
    ),
    ...(held.spec.tunnel_address === spec.tunnel_address || spec.tunnel_address === undefined
      ? {}
      : { tunnel_address: spec.tunnel_address }),
    ...(takesGbp(held.spec) === takesGbp(spec) ? {} : { gbp: takesGbp(spec) }),
  };
  const changes = Object.entries(update).filter(([name, value]) => name !== 'network' && value !== null);
  if (changes.length === 0) return held;
  logger.warn(
    { network: spec.name, changes: Object.fromEntries(changes) },
    'the network differs from what it should be and is put right',
  );
  return await client.request('network.update', update);
}
