import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { askController, askLeases } from '../../../src/cli/controller.ts';
import { instancePaths } from '../../../src/config/paths.ts';
import { serveController } from '../../../src/daemon/controller-socket.ts';
import { lockController } from '../../../src/daemon/lock.ts';
import { StatusBoard } from '../../../src/daemon/status-board.ts';

const directory = mkdtempSync(join(tmpdir(), 'vtepd-controller-'));
after(() => rmSync(directory, { recursive: true }));
const paths = (instance: string) =>
  instancePaths(instance, { VTEPD_RUNTIME_DIR: directory, VTEPD_STATE_DIR: directory });

test('one controller an instance; the next may start when the first has ended', () => {
  const unlock = lockController(paths('one'));
  assert.throws(() => lockController(paths('one')), new RegExp(`already running, pid ${process.pid}; stop it first`));
  const other = lockController(paths('other'));
  other();
  unlock();
  lockController(paths('one'))();
});

test("a dead holder's lock is taken over, also when its process id was given to another program", () => {
  for (const text of ['', 'nonsense', '999999999 1', `${process.pid} 1`, '1']) {
    writeFileSync(paths('dead').controllerLock, text);
    const unlock = lockController(paths('dead'));
    assert.match(readFileSync(paths('dead').controllerLock, 'utf8'), new RegExp(`^${process.pid} [0-9]+\n$`));
    unlock();
  }
});

test('the controller tells its state on its socket, and nobody is there when it has ended', async () => {
  const board = new StatusBoard({ version: '1', instance: 'socket', source: 'file' });
  const none = { mac: null, network: null, subnet6: null, publicIpv6: null, mac6: null, device6: null };
  const leases = [{ key: 'k', subnet: '10.246.13.0/24', publicIp: '10.245.1.4', device: 'flannel.1', ...none }];
  assert.equal(await askController(paths('socket')), undefined);
  const server = await serveController(paths('socket'), {
    status: () => board.show(),
    leases: () => leases,
    misses: () => [],
  });
  try {
    assert.deepEqual(await askController(paths('socket')), JSON.parse(JSON.stringify(board.show())));
    assert.deepEqual(await askLeases(paths('socket')), leases);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
  assert.equal(await askController(paths('socket')), undefined);
});

test('nonsense on the socket is answered or cut off, and the next asker is served', async () => {
  const board = new StatusBoard({ version: '1', instance: 'nonsense', source: 'file' });
  const server = await serveController(paths('nonsense'), {
    status: () => board.show(),
    leases: () => [],
    misses: () => [],
  });
  const say = async (text: string): Promise<string> =>
    await new Promise((resolve) => {
      let heard = '';
      const socket = connect(paths('nonsense').controllerSocket, () => socket.end(text));
      socket.on('error', () => undefined);
      socket.on('data', (chunk) => {
        heard += chunk.toString();
      });
      socket.on('close', () => resolve(heard));
    });
  try {
    assert.match(await say('hello\n'), /"code":-32700/);
    assert.match(await say('[]\n'), /"code":-32600/);
    assert.match(await say('{"id":{},"method":"status"}\n'), /"code":-32600/);
    assert.match(await say('{"id":1,"method":"stop"}\n'), /"id":1,"error":\{"code":-32601/);
    assert.equal(await say('x'.repeat(100_000)), '');
    assert.equal((await askController(paths('nonsense')))?.pid, process.pid);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});
