/** Which devices a network has on this host, and their MACs: one a family with vxlan, one without MAC with udp, none with host-gw. */
import type { HostFacts, NetworkState } from '../dataplane/protocol.ts';
import type { Lease } from '../datastore/types.ts';
import type { NetworkConfig } from '../flannel/config.ts';
import { HOST_GW, UDP } from '../flannel/lease.ts';
import type { DaemonRecord } from '../host/records.ts';
import type { Family } from '../net/ip.ts';
import type { Mac } from '../net/mac.ts';
import type { Prefix } from '../net/prefix.ts';
import { type Desired, type FedSpec, macOf } from './desired-network.ts';
import type { Ground } from './ground.ts';
import { chooseMac, type MacSources, ourMacs } from './identity.ts';
import { deviceName, type TunnelOptions, tunnelSpec } from './tunnel.ts';

export interface DeviceSettings {
  readonly device?: string | undefined;
  readonly netns?: string | undefined;
  readonly mac?: Mac | undefined;
  readonly takeOverLease?: boolean | undefined;
  readonly tunnelOptions?: TunnelOptions | undefined;
}

export interface DeviceFacts {
  readonly source: 'etcd' | 'file';
  /** What the dataplane holds. */
  readonly states: readonly NetworkState[];
  /** Of the devices' namespace. */
  readonly facts: HostFacts;
  /** Of the underlay's. */
  readonly hostFacts: HostFacts;
  readonly ownLease: Lease | undefined;
  readonly record: DaemonRecord;
  readonly previousSubnet: Prefix | undefined;
}

export interface Devices {
  readonly desired: readonly Desired[];
  /** By which a lease is known to be ours; undefined where that is not asked. */
  readonly macs: readonly Mac[] | undefined;
}

/** Throws `ForeignLeaseError` if our PublicIP's lease is another host's. */
export function decideDevices(
  config: NetworkConfig,
  ground: Ground,
  settings: DeviceSettings,
  found: DeviceFacts,
): Devices {
  const { source, hostFacts, previousSubnet } = found;
  const netns = settings.netns ?? null;
  const families: readonly Family[] = config.ipv6 === undefined ? [4] : [4, 6];
  const sources = families.map((family) => sourcesOf(family, config, settings, found));
  const [first] = sources;
  // In a file nobody takes over anything: the operator has written who is who.
  const known =
    source === 'file' || first === undefined
      ? undefined
      : ourMacs({ ...first, hostFacts, previousSubnet, takeOver: settings.takeOverLease === true });
  const desired = families.map((family, index): Desired => {
    const of = sources[index];
    if (config.backend.type === HOST_GW || of === undefined) return { netns };
    const mac = config.backend.type === UDP ? null : chooseMac(of);
    return { netns, spec: specOf(config, family, ground, { owner: source, ...settings, mac }) };
  });
  const macs = desired.flatMap(({ spec }) => macOf(spec) ?? []);
  return { desired, macs: known === undefined ? undefined : [...new Set([...known, ...macs])] };
}

export function specOf(
  config: NetworkConfig,
  family: Family,
  { underlay, underlay6 }: Ground,
  given: Pick<DeviceSettings, 'device' | 'netns' | 'tunnelOptions'> & { owner: string; mac: Mac | null },
): FedSpec {
  const { owner, device, netns = null, mac, tunnelOptions: options = {} } = given;
  const name = deviceName(family, device, config.backend);
  const address = family === 4 ? underlay.address : (underlay6?.address ?? underlay.address);
  return tunnelSpec(
    config,
    family,
    { name: underlay.name, mtu: underlay.mtu, address },
    { name, owner, netns, mac, options },
  );
}

/** Where a device's MAC may be read from; the IPv6 tunnel's is another field of lease and record. */
function sourcesOf(
  family: Family,
  config: NetworkConfig,
  settings: DeviceSettings,
  { source, states, facts, ownLease, record }: DeviceFacts,
): MacSources {
  const device = deviceName(family, settings.device, config.backend);
  const { vtepMac, vtepMac6 } = ownLease?.attributes ?? {};
  if (family === 4) {
    return { asked: settings.mac, device, source, states, facts, ownLease, leasedMac: vtepMac, record };
  }
  const { mac6, device6 } = record;
  const record6 = {
    ...(mac6 === undefined ? {} : { mac: mac6 }),
    ...(device6 === undefined ? {} : { device: device6 }),
  };
  return { asked: undefined, device, source, states, facts, ownLease, leasedMac: vtepMac6, record: record6 };
}
