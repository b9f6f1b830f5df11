// Counts datagrams that arrive out of order within their flow.
//   node sequence.mjs serve ADDRESS PORT               counts until SIGTERM, then prints {"flows":64,"received":6400,"reordered":0}
//   node sequence.mjs call ADDRESS PORT FLOWS EACH     sends EACH numbered datagrams from each of FLOWS source ports, in turn
// The caller waits for the end of each round to be answered, so that no queue on the way overflows, however slow the machine is.
import { createSocket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';

const ROUND = 4;
/** What a lost datagram costs. */
const PATIENCE_MS = 200;
const [mode, address, portText, ...plan] = process.argv.slice(2);
const port = Number(portText);

if (mode === 'serve') {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 8 << 20 });
  const latest = new Map();
  let received = 0;
  let reordered = 0;
  socket.on('message', (message, from) => {
    const number = message.readUInt32BE(0);
    const before = latest.get(from.port) ?? -1;
    received += 1;
    if (number < before) reordered += 1;
    else latest.set(from.port, number);
    if (number % ROUND === ROUND - 1) socket.send(message.subarray(0, 4), from.port, from.address);
  });
  socket.bind(port, address, () => process.stdout.write('listening\n'));
  process.once('SIGTERM', () => {
    process.stdout.write(`${JSON.stringify({ flows: latest.size, received, reordered })}\n`);
    socket.close();
  });
} else {
  const [flows, each] = plan.map(Number);
  const sockets = await Promise.all(
    Array.from({ length: flows }, async () => {
      const socket = createSocket('udp4');
      await new Promise((resolve) => socket.bind(0, resolve));
      return socket;
    }),
  );
  for (let first = 0; first < each; first += ROUND) {
    const answered = Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('message', resolve))));
    await Promise.all(
      sockets.flatMap((socket) =>
        Array.from({ length: Math.min(ROUND, each - first) }, (_, at) => {
          const payload = Buffer.alloc(200);
          payload.writeUInt32BE(first + at, 0);
          return new Promise((resolve) => socket.send(payload, port, address, resolve));
        }),
      ),
    );
    await Promise.race([answered, sleep(PATIENCE_MS)]);
  }
  for (const socket of sockets) socket.close();
}
