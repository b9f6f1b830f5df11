/** Several networks in one dataplane: on one port no frame strays, and each in its own namespace may use the others' addresses. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ethernet, vxlan } from '../model/build.ts';
import { Bed, type BedHost } from './lib/bed.ts';
import { eventually } from './lib/exec.ts';
import { outerDatagrams, outerFrames } from './lib/model-outer.ts';
import { Random } from './lib/model-random.ts';
import { DUT_MAC, LOCAL4, ModelRig, NET_MAC, NETWORKS, PEERS4 } from './lib/model-rig.ts';
import { Netns } from './lib/netns.ts';
import { macOf } from './lib/overlay.ts';
import { ping, tcpBothWays } from './lib/traffic.ts';
import { VtepdHost } from './lib/vtepd.ts';

const SEED = Number(process.env.VTEPD_MODEL_SEED ?? Math.floor(Math.random() * 2 ** 31));
const BROADCAST = 'ff:ff:ff:ff:ff:ff';
/** IEEE 802 local experimental Ethernet type. */
const OURS = 0x88b5;
const FRAMES = 1_000;

test(`VNIs on one port: ${FRAMES} random frames each way, none strays, each VNI counts its own (seed ${SEED})`, async () => {
  const random = new Random(SEED);
  const rig = await ModelRig.create({ lanes: 1, underlay: 'wire' });
  try {
    const port = 8472;
    const networks = NETWORKS.filter((network) => network.local === LOCAL4 && network.port === port);
    assert.ok(networks.length >= 4);
    for (const { name } of networks) {
      await rig.client.request('network.update', {
        network: name,
        proxy: false,
        mac: null,
        mtu: null,
        up: null,
        learning: false,
        peersonly: false,
      });
      for (const ip of PEERS4) {
        const params = {
          network: name,
          verb: 'append',
          mac: '00:00:00:00:00:00',
          destination: { ip },
          state: null,
        } as const;
        await rig.client.request('fdb.change', params);
      }
    }
    // Every frame names its network, and is otherwise made of the same few addresses and any bytes.
    let number = 0;
    const frameOf = (vni: number): Buffer => {
      number += 1;
      const head = Buffer.alloc(8);
      head.writeUInt32BE(vni, 0);
      head.writeUInt32BE(number, 4);
      const mac = (last: number): string => `02:00:00:00:01:0${last}`;
      const to = random.chance(30) ? BROADCAST : mac(random.int(1, 4));
      return ethernet(to, mac(random.int(5, 8)), OURS, Buffer.concat([head, random.bytes(random.int(0, 200))]));
    };
    const wanted = { sent: new Map<number, number>(), delivered: new Map<string, number>() };
    const before = await rig.client.request('stats', {});
    for (let done = 0; done < FRAMES; ) {
      let batch = 0;
      for (; batch < 50; batch += 1, done += 1) {
        const network = random.pick(networks);
        const { name, vni } = network;
        rig.tap.queue(name, frameOf(vni));
        wanted.sent.set(vni, (wanted.sent.get(vni) ?? 0) + PEERS4.length);
        const from = random.pick(networks);
        const source = random.pick(PEERS4);
        const outer = {
          source,
          to: LOCAL4,
          sourcePort: random.int(1024, 65_535),
          port,
          tos: 0,
          checksum: 'right',
          fragments: 'none',
        } as const;
        for (const packet of outerFrames(outer, vxlan(from.vni, frameOf(from.vni)), { to: DUT_MAC, from: NET_MAC })) {
          rig.net.queue('eth0', packet);
        }
        wanted.delivered.set(from.name, (wanted.delivered.get(from.name) ?? 0) + 1);
      }
      rig.tap.flush();
      rig.net.flush();
      await eventually('what went in came out', () => {
        const out = outerDatagrams(rig.net.arrived('eth0'));
        const inside = NETWORKS.map(({ name }) => rig.tap.arrived(name).length).reduce((sum, count) => sum + count, 0);
        return Promise.resolve(out.length === batch * PEERS4.length && inside === batch);
      });
      for (const { payload } of outerDatagrams(rig.net.arrived('eth0'))) {
        assert.equal(
          payload.readUIntBE(4, 3),
          payload.readUInt32BE(8 + 14),
          'a frame left with the VNI of another network',
        );
      }
      for (const { name, vni } of NETWORKS) {
        for (const { frame } of rig.tap.arrived(name)) {
          assert.equal(frame.readUInt32BE(14), vni, `a frame of another network was delivered on ${name}`);
        }
      }
      rig.tap.forget();
      rig.net.forget();
    }
    const stats = await rig.client.request('stats', {});
    for (const { name, vni } of NETWORKS) {
      const find = ({ networks: all }: typeof stats) => all.find(({ network }) => network === name);
      const [was, is] = [find(before), find(stats)];
      assert.equal(
        (is?.tx.packets ?? 0) - (was?.tx.packets ?? 0),
        networks.some((each) => each.name === name) ? (wanted.sent.get(vni) ?? 0) : 0,
        name,
      );
      assert.equal((is?.rx.packets ?? 0) - (was?.rx.packets ?? 0), wanted.delivered.get(name) ?? 0, name);
    }
  } finally {
    await rig.destroy();
  }
});

describe('two networks with the same inner addresses, each in its own namespace', () => {
  let bed: Bed;
  const rooms = new Map<string, Netns>();

  before(async () => {
    bed = await Bed.create();
    for (const host of bed.hosts) {
      const vtepd = await VtepdHost.on(host);
      const other = bed.hosts.find((each) => each !== host) as BedHost;
      const last = host.label === 'a' ? 1 : 2;
      for (const [color, id] of [
        ['blue', 21],
        ['red', 22],
      ] as const) {
        const room = await Netns.create(`${color}-${host.label}`);
        bed.teardown.defer(room.name, () => room.delete());
        rooms.set(`${color} ${host.label}`, room);
        const words = `link add ${color} type vxlan id ${id} local ${host.ipv4} dev eth0 remote ${other.ipv4} address ${macOf(host)} netns ${room.name}`;
        await vtepd.cli(...words.split(' '));
        // The same address, the same MAC: nothing but the VNI tells them apart.
        await room.ip(`addr add 10.9.0.${last}/24 dev ${color}`, 'addr add 127.0.0.2/8 dev lo');
      }
    }
  });
  after(() => bed?.destroy());

  test('each reaches its own, at once, and nothing of the other', async () => {
    const roomOf = (color: string, label: string): Netns => {
      const room = rooms.get(`${color} ${label}`);
      assert.ok(room !== undefined);
      return room;
    };
    const both = await Promise.all(
      ['blue', 'red'].map((color) => tcpBothWays(roomOf(color, 'a'), roomOf(color, 'b'), '10.9.0.2', 2_000_000)),
    );
    for (const { caller, server } of both) {
      assert.deepEqual(server.received, caller.sent);
      assert.deepEqual(caller.received, server.sent);
    }
    // Where one is gone, nobody answers in its place.
    await roomOf('red', 'b').ip('link set red down');
    assert.equal((await ping(roomOf('red', 'a'), '10.9.0.2', { count: 2 })).received, 0);
    const blue = await ping(roomOf('blue', 'a'), '10.9.0.2');
    assert.equal(blue.received, blue.sent, blue.text);
  });
});
