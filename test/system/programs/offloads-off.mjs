// node offloads-off.mjs SOCKET OFFLOAD...: waits for a dataplane's control socket and switches the offloads off.
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const [path, ...offloads] = process.argv.slice(2);
for (const until = Date.now() + 10_000; Date.now() < until; await sleep(10)) {
  const done = await new Promise((resolve) => {
    const socket = connect(path);
    let answers = 0;
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(answers >= offloads.length));
    socket.on('connect', () => {
      for (const [id, offload] of offloads.entries()) {
        socket.write(
          `${JSON.stringify({ jsonrpc: '2.0', id, method: 'offloads.set', params: { offload, enabled: false } })}\n`,
        );
      }
      if (offloads.length === 0) socket.end();
    });
    socket.on('data', (bytes) => {
      answers += bytes.toString().split('\n').length - 1;
      if (answers >= offloads.length) socket.end();
    });
  });
  if (done) process.exit(0);
}
process.exit(1);
