// A bad underlay: passes VXLAN datagrams between two endpoints and loses, doubles and reorders some of them.
//   node relay.mjs ADDRESS PORT LEFT RIGHT LOSS DOUBLE REORDER SEED
// Rates are per mille of datagrams. Prints "listening", and at SIGTERM what it did. Both endpoints take it for their peer.
import { createSocket } from 'node:dgram';

const [address, portText, left, right, ...numbers] = process.argv.slice(2);
const [loss, double, reorder, seed] = numbers.map(Number);
const port = Number(portText);
const did = { passed: 0, lost: 0, doubled: 0, reordered: 0 };

// xorshift32
let state = seed >>> 0 || 1;
const chance = (perMille) => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % 1000 < perMille;
};

const buffers = { recvBufferSize: 32 << 20, sendBufferSize: 32 << 20 };
const socket = createSocket({ type: 'udp4', ...buffers });
socket.on('message', (message, from) => {
  const to = from.address === left ? right : left;
  const pass = () => {
    did.passed += 1;
    socket.send(message, port, to);
  };
  if (chance(loss)) {
    did.lost += 1;
    return;
  }
  if (chance(reorder)) {
    did.reordered += 1;
    setTimeout(pass, 1);
  } else pass();
  if (chance(double)) {
    did.doubled += 1;
    pass();
  }
});
socket.bind(port, address, () => process.stdout.write('listening\n'));
process.once('SIGTERM', () => {
  process.stdout.write(`${JSON.stringify(did)}\n`);
  socket.close();
});
