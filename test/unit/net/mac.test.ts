import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AddressError } from '../../../src/net/errors.ts';
import { deriveMac, isUnicastMac, type Mac, parseMac, randomMac } from '../../../src/net/mac.ts';

test('every form that Go reads becomes one canonical spelling', () => {
  for (const text of ['72:55:b1:be:47:8f', '72-55-B1-BE-47-8F', '7255.b1be.478f', '72:55:B1:be:47:8F']) {
    assert.equal(parseMac(text), '72:55:b1:be:47:8f');
  }
});

test('other lengths, mixed separators and stray characters are refused', () => {
  const bad = [
    '',
    '72:55:b1:be:47',
    '72:55:b1:be:47:8',
    '72:55:b1:be:47:8f:00',
    '02:00:5e:10:00:00:00:01',
    '72:55-b1:be:47:8f',
    '7255b1be478f',
    '72:55:b1:be:47:8g',
    ' 72:55:b1:be:47:8f',
    '72:55:b1:be:47:8f\n',
    '7255:b1be:478f',
    '72.55.b1.be.47.8f',
  ];
  for (const text of bad) {
    assert.throws(
      () => parseMac(text),
      (error) => error instanceof AddressError && error.code === 'INVALID_MAC',
      text,
    );
  }
});

test('random MACs are locally administered unicast', () => {
  for (let round = 0; round < 100; round += 1) {
    const mac = randomMac();
    assert.equal(parseMac(mac), mac);
    assert.equal(Number.parseInt(mac.slice(0, 2), 16) & 3, 2);
  }
});

test('a derived MAC depends on the seed alone', () => {
  assert.equal(deriveMac('1 10.245.1.3'), deriveMac('1 10.245.1.3'));
  assert.notEqual(deriveMac('1 10.245.1.3'), deriveMac('2 10.245.1.3'));
  // sha256("") = e3b0c44298fc...; 0xe3 made locally administered unicast is 0xe2.
  assert.equal(deriveMac(''), 'e2:b0:c4:42:98:fc');
  fc.assert(fc.property(fc.string(), (seed) => isUnicastMac(deriveMac(seed))));
});

test('multicast, broadcast and zero belong to no device', () => {
  assert.equal(isUnicastMac('02:00:00:00:00:01' as Mac), true);
  for (const mac of ['01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00']) {
    assert.equal(isUnicastMac(parseMac(mac)), false, mac);
  }
});
