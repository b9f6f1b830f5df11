import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatSubnetEnv, parseSubnetEnv } from '../../../src/flannel/subnet-env.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';

const env = {
  network: parsePrefix('10.246.0.0/16'),
  subnet: parsePrefix('10.246.18.0/24'),
  mtu: 1450,
  ipMasq: true,
};

const TEXT = 'FLANNEL_NETWORK=10.246.0.0/16\nFLANNEL_SUBNET=10.246.18.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n';

test("flannel's exact text", () => {
  assert.equal(formatSubnetEnv(env), TEXT);
  assert.match(formatSubnetEnv({ ...env, ipMasq: false }), /\nFLANNEL_IPMASQ=false\n$/);
});

test('read back', () => {
  assert.deepEqual(parseSubnetEnv(TEXT), env);
});

test('unreadable fields are skipped one by one', () => {
  assert.deepEqual(parseSubnetEnv(''), {});
  assert.deepEqual(parseSubnetEnv('FLANNEL_SUBNET=nonsense\nFLANNEL_MTU=x\nFLANNEL_IPMASQ=1\n\0\n=\n'), {});
  assert.deepEqual(parseSubnetEnv('# by hand\r\nexport FLANNEL_SUBNET="10.246.18.1/24"\r\nFLANNEL_MTU=1450'), {
    subnet: '10.246.18.0/24',
    mtu: 1450,
  });
  assert.deepEqual(parseSubnetEnv('FLANNEL_NETWORK=bad,fd00::/8,10.246.0.0/16,10.1.0.0/16'), {
    network: '10.246.0.0/16',
  });
});

test('both families, in the order of flanneld', () => {
  const text = [
    'FLANNEL_NETWORK=10.246.0.0/16',
    'FLANNEL_SUBNET=10.246.18.1/24',
    'FLANNEL_IPV6_NETWORK=fd00:246::/48',
    'FLANNEL_IPV6_SUBNET=fd00:246:0:f::1/64',
    'FLANNEL_MTU=1450',
    'FLANNEL_IPMASQ=true',
    '',
  ].join('\n');
  const env = parseSubnetEnv(text);
  assert.deepEqual([env.network6, env.subnet6], ['fd00:246::/48', 'fd00:246:0:f::/64']);
  assert.equal(formatSubnetEnv(env as Parameters<typeof formatSubnetEnv>[0]), text);
});

test("a shell that reads it has what flannel's mk-docker-opts.sh makes Docker's options of", () => {
  // With these three lines; what flannel masquerades, Docker is not to.
  const script = `eval "$0"
    echo "--bip=$FLANNEL_SUBNET"
    echo "--mtu=$FLANNEL_MTU"
    if [ "$FLANNEL_IPMASQ" = true ]; then echo "--ip-masq=false"; fi`;
  const options = (text: string) => execFileSync('bash', ['-euc', script, text], { encoding: 'utf8' });
  assert.equal(options(formatSubnetEnv(env)), '--bip=10.246.18.1/24\n--mtu=1450\n--ip-masq=false\n');
  assert.equal(options(formatSubnetEnv({ ...env, ipMasq: false })), '--bip=10.246.18.1/24\n--mtu=1450\n');
});

test('no text breaks the reader', () => {
  const words = fc.constantFrom(
    'FLANNEL_SUBNET=',
    'FLANNEL_NETWORK=',
    '10.246.18.1/24',
    'fd00::/64',
    ',',
    '\n',
    '"',
    '=',
    '\0',
  );
  const texts = fc.oneof(
    fc.string(),
    fc.array(words, { maxLength: 20 }).map((parts) => parts.join('')),
  );
  fc.assert(
    fc.property(texts, (text) => typeof parseSubnetEnv(text) === 'object'),
    { numRuns: 2_000 },
  );
});
