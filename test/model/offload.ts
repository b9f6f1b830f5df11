/**
 * What "hardware" would do: complete a partial checksum, cut a superframe (virtio specification §5.1.6; Linux
 * `tcp_gso_segment`, `__udp_gso_segment`).
 */
import { complement, onesSum } from './bytes.ts';
import { TCP, type Transport, transportOf, UDP, writeChecksums } from './packet.ts';

/** `struct virtio_net_hdr`, as far as it is used. */
export interface Virtio {
  /** The L4 checksum field holds the folded pseudo-header sum; what is between `start` and the end is to be added. */
  readonly checksum?: { readonly start: number; readonly offset: number };
  /** It is a superframe: the payload of each segment but the last. */
  readonly gso?: { readonly kind: number; readonly size: number };
}

export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;
/** Beside one of the TCP kinds: CWR is for the first segment. */
export const GSO_ECN = 0x80;

/** The bytes in front of a frame, in the byte order of this machine (little endian, as the tests' processors are). */
export function virtioBytes(virtio: Virtio, headerLength = 0): Buffer {
  const bytes = Buffer.alloc(10);
  if (virtio.checksum !== undefined) {
    bytes.writeUInt8(1, 0);
    bytes.writeUInt16LE(virtio.checksum.start, 6);
    bytes.writeUInt16LE(virtio.checksum.offset, 8);
  }
  if (virtio.gso !== undefined) {
    bytes.writeUInt8(virtio.gso.kind, 1);
    bytes.writeUInt16LE(headerLength, 2);
    bytes.writeUInt16LE(virtio.gso.size, 4);
  }
  return bytes;
}

export function parseVirtio(bytes: Buffer): Virtio {
  const checksum = { start: bytes.readUInt16LE(6), offset: bytes.readUInt16LE(8) };
  const gso = { kind: bytes.readUInt8(1), size: bytes.readUInt16LE(4) };
  return {
    ...((bytes.readUInt8(0) & 1) === 1 ? { checksum } : {}),
    ...((gso.kind & ~GSO_ECN) !== 0 ? { gso } : {}),
  };
}

/** The frames that a wire would carry for a frame with its virtio header; absent if the two contradict each other. */
export function onTheWire(frame: Buffer, virtio: Virtio): Buffer[] | undefined {
  if (virtio.gso !== undefined) return cut(frame, virtio.gso);
  if (virtio.checksum === undefined) return [frame];
  const { start, offset } = virtio.checksum;
  if (start < 14 || start + offset + 2 > frame.length) return undefined;
  const whole = Buffer.from(frame);
  // Whoever completes does not know whether it is UDP's, which may not be 0 (CSUM_MANGLED_0).
  whole.writeUInt16BE(complement(onesSum(frame.subarray(start))) || 0xffff, start + offset);
  return [whole];
}

function kindOf(at: Transport): number {
  if (at.protocol === UDP) return GSO_UDP_L4;
  return at.family === 4 ? GSO_TCPV4 : GSO_TCPV6;
}

function cut(frame: Buffer, { kind, size }: { kind: number; size: number }): Buffer[] | undefined {
  const at = transportOf(frame);
  if (at === undefined || (kind & ~GSO_ECN) !== kindOf(at) || size === 0 || at.end !== frame.length) return undefined;
  if (at.protocol === UDP && frame.readUInt16BE(at.transport + 4) !== at.end - at.transport) return undefined;
  return segments(frame, at, size);
}

/** The superframe's payload in pieces of `size`, each behind headers of its own. */
export function segments(frame: Buffer, at: Transport, size: number): Buffer[] {
  const pieces: Buffer[] = [];
  const payload = frame.subarray(at.payload, at.end);
  for (let from = 0, index = 0; from < payload.length || index === 0; from += size, index += 1) {
    const piece = Buffer.concat([frame.subarray(0, at.payload), payload.subarray(from, from + size)]);
    const last = from + size >= payload.length;
    if (at.family === 4) {
      piece.writeUInt16BE(piece.length - at.network, at.network + 2);
      piece.writeUInt16BE((frame.readUInt16BE(at.network + 4) + index) & 0xffff, at.network + 4);
    } else {
      piece.writeUInt16BE(piece.length - at.transport, at.network + 4);
    }
    if (at.protocol === TCP) {
      piece.writeUInt32BE((frame.readUInt32BE(at.transport + 4) + from) >>> 0, at.transport + 4);
      const cleared = (index > 0 ? CWR : 0) | (last ? 0 : FIN | PSH);
      piece.writeUInt8(frame.readUInt8(at.transport + 13) & ~cleared, at.transport + 13);
    } else {
      piece.writeUInt16BE(piece.length - at.transport, at.transport + 4);
    }
    writeChecksums(piece, { ...at, end: piece.length });
    pieces.push(piece);
  }
  return pieces;
}

const FIN = 0x01;
const PSH = 0x08;
const CWR = 0x80;
