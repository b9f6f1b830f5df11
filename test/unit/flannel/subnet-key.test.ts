import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FlannelError } from '../../../src/flannel/errors.ts';
import { formatSubnetKey, parseSubnetKey } from '../../../src/flannel/subnet-key.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';

test('the keys of real hosts', () => {
  assert.deepEqual(parseSubnetKey('10.246.81.0-24'), { subnet: '10.246.81.0/24' });
  assert.deepEqual(parseSubnetKey('10.246.18.0-24&fd00:246:0:f::-64'), {
    subnet: '10.246.18.0/24',
    subnet6: 'fd00:246:0:f::/64',
  });
});

test('formatting is the inverse', () => {
  assert.equal(formatSubnetKey(parsePrefix('10.246.81.0/24')), '10.246.81.0-24');
  assert.equal(
    formatSubnetKey(parsePrefix('10.246.18.0/24'), parsePrefix('fd00:246:0:f::/64')),
    '10.246.18.0-24&fd00:246:0:f::-64',
  );
  assert.throws(() => formatSubnetKey(parsePrefix('fd00::/64')), RangeError);
});

test('everything else is refused with the key in the message', () => {
  const table: [string, RegExp][] = [
    ['', /not a lease/],
    ['10.246.81.0', /not a lease/],
    ['10.246.81.0/24', /not a lease/],
    ['10.246.81.0-24/extra', /not a lease/],
    ['x10.246.81.0-24', /not a lease/],
    ['10.246.81.0-24 ', /not a lease/],
    ['10.246.81.0-24\n', /not a lease/],
    ['10.246.81.5-24', /host bits/],
    ['10.246.81.0-024', /not a lease/],
    ['10.246.81.0-08', /not a lease/],
    ['10x246.81.0-24', /not a lease/],
    ['010.246.81.0-24', /not a lease/],
    ['10.246.810.0-24', /not a lease/],
    ['10.246.81.0-32', /above 31/],
    ['0.0.0.0-0', /no IPv4 subnet/],
    ['0.0.0.0-0&fd00:246:0:4b::-64', /no IPv4 subnet/],
    ['10.246.18.0-24&', /not a lease/],
    ['10.246.18.0-24&fd00:246:0:f::1-64', /host bits/],
    ['10.246.18.0-24&FD00:246:0:f::-64', /not a lease/],
    ['10.246.18.0-24&fd00:0246:0:f::-64', /spells fd00:246:0:f::/],
    ['10.246.18.0-24&fd00:246:0:f::-128', /above 127/],
    ['fd00:246:0:f::-64', /not a lease/],
    ['config', /not a lease/],
    // Those of flannel's own test.
    ['10', /not a lease/],
    ['10.12.13-24', /not a lease/],
    ['10.12.13.300-24', /not a lease/],
    ['10.12.13.0-24hi', /not a lease/],
    ['&2001::-56', /not a lease/],
    ['10.12.13.0-24&:12:13:-56', /not a lease/],
    ['10.12.13.0-24&20011::-56', /not a lease/],
    ['10.12.13.0-24&2001-56', /not a lease/],
    ['10.12.13.0-24&2001::', /not a lease/],
    ['10.12.13.0-24&2001::-56hi', /not a lease/],
  ];
  for (const [key, message] of table) {
    assert.throws(
      () => parseSubnetKey(key),
      (error) => {
        assert.ok(error instanceof FlannelError && error.code === 'INVALID_KEY', key);
        assert.match(error.message, message, key);
        assert.ok(error.message.includes(JSON.stringify(key)), error.message);
        return true;
      },
      key,
    );
  }
});

test('no text breaks the reader in another way, and what it reads is spelled as it writes', () => {
  const bytes = fc.constantFrom(...'0123456789abcdef.:-&/ '.split(''), '10.246.81.0-24', 'fd00::');
  const texts = fc.oneof(
    fc.string(),
    fc.array(bytes, { maxLength: 24 }).map((parts) => parts.join('')),
  );
  fc.assert(
    fc.property(texts, (text) => {
      try {
        const { subnet, subnet6 } = parseSubnetKey(text);
        assert.equal(formatSubnetKey(subnet, subnet6), text);
      } catch (error) {
        assert.ok(error instanceof FlannelError, String(error));
      }
    }),
    { numRuns: 5_000 },
  );
});
