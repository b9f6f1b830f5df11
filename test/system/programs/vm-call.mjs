// Runs a shell script in the virtual machine through its agent: node vm-call.mjs ADDRESS TIMEOUT_MS <script; prints the agent's JSON.
import { request } from 'node:http';

const [host, timeout] = process.argv.slice(2);
const call = request({ host, port: 2323, method: 'POST', timeout: Number(timeout) }, (response) =>
  response.pipe(process.stdout),
);
const fail = (message) => {
  process.stderr.write(`${message}\n`);
  process.exit(1);
};
call.on('error', (error) => fail(error.message));
call.on('timeout', () => fail(`no answer from the virtual machine for ${timeout} ms`));
process.stdin.pipe(call);
