import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HostsFileError } from '../../../src/datastore/file/errors.ts';
import { deriveVtepMac, HOSTS_MAX, readHostsTable } from '../../../src/datastore/file/hosts-table.ts';
import { numberToIpv4, parseIpv4, parseIpv6 } from '../../../src/net/ip.ts';

const NETWORK = `network:
  Network: 10.246.0.0/16
  Backend: { Type: vxlan, VNI: 1, Port: 8472 }
`;

const FILE = `${NETWORK}hosts:
  - publicIP: 10.245.1.3
    subnet: 10.246.30.0/24
    mac: 02:00:00:00:00:03
  - publicIP: 10.245.1.4
    subnet: 10.246.13.0/24
`;

/** The message for a text, without the name of the file. */
function refusal(text: string, running?: Parameters<typeof readHostsTable>[2]): string {
  let message = '';
  assert.throws(
    () => readHostsTable(text, 'FILE', running),
    (error) => {
      assert.ok(error instanceof HostsFileError && error.code === 'HOSTS_FILE_INVALID', String(error));
      message = error.message;
      return true;
    },
    text,
  );
  return message;
}

function host(lines: string): string {
  return `${NETWORK}hosts:\n${lines}`;
}

test('hosts become leases', () => {
  const table = readHostsTable(FILE, 'FILE');
  assert.equal(table.config.network, '10.246.0.0/16');
  assert.equal(table.networkChanged, false);
  assert.deepEqual(
    [...table.leases.values()],
    [
      {
        key: '10.246.30.0-24',
        subnet: '10.246.30.0/24',
        attributes: { publicIp: '10.245.1.3', backendType: 'vxlan', vtepMac: '02:00:00:00:00:03', vni: 1 },
      },
      {
        key: '10.246.13.0-24',
        subnet: '10.246.13.0/24',
        attributes: {
          publicIp: '10.245.1.4',
          backendType: 'vxlan',
          vtepMac: deriveVtepMac(1, parseIpv4('10.245.1.4')),
          vni: 1,
        },
      },
    ],
  );
  assert.equal(table.byPublicIp.get('10.245.1.4')?.key, '10.246.13.0-24');
});

test('a derived MAC depends on VNI and PublicIP alone, today and tomorrow', () => {
  assert.equal(deriveVtepMac(1, parseIpv4('10.245.1.4')), 'ae:06:42:8b:f2:e5');
  assert.notEqual(deriveVtepMac(1, parseIpv4('10.245.1.4')), deriveVtepMac(2, parseIpv4('10.245.1.4')));
});

test('a network of the backend udp: its hosts have no MAC', () => {
  const network = 'network: { Network: 10.246.0.0/16, Backend: { Type: udp } }';
  const table = readHostsTable(`${network}\nhosts:\n  - { publicIP: 10.245.1.3, subnet: 10.246.30.0/24 }\n`, 'FILE');
  const attributes = [...table.leases.values()].map((lease) => lease.attributes);
  assert.deepEqual(attributes, [{ publicIp: '10.245.1.3', backendType: 'udp' }]);
});

test('JSON is read as well', () => {
  const text = JSON.stringify({
    network: { Network: '10.246.0.0/16', Backend: { Type: 'vxlan' } },
    hosts: [{ publicIP: '10.245.1.3', subnet: '10.246.30.0/24' }],
  });
  assert.equal(readHostsTable(text, 'FILE').leases.size, 1);
});

test('names in any case, a list without hosts, anchors', () => {
  assert.equal(readHostsTable(host('  - { PublicIp: 10.245.1.3, SUBNET: 10.246.30.0/24 }\n'), 'FILE').leases.size, 1);
  assert.equal(readHostsTable(`${NETWORK}hosts: []\n`, 'FILE').leases.size, 0);
});

test('each problem is named with its line and column and with what to do', () => {
  const table: [string, string][] = [
    [host('  - publicIP: 10.245.1\n    subnet: 10.246.30.0/24\n'), '5:15: publicIP "10.245.1" is not an IPv4 address'],
    [
      host('  - publicIP: 0.0.0.0\n    subnet: 10.246.30.0/24\n'),
      '5:15: publicIP 0.0.0.0 is not the address of a host',
    ],
    [host('  - publicIP: 10.245.1.3\n'), '5:5: subnet is missing'],
    [host('  - subnet: 10.246.30.0/24\n'), '5:5: publicIP is missing'],
    [host('  - publicIP: 10.245.1.3\n    subnet: 10.246.30.1/24\n'), '6:13: subnet "10.246.30.1/24" has host bits set'],
    [
      host('  - publicIP: 10.245.1.3\n    subnet: 10.247.30.0/24\n'),
      '6:13: subnet 10.247.30.0/24 lies outside the network',
    ],
    [host('  - publicIP: 10.245.1.3\n    subnet: 10.246.30.0/25\n'), '6:13: subnet 10.246.30.0/25 is no /24'],
    [
      host('  - publicIP: 10.245.1.3\n    subnet: 10.246.0.0/24\n'),
      '6:13: subnet 10.246.0.0/24 lies outside SubnetMin',
    ],
    [host('  - publicIP: 10.245.1.3\n    subnet: 24\n'), '6:13: subnet is 24: write a text'],
    [
      host('  - publicIP: 10.245.1.3\n    subnet: 10.246.30.0/24\n    mac: 02:00\n'),
      '7:10: mac "02:00" is not a MAC address',
    ],
    [
      host('  - publicIP: 10.245.1.3\n    subnet: 10.246.30.0/24\n    mac: ff:ff:ff:ff:ff:ff\n'),
      '7:10: mac ff:ff:ff:ff:ff:ff belongs to no device',
    ],
    [
      host('  - publicIP: 10.245.1.3\n    subnet: 10.246.30.0/24\n    mca: 02:00:00:00:00:03\n'),
      '7:10: "mca" is not known here',
    ],
    [
      host(
        '  - { publicIP: 10.245.1.3, subnet: 10.246.30.0/24 }\n  - { publicIP: 10.245.1.3, subnet: 10.246.31.0/24 }\n',
      ),
      '6:17: publicIP 10.245.1.3 is already that of the host with 10.246.30.0/24',
    ],
    [
      host(
        '  - { publicIP: 10.245.1.3, subnet: 10.246.30.0/24 }\n  - { publicIP: 10.245.1.4, subnet: 10.246.30.0/24 }\n',
      ),
      '6:37: subnet 10.246.30.0/24 is already that of host 10.245.1.3',
    ],
    [
      host(
        '  - { publicIP: 10.245.1.3, subnet: 10.246.30.0/24, mac: "02-00-00-00-00-03" }\n  - { publicIP: 10.245.1.4, subnet: 10.246.31.0/24, mac: "02:00:00:00:00:03" }\n',
      ),
      '6:58: mac 02:00:00:00:00:03 is already that of host 10.245.1.3',
    ],
    [
      host(
        '  - { publicIP: 10.246.31.9, subnet: 10.246.30.0/24 }\n  - { publicIP: 10.245.1.4, subnet: 10.246.31.0/24 }\n',
      ),
      '5:17: publicIP 10.246.31.9 lies inside the subnet 10.246.31.0/24',
    ],
    [host('  - 10.245.1.3\n'), '5:5: is no mapping'],
    [`${NETWORK}hosts:\n  10.245.1.3: 10.246.30.0/24\n`, '5:3: hosts is not a list'],
    [`${NETWORK}hosts:\n`, ': hosts is missing'],
    [NETWORK, '1:1: hosts is missing'],
    ['hosts: []\n', '1:1: network is missing'],
    [`${NETWORK}hosts: []\nnetworks: {}\n`, '5:11: "networks" is not known here'],
    [FILE.replace('10.246.0.0/16', '10.246.0.0/30'), '2:12: network Network: is 10.246.0.0/30, too small'],
    [FILE.replace('VNI: 1', 'VNI: 99999999'), '3:32: network Backend.VNI: is 99999999'],
    [FILE.replace('Type: vxlan', 'Type: ipsec'), '3:20: network Backend.Type: is "ipsec"'],
    ['- a\n', '1:1: is no mapping'],
    ['text', '1:1: is no mapping'],
    ['', '1:1: is empty'],
    [' \n', '1:1: is empty'],
    [`${FILE}hosts: []\n`, '10:1: "hosts" appears twice'],
    [
      host('  - { publicIP: 10.245.1.3, subnet: 10.246.30.0/24, subnet: 10.246.31.0/24 }\n'),
      '5:53: "subnet" appears twice',
    ],
    [`${NETWORK}hosts:\n  - publicIP: [\n`, 'is not YAML'],
    ['a: b\n---\nc: d\n', 'is not YAML'],
    ['{"network": {}, "hosts": ', 'is not YAML'],
  ];
  for (const [text, expected] of table) {
    const message = refusal(text);
    assert.ok(message.includes(expected), `${JSON.stringify(text)}\n${message}\ndoes not include ${expected}`);
    assert.match(message, /^FILE:\d+:\d+: /);
  }
});

test('all problems at once, the first ten in words', () => {
  const lines = Array.from({ length: 15 }, (_, index) => `  - { publicIP: ${index}, subnet: x }\n`).join('');
  const message = refusal(host(lines)).split('\n');
  assert.equal(message.length, 11);
  assert.equal(message[10], 'and 20 more');
});

test('more hosts than served are refused', () => {
  const hosts = Array.from({ length: HOSTS_MAX + 1 }, () => 0);
  const text = JSON.stringify({ network: { Network: '10.0.0.0/8', Backend: { Type: 'vxlan' } }, hosts });
  assert.match(refusal(text), /hosts has 100001 entries: at most 100000/);
});

test('texts that unfold without end, nest without end or repeat keys without end are refused in no time', () => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghi'
    .split('')
    .map((name, index) => `${name}: &${name} [${`*${'abcdefghi'[index]},`.repeat(9)}]\n`)
    .join('')}`;
  const started = performance.now();
  assert.match(refusal(bomb), /no plain YAML document|not known here/);
  refusal('['.repeat(100_000));
  refusal(`${NETWORK}hosts: {${Array.from({ length: 50_000 }, (_, index) => `"k${index}": 1`).join(',')}}\n`);
  assert.ok(performance.now() - started < 10_000);
});

test('no text breaks the reader in another way', () => {
  const piece = fc.constantFrom(
    'network:',
    'hosts:',
    '\n',
    '  - ',
    'publicIP: ',
    '10.245.1.3',
    '{',
    '}',
    '[',
    '&a ',
    '*a',
    '"',
    '__proto__: ',
    '!!binary ',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc.array(piece, { maxLength: 20 }).map((list) => list.join('')),
      ),
      (text) => {
        try {
          readHostsTable(text, 'FILE');
        } catch (error) {
          assert.ok(error instanceof HostsFileError, String(error));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('another network section does not change how hosts are read while the daemon runs', () => {
  const running = readHostsTable(FILE, 'FILE').config;
  const next = readHostsTable(FILE.replace('VNI: 1', 'VNI: 2'), 'FILE', running);
  assert.equal(next.networkChanged, true);
  assert.equal(next.byPublicIp.get('10.245.1.4')?.attributes.vtepMac, deriveVtepMac(1, parseIpv4('10.245.1.4')));
  assert.equal(readHostsTable(`# ${FILE}`.replace('# network', 'network'), 'FILE', running).networkChanged, false);
  const moved = FILE.replaceAll('10.246.', '10.250.');
  assert.match(
    refusal(moved, running),
    /^network section changed; restart vtepd to apply.*\nFILE:6:13: subnet 10\.250/,
  );
});

test('20,000 hosts', () => {
  const lines = Array.from(
    { length: 20_000 },
    (_, index) =>
      `  - { publicIP: ${numberToIpv4(0xac100000 + index)}, subnet: ${numberToIpv4(0x0a000100 + index * 256)}/24 }\n`,
  );
  const text = `network: { Network: 10.0.0.0/8, Backend: { Type: vxlan } }\nhosts:\n${lines.join('')}`;
  assert.equal(readHostsTable(text, 'FILE').leases.size, 20_000);
});

const DUAL = `network:
  Network: 10.246.0.0/16
  EnableIPv6: true
  IPv6Network: fd00:246::/48
  Backend: { Type: vxlan }
hosts:
  - publicIP: 10.245.1.3
    subnet: 10.246.30.0/24
    publicIPv6: fd00:245::3
    subnet6: fd00:246:0:a::/64
`;

test('a dual-stack host has both halves, and a MAC for each', () => {
  const [lease] = readHostsTable(DUAL, 'FILE').leases.values();
  assert.deepEqual(lease, {
    key: '10.246.30.0-24&fd00:246:0:a::-64',
    subnet: '10.246.30.0/24',
    subnet6: 'fd00:246:0:a::/64',
    attributes: {
      publicIp: '10.245.1.3',
      backendType: 'vxlan',
      vtepMac: deriveVtepMac(1, parseIpv4('10.245.1.3')),
      vni: 1,
      publicIpv6: 'fd00:245::3',
      vtepMac6: deriveVtepMac(1, parseIpv6('fd00:245::3')),
    },
  });
});

test('what is wrong with an IPv6 half is named', () => {
  const second = (six: string) => `${DUAL}  - { publicIP: 10.245.1.4, subnet: 10.246.13.0/24, ${six} }\n`;
  for (const [text, message] of [
    [second('publicIPv6: fd00:245::4'), /subnet6 is missing/],
    [second('publicIPv6: fd00:245::3, subnet6: "fd00:246:0:b::/64"'), /publicIPv6 fd00:245::3 is already that of/],
    [second('publicIPv6: fd00:245::4, subnet6: "fd00:246:0:a::/64"'), /subnet6 fd00:246:0:a::\/64 is already that of/],
    [
      second('publicIPv6: fd00:245::4, subnet6: "fd00:247:0:b::/64"'),
      /subnet6 .* is no \/64 of the network fd00:246::\/48/,
    ],
    [second('publicIPv6: fe80::4, subnet6: "fd00:246:0:b::/64"'), /publicIPv6 fe80::4 is not the address of a host/],
    [
      second('publicIPv6: "fd00:246:0:b::4", subnet6: "fd00:246:0:b::/64"'),
      /lies inside the subnet fd00:246:0:b::\/64/,
    ],
    [DUAL.replace('EnableIPv6: true', 'EnableIPv6: false'), /publicIPv6 is for a network with EnableIPv6/],
  ] as const) {
    assert.match(refusal(text), message);
  }
});
