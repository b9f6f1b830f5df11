/**
 * One frame, byte for byte: what a host puts on the wire for it, and what it makes of the same bytes when they come in. The
 * frame is an ARP announcement that anybody can check by hand.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join as path } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost } from './lib/bed.ts';
import { Capture, inject } from './lib/capture.ts';
import { eventually } from './lib/exec.ts';
import { vtepOf } from './lib/kernel-vxlan.ts';
import { VtepdHost } from './lib/vtepd.ts';

const PORT = '4789';

/** Who-has 10.246.13.2, tell 10.246.30.2: from 02:00:00:00:30:02 to everybody. */
const FRAME = [
  'ffffffffffff 020000003002 0806', // Ethernet
  '0001 0800 06 04 0001', // ARP: Ethernet, IPv4, request
  '020000003002 0af61e02', // sender
  '000000000000 0af60d02', // target
]
  .join('')
  .replaceAll(' ', '');

/** RFC 7348 section 5: flags with I, reserved, VNI 0x00a1b2, reserved. */
const VXLAN = '08 000000 00a1b2 00'.replaceAll(' ', '');

/** What the kernel fills in, as dots: IP identification, header checksum, source port, UDP checksum. */
const OUTER = {
  // Version, TOS, length 78, id, no flags (DF off), TTL 64, UDP, checksum, 10.245.1.3 -> 10.245.1.4
  4: '45 00 004e .... 0000 40 11 .... 0af50103 0af50104  .... 12b5 003a ....',
  // Version, class and flow label 0, length 58, UDP, hop limit 64, fd00:245::3 -> fd00:245::4
  6: '60000000 003a 11 40 fd000245000000000000000000000003 fd000245000000000000000000000004  .... 12b5 003a ....',
} as const;

/** Packets of a capture file without their outer Ethernet header, in hexadecimal. */
async function packetsOf(file: string, ethernet: number): Promise<string[]> {
  const bytes = await readFile(file);
  const packets: string[] = [];
  for (let at = 24; at + 16 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8);
    packets.push(bytes.subarray(at + 16 + ethernet, at + 16 + length).toString('hex'));
    at += 16 + length;
  }
  return packets;
}

for (const underlay of [4, 6] as const) {
  describe(`one frame on an IPv${underlay} underlay`, () => {
    let bed: Bed;
    let a: BedHost;
    let b: BedHost;

    before(async () => {
      bed = await Bed.create({ mode: 'wire' });
      [a, b] = [bed.host('a'), bed.host('b')];
      const vtepd = await VtepdHost.on(a);
      const ends = ['local', vtepOf(a, underlay), 'remote', vtepOf(b, underlay)];
      await vtepd.cli(
        'link',
        'add',
        'vx0',
        'id',
        String(0xa1b2),
        ...ends,
        'dstport',
        PORT,
        'dev',
        'eth0',
        'nolearning',
      );
      // So that nothing but the frame of the test is about.
      await a.ns.exec(['sysctl', '-qw', 'net.ipv6.conf.vx0.disable_ipv6=1']);
    });
    after(() => bed?.destroy());

    test('goes out as these bytes', async () => {
      const file = path(bed.dir, 'out.pcap');
      const filter = `src host ${vtepOf(a, underlay)} and udp dst port ${PORT}`;
      // Both neighbours know each other before: the frame is alone on the wire.
      await a.ns.tryExec(['ping', '-c', '1', vtepOf(b, underlay)]);
      const capture = await Capture.start(bed.underlay, 'to-a', file, filter);
      await inject(a.ns, 'vx0', path(bed.dir, 'frame.pcap'), [Buffer.from(FRAME, 'hex')]);
      const packets = await eventually('the packet is on the wire', async () => {
        const seen = (await packetsOf(file, 14)).filter((packet) => packet.endsWith(FRAME));
        return seen.length > 0 && seen;
      });
      await capture.stop();
      assert.equal(packets.length, 1);
      assert.match(packets[0] ?? '', new RegExp(`^${OUTER[underlay].replaceAll(' ', '')}${VXLAN}${FRAME}$`));
    });

    test('comes in from these bytes as itself', async () => {
      const file = path(bed.dir, 'in.pcap');
      const capture = await Capture.start(a.ns, 'vx0', file, 'arp');
      const send = `
        const socket = require('node:dgram').createSocket('udp${underlay}');
        socket.send(Buffer.from('${VXLAN}${FRAME}', 'hex'), ${PORT}, '${vtepOf(a, underlay)}', () => socket.close());`;
      await b.ns.exec([process.execPath, '-e', send]);
      const frames = await eventually('the frame is on the TAP', async () => {
        const seen = await packetsOf(file, 0);
        return seen.length > 0 && seen;
      });
      await capture.stop();
      assert.deepEqual(frames, [FRAME]);
    });
  });
}
