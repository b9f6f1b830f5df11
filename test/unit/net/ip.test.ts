import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { AddressError } from '../../../src/net/errors.ts';
import {
  bigIntToIp,
  familyOf,
  ipToBigInt,
  ipv4ToNumber,
  numberToIpv4,
  parseIp,
  parseIpv4,
  parseIpv6,
} from '../../../src/net/ip.ts';

function refuses(parse: (text: string) => unknown, text: string): void {
  assert.throws(
    () => parse(text),
    (error) => error instanceof AddressError && error.code === 'INVALID_IP' && error.value === text,
    text,
  );
}

test('IPv4: four plain decimal numbers and nothing else', () => {
  for (const text of ['0.0.0.0', '10.245.1.3', '255.255.255.255']) assert.equal(parseIpv4(text), text);
  const bad = [
    '',
    '0x7f.1',
    '010.0.0.1',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '1.2.3.1000',
    '1.2.3.-4',
    '1.2.3.+4',
    '1.2.3.4 ',
    ' 1.2.3.4',
    '1.2.3.4\n',
    '1..2.3',
    '1.2.3.4/24',
    '１.2.3.4',
    '3232235777',
    '::1',
  ];
  for (const text of bad) refuses(parseIpv4, text);
});

test('IPv6: written in the form of RFC 5952', () => {
  const table: [string, string][] = [
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['FD00:0245:0001::0011', 'fd00:245:1::11'],
    ['fd00:246:0:f::', 'fd00:246:0:f::'],
    ['fd00:0:0:1:0:0:0:1', 'fd00:0:0:1::1'],
    ['fd00:0:0:1:2:0:0:1', 'fd00::1:2:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:db8::1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['0:1:0:1:0:1:0:1', '0:1:0:1:0:1:0:1'],
    ['1:0:0:0:0:0:0:0', '1::'],
  ];
  for (const [text, canonical] of table) assert.equal(parseIpv6(text), canonical);
});

test('IPv6: zones, IPv4-mapped addresses and malformed groups are refused', () => {
  const bad = [
    '',
    ':',
    ':::',
    '1',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '1::2::3',
    '12345::',
    'g::',
    '::1%eth0',
    'fe80::1%1',
    '::ffff:10.0.0.1',
    '::ffff:a00:1',
    '1.2.3.4::',
    '::1.2.3',
    '::01.2.3.4',
    '[::1]',
    '::1/64',
    ' ::1',
    '1:2:3:4:5:6:7:1.2.3.4',
    '10.0.0.1',
  ];
  for (const text of bad) refuses(parseIpv6, text);
  assert.throws(() => parseIpv6('::ffff:10.0.0.1'), /write 10\.0\.0\.1/);
});

test('either family by its looks', () => {
  assert.equal(familyOf(parseIp('10.0.0.1')), 4);
  assert.equal(familyOf(parseIp('FD00::1')), 6);
  refuses(parseIp, '010.0.0.1');
  refuses(parseIp, 'localhost');
});

test('numbers and addresses turn into each other', () => {
  assert.equal(ipToBigInt(parseIp('10.245.1.3')), 0x0af50103n);
  assert.equal(ipToBigInt(parseIp('fd00::1')), 0xfd000000000000000000000000000001n);
  assert.equal(ipv4ToNumber(parseIpv4('255.0.0.1')), 0xff000001);
  fc.assert(
    fc.property(fc.nat({ max: 0xffffffff }), (value) => {
      assert.equal(ipv4ToNumber(numberToIpv4(value)), value);
      assert.equal(bigIntToIp(BigInt(value), 4), numberToIpv4(value));
    }),
  );
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), (value) => {
      const ip = bigIntToIp(value, 6);
      assert.equal(ipToBigInt(ip), value);
      assert.equal(new URL(`http://[${ip}]/`).hostname, `[${ip}]`, 'as the WHATWG URL parser writes it');
    }),
  );
  assert.throws(() => bigIntToIp(-1n, 4), RangeError);
  assert.throws(() => bigIntToIp(1n << 32n, 4), RangeError);
});

test('node:net accepts the same texts, but for zones and IPv4-mapped addresses', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string({ maxLength: 45 })), (text) => {
      try {
        const ip = parseIp(text);
        assert.notEqual(isIP(text), 0);
        assert.equal(parseIp(ip), ip);
      } catch (error) {
        assert.ok(error instanceof AddressError, String(error));
        if (isIP(text) !== 0) assert.match(error.message, /IPv4-mapped|has a zone/);
      }
    }),
    { numRuns: 2000 },
  );
});
