/** The reference's tables row by row, every value of what has few: lists of actions for model and endpoint. */
import {
  arp,
  ethernet,
  etherTypeOf,
  icmpv6,
  ip,
  neighbourMessage,
  sign,
  solicitedNode,
  udp,
  vxlan,
} from '../../model/build.ts';
import { macBytes } from '../../model/bytes.ts';
import { type PathError, portsOf } from '../../model/endpoint.ts';
import { ARP, ICMPV6, IPV4, IPV6, UDP, VLAN } from '../../model/packet.ts';
import type { Action, Change } from './model-actions.ts';
import { networkOf, peersOf } from './model-world.ts';

const TO = '02:00:00:00:01:01';
const FROM = '02:00:00:00:01:02';
const V4 = ['10.246.1.5', '10.246.2.7'] as const;
const V6 = ['fd00:246:1::5', 'fd00:246:2::7'] as const;

function packet([source, destination]: readonly [string, string], tos: number): Buffer {
  return ip({ source, destination, protocol: UDP, tos }, udp([7, 9], Buffer.from('abcdef')));
}

function frameOf(content: Buffer, tags: readonly { kind: number; id: number }[] = []): Buffer {
  return sign(ethernet(TO, FROM, etherTypeOf(content), content, tags));
}

const ARP_FRAME = ethernet(TO, FROM, ARP, arp({ operation: 1, sender: [FROM, V4[0]], target: [TO, V4[1]] }));

export function fromPeer(network: string, payload: Buffer, tos = 0): Action {
  const { port, local } = networkOf(network);
  const source = peersOf(network)[0] ?? '';
  const outer = { source, to: local, sourcePort: 50_000, port, tos, checksum: 'right', fragments: 'none' } as const;
  return { kind: 'wire', outer, payload };
}

function fromHost(network: string, frame: Buffer): Action {
  return { kind: 'tap', network, frame, virtio: {} };
}

function change(one: Change): Action {
  return { kind: 'change', change: one };
}

/** A host's MAC behind a peer, a neighbour of each family. */
function tables(network: string): Action[] {
  const destination = { ip: peersOf(network)[1] ?? '' };
  const lladdr = TO;
  return [
    change({ method: 'fdb.change', params: { network, verb: 'add', mac: TO, destination, state: 'permanent' } }),
    change({ method: 'neigh.change', params: { network, verb: 'add', prefix: `${V4[1]}/32`, lladdr } }),
    change({ method: 'neigh.change', params: { network, verb: 'add', prefix: `${V6[1]}/128`, lladdr } }),
  ];
}

function proxy(network: string, on: boolean): Action {
  return change({
    method: 'network.update',
    params: { network, mac: null, mtu: null, learning: null, proxy: on, peersonly: null, up: null },
  });
}

/** §2.8: every inner mark under every outer one, for what can carry it and what cannot. */
export function decapsulatedMarks(network: string): Action[] {
  const marks = [0, 1, 2, 3];
  const inner = (mark: number): Buffer[] => [
    ...[V4, V6].map((ends) => frameOf(packet(ends, 0xb8 | mark))),
    frameOf(packet(V4, mark), [{ kind: VLAN, id: 5 }]),
    ARP_FRAME,
  ];
  const { vni } = networkOf(network);
  return marks.flatMap((mark) =>
    inner(mark).flatMap((frame) => marks.map((outer) => fromPeer(network, vxlan(vni, frame), 0x50 | outer))),
  );
}

/** §2.8: every TOS, both families, tagged or not, and frames that have none. */
export function encapsulatedMarks(network: string): Action[] {
  const all = Array.from({ length: 256 }, (_, tos) => tos);
  const frames = all.flatMap((tos) => [
    ...[V4, V6].map((ends) => frameOf(packet(ends, tos))),
    frameOf(packet(V4, tos), [
      { kind: 0x88a8, id: 1 },
      { kind: VLAN, id: 2 },
    ]),
  ]);
  return [...tables(network), ...[...frames, ARP_FRAME].map((frame) => fromHost(network, frame))];
}

/** §2.4: every bit of the VXLAN header turned over by itself, and every length of what is too short. */
export function strangeHeaders(network: string): Action[] {
  const good = vxlan(networkOf(network).vni, frameOf(packet(V4, 0)));
  const turned = Array.from({ length: 64 }, (_, bit) => {
    const payload = Buffer.from(good);
    payload.writeUInt8((payload[bit >> 3] ?? 0) ^ (1 << (bit & 7)), bit >> 3);
    return payload;
  });
  const short = Array.from({ length: 8 }, (_, length) => good.subarray(0, length));
  return [...turned, ...short].map((payload) => fromPeer(network, payload));
}

/** §2.4: every length of an inner frame, up to one whole header, of every kind. */
export function cutFrames(network: string): Action[] {
  const { vni } = networkOf(network);
  const other = ethernet(TO, FROM, 0x1234, Buffer.alloc(60));
  const whole = [
    frameOf(packet(V4, 2)),
    frameOf(packet(V6, 2)),
    other,
    frameOf(packet(V6, 2), [{ kind: VLAN, id: 9 }]),
  ];
  return whole.flatMap((frame) =>
    Array.from({ length: 63 }, (_, length) => fromPeer(network, vxlan(vni, frame.subarray(0, length)), 1)),
  );
}

/** §2.5: the measured matrix. */
export function arpMatrix(network: string): Action[] {
  const ask = (fields: Partial<Parameters<typeof arp>[0]>, to = 'ff:ff:ff:ff:ff:ff', type = ARP): Buffer =>
    ethernet(
      to,
      FROM,
      type,
      arp({ operation: 1, sender: [FROM, V4[0]], target: ['00:00:00:00:00:00', V4[1]], ...fields }),
    );
  const target = (address: string) => ({ target: ['00:00:00:00:00:00', address] as const });
  const tagged = ethernet(TO, FROM, ARP, ask({}).subarray(14), [{ kind: VLAN, id: 3 }]);
  const frames = [
    ask({}),
    ask({}, TO),
    ask({ sender: [FROM, '0.0.0.0'] }),
    ask(target('10.247.0.1')),
    ask(target(V4[0])),
    ask(target('127.0.0.1')),
    ask(target('224.0.0.1')),
    ask({ operation: 2 }),
    ask({ kind: '000608000604' }),
    ask({ kind: '000186dd0604' }),
    ask({}, TO, 0x8035),
    tagged,
    ...Array.from({ length: 28 }, (_, length) => ask({}).subarray(0, 14 + length)),
  ];
  const both = [true, false].flatMap((on) => [proxy(network, on), ...frames.map((frame) => fromHost(network, frame))]);
  return [...tables(network), ...both];
}

/** §2.6: the same for neighbour discovery. */
export function ndMatrix(network: string): Action[] {
  const lladdr = Buffer.concat([Buffer.from([1, 1]), macBytes(FROM)]);
  const message = (type = 135, code = 0, options = lladdr, target: string = V6[1]): Buffer =>
    neighbourMessage(type, code, target, options);
  const from = { source: V6[0] as string, destination: solicitedNode(V6[1]) };
  const put = (body: Buffer, ends = from): Buffer => ethernet('33:33:ff:00:00:07', FROM, IPV6, icmpv6(ends, body));
  const changed = (at: number, value: number): Buffer => {
    const frame = put(message());
    frame.writeUInt8(value, at);
    return frame;
  };
  const none = Buffer.alloc(0);
  const frames = [
    put(message()),
    put(message(135, 0, none)),
    put(message(135, 0, none), { ...from, source: '::' }),
    put(message(), { ...from, source: '::' }),
    put(message(135, 0, lladdr, 'fd00:247::9')),
    put(message(135, 0, lladdr, 'ff02::1')),
    put(message(), { ...from, destination: '::1' }),
    put(message(), { ...from, destination: V6[1] }),
    put(message(135, 1)),
    put(message(136)),
    put(message(133)),
    put(message(135, 0, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]))),
    put(message(135, 0, Buffer.from([1, 9, 0, 0, 0, 0, 0, 0]))),
    put(message(135, 0, lladdr.subarray(0, 6))),
    changed(21, 64),
    changed(56, 0),
    ethernet(TO, FROM, IPV6, icmpv6(from, message()), [{ kind: VLAN, id: 3 }]),
    ...Array.from({ length: 32 }, (_, length) => put(message().subarray(0, length))),
    ...Array.from({ length: 72 }, (_, length) => put(message()).subarray(0, 14 + length)),
  ];
  const both = [true, false].flatMap((on) => [proxy(network, on), ...frames.map((frame) => fromHost(network, frame))]);
  return [...tables(network), ...both];
}

/** Padding behind an IPv4 packet, a length beyond the frame, a frame longer than the MTU: for the host to judge (§2.4). */
export function oddLengths(network: string): Action[] {
  const { vni, mtu } = networkOf(network);
  const plain = frameOf(packet(V4, 0));
  const longer = Buffer.from(plain);
  longer.writeUInt16BE(1000, 16);
  const large = ip({ source: V4[0], destination: V4[1], protocol: UDP }, udp([7, 9], Buffer.alloc(mtu)));
  const huge = ip({ source: V4[0], destination: V4[1], protocol: 1 }, Buffer.alloc(20_000));
  const bodies = [Buffer.concat([plain, Buffer.alloc(6)]), longer, frameOf(large), ethernet(TO, FROM, IPV4, huge)];
  return bodies.map((frame) => fromPeer(network, vxlan(vni, frame)));
}

/**
 * §2.9, for a network that forbids fragmentation: errors about the underlay that count and those that do not, and behind them a packet
 * of every length around each limit.
 */
export function pathErrorMatrix(network: string): Action[] {
  const { local, port, vni } = networkOf(network);
  const { min, max } = portsOf(networkOf(network));
  const [to = '', other = ''] = peersOf(network);
  const genuine: PathError = {
    source: local,
    sourcePort: min,
    to,
    port,
    payload: vxlan(vni, Buffer.alloc(0)),
    mtu: 1300,
  };
  const flags = Buffer.from(genuine.payload);
  flags.writeUInt8(0x88, 0);
  const forged: PathError[] = [
    { ...genuine, to: peersOf(network)[2] ?? '' },
    { ...genuine, port: port + 1 },
    { ...genuine, sourcePort: max },
    { ...genuine, payload: vxlan(vni + 1, Buffer.alloc(0)) },
    { ...genuine, payload: flags },
    { ...genuine, payload: genuine.payload.subarray(0, 7) },
    { ...genuine, mtu: 1500 },
  ];
  const told = (errors: readonly PathError[]): Action => ({ kind: 'icmp', errors });
  const room = to.includes(':') ? 48 : 28;
  const around = (mtu: number): Action[] =>
    [V4, V6].flatMap(([source, destination]) =>
      [-1, 0, 1].flatMap((more) => {
        const length = mtu - room - 8 - 14 + more;
        const headers = source.includes(':') ? 48 : 28;
        const datagram = udp([7, 9], Buffer.alloc(length - headers));
        const content = ip({ source, destination, protocol: UDP, df: true }, datagram);
        return [TO, GROUP].map((mac) => fromHost(network, sign(ethernet(mac, FROM, etherTypeOf(content), content))));
      }),
    );
  const add = (mac: string, ip: string): Action =>
    change({ method: 'fdb.change', params: { network, verb: 'append', mac, destination: { ip }, state: 'permanent' } });
  return [
    add(TO, to),
    ...[to, other].map((ip) => add(GROUP, ip)),
    told(forged),
    ...around(1500),
    told([genuine]),
    ...around(1300),
    told([
      { ...genuine, mtu: 1400 },
      { ...genuine, to: other, mtu: 68 },
    ]),
    ...around(1300),
    ...around(to.includes(':') ? 1280 : 552),
  ];
}

/** §2.9: chains of IPv6 extension headers before what may be answered and what may not, in packets that do not fit. */
export function extensionMatrix(network: string): Action[] {
  const { mtu } = networkOf(network);
  const [source, destination] = V6;
  const header = (kind: number, next: number, more: number, fragment: number): Buffer => {
    const bytes = Buffer.alloc(kind === FRAGMENT ? 8 : kind === AUTHENTICATION ? (more + 2) * 4 : (more + 1) * 8);
    bytes.writeUInt8(next, 0);
    bytes.writeUInt8(more, 1);
    if (kind === FRAGMENT) bytes.writeUInt16BE(fragment, 2);
    return bytes;
  };
  const kinds = [0, 43, FRAGMENT, AUTHENTICATION, 60];
  const chains = [...kinds.map((kind) => [kind]), ...kinds.flatMap((one) => kinds.map((other) => [one, other]))];
  const lasts = [
    [ICMPV6, 1] as const,
    [ICMPV6, 128] as const,
    [ICMPV6, 137] as const,
    [UDP, 0] as const,
    [59, 0] as const,
  ];
  const frames = chains.flatMap((chain) =>
    lasts.flatMap(([last, kind]) =>
      [0, 1, 2, 255].map((more) => {
        // The fragment's offset and flag: first with more to come, whole, later.
        const fragment = [1, 0, 8, 7][more & 3] ?? 0;
        const headers = chain.map((each, at) => header(each, chain[at + 1] ?? last, more, fragment));
        const content = Buffer.concat([...headers, Buffer.from([kind]), Buffer.alloc(mtu)]).subarray(0, mtu - 40);
        return fromHost(network, frameOf(ip({ source, destination, protocol: chain[0] ?? last }, content)));
      }),
    ),
  );
  return [...tables(network), ...frames];
}

const FRAGMENT = 44;
const AUTHENTICATION = 51;
const GROUP = 'ff:ff:ff:ff:ff:ff';
