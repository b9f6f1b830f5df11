import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UsageError } from '../../../src/cli/errors.ts';
import { parseFdbChange, parseFdbFlush, parseFdbShow } from '../../../src/cli/fdb-words.ts';
import { parseLinkAdd, parseLinkSet } from '../../../src/cli/link-words.ts';
import { parseNeighChange, parseNeighShow } from '../../../src/cli/neigh-words.ts';
import {
  FDB_UNSERVED,
  LINK_ADD_NO_EFFECT,
  LINK_ADD_UNSERVED,
  LINK_SET_FIXED,
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
  ['vx0 id 2 group 239.1.1.1 dev eth0', { group: '239.1.1.1', dev: 'eth0' }],
  ['vx0 id 2 ttl 7 tos inherit df set', { ttl: 7, tos: 'inherit', df: 'set' }],
  ['vx0 id 2 hoplimit inherit dsfield 0xB8 df inherit', { ttl: 'inherit', tos: 0xb8, df: 'inherit' }],
  // To the kernel device a TOS of 1 is `inherit`.
  ['vx0 id 2 tos 1', { tos: 'inherit' }],
  ['vx0 id 2 flowlabel 0x12345', { flowlabel: 0x12345 }],
  ['vx0 id 2 srcport 5000 5002', { srcport: { min: 5000, max: 5002 } }],
  ['vx0 id 2 port 5000 5002', { srcport: { min: 5000, max: 5002 } }],
  ['vx0 id 2 noudpcsum rsc gbp', { udpcsum: false, rsc: true, gbp: true }],
  ['vx0 id 2 udp6zerocsumtx udp6zerocsumrx', { udp6zerocsumtx: true, udp6zerocsumrx: true }],
  ['vx0 id 2 l2miss', { l2miss: true, l3miss: false }],
  ['vx0 id 2 l3miss', { l3miss: true }],
  ['vx0 id 2 l2miss l3miss', { l2miss: true, l3miss: true }],
  ['vx0 id 2 proxy proxy-flood', { proxy: true, proxy_flood: true }],
  ['vx0 id 2 maxperpeer 9 maxmoves 8', { maxperpeer: 9, maxmoves: 8 }],
  // The mask that drops nothing lets every bit pass but those that have a meaning.
  ['vx0 id 2 reserved_bits 0', { reserved_bits: '0xf7ffffff000000ff' }],
  ['vx0 id 2 reserved_bits 0xf7ffffff00000000', { reserved_bits: '0x00000000000000ff' }],
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
  ['vx0 id 2 remote 239.1.1.1', /remote 239\.1\.1\.1: not an address of a host; a multicast group is `group`/],
  ['vx0 id 2 remote ff02::1', /remote ff02::1: not an address/],
  ['vx0 id 2 group 10.1.1.1 dev eth0', /group 10\.1\.1\.1: not a multicast address/],
  ['vx0 id 2 group 239.1.1.1', /group 239\.1\.1\.1 needs dev/],
  ['vx0 id 2 group 239.1.1.1 remote 10.1.1.1 dev eth0', /both the default destination/],
  ['vx0 id 2 group 239.1.1.1 local fd00::1 dev eth0', /local fd00::1 and group 239\.1\.1\.1 must be of one family/],
  ['vx0 id 2 local 239.1.1.1', /not an address of a host/],
  ['vx0 id 2 local 10.1.1.1 remote fd00::1', /must be of one family/],
  ['vx0 id 2 address 01:00:00:00:00:01', /cannot be the MAC of a device/],
  ['vx0 id 2 address 00:00:00:00:00:00', /cannot be the MAC of a device/],
  ['vx0 id 2 mtu 67', /mtu 67/],
  ['vx0 id 2 type vlan', /type vlan: this program makes vxlan networks only/],
  ['abcdefghijklmnop id 2', /not a device name/],
  ['a/b id 2', /not a device name/],
  ['vx0 id 2 srcport 5000', /srcport needs a number from 0 to 65535/],
  ['vx0 id 2 port 4789', /port needs the source ports, MIN and MAX; .* `dstport`/],
  ['vx0 id 2 port 4789 learning', /`dstport`/],
  ['vx0 id 2 srcport 5002 5002', /srcport 5002 5002: the first port must be at least 1 and below the second/],
  ['vx0 id 2 ttl 0', /ttl 0: must be a number from 1 to 255, auto or inherit/],
  ['vx0 id 2 ttl 256', /ttl 256: must be/],
  ['vx0 id 2 ttl 3 hoplimit 4', /hoplimit is given twice/],
  ['vx0 id 2 tos 0x100', /tos 0x100: must be a number from 0 to 255/],
  ['vx0 id 2 tos 010', /tos 010: must be/],
  ['vx0 id 2 df yes', /df yes: must be unset, set or inherit/],
  ['vx0 id 2 flowlabel 1048576', /flowlabel 1048576: must be a number from 0 to 1048575/],
  ['vx0 id 2 flowlabel inherit', /flowlabel inherit is not served yet/],
  ['vx0 id 2 reserved_bits 0xffffffff000000ff', /reserves the I flag or bits of the VNI/],
  ['vx0 id 2 reserved_bits 0x10000000000000000', /is no 64-bit number/],
  ['vx0 id 2 maxmoves -1', /maxmoves -1/],
  ['vx0 id 2 procy-flood', /did you mean proxy-flood/],
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
  // As `ip -d link` prints what nobody chose, whatever the underlay's family.
  const defaults =
    'ttl auto df unset tos 0x0 flowlabel 0 srcport 0 0 udpcsum noudp6zerocsumtx noudp6zerocsumrx nol2miss nol3miss norsc nogbp';
  assert.deepEqual(parseLinkAdd(['vx0', 'id', '2', ...words(defaults)]), PLAIN);
  assert.deepEqual(
    parseLinkAdd(words('vx0 id 2 reserved_bits 0xf7ffffff000000ff maxperpeer 0 maxmoves unlimited')),
    PLAIN,
  );
  assert.deepEqual(parseLinkAdd(words('vx0 id 2 noudpcsum udpcsum')), PLAIN);
});

const NOTHING = { network: 'vx0', mac: null, mtu: null, learning: null, proxy: null, peersonly: null, up: null };

const SET_GOOD: [string, Record<string, unknown>][] = [
  ['vx0 up', { up: true }],
  ['dev vx0 down', { up: false }],
  ['vx0 mtu 1400 address 02:00:00:00:00:01', { mtu: 1400, mac: '02:00:00:00:00:01' }],
  ['vx0 type vxlan ttl 7 tos inherit', { ttl: 7, tos: 'inherit' }],
  ['dev vx0 type vxlan dev eth1 local 10.1.1.1', { dev: 'eth1', local: '10.1.1.1' }],
  // What is the default is said, where it may not have been so before.
  ['vx0 ttl auto tos 0 udpcsum nol2miss', { ttl: 'auto', tos: 'auto', udpcsum: true, l2miss: false }],
  ['vx0 nolearning proxy proxy-flood', { learning: false, proxy: true, proxy_flood: true }],
  ['vx0 group 239.1.1.1', { group: '239.1.1.1' }],
  ['vx0 remote 0.0.0.0', { remote: '0.0.0.0' }],
  ['vx0 ageing none maxaddress 5', { ageing: 0, maxaddress: 5 }],
];

for (const [line, expected] of SET_GOOD) {
  test(`link set ${line}`, () => {
    assert.deepEqual(parseLinkSet(words(line)), { ...NOTHING, ...expected });
  });
}

const SET_BAD: [string, RegExp][] = [
  ['', /a name is needed/],
  ['vx0', /what to change is needed/],
  ['vx0 up down', /up or down is given twice/],
  ['vx0 srcport 0 0', /srcport 0 0 names no ports/],
  ['vx0 name vx1', /name cannot change while the network is there/],
  ['vx0 master br0', /master is not served yet: use `ip link set NAME master BRIDGE`/],
  ['vx0 tll 3', /unknown word "tll"; did you mean ttl\?/],
];

for (const [line, message] of SET_BAD) {
  test(`link set ${line}: refused`, () => {
    assert.throws(
      () => parseLinkSet(words(line)),
      (error) => error instanceof UsageError && message.test(error.message),
    );
  });
}

test('link set refuses by name, with the reason, what stays as it was added', () => {
  for (const [word, reason] of Object.entries(LINK_SET_FIXED)) {
    assert.throws(
      () => parseLinkSet(['vx0', word, '1']),
      (error) =>
        error instanceof UsageError &&
        error.message.includes(`${word} cannot change`) &&
        error.message.includes(reason),
    );
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
  [
    '0e:00:00:00:00:04 dst 10.245.1.4 via eth1 router dev vx0',
    { destination: { ip: '10.245.1.4', port: null, vni: null, via: 'eth1' }, router: true },
  ],
];

for (const [line, expected] of FDB_GOOD) {
  test(`fdb add ${line}`, () => {
    assert.deepEqual(parseFdbChange('add', words(line)), { ...FDB_ADD, ...expected });
  });
}

test('fdb del takes a whole entry or one destination, and has no state', () => {
  const line = '0e:00:00:00:00:04 dev vx0';
  assert.deepEqual(parseFdbChange('del', words(line)), { ...FDB_ADD, verb: 'del', destination: null, state: null });
  assert.deepEqual(parseFdbChange('del', words(`${line} dst 10.245.1.4 router permanent`)), {
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
  assert.throws(
    () => parseFdbChange('del', words('0e:00:00:00:00:04 port 9 dev vx0')),
    /port, vni and via belong to a dst/,
  );
});

const FLUSH_GOOD: [string, Record<string, unknown>][] = [
  ['dev vx0', {}],
  ['dev vx0 self', {}],
  ['dev vx0 dynamic', { state: 'dynamic' }],
  ['dst fd00:0::4 dev vx0 port 4789 vni 7', { dst: 'fd00::4', port: 4789, vni: 7 }],
  ['dev vx0 via eth1 norouter permanent', { via: 'eth1', router: false, state: 'permanent' }],
  ['', { network: undefined }],
];

for (const [line, expected] of FLUSH_GOOD) {
  test(`fdb flush ${line}`, () => {
    assert.deepEqual(parseFdbFlush(words(line)), { network: 'vx0', ...expected });
  });
}

const FLUSH_BAD: [string, RegExp][] = [
  ['dev vx0 static dynamic', /dynamic: a selector of its kind is given twice/],
  ['dev vx0 nopermanent', /nopermanent is not served yet: name the state that is to go/],
  ['dev vx0 nhid 1', /nhid is not served yet/],
  ['dev vx0 dts 10.1.1.1', /unknown word "dts"; did you mean dst\?/],
];

for (const [line, message] of FLUSH_BAD) {
  test(`fdb flush ${line}: refused`, () => {
    assert.throws(
      () => parseFdbFlush(words(line)),
      (error) => error instanceof UsageError && message.test(error.message),
    );
  });
}

test('every word of bridge fdb that is not served is refused by its name', () => {
  for (const word of Object.keys(FDB_UNSERVED)) {
    const line = ['0e:00:00:00:00:04', 'dst', '10.245.1.4', word, '1'];
    assert.throws(() => parseFdbChange('add', line), new RegExp(`fdb add: ${word} is not served yet`));
  }
});

test('fdb show takes filters, neigh show a device and nothing else', () => {
  const all = { network: undefined, mac: undefined, dst: undefined, state: undefined };
  assert.deepEqual(parseFdbShow([]), all);
  assert.deepEqual(parseFdbShow(words('dev vx0')), { ...all, network: 'vx0' });
  assert.deepEqual(parseFdbShow(words('dev vx0 02:00:00:00:00:0B dst 10.245.1.4 state static')), {
    network: 'vx0',
    mac: '02:00:00:00:00:0b',
    dst: '10.245.1.4',
    state: 'static',
  });
  assert.deepEqual(parseFdbShow(words('dynamic self')), { ...all, state: 'dynamic' });
  assert.throws(() => parseFdbShow(words('state stale')), /"stale" is none of static, permanent, dynamic/);
  assert.throws(() => parseFdbShow(words('dynamic static')), /the state is given twice/);
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
