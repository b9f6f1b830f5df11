/**
 * What leaves a host, judged by somebody else: tshark decodes our packets from the underlay and finds every checksum, outer
 * and inner, valid, and every byte of the header where RFC 7348 has it.
 */
import assert from 'node:assert/strict';
import { join as path } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Bed } from './lib/bed.ts';
import { Capture, decode, describe as explain } from './lib/capture.ts';
import { assertPing, assertTcp, assertUdp } from './lib/checks.ts';
import { vtepOf } from './lib/kernel-vxlan.ts';
import { join, PEER } from './lib/overlay.ts';
import { udpFlows } from './lib/traffic.ts';

const PORT = 8472;
const VNI = 0x00a1b2;
/** I flag, reserved, VNI, reserved: RFC 7348 section 5. */
const HEADER = '0800000000a1b200';
const FLOWS = 64;

/** tshark's `*.checksum.status`: 1 = good. Others: 0 bad, 2 unverified, 3 not present, 4 illegal. */
const GOOD = '1';
const CHECKSUMS = ['ip', 'udp', 'tcp', 'icmp'].map((protocol) => `${protocol}.checksum.status`);
const FIELDS = [
  'frame.number',
  'frame.len',
  'ip.flags.df',
  'ip.proto',
  'udp.srcport',
  'udp.dstport',
  'udp.payload',
  'vxlan.vni',
];

for (const underlay of [4, 6] as const) {
  describe(`packets on an IPv${underlay} underlay`, () => {
    let bed: Bed;
    let file: string;
    let packets: Map<string, string[]>[];

    before(async () => {
      bed = await Bed.create({ mode: 'wire' });
      await join(bed, ['vtepd', PEER], { underlay, port: PORT, vni: VNI });
      const [a, b] = [bed.host('a'), bed.host('b')];
      file = path(bed.dir, 'wire.pcap');
      const from = `src host ${vtepOf(a, underlay)} and udp dst port ${PORT}`;
      const capture = await Capture.start(bed.underlay, 'to-a', file, from);
      await assertPing(a, b);
      await assertTcp(a, b, 300_000);
      await assertUdp(a, b, underlay === 4 ? 1450 : 1430);
      await udpFlows(a.container, b.address, FLOWS, 4);
      await capture.stop();
      packets = await decode(file, PORT, [...FIELDS, ...CHECKSUMS], 'vxlan');
    });
    after(() => bed?.destroy());

    const values = (packet: Map<string, string[]>, field: string): string[] => packet.get(field) ?? [];
    const where = async (packet: Map<string, string[]>): Promise<string> =>
      explain(file, PORT, `frame.number==${values(packet, 'frame.number')[0]}`);

    test('every checksum is there and valid, outer and inner', async () => {
      assert.ok(packets.length > 300, `only ${packets.length} packets were captured`);
      for (const packet of packets) {
        for (const field of CHECKSUMS) {
          for (const status of values(packet, field)) {
            assert.equal(status, GOOD, status === GOOD ? '' : `${field} in\n${await where(packet)}`);
          }
        }
        // Outer UDP in any case; over IPv4 the outer and the inner IP header each have one of their own.
        assert.ok(values(packet, 'udp.checksum.status').length >= 1);
        assert.equal(values(packet, 'ip.checksum.status').length, underlay === 4 ? 2 : 1);
      }
      for (const protocol of ['tcp', 'icmp']) {
        assert.ok(
          packets.some((packet) => values(packet, `${protocol}.checksum.status`).length === 1),
          `no ${protocol} inside`,
        );
      }
    });

    test('the header is 08 000000, the VNI, 00', () => {
      for (const packet of packets)
        assert.equal(values(packet, 'udp.payload')[0]?.replaceAll(':', '').slice(0, 16), HEADER);
      assert.deepEqual([...new Set(packets.flatMap((packet) => values(packet, 'vxlan.vni')))], [String(VNI)]);
    });

    test('no packet exceeds the underlay, none forbids fragmentation', () => {
      // 1500 and the outer Ethernet header: nothing had to be cut on the way.
      for (const packet of packets) assert.ok(Number(values(packet, 'frame.len')[0]) <= 1514);
      if (underlay === 4)
        for (const packet of packets) assert.match(values(packet, 'ip.flags.df')[0] ?? '', /^(0|False)$/);
    });

    test('source ports spread over the flows, and a flow keeps its own', () => {
      const portsOf = new Map<string, Set<string>>();
      for (const packet of packets) {
        const [outer, inner] = values(packet, 'udp.srcport');
        if (outer === undefined || inner === undefined || values(packet, 'udp.dstport')[1] !== '7002') continue;
        portsOf.set(inner, (portsOf.get(inner) ?? new Set()).add(outer));
      }
      assert.equal(portsOf.size, FLOWS);
      for (const [flow, ports] of portsOf)
        assert.equal(ports.size, 1, `flow from port ${flow} left from ${[...ports].join()}`);
      const used = new Set([...portsOf.values()].flatMap((ports) => [...ports]));
      assert.ok(used.size >= 8, `${FLOWS} flows share only ${used.size} source ports`);
    });
  });
}
