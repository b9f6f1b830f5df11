/**
 * The endpoint once more: small, slow, and meant to be read beside the reference (its sections are named at each rule).
 * One frame or datagram in, everything that follows from it out; nothing here knows of batches, lanes or system calls.
 *
 * An option of a network that changes what leaves or what is let in is a field of `Options` and a line in `outerOf`,
 * `fromTap` or `admit`.
 */
import type { Destination, DropReason, NetworkUpdate } from '../../src/dataplane/protocol.ts';
import { familyOf, type Ip, parseIp } from '../../src/net/ip.ts';
import { type Prefix, prefixContains } from '../../src/net/prefix.ts';
import { readArp } from './arp.ts';
import { isMulticastMac, macAt, macBytes, onesSum, ZERO_MAC } from './bytes.ts';
import { decapsulate, outerEcn } from './ecn.ts';
import { tooBig } from './icmp.ts';
import { readNd } from './nd.ts';
import { onTheWire, segments, type Virtio } from './offload.ts';
import {
  ARP,
  checksumOk,
  ethernetOf,
  headerChecksumOk,
  IPV4,
  IPV6,
  ipOf,
  pseudoHeader,
  TCP,
  transportOf,
  UDP,
} from './packet.ts';
import { type Learning, Tables } from './tables.ts';

export interface Options {
  readonly name: string;
  readonly vni: number;
  readonly port: number;
  readonly local: string;
  readonly maxaddress: number;
  /** Of the outer header; absent: 64, multicast 1. */
  readonly ttl?: number | 'inherit';
  /** Of the outer header, of which the lower two bits are ECN's; absent: 0. */
  readonly tos?: number | 'inherit';
  /** Absent: `unset`, the underlay may fragment. */
  readonly df?: 'unset' | 'set' | 'inherit';
  /** UDP source ports, the last one exclusive; absent: `DYNAMIC_PORTS`. */
  readonly srcport?: { readonly min: number; readonly max: number };
  /** Of the outer IPv6 header; absent: 0. */
  readonly flowlabel?: number;
  /** False: no UDP checksum over IPv4. */
  readonly udpcsum?: boolean;
  /** True: no UDP checksum over IPv6. */
  readonly udp6zerocsumtx?: boolean;
  /** True: datagrams without UDP checksum are taken over IPv6. */
  readonly udp6zerocsumrx?: boolean;
  /** Header bits that may be set in what is received, as 64 bits in text. */
  readonly reserved_bits?: string;
  /** True: group-based policy headers are taken, and stripped. */
  readonly gbp?: boolean;
  /** True: what is for a router's MAC goes straight to the neighbour that it is for. */
  readonly rsc?: boolean;
  /** True: what the proxy cannot answer is carried like any other frame. */
  readonly proxy_flood?: boolean;
  mac: string;
  mtu: number;
  proxy: boolean;
  learning: boolean;
  peersonly: boolean;
}

/** RFC 7348 §5: the dynamic range. */
export const DYNAMIC_PORTS = { min: 49_152, max: 65_536 };
/** RFC 7348 §5, and draft-smith-vxlan-group-policy: G flag, "don't learn", "policy applied", group. */
const I_FLAG = 1n << 59n;
const VNI_BITS = 0xffff_ff00n;
const GBP_BITS = 0x80ff_ffff_0000_0000n;
/** Lowest path MTU that is believed (the kernel's `min_pmtu`; RFC 8200 §5). */
const FLOOR = { 4: 552, 6: 1280 } as const;

/** What the underlay can do: the routes that there are, the longest packet that it carries whole. */
export interface Underlay {
  readonly routes: readonly Prefix[];
  readonly mtu: number;
}

/** One datagram on the underlay. */
export interface Sent {
  /** The interface that it must leave by; absent: the route's. */
  readonly via?: string;
  /** Its source port is one of these, chosen by flow; it only has to be the same for the same flow. */
  readonly ports: { readonly min: number; readonly max: number };
  readonly checksum: 'right' | 'zero';
  readonly flowlabel: number;
  readonly source: string;
  readonly to: string;
  readonly port: number;
  readonly tos: number;
  readonly ttl: number;
  readonly df: boolean;
  readonly payload: Buffer;
}

export interface FromTap {
  readonly sent: readonly Sent[];
  /** Frames for the TAP itself: the proxy's. */
  readonly replies: readonly Buffer[];
  /** Likewise: ICMP errors about what does not fit. */
  readonly tooBig: readonly Buffer[];
  readonly drops: readonly DropReason[];
  readonly misses: readonly { readonly layer: 'l2' | 'l3'; readonly key: string }[];
}

/** A datagram as a UDP socket gives it. */
export interface Received {
  readonly source: string;
  /** The socket that it came in at. */
  readonly port: number;
  readonly ecn: number;
  /** It has a UDP checksum. */
  readonly checksum: boolean;
  readonly payload: Buffer;
}

/** An ICMP error "too big", in what it quotes of a datagram. */
export interface PathError {
  readonly source: string;
  readonly sourcePort: number;
  readonly to: string;
  readonly port: number;
  /** The start of the datagram's payload, as far as it is quoted. */
  readonly payload: Buffer;
  readonly mtu: number;
}

export interface FromWire {
  /** Absent while no network is known. */
  readonly network?: string;
  /** For the TAP, as the host's stack sees them in the end: cut, checksums complete. */
  readonly frames: readonly Buffer[];
  readonly drop?: DropReason;
  readonly learned?: { readonly mac: string; readonly ip: string } & Learning;
  /** A sender that shares our kernel left work to the "hardware" (§2.11). */
  readonly partialChecksum?: boolean;
  readonly superframe?: boolean;
}

const NOTHING: FromTap = { sent: [], replies: [], tooBig: [], drops: [], misses: [] };

export class Network {
  readonly options: Options;
  readonly family: 4 | 6;
  readonly tables: Tables;

  constructor(options: Options) {
    this.options = { ...options };
    this.family = familyOf(parseIp(options.local));
    this.tables = new Tables({ ...options, family: this.family });
  }

  update({ mac, mtu, learning, proxy, peersonly }: Partial<NetworkUpdate>): void {
    const { options } = this;
    options.mac = mac ?? options.mac;
    options.mtu = mtu ?? options.mtu;
    options.learning = learning ?? options.learning;
    options.proxy = proxy ?? options.proxy;
    options.peersonly = peersonly ?? options.peersonly;
  }
}

export class Endpoint {
  readonly #underlay: Underlay;
  readonly #networks = new Map<string, Network>();

  constructor(underlay: Underlay) {
    this.#underlay = underlay;
  }

  create(options: Options): Network {
    const network = new Network(options);
    this.#networks.set(options.name, network);
    return network;
  }

  network(name: string): Network {
    const network = this.#networks.get(name);
    if (network === undefined) throw new Error(`no network ${name}`);
    return network;
  }

  get networks(): readonly Network[] {
    return [...this.#networks.values()];
  }

  // Out (§2.1).

  fromTap(name: string, whole: Buffer, virtio: Virtio = {}): FromTap {
    const network = this.network(name);
    const { options, tables } = network;
    const ethernet = ethernetOf(whole);
    if (ethernet === undefined) return dropped('tx_runt');
    const misses: FromTap['misses'][number][] = [];
    const neighbour = (ip: string): string | undefined => {
      const lladdr = tables.neighbour(ip);
      if (lladdr === undefined) misses.push({ layer: 'l3', key: ip });
      return lladdr;
    };

    // §2.1 step 2, §2.5, §2.6: the proxy takes untagged ARP and solicitations, whatever becomes of them.
    if (options.proxy && !ethernet.tagged) {
      const verdict = ethernet.type === ARP ? readArp(whole) : ethernet.type === IPV6 ? readNd(whole) : 'forward';
      const isMalformed = typeof verdict === 'object' && 'drop' in verdict && verdict.drop !== 'tx_arp_swallowed';
      if (verdict !== 'forward') {
        const lladdr = 'ask' in verdict ? neighbour(verdict.ask) : undefined;
        const entry = lladdr === undefined ? undefined : tables.entry(lladdr);
        // §2.5: without a destination the MAC is on this side, and whoever has it answers.
        const [first] = entry?.destinations ?? [];
        const isHere = first !== undefined && isUnspecified(first.ip);
        if ('ask' in verdict && lladdr !== undefined && !isHere) {
          return { ...NOTHING, replies: [verdict.answer(lladdr, entry?.router === true)] };
        }
        const silent = ethernet.type === ARP ? 'tx_arp_unanswered' : 'tx_nd_unanswered';
        // "Proxy, else flood": what is malformed dies all the same.
        if (options.proxy_flood !== true || isMalformed)
          return { ...dropped('drop' in verdict ? verdict.drop : silent), misses };
      }
    }
    // A packet of this tunnel, routed into it again, would come back once more, larger each time.
    if (isOwnTunnel(network, whole)) return { ...dropped('tx_recursion'), misses };

    const frame = options.rsc === true ? shortcut(tables, whole, neighbour) : whole;
    const to = macAt(frame, 0);
    // §2.1 steps 4-6: exact match, then the flood list, then nothing. §2.7: a miss is told for unicast only.
    const destinations = tables.destinations(to);
    if (destinations === undefined) {
      if (!isMulticastMac(to)) misses.push({ layer: 'l2', key: to });
      return { ...dropped('tx_no_destination'), misses };
    }

    const frames = onTheWire(frame, virtio);
    const [first] = frames ?? [];
    if (frames === undefined || first === undefined)
      return { ...dropped(virtio.gso === undefined ? 'tx_bad_virtio_header' : 'tx_bad_superframe'), misses };
    const sent: Sent[] = [];
    const drops: DropReason[] = [];
    const limits: number[] = [];
    // §2.1 step 7: one copy for each remote.
    for (const destination of destinations) {
      const { ip, via } = destination;
      const limit = this.#limit(network, ip);
      if (isUnspecified(ip)) {
        drops.push('tx_destination_unspecified');
      } else if (!mayFragment(options, frame) && VXLAN + first.length > limit) {
        // §2.9; the first segment of a superframe is as long as any.
        drops.push(...frames.map((): DropReason => 'tx_too_big'));
        limits.push(limit);
      } else if (via === undefined && !this.#routable(ip)) {
        drops.push(...frames.map((): DropReason => 'tx_unroutable'));
      } else {
        sent.push(...frames.map((each) => outerOf(network, each, destination)));
      }
    }
    // Its sender is told once, of the narrowest way.
    const answer = limits.length > 0 ? tooBig(first, Math.min(...limits) - VXLAN - ethernet.network) : undefined;
    return { sent, replies: [], tooBig: answer === undefined ? [] : [answer], drops, misses };
  }

  /** The longest UDP payload that reaches a peer in one piece. */
  #limit({ family, tables }: Network, ip: string): number {
    return (tables.pathMtu(ip) ?? this.#underlay.mtu) - (family === 6 ? 48 : 28);
  }

  #routable(ip: string): boolean {
    return this.#underlay.routes.some((route) => prefixContains(route, parseIp(ip)));
  }

  // In (§2.4).

  fromWire({ source, port, ecn, payload, checksum }: Received): FromWire {
    const family = familyOf(parseIp(source));
    const here = this.networks.filter((each) => each.family === family && each.options.port === port);
    // RFC 8200 §8.1: the kernel drops it before any socket that does not ask for such.
    if (family === 6 && !checksum && !here.some(({ options }) => options.udp6zerocsumrx === true))
      return { frames: [] };
    if (payload.length < VXLAN) return { frames: [], drop: 'rx_short' };
    const bits = payload.readBigUInt64BE(0);
    if ((bits & I_FLAG) === 0n) return { frames: [], drop: 'rx_no_vni' };
    const others = bits & ~(I_FLAG | VNI_BITS);
    const network = here.find(({ options }) => options.vni === payload.readUIntBE(4, 3));
    if ((others & ~(network === undefined ? 0n : acceptedBits(network.options))) !== 0n)
      return { frames: [], drop: 'rx_reserved_bits' };
    if (network === undefined) return { frames: [], drop: 'rx_unknown_vni' };
    return { network: network.options.name, ...admit(network, payload.subarray(VXLAN), parseIp(source), ecn) };
  }

  /**
   * §2.9: an error lowers a path MTU if it quotes what this endpoint could have sent: from a socket that listens for errors, which
   * are those of networks that forbid fragmentation, with the VXLAN header, to the port and VTEP of a destination.
   */
  pathError({ source, sourcePort, to, port, payload, mtu }: PathError): void {
    const family = familyOf(parseIp(to));
    const listens = this.networks.some(
      ({ options }) =>
        options.df !== undefined && options.df !== 'unset' && options.local === source && isWithin(sourcePort, options),
    );
    if (!listens || payload.length < VXLAN) return;
    const believed = Math.max(mtu, FLOOR[family]);
    for (const { tables } of this.networks.filter((each) => each.family === family)) {
      const sent = tables.couldHaveSent({ ip: to, port, header: payload.subarray(0, VXLAN) });
      if (sent && believed < this.#underlay.mtu) tables.lowerPathMtu(to, believed);
    }
  }
}

const VXLAN = 8;

function acceptedBits({ reserved_bits, gbp }: Options): bigint {
  return BigInt(reserved_bits ?? 0) | (gbp === true ? GBP_BITS : 0n);
}

export function portsOf({ srcport }: Pick<Options, 'srcport'>): { readonly min: number; readonly max: number } {
  return srcport ?? DYNAMIC_PORTS;
}

function isWithin(port: number, options: Options): boolean {
  const { min, max } = portsOf(options);
  return port >= min && port < max;
}

/** UDP from our own address to the tunnel's port of a VTEP that some table names. */
function isOwnTunnel({ options, tables }: Network, frame: Buffer): boolean {
  const ip = ipOf(frame);
  if (ip === undefined || ip.protocol !== UDP || ip.body.length < 4) return false;
  return (
    ip.source === parseIp(options.local) && ip.body.readUInt16BE(2) === options.port && tables.isPeer(ip.destination)
  );
}

/** §2.7: what is for a router's MAC goes to the neighbour that the packet is for, from the router's MAC. */
function shortcut(tables: Tables, frame: Buffer, neighbour: (ip: string) => string | undefined): Buffer {
  const { destination: router, tagged } = ethernetOf(frame) ?? { destination: ZERO_MAC, tagged: true };
  const ip = ipOf(frame);
  if (tagged || ip === undefined || isMulticastMac(router) || tables.entry(router)?.router !== true) return frame;
  const lladdr = neighbour(ip.destination);
  if (lladdr === undefined || lladdr === router) return frame;
  return Buffer.concat([macBytes(lladdr), macBytes(router), frame.subarray(12)]);
}

function dropped(reason: DropReason): FromTap {
  return { ...NOTHING, drops: [reason] };
}

/** The datagram that carries a frame. */
function outerOf({ options }: Network, frame: Buffer, to: Destination): Sent {
  const header = Buffer.from('0800000000000000', 'hex');
  header.writeUIntBE(to.vni ?? options.vni, 4, 3);
  const payload = Buffer.concat([header, frame]);
  const place = { source: options.local, to: to.ip, port: to.port ?? options.port, ports: portsOf(options) };
  const isV6 = to.ip.includes(':');
  return {
    ...place,
    ...(to.via === undefined ? {} : { via: to.via }),
    checksum: (isV6 ? options.udp6zerocsumtx === true : options.udpcsum === false) ? 'zero' : 'right',
    flowlabel: isV6 ? (options.flowlabel ?? 0) : 0,
    tos: outerTos(options, frame),
    ttl: outerTtl(options, frame, to.ip),
    // IPv6 has no such bit.
    df: !isV6 && !mayFragment(options, frame),
    payload,
  };
}

/** §2.8: the configured or inherited DSCP, the inner ECN; what is no IP has none to inherit. */
function outerTos({ tos = 0 }: Options, frame: Buffer): number {
  const dscp = tos === 'inherit' ? (innerIp(frame)?.tos ?? 0) : tos;
  return (dscp & 0xfc) | outerEcn(frame);
}

/** §2.8: where nothing is said and nothing is to be inherited, 64, and one hop for a group. */
function outerTtl({ ttl }: Options, frame: Buffer, to: string): number {
  const own = isMulticastIp(parseIp(to)) ? 1 : 64;
  return ttl === 'inherit' ? innerIp(frame)?.ttl || own : (ttl ?? own);
}

/** §2.8: inherited from untagged IPv4; inner IPv6 is never fragmented on the way. */
function mayFragment({ df = 'unset' }: Options, frame: Buffer): boolean {
  const ethernet = ethernetOf(frame);
  if (df === 'unset' || df === 'set' || ethernet === undefined || ethernet.tagged) return df !== 'set';
  return !(ethernet.type === IPV6 || (ethernet.type === IPV4 && innerIp(frame)?.df === true));
}

/** The fields of the inner IP header that an outer one may inherit; tags are looked through. What is cut off is 0. */
function innerIp(frame: Buffer): { tos: number; ttl: number; df: boolean } | undefined {
  const ethernet = ethernetOf(frame);
  if (ethernet === undefined || frame.length < ethernet.network + 2) return undefined;
  const ip = Buffer.concat([frame.subarray(ethernet.network), Buffer.alloc(20)]);
  if (ethernet?.type === IPV4)
    return { tos: ip.readUInt8(1), ttl: ip.readUInt8(8), df: (ip.readUInt8(6) & 0x40) !== 0 };
  if (ethernet.type === IPV6) return { tos: (ip.readUInt16BE(0) >> 4) & 0xff, ttl: ip.readUInt8(7), df: true };
  return undefined;
}

function isUnspecified(ip: string): boolean {
  return parseIp(ip) === '0.0.0.0' || parseIp(ip) === '::';
}

function isMulticastIp(ip: Ip): boolean {
  return familyOf(ip) === 4 ? Number(ip.split('.')[0]) >> 4 === 14 : ip.startsWith('ff');
}

/** The network's policy for one decapsulated frame. */
function admit({ options, tables }: Network, frame: Buffer, source: string, ecn: number): Omit<FromWire, 'network'> {
  const refuse = (drop: DropReason): Omit<FromWire, 'network'> => ({ frames: [], drop });
  // §5: an allow-list where wanted.
  if (options.peersonly && !tables.isPeer(source)) return refuse('rx_not_peer');
  const ethernet = ethernetOf(frame);
  if (ethernet === undefined) return refuse('rx_inner_runt');
  // §2.3: our own MAC comes back only in a loop.
  if (ethernet.source === options.mac) return refuse('rx_source_mac_own');
  // §2.4: an IP header must be there, but only untagged frames are looked into.
  const room = frame.length - ethernet.network;
  const header = ethernet.type === IPV4 ? 20 : ethernet.type === IPV6 ? 40 : 0;
  if (!ethernet.tagged && room < header) return refuse('rx_inner_truncated');
  const marked = decapsulate(frame, ecn);
  if ('drop' in marked) return refuse(marked.drop);

  // §2.3, with the improvement that only delivered frames teach: this is the last check.
  let learned: FromWire['learned'];
  if (options.learning) {
    if (ethernet.source === ZERO_MAC || isMulticastMac(ethernet.source)) return refuse('rx_source_mac_invalid');
    const held = tables.entry(ethernet.source);
    const here = held?.destinations.some((to) => to.ip === source) ?? false;
    if (held !== undefined && held.state !== 'dynamic' && !here) return refuse('rx_source_mac_conflict');
    const learning = tables.learn(ethernet.source, source);
    if (learning !== undefined) learned = { mac: ethernet.source, ip: source, ...learning };
  }
  return { ...deliver(marked, options.mtu), ...(learned === undefined ? {} : { learned }) };
}

/**
 * §2.11: a sender that shares our kernel hands over checksums that are still the pseudo-header sum, and whole TCP superframes.
 * The host must see what a wire would have carried: complete checksums, segments that fit its MTU.
 */
function deliver(frame: Buffer, mtu: number): Pick<FromWire, 'frames' | 'partialChecksum' | 'superframe'> {
  const at = transportOf(frame);
  if (at === undefined) return { frames: [frame] };
  const partial = frame.readUInt16BE(at.checksum) === onesSum(pseudoHeader(frame, at, at.end - at.transport));
  const size = mtu - (at.payload - at.network);
  const tooLong = at.protocol === TCP && at.end - at.network > mtu && size > 0;
  const superframe = tooLong && headerChecksumOk(frame, at) && (partial || checksumOk(frame, at));
  if (superframe) {
    return { frames: segments(frame.subarray(0, at.end), at, size), partialChecksum: partial, superframe };
  }
  if (!partial) return { frames: [frame] };
  // What follows the IP packet would be summed, so it goes.
  const checksum = { start: at.transport, offset: at.checksum - at.transport };
  return { frames: onTheWire(frame.subarray(0, at.end), { checksum }) ?? [], partialChecksum: true };
}
