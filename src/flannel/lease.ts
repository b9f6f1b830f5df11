/**
 * The value of a lease: what a host publishes about itself (flannel `pkg/lease/lease.go`, `LeaseAttrs`, and
 * `pkg/backend/vxlan/vxlan_network.go`, `vxlanLeaseAttrs`).
 */
import { AddressError } from '../net/errors.ts';
import { type Ipv4, type Ipv6, ipv4ToNumber, parseIpv4, parseIpv6 } from '../net/ip.ts';
import { isUnicastMac, type Mac, parseMac } from '../net/mac.ts';
import { type GoObject, parseGoObject } from './go-json.ts';

export interface LeaseAttributes {
  /** Underlay address of the host, and its identity: a host takes over the lease that carries its own. */
  readonly publicIp: Ipv4;
  readonly publicIpv6?: Ipv6;
  /** `vxlan`, or that of a host with another backend; compared exactly. Empty for types that publish none. */
  readonly backendType: string;
  /** MAC of the tunnel device; always present with `vxlan`. */
  readonly vtepMac?: Mac;
  /** Never compared by anybody; flannel holds it in 16 bits. */
  readonly vni?: number;
  /** MAC of the tunnel device for the IPv6 overlay, which is another one. */
  readonly vtepMac6?: Mac;
}

/** `BackendType` of hosts that we exchange frames with. */
export const VXLAN = 'vxlan';

/** `BackendType` of hosts that are reached by plain routes. */
export const HOST_GW = 'host-gw';

/**
 * `BackendType` that we write of a layer-3 network (bare packets in UDP). flanneld of that type writes none at all, and looks
 * at nobody's: the type is the cluster's.
 */
export const UDP = 'udp';

/** Is a lease that of a host with this backend? */
export function isOfBackend(leased: string, backend: string): boolean {
  return leased === backend || (backend === UDP && leased === '');
}

/** Reads a lease's JSON as flannel does; a vxlan lease must carry a usable VtepMAC. Throws `FlannelError`. */
export function parseLeaseAttributes(text: string): LeaseAttributes {
  const fields = parseGoObject(text, 'INVALID_LEASE');
  const publicIpv6 = fields.string('PublicIPv6');
  const backendType = fields.string('BackendType') ?? '';
  return {
    publicIp: readPublicIp(fields),
    ...(publicIpv6 === undefined ? {} : { publicIpv6: guard(fields, 'PublicIPv6', () => parseIpv6(publicIpv6)) }),
    backendType,
    // Other backends put what they like into BackendData, a bare string for example.
    ...(backendType === VXLAN ? readBackendData(fields) : {}),
    ...(backendType === VXLAN && fields.has('BackendV6Data')
      ? { vtepMac6: readVtepMac(fields, 'BackendV6Data').vtepMac }
      : {}),
  };
}

/** Writes a lease byte for byte as flannel does: one line, fields in the order of its structs. */
export function formatLeaseAttributes(attributes: LeaseAttributes): string {
  const { publicIp, publicIpv6, backendType, vtepMac, vni = 0, vtepMac6 } = attributes;
  const data = (mac: Mac) => ({ VNI: vni & VNI_FIELD, VtepMAC: mac });
  return JSON.stringify({
    PublicIP: publicIp,
    PublicIPv6: publicIpv6 ?? null,
    ...(backendType === '' ? {} : { BackendType: backendType }),
    ...(vtepMac === undefined ? {} : { BackendData: data(vtepMac) }),
    ...(vtepMac6 === undefined ? {} : { BackendV6Data: data(vtepMac6) }),
  });
}

/** Flannel's field is a Go uint16 and keeps the low half of a VNI; a number above it would make peers drop the lease. */
const VNI_FIELD = 0xffff;

/** 224.0.0.0: multicast, reserved and broadcast addresses, none of which is a host. */
const FIRST_MULTICAST = 0xe000_0000;

function readPublicIp(fields: GoObject): Ipv4 {
  const text = fields.string('PublicIP');
  if (text === undefined) throw fields.error('PublicIP', "is missing: write the host's underlay IPv4 address");
  const publicIp = guard(fields, 'PublicIP', () => parseIpv4(text));
  const value = ipv4ToNumber(publicIp);
  if (value === 0) {
    throw fields.error('PublicIP', 'is 0.0.0.0, which hosts without IPv4 publish: such hosts are not served yet');
  }
  if (value >= FIRST_MULTICAST) {
    throw fields.error('PublicIP', `is ${publicIp}, which is not a host: write the host's underlay IPv4 address`);
  }
  return publicIp;
}

function readBackendData(fields: GoObject): { vtepMac: Mac; vni?: number } {
  const { data, vtepMac } = readVtepMac(fields, 'BackendData');
  const vni = data.integer('VNI', 0, 0xff_ffff);
  return vni === undefined ? { vtepMac } : { vtepMac, vni };
}

function readVtepMac(fields: GoObject, name: string): { data: GoObject; vtepMac: Mac } {
  const data = fields.object(name);
  if (data === undefined) throw fields.error(name, 'is missing: a vxlan lease names its VtepMAC there');
  const text = data.string('VtepMAC');
  if (text === undefined) throw data.error('VtepMAC', "is missing: write the MAC of the host's tunnel device");
  const vtepMac = guard(data, 'VtepMAC', () => parseMac(text));
  if (!isUnicastMac(vtepMac)) {
    throw data.error('VtepMAC', `is ${vtepMac}, which no device owns: write the MAC of the host's tunnel device`);
  }
  return { data, vtepMac };
}

function guard<T>(fields: GoObject, name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof AddressError) throw fields.error(name, error.message);
    throw error;
  }
}
