import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AddressError } from '../../../src/net/errors.ts';
import { parseIp } from '../../../src/net/ip.ts';
import {
  firstAddress,
  parseNetworkOf,
  parsePrefix,
  prefixBase,
  prefixContains,
  prefixesOverlap,
  prefixFamily,
  prefixLength,
  prefixOf,
} from '../../../src/net/prefix.ts';

test('a prefix is its base and a length, in one spelling', () => {
  for (const text of ['10.246.30.0/24', '0.0.0.0/0', '10.0.0.1/32', 'fd00:246::/48', '::/0', '::1/128']) {
    assert.equal(parsePrefix(text), text);
  }
  assert.equal(parsePrefix('FD00:0246::/48'), 'fd00:246::/48');
  assert.equal(prefixBase(parsePrefix('10.246.30.0/24')), '10.246.30.0');
  assert.equal(prefixLength(parsePrefix('10.246.30.0/24')), 24);
  assert.equal(prefixFamily(parsePrefix('fd00:246::/48')), 6);
});

test('host bits, odd lengths and bad addresses are refused', () => {
  const bad = [
    '10.246.30.1/24',
    'fd00:246::1/48',
    '10.246.30.0',
    '10.246.30.0/',
    '10.246.30.0/33',
    '10.246.30.0/024',
    '10.246.30.0/+24',
    '10.246.30.0/-1',
    '10.246.30.0/24/24',
    '10.246.30.0/ 24',
    '10.246.30/24',
    '/24',
    'fd00::/129',
    '::ffff:10.0.0.0/120',
    '',
  ];
  for (const text of bad) {
    assert.throws(
      () => parsePrefix(text),
      (error) => error instanceof AddressError && error.code === 'INVALID_PREFIX' && error.value === text,
      text,
    );
  }
  assert.throws(() => parsePrefix('10.246.30.1/24'), /the subnet is 10\.246\.30\.0\/24/);
});

test('the network of an address has its host bits cut off', () => {
  assert.equal(parseNetworkOf('10.246.18.1/24'), '10.246.18.0/24');
  assert.equal(parseNetworkOf('10.246.18.1/0'), '0.0.0.0/0');
  assert.equal(parseNetworkOf('255.255.255.255/31'), '255.255.255.254/31');
  assert.equal(parseNetworkOf('fd00:246:0:f::1/64'), 'fd00:246:0:f::/64');
  assert.equal(prefixOf(parseIp('10.1.2.3'), 8), '10.0.0.0/8');
});

test('containment and overlap', () => {
  const network = parsePrefix('10.246.0.0/16');
  const subnet = parsePrefix('10.246.30.0/24');
  assert.equal(prefixContains(network, parseIp('10.246.255.255')), true);
  assert.equal(prefixContains(network, parseIp('10.247.0.0')), false);
  assert.equal(prefixContains(network, subnet), true);
  assert.equal(prefixContains(subnet, network), false);
  assert.equal(prefixContains(network, network), true);
  assert.equal(prefixContains(parsePrefix('0.0.0.0/0'), parseIp('::1')), false, 'families are apart');
  assert.equal(prefixesOverlap(network, subnet), true);
  assert.equal(prefixesOverlap(subnet, network), true);
  assert.equal(prefixesOverlap(subnet, parsePrefix('10.246.31.0/24')), false);
  assert.equal(prefixesOverlap(parsePrefix('fd00::/8'), parsePrefix('fd00:246::/48')), true);
});

test('the first usable address is the one after the base', () => {
  assert.equal(firstAddress(parsePrefix('10.246.18.0/24')), '10.246.18.1');
  assert.equal(firstAddress(parsePrefix('fd00:246:0:f::/64')), 'fd00:246:0:f::1');
  assert.equal(firstAddress(parsePrefix('10.0.0.7/32')), '10.0.0.7');
});
