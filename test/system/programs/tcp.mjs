// Moves bytes over TCP in both directions and prints, as one JSON line, what each side saw.
//   node tcp.mjs serve ADDRESS PORT BYTES     waits for one connection, reads to its end, then sends BYTES
//   node tcp.mjs call ADDRESS PORT BYTES      sends BYTES, ends its side, reads to the end
// Both print { sent: {bytes, sha256}, received: {bytes, sha256}, ms }. Needs nothing but Node: it also runs in the virtual machine.
import { createHash, randomBytes } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { pipeline } from 'node:stream/promises';

const [mode, address, portText, bytesText] = process.argv.slice(2);
const port = Number(portText);
const bytes = Number(bytesText);
if ((mode !== 'serve' && mode !== 'call') || !Number.isInteger(port) || !Number.isInteger(bytes)) {
  process.stderr.write('usage: tcp.mjs serve|call ADDRESS PORT BYTES\n');
  process.exit(2);
}

async function send(socket) {
  const hash = createHash('sha256');
  async function* source() {
    for (let left = bytes; left > 0; ) {
      const chunk = randomBytes(Math.min(left, 65_536));
      left -= chunk.length;
      hash.update(chunk);
      yield chunk;
    }
  }
  await pipeline(source, socket);
  return { bytes, sha256: hash.digest('hex') };
}

async function receive(socket) {
  const hash = createHash('sha256');
  let count = 0;
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    hash.update(chunk);
    count += chunk.length;
  }
  return { bytes: count, sha256: hash.digest('hex') };
}

function report(sent, received, started) {
  process.stdout.write(`${JSON.stringify({ sent, received, ms: Math.round(performance.now() - started) })}\n`);
}

if (mode === 'serve') {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    server.close();
    const started = performance.now();
    receive(socket)
      .then(async (received) => report(await send(socket), received, started))
      .catch((error) => {
        process.stderr.write(`${error.message}\n`);
        process.exit(1);
      });
  });
  server.listen(port, address, () => process.stdout.write('listening\n'));
} else {
  const socket = connect({ host: address, port, allowHalfOpen: true });
  socket.once('error', (error) => {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  });
  socket.once('connect', () => {
    const started = performance.now();
    // Reading starts after our side has ended, as the server sends only then.
    const received = receive(socket);
    send(socket)
      .then(async (sent) => report(sent, await received, started))
      .catch((error) => {
        process.stderr.write(`${error.message}\n`);
        process.exit(1);
      });
  });
}
