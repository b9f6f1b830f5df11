// Takes commands for the virtual machine: POST / with a shell script answers {status, stdout, stderr} as JSON once it ended.
// For the rig's own network only; the guest has nothing else to it.
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';

const PORT = 2323;

createServer((request, response) => {
  let script = '';
  request.setEncoding('utf8');
  request.on('data', (text) => {
    script += text;
  });
  request.on('end', () => {
    const child = spawn('/bin/sh', ['-c', script], { stdio: ['ignore', 'pipe', 'pipe'] });
    const result = { status: 0, stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        result[name] += text;
      });
    }
    // `exit`, not `close`: a daemon started in the background keeps the pipes open.
    child.once('exit', (code, signal) => {
      result.status = code ?? 128 + (signal === 'SIGKILL' ? 9 : 15);
      setTimeout(() => response.end(JSON.stringify(result)), 50);
    });
  });
}).listen(PORT, () => process.stdout.write(`agent: Node ${process.versions.node} on port ${PORT}\n`));
