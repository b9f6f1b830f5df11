import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UsageError } from '../../../src/cli/errors.ts';
import { parseFdbChange, parseFdbShow } from '../../../src/cli/fdb-words.ts';
import { parseLinkAdd } from '../../../src/cli/link-words.ts';
import { parseNeighChange, parseNeighShow } from '../../../src/cli/neigh-words.ts';
import {
  FDB_UNSERVED,
  LINK_ADD_NO_EFFECT,
  LINK_ADD_NO_EFFECT_VALUES,
  LINK_ADD_UNSERVED,
  NEIGH_UNSERVED,
} from '../../../src/cli/vocabulary.ts';

const words = (line: string): string[] => line.split(' ').filter((word) => word !== '');

/** What `link add vx0 id 2` asks for: the kernel device's defaults, but for the port. */
const PLAIN = {
  name: 'vx0',
  vni: 2,
  owner: 'hand',
  netns: null,
  local: null,
  port: 4789,
  dev: null,
  remote: null,
  mac: null,
  mtu: null,
  proxy: false,
  learning: true,
  peersonly: false,
  ageing: 300,
  maxaddress: 0,
};

const LINK_GOOD: [string, Partial<typeof PLAIN> | Record<string, unknown>][] = [
  ['vx0 id 2', {}],
  ['vx0 vni 2', {}],
  ['name vx0 id 2', {}],
  ['dev vx0 id 2', {}],
  ['vx0 type vxlan id 2', {}],
  ['vx0 up type vxlan id 2', {}],
  ['id 2 name vx0', {}],
  ['dev vx0 id 2 dev eth0', { dev: 'eth0' }],
  [
    'vx0 id 2 local 10.245.1.3 remote 10.245.1.4 dstport 8472 dev eth0',
    { local: '10.245.1.3', remote: '10.245.1.4', port: 8472, dev: 'eth0' },
  ],
  ['vx0 id 2 local fd00::3 remote fd00:0::4', { local: 'fd00::3', remote: 'fd00::4' }],
  ['vx0 id 2 nolearning proxy peersonly', { learning: false, proxy: true, peersonly: true }],
  ['vx0 id 2 proxy noproxy', {}],
  ['address 0E:00:00:00:00:03 mtu 1400 vx0 type vxlan id 2', { mac: '0e:00:00:00:00:03', mtu: 1400 }],
  ['vx0 id 2 ageing 5 maxaddress 10', { ageing: 5, maxaddress: 10 }],
  ['vx0 id 2 ageing none maxaddress unlimited', { ageing: 0 }],
  ['vx0 id 2 netns blue', { netns: 'blue' }],
  ['vx0 id 0', { vni: 0 }],
  ['vx0 id 16777215', { vni: 16777215 }],
  // As `ip -d link` prints flannel's device.
  [
    'vx0 type vxlan id 2 local 10.245.1.11 dev eth0 srcport 0 0 dstport 4789 nolearning ttl auto ageing 300 udpcsum noudp6zerocsumtx noudp6zerocsumrx',
    { local: '10.245.1.11', dev: 'eth0', learning: false },
  ],
];

for (const [line, expected] of LINK_GOOD) {
  test(`link add ${line}`, () => {
    assert.deepEqual(parseLinkAdd(words(line)), { ...PLAIN, ...expected });
  });
}

const LINK_BAD: [string, RegExp][] = [
  ['', /a name is needed/],
  ['vx0', /id is needed/],
  ['id 2', /a name is needed/],
  ['vx0 id', /id needs a number/],
  ['vx0 id 16777216', /id 16777216: must be a number from 0 to 16777215/],
  ['vx0 id 0x10', /id 0x10: must be a number/],
  ['vx0 id -1', /id -1/],
  ['vx0 id 2 id 3', /id is given twice/],
  ['vx0 id 2 dstport 0', /dstport 0/],
  ['vx0 id 2 dstport 65536', /dstport 65536/],
  ['vx0 id 2 dstprot 4789', /unknown word "dstprot"; did you mean dstport\?/],
  ['vx0 id 2 local 10.1.1', /local: "10\.1\.1"/],
  ['vx0 id 2 remote 239.1.1.1', /a multicast remote \(239\.1\.1\.1\) is not served yet/],
  ['vx0 id 2 remote ff02::1', /multicast remote/],
  ['vx0 id 2 local 239.1.1.1', /not an address of a host/],
  ['vx0 id 2 local 10.1.1.1 remote fd00::1', /must be of one family/],
  ['vx0 id 2 address 01:00:00:00:00:01', /cannot be the MAC of a device/],
  ['vx0 id 2 address 00:00:00:00:00:00', /cannot be the MAC of a device/],
  ['vx0 id 2 mtu 67', /mtu 67/],
  ['vx0 id 2 type vlan', /type vlan: this program makes vxlan networks only/],
  ['abcdefghijklmnop id 2', /not a device name/],
  ['a/b id 2', /not a device name/],
  ['vx0 id 2 srcport 5000 5002', /srcport is not served yet/],
  ['vx0 id 2 ttl 3', /ttl is not served yet/],
];

for (const [line, message] of LINK_BAD) {
  test(`link add ${line}: refused`, () => {
    assert.throws(
      () => parseLinkAdd(words(line)),
      (error) => error instanceof UsageError && message.test(error.message),
    );
  });
}

test('every word of ip link that is not served is refused by its name', () => {
  for (const word of Object.keys(LINK_ADD_UNSERVED)) {
    assert.throws(() => parseLinkAdd(['vx0', 'id', '2', word, 'x']), new RegExp(`link add: ${word} is not served yet`));
  }
});

test('words that ask for what is done anyway change nothing', () => {
  for (const word of LINK_ADD_NO_EFFECT) assert.deepEqual(parseLinkAdd(['vx0', 'id', '2', word]), PLAIN);
  for (const [word, values] of Object.entries(LINK_ADD_NO_EFFECT_VALUES)) {
    assert.deepEqual(parseLinkAdd(['vx0', 'id', '2', word, ...values]), PLAIN);
  }
});

const FDB_ADD = {
  network: 'vx0',
  verb: 'add',
  mac: '0e:00:00:00:00:04',
  destination: { ip: '10.245.1.4', port: null, vni: null },
  state: 'static',
};

const FDB_GOOD: [string, Record<string, unknown>][] = [
  ['0e:00:00:00:00:04 dst 10.245.1.4 dev vx0', {}],
  ['dev vx0 dst 10.245.1.4 0e:00:00:00:00:04', {}],
  ['0e:00:00:00:00:04 dev vx0 self static dst 10.245.1.4', {}],
  ['0e:00:00:00:00:04 dev vx0 temp dst 10.245.1.4', {}],
  ['0e:00:00:00:00:04 dev vx0 permanent dst 10.245.1.4', { state: 'permanent' }],
  ['0e:00:00:00:00:04 dev vx0 local dst 10.245.1.4', { state: 'permanent' }],
  ['0e:00:00:00:00:04 dev vx0 dynamic dst 10.245.1.4', { state: 'dynamic' }],
  [
    '0e:00:00:00:00:04 dst 10.245.1.4 port 8472 vni 7 dev vx0',
    { destination: { ip: '10.245.1.4', port: 8472, vni: 7 } },
  ],
  ['0e:00:00:00:00:04 dst fd00:0:0::4 dev vx0', { destination: { ip: 'fd00::4', port: null, vni: null } }],
  ['0e:00:00:00:00:04 dst 10.245.1.4', { network: undefined }],
];

for (const [line, expected] of FDB_GOOD) {
  test(`fdb add ${line}`, () => {
    assert.deepEqual(parseFdbChange('add', words(line)), { ...FDB_ADD, ...expected });
  });
}

test('fdb del takes a whole entry or one destination, and has no state', () => {
  const line = '0e:00:00:00:00:04 dev vx0';
  assert.deepEqual(parseFdbChange('del', words(line)), { ...FDB_ADD, verb: 'del', destination: null, state: null });
  assert.deepEqual(parseFdbChange('del', words(`${line} dst 10.245.1.4 permanent`)), {
    ...FDB_ADD,
    verb: 'del',
    state: null,
  });
});

const FDB_BAD: [string, RegExp][] = [
  ['', /a MAC is needed/],
  ['dev vx0 dst 10.245.1.4', /a MAC is needed/],
  ['0e:00:00:00:00:04 dev vx0', /dst is needed/],
  ['0e:00:00:00:00 dst 10.245.1.4', /neither a word of fdb nor a MAC/],
  ['0e:00:00:00:00:04 0e:00:00:00:00:05 dst 10.245.1.4', /the MAC is given twice/],
  ['0e:00:00:00:00:04 dst 10.245.1.4 static dynamic', /the state is given twice/],
  ['0e:00:00:00:00:04 dst 10.245.1.4 port 0', /port 0/],
  ['0e:00:00:00:00:04 dst 10.245.1.4 prot 9', /unknown word "prot"; did you mean port\?/],
  ['0e:00:00:00:00:04 dst', /dst needs an address/],
];

for (const [line, message] of FDB_BAD) {
  test(`fdb add ${line}: refused`, () => {
    assert.throws(
      () => parseFdbChange('add', words(line)),
      (error) => error instanceof UsageError && message.test(error.message),
    );
  });
}

test('fdb del without dst takes no port', () => {
  assert.throws(() => parseFdbChange('del', words('0e:00:00:00:00:04 port 9 dev vx0')), /port and vni belong to a dst/);
});

test('every word of bridge fdb that is not served is refused by its name', () => {
  for (const word of Object.keys(FDB_UNSERVED)) {
    const line = ['0e:00:00:00:00:04', 'dst', '10.245.1.4', word, '1'];
    assert.throws(() => parseFdbChange('add', line), new RegExp(`fdb add: ${word} is not served yet`));
  }
});

test('fdb show and neigh show take a device and nothing else', () => {
  assert.deepEqual(parseFdbShow(words('dev vx0')), { network: 'vx0' });
  assert.deepEqual(parseFdbShow([]), { network: undefined });
  assert.deepEqual(parseNeighShow(words('dev vx0')), { network: 'vx0' });
  assert.throws(() => parseFdbShow(words('br br0')), /br is not served yet/);
  assert.throws(() => parseFdbShow(words('vx0')), /unknown word "vx0"/);
  assert.throws(() => parseNeighShow(words('nud permanent')), /nud is not served yet/);
});

const NEIGH_ADD = { network: 'vx0', verb: 'add', prefix: '10.246.13.5/32', lladdr: '0e:00:00:00:00:04' };

const NEIGH_GOOD: [string, Record<string, unknown>][] = [
  ['10.246.13.5 lladdr 0e:00:00:00:00:04 dev vx0', {}],
  ['to 10.246.13.5 dev vx0 lladdr 0e:00:00:00:00:04', {}],
  ['10.246.13.5 lladdr 0e:00:00:00:00:04 dev vx0 nud permanent', {}],
  ['10.246.13.5 lladdr 0e:00:00:00:00:04 nud noarp dev vx0', {}],
  ['10.246.13.5 lladdr 0e:00:00:00:00:04 dev vx0 permanent', {}],
  ['10.246.13.0/24 lladdr 0e:00:00:00:00:04 dev vx0', { prefix: '10.246.13.0/24' }],
  ['fd00:0::5 lladdr 0e:00:00:00:00:04 dev vx0', { prefix: 'fd00::5/128' }],
];

for (const [line, expected] of NEIGH_GOOD) {
  test(`neigh add ${line}`, () => {
    assert.deepEqual(parseNeighChange('add', words(line)), { ...NEIGH_ADD, ...expected });
  });
}

const NEIGH_BAD: [string, RegExp][] = [
  ['', /an address is needed/],
  ['10.246.13.5 dev vx0', /lladdr is needed/],
  ['10.246.13.5/24 lladdr 0e:00:00:00:00:04', /host bits set: the subnet is 10\.246\.13\.0\/24/],
  ['10.246.13.5 lladdr 0e', /lladdr: "0e"/],
  ['10.246.13.5 lladdr 0e:00:00:00:00:04 nud stale', /nud stale is not served yet/],
  ['10.246.13.5 10.246.13.6 lladdr 0e:00:00:00:00:04', /unknown word "10\.246\.13\.6"/],
  ['300.1.1.1 lladdr 0e:00:00:00:00:04', /300\.1\.1\.1/],
];

for (const [line, message] of NEIGH_BAD) {
  test(`neigh add ${line}: refused`, () => {
    assert.throws(
      () => parseNeighChange('add', words(line)),
      (error) => error instanceof UsageError && message.test(error.message),
    );
  });
}

test('every word of ip neigh that is not served is refused by its name', () => {
  for (const word of Object.keys(NEIGH_UNSERVED)) {
    assert.throws(
      () => parseNeighChange('add', ['10.246.13.5', word]),
      new RegExp(`neigh add: ${word} is not served yet`),
    );
  }
});
