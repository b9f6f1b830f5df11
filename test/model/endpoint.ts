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
import { isMulticastMac, onesSum, ZERO_MAC } from './bytes.ts';
import { decapsulate, outerEcn } from './ecn.ts';
import { readNd } from './nd.ts';
import { onTheWire, segments, type Virtio } from './offload.ts';
import { ARP, checksumOk, ethernetOf, headerChecksumOk, IPV4, IPV6, pseudoHeader, TCP, transportOf } from './packet.ts';
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
  mac: string;
  mtu: number;
  proxy: boolean;
  learning: boolean;
  peersonly: boolean;
}

/** What the underlay can do: the routes that there are, the longest packet that it carries whole. */
export interface Underlay {
  readonly routes: readonly Prefix[];
  readonly mtu: number;
}

/** One datagram on the underlay. Its source port is chosen by flow and only has to be the same for the same flow. */
export interface Sent {
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
  /** Frames for the TAP itself. */
  readonly replies: readonly Buffer[];
  readonly drops: readonly DropReason[];
  readonly miss?: { readonly layer: 'l2' | 'l3'; readonly key: string };
}

/** A datagram as a UDP socket gives it. */
export interface Received {
  readonly source: string;
  /** The socket that it came in at. */
  readonly port: number;
  readonly ecn: number;
  readonly payload: Buffer;
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

const NOTHING: FromTap = { sent: [], replies: [], drops: [] };

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

  fromTap(name: string, frame: Buffer, virtio: Virtio = {}): FromTap {
    const network = this.network(name);
    const ethernet = ethernetOf(frame);
    if (ethernet === undefined) return dropped('tx_runt');

    // §2.1 step 2, §2.5, §2.6: the proxy takes untagged ARP and solicitations, whatever becomes of them.
    if (network.options.proxy && !ethernet.tagged) {
      const verdict = ethernet.type === ARP ? readArp(frame) : ethernet.type === IPV6 ? readNd(frame) : 'forward';
      if (verdict !== 'forward') {
        if ('drop' in verdict) return dropped(verdict.drop);
        const lladdr = network.tables.neighbour(verdict.ask);
        const silent = ethernet.type === ARP ? 'tx_arp_unanswered' : 'tx_nd_unanswered';
        if (lladdr === undefined) return { ...dropped(silent), miss: { layer: 'l3', key: verdict.ask } };
        // §2.5: without a destination the MAC is on this side, and whoever has it answers.
        const first = network.tables.entry(lladdr)?.destinations[0];
        if (first !== undefined && isUnspecified(first.ip)) return dropped(silent);
        return { ...NOTHING, replies: [verdict.answer(lladdr)] };
      }
    }

    // §2.1 steps 4-6: exact match, then the flood list, then nothing. §2.7: a miss is told for unicast only.
    const destinations = network.tables.destinations(ethernet.destination);
    if (destinations === undefined) {
      const none = dropped('tx_no_destination');
      return isMulticastMac(ethernet.destination)
        ? none
        : { ...none, miss: { layer: 'l2', key: ethernet.destination } };
    }

    const frames = onTheWire(frame, virtio);
    if (frames === undefined) return dropped(virtio.gso === undefined ? 'tx_bad_virtio_header' : 'tx_bad_superframe');
    const sent: Sent[] = [];
    const drops: DropReason[] = [];
    // §2.1 step 7: one copy for each remote.
    for (const to of destinations) {
      if (isUnspecified(to.ip)) {
        drops.push('tx_destination_unspecified');
      } else if (!this.#routable(to.ip)) {
        drops.push(...frames.map((): DropReason => 'tx_unroutable'));
      } else {
        for (const datagram of frames.map((each) => outerOf(network, each, to))) {
          if (this.#fits(datagram)) sent.push(datagram);
          else drops.push('tx_too_big');
        }
      }
    }
    return { sent, replies: [], drops };
  }

  /** §2.9: what may not be fragmented and is too long ends here. */
  #fits({ df, payload, source }: Sent): boolean {
    return !df || payload.length + (source.includes(':') ? 48 : 28) <= this.#underlay.mtu;
  }

  #routable(ip: string): boolean {
    return this.#underlay.routes.some((route) => prefixContains(route, parseIp(ip)));
  }

  // In (§2.4).

  fromWire({ source, port, ecn, payload }: Received): FromWire {
    const family = familyOf(parseIp(source));
    if (payload.length < 8) return { frames: [], drop: 'rx_short' };
    const flags = payload.readUInt8(0);
    if ((flags & 0x08) === 0) return { frames: [], drop: 'rx_no_vni' };
    if (flags !== 0x08 || payload.readUIntBE(1, 3) !== 0 || payload.readUInt8(7) !== 0) {
      return { frames: [], drop: 'rx_reserved_bits' };
    }
    const vni = payload.readUIntBE(4, 3);
    const network = this.networks.find(
      (each) => each.family === family && each.options.port === port && each.options.vni === vni,
    );
    if (network === undefined) return { frames: [], drop: 'rx_unknown_vni' };
    return { network: network.options.name, ...admit(network, payload.subarray(8), parseIp(source), ecn) };
  }
}

function dropped(reason: DropReason): FromTap {
  return { ...NOTHING, drops: [reason] };
}

/** The datagram that carries a frame. */
function outerOf({ options }: Network, frame: Buffer, to: Destination): Sent {
  const header = Buffer.from('0800000000000000', 'hex');
  header.writeUIntBE(to.vni ?? options.vni, 4, 3);
  const payload = Buffer.concat([header, frame]);
  const place = { source: options.local, to: to.ip, port: to.port ?? options.port };
  return {
    ...place,
    tos: outerTos(options, frame),
    ttl: outerTtl(options, frame, to.ip),
    df: outerDf(options, frame),
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

/** §2.8: inherited from untagged IPv4; IPv6 is never fragmented on the way. */
function outerDf({ df = 'unset', local }: Options, frame: Buffer): boolean {
  const ethernet = ethernetOf(frame);
  if (df === 'unset' || local.includes(':')) return false;
  if (df === 'set' || ethernet?.type === undefined || ethernet.tagged) return df === 'set';
  return ethernet.type === IPV6 || (ethernet.type === IPV4 && innerIp(frame)?.df === true);
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
