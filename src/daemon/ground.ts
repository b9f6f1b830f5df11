/** What a network stands on: the underlay's interface and addresses, and what a lease says of them. */
import type { HostFacts } from '../dataplane/protocol.ts';
import type { NetworkConfig } from '../flannel/config.ts';
import { HOST_GW, type LeaseAttributes, VXLAN } from '../flannel/lease.ts';
import {
  chooseIpv6,
  chooseUnderlay,
  InterfaceError,
  type Reach,
  type Underlay,
  type UnderlayIpv6,
} from '../host/interface.ts';
import type { Ip, Ipv4, Ipv6 } from '../net/ip.ts';
import { type Desired, macOf } from './desired-network.ts';
import { deviceName } from './tunnel.ts';

export interface GroundSettings {
  readonly iface: readonly string[];
  readonly ifaceRegex?: readonly string[] | undefined;
  readonly ifaceCanReach?: Ip | undefined;
  readonly device?: string | undefined;
  readonly publicIp?: Ipv4 | undefined;
  readonly publicIpv6?: Ipv6 | undefined;
}

export interface Ground {
  readonly underlay: Underlay;
  /** Present exactly in a dual-stack network. */
  readonly underlay6?: UnderlayIpv6 | undefined;
}

/** Throws `InterfaceError` where there is no underlay that serves the network. */
export function groundOf(facts: HostFacts, config: NetworkConfig, settings: GroundSettings, reach?: Reach): Ground {
  // A regular expression may well fit the tunnel's own address, or its name.
  const own = [deviceName(4, settings.device, config.backend), deviceName(6, undefined, config.backend)];
  const others = { ...facts, links: facts.links.filter(({ name }) => !own.includes(name)) };
  const underlay = chooseUnderlay(others, { ...settings, reach });
  if (config.backend.type === HOST_GW && underlay.publicIp !== underlay.address) {
    throw new InterfaceError(
      `public-ip: ${underlay.publicIp} is not the address of ${underlay.name}, and host-gw routes lead to the interface itself; leave --public-ip out`,
    );
  }
  if (config.ipv6 === undefined) return { underlay };
  return { underlay, underlay6: chooseIpv6(facts, underlay.name, settings.publicIpv6, settings.iface) };
}

/** True if peers have to be told another address. */
export function isMoved(before: Ground, now: Ground): boolean {
  return before.underlay.publicIp !== now.underlay.publicIp || before.underlay6?.publicIp !== now.underlay6?.publicIp;
}

export function attributesOf(config: NetworkConfig, ground: Ground, desired: readonly Desired[]): LeaseAttributes {
  const { publicIp } = ground.underlay;
  const [four, six] = desired.map(({ spec }) => macOf(spec));
  const backendType = config.backend.type;
  return {
    publicIp,
    ...(ground.underlay6 === undefined ? {} : { publicIpv6: ground.underlay6.publicIp }),
    backendType,
    ...(backendType === VXLAN && four !== undefined ? { vtepMac: four, vni: config.backend.vni } : {}),
    ...(backendType === VXLAN && six !== undefined ? { vtepMac6: six } : {}),
  };
}
