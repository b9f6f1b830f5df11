import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DataplaneClient, DataplaneError } from '../../../src/dataplane/client.ts';
import { LineSplitter } from '../../../src/dataplane/lines.ts';
import type { ConnectOptions } from '../../../src/dataplane/rpc.ts';

const directory = mkdtempSync(join(tmpdir(), 'vtepd-client-'));
after(() => rmSync(directory, { recursive: true }));

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

let count = 0;

/** A client of a server that does with each request line what `answer` says. */
async function connect(
  answer: (socket: Socket, request: { id: number; method: string }) => void,
  options: ConnectOptions = {},
): Promise<{ client: DataplaneClient; server: Server; sockets: Socket[] }> {
  const path = join(directory, `${count++}.sock`);
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    const splitter = new LineSplitter();
    socket.on('data', (chunk) => {
      for (const line of splitter.push(chunk)) answer(socket, JSON.parse(line));
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const client = await DataplaneClient.connect(path, options);
  open.push(() => {
    client.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { client, server, sockets };
}

function say(socket: Socket, message: object): void {
  socket.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
}

function failsWith(code: string, message?: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof DataplaneError);
    assert.equal(error.code, code);
    if (message !== undefined) assert.match(error.message, message);
    return true;
  };
}

test('answers find their requests, in whatever order they come', async () => {
  const waiting: number[] = [];
  const { client } = await connect((socket, { id }) => {
    waiting.push(id);
    if (waiting.length === 2)
      for (const each of waiting.toReversed()) say(socket, { id: each, result: [`answer ${each}`] });
  });
  const [first, second] = await Promise.all([client.request('network.list', {}), client.request('network.list', {})]);
  assert.deepEqual([first, second], [['answer 1'], ['answer 2']]);
});

test('notifications between answers reach their listeners, split and joined as the stream likes', async () => {
  const { client } = await connect((socket, { id }) => {
    const text = [
      { method: 'miss', params: { network: 'a', layer: 'l2', key: 'k', count: 1 } },
      { id, result: {} },
      { method: 'changed', params: { network: 'a', what: 'fdb' } },
    ]
      .map((message) => `${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
      .join('');
    socket.write(text.slice(0, 30));
    setTimeout(() => socket.write(text.slice(30)), 5);
  });
  const seen: string[] = [];
  const changed = new Promise<void>((resolve) => {
    client.on('changed', ({ what }) => {
      seen.push(`changed ${what}`);
      resolve();
    });
  });
  client.on('miss', ({ key }) => seen.push(`miss ${key}`));
  const off = client.on('miss', () => seen.push('never'));
  off();
  await client.request('events.subscribe', {});
  await changed;
  assert.deepEqual(seen, ['miss k', 'changed fdb']);
});

test('a listener that throws harms nobody', async () => {
  const { client } = await connect((socket, { id }) => {
    say(socket, { method: 'changed', params: { network: 'a', what: 'fdb' } });
    say(socket, { id, result: {} });
  });
  let warned = 0;
  const onWarning = (): void => {
    warned++;
  };
  process.once('warning', onWarning);
  let heard = 0;
  client.on('changed', () => {
    throw new Error('listener');
  });
  client.on('changed', () => {
    heard++;
  });
  await client.request('events.subscribe', {});
  await sleep(5);
  assert.deepEqual([heard, warned], [1, 1]);
});

test("an error carries the other side's name and text", async () => {
  const { client } = await connect((socket, { id }) => {
    const data = { name: 'EEXIST', message: 'network vx0 exists' };
    say(socket, { id, error: { code: -32000, message: 'x', data } });
  });
  await assert.rejects(client.request('stats', {}), failsWith('EEXIST', /^network vx0 exists$/));
});

test('an error without data still is one', async () => {
  const { client } = await connect((socket, { id }) =>
    say(socket, { id, error: { code: -32601, message: 'no such method' } }),
  );
  await assert.rejects(client.request('stats', {}), failsWith('UNKNOWN', /no such method/));
});

test('close rejects all that waits, and what comes after', async () => {
  const { client } = await connect(() => undefined);
  const pending = [client.request('stats', {}), client.request('hello', {})];
  const rejected = Promise.all(pending.map((each) => assert.rejects(each, failsWith('CLOSED'))));
  await sleep(5);
  client.close();
  await rejected;
  await assert.rejects(client.request('stats', {}), failsWith('CLOSED'));
  await client.closed;
});

test('the other side going away rejects all that waits', async () => {
  const { client } = await connect((socket) => socket.destroy());
  await assert.rejects(client.request('stats', {}), failsWith('CLOSED', /stats: the dataplane closed the connection/));
  await client.closed;
});

const GARBAGE: [string, string][] = [
  ['no JSON', 'hello\n'],
  ['JSON of another kind', '[1,2]\n'],
  ['null', 'null\n'],
  ['another version', '{"jsonrpc":"1.0","id":1,"result":{}}\n'],
  ['neither result nor error', '{"jsonrpc":"2.0","id":1}\n'],
  ['an id that is a text', '{"jsonrpc":"2.0","id":"1","result":{}}\n'],
  ['a complaint about our line', '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"bad"}}\n'],
];

for (const [name, bytes] of GARBAGE) {
  test(`garbage, ${name}: ends the connection with a word about it`, async () => {
    const { client } = await connect((socket) => socket.write(bytes));
    await assert.rejects(client.request('stats', {}), failsWith('PROTOCOL_ERROR', /something else than the protocol/));
    await client.closed;
    assert.equal(client.failure?.code, 'PROTOCOL_ERROR');
  });
}

test('a line that does not end is cut off before it fills the memory', async () => {
  const { client } = await connect(
    (socket) => {
      for (let part = 0; part < 10; part++) socket.write(Buffer.alloc(1_000, 0x20));
    },
    { maxLine: 4_096 },
  );
  await assert.rejects(client.request('stats', {}), failsWith('PROTOCOL_ERROR', /longer than 4096 bytes/));
});

test('a request without an answer fails in time; its late answer finds nobody and hurts nobody', async () => {
  const { client } = await connect(
    (socket, { id, method }) => {
      setTimeout(() => say(socket, { id, result: { from: method } }), method === 'stats' ? 60 : 0);
    },
    { requestTimeoutMs: 20 },
  );
  await assert.rejects(client.request('stats', {}), failsWith('TIMEOUT', /did not answer within 20 ms/));
  await sleep(60);
  assert.deepEqual(await client.request('hello', {}), { from: 'hello' });
});

test('a caller may give up', async () => {
  const { client } = await connect(() => undefined);
  const controller = new AbortController();
  const pending = client.request('stats', {}, { signal: controller.signal });
  setTimeout(() => controller.abort(), 5);
  await assert.rejects(pending, failsWith('ABORTED'));
  await assert.rejects(client.request('stats', {}, { signal: controller.signal }), failsWith('ABORTED'));
});

test('while the other side does not read, requests wait instead of piling up', async () => {
  const { client, sockets } = await connect((socket, { id }) => say(socket, { id, result: {} }));
  await client.request('hello', {});
  sockets[0]?.pause();
  const mac = '0e:00:00:00:00:04';
  const entry = { mac, destinations: [{ ip: '10.245.1.4' }], state: 'static' as const };
  const big = {
    network: 'a',
    source: 'etcd',
    revision: 1,
    fdb: new Array(20_000).fill(entry),
    neighbours: [],
    peers: [],
  };
  const pending = [1, 2, 3, 4].map(() => client.request('tables.replace', big));
  await sleep(30);
  sockets[0]?.resume();
  assert.deepEqual(await Promise.all(pending), [{}, {}, {}, {}]);
});

test('nobody listens: NOT_RUNNING', async () => {
  await assert.rejects(
    DataplaneClient.connect(join(directory, 'none.sock')),
    failsWith('NOT_RUNNING', /no dataplane runs/),
  );
});

test('hello refuses another protocol and says what to do', async () => {
  const { client } = await connect((socket, { id }) =>
    say(socket, { id, result: { protocol: 99, pid: 5, version: '9' } }),
  );
  await assert.rejects(client.hello(), failsWith('PROTOCOL_MISMATCH', /protocol 99.*build both from one version/));
});

test('lines are the same however the bytes are cut', () => {
  const bytes = Buffer.from('one\n\n zwei ü \nthree\nrest');
  for (let size = 1; size <= bytes.length; size++) {
    const splitter = new LineSplitter(64);
    const lines: string[] = [];
    for (let at = 0; at < bytes.length; at += size) lines.push(...splitter.push(bytes.subarray(at, at + size)));
    assert.deepEqual(lines, ['one', 'zwei ü', 'three']);
  }
});
