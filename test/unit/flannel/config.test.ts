import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatNetworkConfig, networkConfigOf, parseNetworkConfig } from '../../../src/flannel/config.ts';
import { FlannelError, type FlannelErrorCode } from '../../../src/flannel/errors.ts';

const vxlan = { Type: 'vxlan' };

function parse(config: object) {
  return parseNetworkConfig(JSON.stringify(config));
}

function refuses(config: object | string, code: FlannelErrorCode, field: string, message: RegExp): void {
  const text = typeof config === 'string' ? config : JSON.stringify(config);
  assert.throws(
    () => parseNetworkConfig(text),
    (error) => {
      assert.ok(error instanceof FlannelError, String(error));
      assert.equal(error.code, code, error.message);
      assert.equal(error.field, field, error.message);
      assert.match(error.message, message);
      return true;
    },
    text,
  );
}

test('defaults: /24 subnets from the second to the last, VNI 1, port 8472', () => {
  assert.deepEqual(parse({ Network: '10.3.0.0/16', Backend: vxlan }), {
    network: '10.3.0.0/16',
    subnetLen: 24,
    subnetMin: '10.3.1.0',
    subnetMax: '10.3.255.0',
    enableIpv4: true,
    enableIpv6: false,
    backend: { type: 'vxlan', vni: 1, port: 8472, learning: false, gbp: false, directRouting: false },
  });
});

test('overrides', () => {
  const config = parse({
    Network: '10.3.0.0/16',
    SubnetMin: '10.3.5.0',
    SubnetMax: '10.3.8.0',
    SubnetLen: 28,
    EnableIPv4: true,
    EnableIPv6: false,
    EnableNFTables: true,
    Backend: {
      Type: 'VXLAN',
      VNI: 3,
      Port: 4789,
      MTU: 1400,
      Learning: true,
      GBP: true,
      DirectRouting: true,
      MacPrefix: '0E-2A',
    },
  });
  assert.equal(config.subnetLen, 28);
  assert.equal(config.subnetMin, '10.3.5.0');
  assert.equal(config.subnetMax, '10.3.8.0');
  assert.deepEqual(config.backend, {
    type: 'vxlan',
    vni: 3,
    port: 4789,
    mtu: 1400,
    learning: true,
    gbp: true,
    directRouting: true,
  });
});

test('the default SubnetLen follows the size of the network', () => {
  const table: [string, number, string, string][] = [
    ['10.0.0.0/8', 24, '10.0.1.0', '10.255.255.0'],
    ['10.3.0.0/22', 24, '10.3.1.0', '10.3.3.0'],
    ['10.3.0.0/23', 25, '10.3.0.128', '10.3.1.128'],
    ['10.3.4.0/24', 26, '10.3.4.64', '10.3.4.192'],
    ['10.3.4.16/28', 30, '10.3.4.20', '10.3.4.28'],
    ['128.0.0.0/1', 24, '128.0.1.0', '255.255.255.0'],
  ];
  for (const [network, subnetLen, subnetMin, subnetMax] of table) {
    const config = parse({ Network: network, Backend: vxlan });
    assert.deepEqual([config.subnetLen, config.subnetMin, config.subnetMax], [subnetLen, subnetMin, subnetMax]);
  }
});

test('host bits of the Network are cut off', () => {
  assert.equal(parse({ Network: '10.3.7.9/16', Backend: vxlan }).network, '10.3.0.0/16');
});

test('names match in any case, the last one counts, unknown ones and null are ignored', () => {
  const text =
    '{"NETWORK":"10.1.0.0/16","network":"10.2.0.0/16","subnetlen":null,"x":{"y":[1]},"backend":{"tYPE":"vxlan","vni":7}}';
  const config = parseNetworkConfig(text);
  assert.equal(config.network, '10.2.0.0/16');
  assert.equal(config.subnetLen, 24);
  assert.equal(config.backend.vni, 7);
});

test('zero means absent, as in Go', () => {
  const config = parse({
    Network: '10.3.0.0/16',
    SubnetLen: 0,
    SubnetMin: '0.0.0.0',
    SubnetMax: '0.0.0.0',
    Backend: { Type: 'vxlan', Port: 0, MTU: 0 },
  });
  assert.deepEqual([config.subnetLen, config.subnetMin, config.subnetMax], [24, '10.3.1.0', '10.3.255.0']);
  assert.equal(config.backend.port, 8472);
  assert.equal('mtu' in config.backend, false);
});

test('what breaks a rule of flannel is refused by field', () => {
  const network = '10.3.0.0/16';
  const bad = 'INVALID_CONFIG';
  refuses('', bad, '', /not JSON/);
  refuses('[]', bad, '', /a list/);
  refuses('null', bad, '', /is null/);
  refuses({ Backend: vxlan }, bad, 'Network', /missing/);
  refuses({ Network: 10, Backend: vxlan }, bad, 'Network', /is 10: write a string/);
  refuses({ Network: '10.3.0.0', Backend: vxlan }, bad, 'Network', /10\.3\.0\.0/);
  refuses({ Network: 'fd00::/48', Backend: vxlan }, bad, 'Network', /IPv6/);
  refuses({ Network: '0.0.0.0/0', Backend: vxlan }, bad, 'Network', /0\.0\.0\.0\/0/);
  refuses({ Network: '10.3.0.0/29', Backend: vxlan }, bad, 'Network', /\/28 or larger/);
  refuses({ Network: '10.3.0.0/16', SubnetLen: 31, Backend: vxlan }, bad, 'SubnetLen', /is 31/);
  refuses({ Network: network, SubnetLen: 17, Backend: vxlan }, bad, 'SubnetLen', /is 17.*18 to 30/);
  refuses({ Network: network, SubnetLen: '24', Backend: vxlan }, bad, 'SubnetLen', /"24"/);
  refuses({ Network: network, SubnetLen: 24.5, Backend: vxlan }, bad, 'SubnetLen', /24\.5/);
  refuses({ Network: network, SubnetMin: '10.4.0.0', Backend: vxlan }, bad, 'SubnetMin', /outside/);
  refuses({ Network: network, SubnetMax: '10.2.255.0', Backend: vxlan }, bad, 'SubnetMax', /outside/);
  refuses({ Network: network, SubnetMin: '10.3.5.16', Backend: vxlan }, bad, 'SubnetMin', /write 10\.3\.5\.0/);
  refuses({ Network: network, SubnetMax: '10.3.5', Backend: vxlan }, bad, 'SubnetMax', /10\.3\.5/);
  refuses(
    { Network: network, SubnetMin: '10.3.9.0', SubnetMax: '10.3.8.0', Backend: vxlan },
    bad,
    'SubnetMin',
    /above/,
  );
  refuses({ Network: network, Backend: 'vxlan' }, bad, 'Backend', /"vxlan"/);
  refuses({ Network: network, Backend: { Type: 1 } }, bad, 'Backend.Type', /is 1/);
  refuses({ Network: network, Backend: { ...vxlan, VNI: 0x1000000 } }, bad, 'Backend.VNI', /16777216/);
  refuses({ Network: network, Backend: { ...vxlan, VNI: -1 } }, bad, 'Backend.VNI', /-1/);
  refuses({ Network: network, Backend: { ...vxlan, Port: 65536 } }, bad, 'Backend.Port', /65536/);
  refuses({ Network: network, Backend: { ...vxlan, MTU: 117 } }, bad, 'Backend.MTU', /117/);
  refuses({ Network: network, Backend: { ...vxlan, Learning: 'yes' } }, bad, 'Backend.Learning', /"yes"/);
});

test('what flannel serves and vtepd does not is refused by name', () => {
  const network = '10.3.0.0/16';
  const bad = 'UNSUPPORTED_CONFIG';
  refuses({ Network: network, Backend: {} }, bad, 'Backend.Type', /missing/);
  const six = { EnableIPv6: true, IPv6Network: 'fd00:246::/48' };
  refuses({ Network: network, ...six, Backend: { Type: 'udp' } }, bad, 'EnableIPv6', /udp carries IPv4 only/);
  refuses(
    { Network: network, Backend: { Type: 'wireguard' } },
    bad,
    'Backend.Type',
    /"wireguard", which is not served/,
  );
  refuses({ Network: network, Backend: vxlan, EnableIPv4: false }, bad, 'EnableIPv4', /cannot tell hosts without IPv4/);
});

test('a configuration that is a value already reads the same', () => {
  assert.deepEqual(
    networkConfigOf({ Network: '10.3.0.0/16', Backend: vxlan }),
    parse({ Network: '10.3.0.0/16', Backend: vxlan }),
  );
});

test('host-gw is served; its name is read without regard to case', () => {
  const config = parseNetworkConfig('{"Network":"10.246.0.0/16","Backend":{"Type":"Host-GW"}}');
  assert.equal(config.backend.type, 'host-gw');
});

test('udp is served, also where no backend is named; of its fields only the port counts', () => {
  const backend = (fields: object) =>
    parseNetworkConfig(JSON.stringify({ Network: '10.246.0.0/16', ...fields })).backend;
  const plain = { type: 'udp', vni: 0, port: 8285, learning: false, gbp: false, directRouting: false };
  for (const fields of [{}, { Backend: null }, { Backend: { Type: 'UDP' } }, { Backend: { Type: 'udp', Port: 0 } }]) {
    assert.deepEqual(backend(fields), plain);
  }
  const rich = { Type: 'udp', Port: 9000, VNI: 7, MTU: 1400, GBP: true, Learning: true, DirectRouting: true };
  assert.deepEqual(backend({ Backend: rich }), { ...plain, port: 9000 });
  const config = parseNetworkConfig('{"Network":"10.246.0.0/16","Backend":{"Type":"udp","Port":9000}}');
  assert.deepEqual(parseNetworkConfig(formatNetworkConfig(config)), config);
  refuses(
    { Network: '10.246.0.0/16', Backend: { Type: 'udp', Port: 65536 } },
    'INVALID_CONFIG',
    'Backend.Port',
    /65536/,
  );
});

test('both families: defaults and limits of the IPv6 half', () => {
  const dual = (fields: object) =>
    parseNetworkConfig(
      JSON.stringify({ Network: '10.246.0.0/16', EnableIPv6: true, Backend: { Type: 'vxlan' }, ...fields }),
    );
  assert.deepEqual(dual({ IPv6Network: 'fd00:246::1/48' }).ipv6, {
    network: 'fd00:246::/48',
    subnetLen: 64,
    subnetMin: 'fd00:246:0:1::',
    subnetMax: 'fd00:246:0:ffff::',
  });
  assert.equal(dual({ IPv6Network: 'fd00:246::/64' }).ipv6?.subnetLen, 66);
  const narrow = { IPv6Network: 'fd00:246::/48', IPv6SubnetLen: 64, IPv6SubnetMin: 'fd00:246:0:8::' };
  assert.equal(dual(narrow).ipv6?.subnetMin, 'fd00:246:0:8::');
  assert.deepEqual(parseNetworkConfig(formatNetworkConfig(dual(narrow))), dual(narrow));
  const field = (name: string) => (error: unknown) => error instanceof FlannelError && error.field === name;
  assert.throws(() => dual({}), field('IPv6Network'));
  assert.throws(() => dual({ IPv6Network: '10.0.0.0/8' }), field('IPv6Network'));
  assert.throws(() => dual({ IPv6Network: 'fd00::/126' }), field('IPv6Network'));
  assert.throws(() => dual({ IPv6Network: 'fd00:246::/48', IPv6SubnetLen: 49 }), field('IPv6SubnetLen'));
  assert.throws(() => dual({ ...narrow, IPv6SubnetMin: 'fd00:246::1' }), field('IPv6SubnetMin'));
  assert.throws(() => dual({ ...narrow, IPv6SubnetMax: 'fd00:246:0:2::' }), field('IPv6SubnetMin'));
});

test('no text breaks the reader in another way', () => {
  const field = fc.constantFrom(
    'Network',
    'SubnetLen',
    'SubnetMin',
    'SubnetMax',
    'EnableIPv6',
    'IPv6Network',
    'Backend',
  );
  const value = fc.oneof(
    fc.json().map((text) => JSON.parse(text) as unknown),
    fc.constantFrom('10.0.0.0/8', '10.0.0.0/31', 'fd00::/48', '10.1.0.0', 24, -1, 1e99, { Type: 'vxlan', VNI: -1 }),
  );
  const config = fc.dictionary(field, value).map((fields) => JSON.stringify(fields));
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), config), (text) => {
      try {
        parseNetworkConfig(text);
      } catch (error) {
        assert.ok(error instanceof FlannelError, String(error));
      }
    }),
    { numRuns: 2_000 },
  );
});
