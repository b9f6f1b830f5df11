/**
 * Rows of the receive table (reference §2.4) that are the kernel's business before a socket has anything, or the device's, and so no
 * part of the model: wrong lengths, strange sources, other destinations, a device that is down; and our own address as a VTEP (§2.10).
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { ethernet, vxlan } from '../model/build.ts';
import { complement, onesSum } from '../model/bytes.ts';
import { eventually } from './lib/exec.ts';
import { type OuterFields, outerDatagrams, outerFrames } from './lib/model-outer.ts';
import { DUT_MAC, LOCAL4, ModelRig, NET_MAC, PEERS4 } from './lib/model-rig.ts';

const NETWORK = 'm1';
const PORT = 8472;
const VNI = 42;
/** Addresses of the same rig, by which `m2` is reached. */
const OTHER = { network: 'm2', vni: 0xabcdef };
const PEER = PEERS4[0] ?? '';
/** IEEE 802 local experimental Ethernet type. */
const OURS = 0x88b5;

let rig: ModelRig;
let number = 0;
before(async () => {
  rig = await ModelRig.create({ lanes: 1, underlay: 'wire' });
});
after(() => rig?.destroy());
beforeEach(() => rig.reset());

/** A frame that nothing else looks like. */
function frame(): Buffer {
  number += 1;
  const body = Buffer.alloc(64);
  body.writeUInt32BE(number, 0);
  return ethernet('02:00:00:00:01:01', '02:00:00:00:01:02', OURS, body);
}

/** The underlay packet around it, in an Ethernet frame. */
function packet(inner: Buffer, changes: Partial<OuterFields> = {}): Buffer {
  const fields = {
    source: PEER,
    to: LOCAL4,
    sourcePort: 50_000,
    port: PORT,
    tos: 0,
    checksum: 'zero',
    fragments: 'none',
  } as const;
  return outerFrames({ ...fields, ...changes }, vxlan(VNI, inner), { to: DUT_MAC, from: NET_MAC })[0] ?? assert.fail();
}

function changed(bytes: Buffer, change: (ip: Buffer) => void): Buffer {
  const copy = Buffer.from(bytes);
  const ip = copy.subarray(14);
  change(ip);
  ip.writeUInt16BE(0, 10);
  ip.writeUInt16BE(complement(onesSum(ip.subarray(0, 20))), 10);
  return copy;
}

/** Puts packets on the wire and a good one behind them; gives the frames delivered before that. */
async function delivered(...packets: readonly Buffer[]): Promise<readonly Buffer[]> {
  const last = frame();
  for (const each of [...packets, packet(last)]) rig.net.queue('eth0', each);
  rig.net.flush();
  await eventually('the last one is delivered', () =>
    Promise.resolve(rig.tap.arrived(NETWORK).some((each) => each.frame.equals(last))),
  );
  return rig.tap
    .arrived(NETWORK)
    .map((each) => each.frame)
    .filter((each) => !each.equals(last));
}

test('any source port, any outer TTL, 0 and 1 included, bytes behind the packet: delivered', async () => {
  const frames = [frame(), frame(), frame(), frame()] as const;
  const got = await delivered(
    packet(frames[0], { sourcePort: 1 }),
    changed(packet(frames[1]), (ip) => ip.writeUInt8(0, 8)),
    changed(packet(frames[2]), (ip) => ip.writeUInt8(1, 8)),
    Buffer.concat([packet(frames[3]), Buffer.alloc(7, 0xee)]),
  );
  assert.deepEqual(got, frames);
});

test('a UDP length below that of IP cuts the frame, one above it ends the packet', async () => {
  const inner = frame();
  const [shorter, longer] = [packet(inner), packet(frame())];
  shorter.writeUInt16BE(shorter.readUInt16BE(14 + 20 + 4) - 10, 14 + 20 + 4);
  longer.writeUInt16BE(longer.readUInt16BE(14 + 20 + 4) + 10, 14 + 20 + 4);
  assert.deepEqual(await delivered(shorter, longer), [inner.subarray(0, inner.length - 10)]);
});

test('sources that no packet can have: 127.0.0.1, our own, 0.0.0.0, a group: dropped', async () => {
  const sources = ['127.0.0.1', LOCAL4, '0.0.0.0', '224.0.0.5'];
  assert.deepEqual(await delivered(...sources.map((source) => packet(frame(), { source }))), []);
});

test("datagrams to another of the host's addresses, or to the subnet's broadcast, are not taken where local is given", async () => {
  await rig.dut.ip('addr add 10.245.1.4/24 dev eth0');
  assert.deepEqual(await delivered(packet(frame(), { to: '10.245.1.4' }), packet(frame(), { to: '10.245.1.255' })), []);
  await rig.dut.ip('addr del 10.245.1.4/24 dev eth0');
});

test('a device that is down: counted as tap_down, and no ICMP tells the peer', async () => {
  const dropped = async (): Promise<number> => {
    const { networks } = await rig.client.request('stats', {});
    return networks.find(({ network }) => network === NETWORK)?.drops.tap_down ?? 0;
  };
  const unchanged = { mac: null, mtu: null, learning: null, proxy: null, peersonly: null };
  await rig.client.request('network.update', { network: NETWORK, ...unchanged, up: false });
  const before = await dropped();
  rig.net.queue('eth0', packet(frame()));
  rig.net.flush();
  await eventually('it is counted', async () => (await dropped()) === before + 1);
  await rig.net.sync();
  assert.deepEqual(
    rig.net.arrived('eth0').filter((each) => each.frame[14 + 9] === 1),
    [],
  );
  await rig.client.request('network.update', { network: NETWORK, ...unchanged, up: true });
  const inner = frame();
  assert.deepEqual(await delivered(packet(inner)), [inner]);
});

test('our own address as a VTEP: over loopback to the network of the VNI that the destination names', async () => {
  const inner = frame();
  const destination = { ip: LOCAL4, vni: OTHER.vni };
  const change = { network: NETWORK, verb: 'add', mac: '02:00:00:00:01:01', destination, state: null } as const;
  await rig.client.request('fdb.change', change);
  rig.tap.queue(NETWORK, inner);
  rig.tap.flush();
  await eventually('it comes back on the other network', () =>
    Promise.resolve(rig.tap.arrived(OTHER.network).some((each) => each.frame.equals(inner))),
  );
  assert.deepEqual(outerDatagrams(rig.net.arrived('eth0')), []);
});

test('a flood leaves in the order of the list', async () => {
  const order = [3, 0, 4, 1, 2].map((at) => PEERS4[at] ?? '');
  for (const ip of order) {
    const change = {
      network: NETWORK,
      verb: 'append',
      mac: '00:00:00:00:00:00',
      destination: { ip },
      state: null,
    } as const;
    await rig.client.request('fdb.change', change);
  }
  rig.tap.queue(NETWORK, frame());
  rig.tap.flush();
  const sent = (): string[] => outerDatagrams(rig.net.arrived('eth0')).map(({ to }) => to);
  await eventually('all have left', () => Promise.resolve(sent().length === order.length));
  assert.deepEqual(sent(), order);
});
