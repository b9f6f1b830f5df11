import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseIp } from '../../../src/net/ip.ts';
import { loadRawSocket, ProbeError } from '../../../src/probe/echo-socket.ts';
import { echoRequest, readEcho } from '../../../src/probe/icmp.ts';

const FOUR = { to: parseIp('10.245.1.4'), id: 0x1234 };
const SIX = { to: parseIp('fd00:245::4'), id: 0x1234 };

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
/** From 10.245.1.3 to 10.245.1.4, ICMP, DF. */
const IP4 = '4500001e 00004000 40010000 0af50103 0af50104';
/** From fd00:245::3 to fd00:245::4, ICMPv6. */
const IP6 = `60000000 000a3a40 fd000245${'00'.repeat(11)}03 fd000245${'00'.repeat(11)}04`;

test('a request is as long as asked, and its checksum right', () => {
  assert.deepEqual(echoRequest(FOUR, 7, 31), hex('0800 e5c4 1234 0007 000000'));
  assert.deepEqual(echoRequest(SIX, 7, 50), hex('8000 0000 1234 0007 0000'));
});

test('answers are known by peer and number', () => {
  const reply = hex(`${IP4} 0000 0000 1234 0007 0000`);
  assert.deepEqual(readEcho(FOUR, reply, '10.245.1.4'), { kind: 'reply', sequence: 7, size: 30 });
  assert.equal(readEcho(FOUR, reply, '10.245.1.5'), undefined);
  assert.equal(readEcho({ ...FOUR, id: 1 }, reply, '10.245.1.4'), undefined);
  assert.deepEqual(readEcho(SIX, hex('8100 0000 1234 0007 0000'), 'fd00:245::4'), {
    kind: 'reply',
    sequence: 7,
    size: 50,
  });
});

test('errors count where they quote our request', () => {
  const error4 = (head: string, quoted: string): Buffer => hex(`${IP4} ${head} ${quoted}`);
  const ours = `${IP4} 0800 0000 1234 0007`;
  assert.deepEqual(readEcho(FOUR, error4('0304 0000 0000 0578', ours), '10.9.9.9'), {
    kind: 'too-big',
    sequence: 7,
    mtu: 1400,
  });
  assert.deepEqual(readEcho(FOUR, error4('0301 0000 0000 0000', ours), '10.9.9.9'), {
    kind: 'unreachable',
    sequence: 7,
    reason: '10.9.9.9: host unreachable',
  });
  const others = [
    `${IP4} 0800 0000 4321 0007`,
    `${IP4} 0000 0000 1234 0007`,
    ours.replace('0af50104', '0af50105'),
    IP4,
  ];
  for (const quoted of others)
    assert.equal(readEcho(FOUR, error4('0304 0000 0000 0578', quoted), '10.9.9.9'), undefined, quoted);
  const six = hex(`0200 0000 00000578 ${IP6} 8000 0000 1234 0007`);
  assert.deepEqual(readEcho(SIX, six, 'fd00::1'), { kind: 'too-big', sequence: 7, mtu: 1400 });
});

test('no bytes make it stumble', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(FOUR, SIX), (bytes, of) => {
      readEcho(of, Buffer.from(bytes), '10.245.1.4');
    }),
  );
});

test('without raw-socket it is said what to install', () => {
  const load = (): never => {
    throw new Error("Cannot find module 'raw-socket'\nRequire stack:\n- /x");
  };
  assert.throws(
    () => loadRawSocket(load),
    (error: unknown) => {
      assert.ok(error instanceof ProbeError && error.code === 'NO_RAW_SOCKET');
      return /python3, make and a C\+\+ compiler, then `npm install --no-save raw-socket@/.test(error.message);
    },
  );
});
