/**
 * A VXLAN endpoint as one would write it in an afternoon: one frame a read, one datagram a send, no batches, no offloads, one
 * remote. Not part of vtepd; the benchmark compares with it.
 *
 * `node-endpoint.ts LOCAL REMOTE`, with a TAP as descriptor 3 (`vtepd-load launch --tap` ties it, as Node cannot).
 */
import { createSocket } from 'node:dgram';
import { read, writeSync } from 'node:fs';

const TAP = 3;
const PORT = 4789;
const VNI = 2;
const HEADER_LENGTH = 8;
/** Flags with the I bit, reserved, VNI, reserved (RFC 7348 section 5). */
const HEADER = Buffer.from([0x08, 0, 0, 0, 0, 0, VNI, 0]);
/** Jumbo frames included. */
const FRAME_MAX = 9216;

const [local, remote] = process.argv.slice(2);
if (local === undefined || remote === undefined) {
  console.error('usage: node-endpoint.ts LOCAL REMOTE, with a TAP as descriptor 3');
  process.exit(2);
}

const socket = createSocket('udp4');

socket.on('message', (datagram) => {
  if (datagram.length <= HEADER_LENGTH || !datagram.subarray(0, HEADER_LENGTH).equals(HEADER)) return;
  try {
    writeSync(TAP, datagram, HEADER_LENGTH);
  } catch {
    // The TAP is down or did not like the frame: it is lost, as on any wire.
  }
});

function next(): void {
  // Each frame has a buffer of its own: the send still uses it when the next frame comes.
  const buffer = Buffer.allocUnsafe(HEADER_LENGTH + FRAME_MAX);
  HEADER.copy(buffer);
  read(TAP, buffer, HEADER_LENGTH, FRAME_MAX, null, (error, length) => {
    if (error !== null) {
      console.error(`read from the TAP: ${error.message}`);
      process.exit(1);
    }
    socket.send(buffer.subarray(0, HEADER_LENGTH + length), PORT, remote);
    next();
  });
}

socket.bind(PORT, local, next);
