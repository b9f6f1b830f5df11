// Sends datagrams of given sizes to an echo server and compares what comes back, byte for byte.
//   node udp.mjs serve ADDRESS PORT                    echoes until SIGTERM
//   node udp.mjs flows ADDRESS PORT FLOWS EACH         sends EACH datagrams from each of FLOWS source ports (20000 and up)
//   node udp.mjs call ADDRESS PORT SIZE:COUNT...       prints {"sizes":{"1422":{"sent":50,"received":50,"damaged":0}}}
// Few datagrams are under way at a time (16, or 32 KiB of them), so that no socket buffer overflows; one that is not back
// in 1 s is lost.
import { randomFillSync } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';

const WINDOW = 16;
const WINDOW_BYTES = 32_768;
const LOST_AFTER_MS = 1_000;
const [mode, address, portText, ...plan] = process.argv.slice(2);
const port = Number(portText);
const socket = createSocket(isIPv6(address ?? '') ? 'udp6' : 'udp4');

if (mode === 'serve') {
  socket.on('message', (message, from) => socket.send(message, from.port, from.address));
  socket.bind(port, address, () => process.stdout.write('listening\n'));
} else if (mode === 'flows') {
  socket.close();
  const [flows, each] = plan.map(Number);
  for (let flow = 0; flow < flows; flow += 1) {
    const one = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    await new Promise((resolve) => one.bind(20_000 + flow, resolve));
    for (let at = 0; at < each; at += 1) {
      await new Promise((resolve) => one.send(`flow ${flow} datagram ${at}`, port, address, resolve));
    }
    one.close();
  }
} else {
  const pending = new Map();
  let next = 0;
  socket.on('message', (message) => {
    const id = message.length >= 4 ? message.readUInt32BE(0) : message.length;
    pending.get(id)?.(message);
  });
  const sizes = {};
  const one = async (size, tally) => {
    const payload = randomFillSync(Buffer.alloc(size));
    // Datagrams too short for a number are told apart by their length.
    const id = size >= 4 ? 1_000 + next++ : size;
    if (size >= 4) payload.writeUInt32BE(id, 0);
    const back = await new Promise((resolve) => {
      const timer = setTimeout(() => resolve(undefined), LOST_AFTER_MS);
      pending.set(id, (message) => {
        clearTimeout(timer);
        resolve(message);
      });
      tally.sent += 1;
      socket.send(payload, port, address, (error) => {
        if (error) process.stderr.write(`${size} bytes: ${error.message}\n`);
      });
    });
    pending.delete(id);
    if (back === undefined) return;
    if (back.equals(payload)) tally.received += 1;
    else tally.damaged += 1;
  };
  for (const item of plan) {
    const [size, count] = item.split(':').map(Number);
    const tally = { sent: 0, received: 0, damaged: 0 };
    sizes[size] = tally;
    let left = count;
    const worker = async () => {
      while (left-- > 0) await one(size, tally);
    };
    await Promise.all(Array.from({ length: size >= 4 ? Math.min(WINDOW, Math.ceil(WINDOW_BYTES / size)) : 1 }, worker));
  }
  process.stdout.write(`${JSON.stringify({ sizes })}\n`);
  socket.close();
}
