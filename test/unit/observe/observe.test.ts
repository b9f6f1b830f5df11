import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { StatusBoard } from '../../../src/daemon/status-board.ts';
import { serveHealth } from '../../../src/observe/health.ts';
import { createLogger } from '../../../src/observe/log.ts';

function capture() {
  const lines: { msg: string; level: string; key?: string }[] = [];
  let now = 0;
  const stream = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const logger = createLogger({ level: 'debug', instance: 'test', stream, now: () => now });
  return {
    lines,
    logger,
    wait: (ms: number) => {
      now += ms;
    },
  };
}

test('a warning that repeats is written a few times, then counted, then told', () => {
  const { lines, logger, wait } = capture();
  for (let count = 0; count < 1_000; count++) logger.warn('etcd is away');
  assert.equal(lines.length, 5);
  wait(60_000);
  logger.warn({ key: 'k' }, 'etcd is away');
  assert.deepEqual([lines[5]?.msg, lines[5]?.key], ['etcd is away (and 995 times more that were left out)', 'k']);
  logger.warn('etcd is away');
  assert.equal(lines.at(-1)?.msg, 'etcd is away');
});

test('a clock that is set back keeps no warning unsaid', (context) => {
  let elapsed = 0;
  context.mock.method(performance, 'now', () => elapsed);
  context.mock.timers.enable({ apis: ['Date'], now: Date.UTC(2026, 0) });
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const logger = createLogger({ level: 'info', instance: 'test', stream });
  for (let count = 0; count < 10; count++) logger.warn('etcd is away');
  context.mock.timers.setTime(Date.UTC(2025, 0));
  elapsed += 60_000;
  logger.warn('etcd is away');
  assert.match(lines.at(-1) ?? '', /2025-01-01.*5 times more/);
});

test('different warnings do not limit each other, and nothing below a warning is left out', () => {
  const { lines, logger } = capture();
  for (let count = 0; count < 20; count++) {
    logger.error(`number ${count}`);
    logger.info('same');
  }
  assert.equal(lines.length, 40);
  assert.deepEqual([lines[0]?.level, lines[1]?.level], ['error', 'info']);
});

const tell = (board: StatusBoard) => ({ status: () => board.show(), metrics: async () => 'up 1\n' });

test('/healthz and /readyz: starting, running, dataplane gone, lease lost, datastore away', async () => {
  const board = new StatusBoard({ version: '1', instance: 'test', source: 'etcd' });
  const server = await serveHealth('127.0.0.1', 0, tell(board));
  const { port } = server.address() as AddressInfo;
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    const text = await response.text();
    return { code: response.status, body: text.startsWith('{') ? JSON.parse(text) : text };
  };
  try {
    assert.deepEqual([(await get('/healthz')).code, (await get('/readyz')).code], [200, 503]);
    board.ready = true;
    board.planeUp(7, undefined);
    board.fresh();
    assert.deepEqual([(await get('/healthz')).code, (await get('/readyz')).code], [200, 200]);
    board.stale(new Date(), 'refused');
    const stale = await get('/healthz');
    assert.deepEqual([stale.code, stale.body.datastore, stale.body.datastore_reason], [200, 'stale', 'refused']);
    board.planeDied();
    const dead = await get('/healthz');
    assert.deepEqual([dead.code, dead.body.status, dead.body.plane], [503, 'failing', 'down']);
    board.planeUp(8, 10);
    board.leaseLost = 'expired';
    const lost = await get('/healthz');
    assert.deepEqual([lost.code, lost.body.lease, lost.body.lease_reason], [503, 'lost', 'expired']);
    assert.deepEqual(await get('/metrics'), { code: 200, body: 'up 1\n' });
    assert.equal((await get('/')).code, 404);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});

test('a port that cannot be had is named with its settings', async () => {
  const board = new StatusBoard({ version: '1', instance: 'test', source: 'etcd' });
  const server = await serveHealth('127.0.0.1', 0, tell(board));
  const { port } = server.address() as AddressInfo;
  await assert.rejects(
    serveHealth('127.0.0.1', port, tell(board)),
    new RegExp(`healthz-ip 127\\.0\\.0\\.1 healthz-port ${port}: .*EADDRINUSE`),
  );
  await new Promise((resolve) => server.close(resolve));
});
