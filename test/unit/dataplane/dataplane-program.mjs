// Stands in for the dataplane's program where its life and death are tested: answers hello, dies when told to.
import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';

const socket = process.argv[process.argv.indexOf('--socket') + 1];
const log = process.argv[process.argv.indexOf('--log') + 1];
if (process.env.RUST_LOG === 'fail') {
  console.error('/dev/net/tun: ENOENT');
  process.exit(3);
}
if (process.env.RUST_LOG?.startsWith('killed')) {
  appendFileSync(log, 'killed\n');
  const times = readFileSync(log, 'utf8').split('killed\n').length - 1;
  if (times <= Number(process.env.RUST_LOG.slice(6))) process.kill(process.pid, 'SIGKILL');
}
appendFileSync(log, `${JSON.stringify({ environment: Object.keys(process.env).sort() })}\n`);
rmSync(socket, { force: true });
createServer((connection) => {
  connection.on('error', () => undefined);
  connection.on('data', (chunk) => {
    for (const line of chunk.toString().trim().split('\n')) {
      const { id, method } = JSON.parse(line);
      if (method === 'shutdown') process.exit(0);
      const result = {
        version: 'program',
        protocol: 1,
        pid: process.pid,
        uptime: 0,
        lanes: 1,
        capabilities: {},
        networks: [],
      };
      connection.write(`${JSON.stringify({ jsonrpc: '2.0', id, result })}\n`);
    }
  });
}).listen(socket);
