import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { candidateSubnets, candidateSubnets6, fitsConfig, fitsRange6 } from '../../../src/flannel/allocate.ts';
import { networkConfigOf } from '../../../src/flannel/config.ts';
import { numberToIpv4, parseIpv6 } from '../../../src/net/ip.ts';
import { type Prefix, parsePrefix, prefixesOverlap, prefixOf } from '../../../src/net/prefix.ts';

const Backend = { Type: 'vxlan' };
const config = networkConfigOf({ Network: '10.246.0.0/16', Backend });

function prefixes(...texts: string[]): Prefix[] {
  return texts.map(parsePrefix);
}

test('an empty network offers the first hundred, without the first subnet', () => {
  const free = candidateSubnets(config, []);
  assert.equal(free.length, 100);
  assert.equal(free[0], '10.246.1.0/24');
  assert.equal(free[99], '10.246.100.0/24');
});

test('what overlaps a taken subnet is left out, wider, equal or narrower', () => {
  const small = networkConfigOf({ Network: '10.246.0.0/21', SubnetLen: 24, Backend });
  const taken = prefixes(
    '10.246.1.0/24',
    '10.246.2.64/26',
    '10.246.2.128/25',
    '10.246.4.0/23',
    'fd00::/8',
    '10.0.0.0/30',
  );
  assert.deepEqual(candidateSubnets(small, taken), ['10.246.3.0/24', '10.246.6.0/24', '10.246.7.0/24']);
});

test('a full network offers nothing', () => {
  assert.deepEqual(candidateSubnets(config, prefixes('10.246.0.0/16')), []);
  assert.deepEqual(candidateSubnets(config, prefixes('0.0.0.0/0')), []);
});

test('the range is respected to the last address there is', () => {
  const top = networkConfigOf({ Network: '255.255.255.0/24', SubnetMin: '255.255.255.192', Backend });
  assert.deepEqual(candidateSubnets(top, []), ['255.255.255.192/26']);
});

test('the same answer as trying each subnet against each taken one', () => {
  const network = networkConfigOf({ Network: '10.246.0.0/22', SubnetLen: 28, Backend });
  const taken = fc
    .tuple(fc.nat({ max: 0x7ff }), fc.integer({ min: 20, max: 32 }))
    .map(([offset, length]) => prefixOf(numberToIpv4(0x0af5fe00 + offset), length));
  fc.assert(
    fc.property(fc.array(taken, { maxLength: 20 }), (list) => {
      const expected: Prefix[] = [];
      for (let base = 0x0af60010; base < 0x0af60400; base += 16) {
        const subnet = `${numberToIpv4(base)}/28` as Prefix;
        if (!list.some((other) => prefixesOverlap(other, subnet))) expected.push(subnet);
      }
      assert.deepEqual(candidateSubnets(network, list), expected.slice(0, 100));
    }),
  );
});

test('5,000 taken subnets are no burden', () => {
  const large = networkConfigOf({ Network: '10.0.0.0/8', Backend });
  const taken: Prefix[] = [];
  for (let index = 5000; index >= 1; index -= 1) taken.push(`${numberToIpv4(0x0a000000 + index * 256)}/24` as Prefix);
  const started = performance.now();
  assert.equal(candidateSubnets(large, taken)[0], '10.19.137.0/24');
  assert.ok(performance.now() - started < 200, 'sorted once, scanned once');
});

test('a subnet fits if its length and place are the configured ones', () => {
  const narrow = networkConfigOf({
    Network: '10.246.0.0/16',
    SubnetMin: '10.246.5.0',
    SubnetMax: '10.246.8.0',
    Backend,
  });
  for (const [text, fits] of [
    ['10.246.5.0/24', true],
    ['10.246.8.0/24', true],
    ['10.246.4.0/24', false],
    ['10.246.9.0/24', false],
    ['10.246.6.0/25', false],
    ['fd00::/24', false],
  ] as const) {
    assert.equal(fitsConfig(narrow, parsePrefix(text)), fits, text);
  }
});

test('IPv6: the first free subnets of the range, a hundred at most, none that overlaps', () => {
  const range = {
    network: parsePrefix('fd00:246::/48'),
    subnetLen: 64,
    subnetMin: parseIpv6('fd00:246:0:1::'),
    subnetMax: parseIpv6('fd00:246:0:4::'),
  };
  const taken = ['fd00:246:0:2::/64', 'fd00:246:0:4::/66', '10.0.0.0/8', 'fd00:999::/64'].map(parsePrefix);
  assert.deepEqual(candidateSubnets6(range, taken), ['fd00:246:0:1::/64', 'fd00:246:0:3::/64']);
  assert.deepEqual(candidateSubnets6(range, [parsePrefix('fd00:246::/62')]), ['fd00:246:0:4::/64']);
  assert.equal(candidateSubnets6({ ...range, subnetMax: parseIpv6('fd00:246:0:ffff::') }, []).length, 100);
  assert.equal(fitsRange6(range, parsePrefix('fd00:246:0:4::/64')), true);
  for (const bad of ['fd00:246:0:5::/64', 'fd00:246::/64', 'fd00:246:0:4::/65', '10.0.0.0/8']) {
    assert.equal(fitsRange6(range, parsePrefix(bad)), false);
  }
});
