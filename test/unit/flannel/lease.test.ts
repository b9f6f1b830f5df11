import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FlannelError } from '../../../src/flannel/errors.ts';
import { formatLeaseAttributes, type LeaseAttributes, parseLeaseAttributes } from '../../../src/flannel/lease.ts';
import { numberToIpv4, parseIpv4, parseIpv6 } from '../../../src/net/ip.ts';
import { deriveMac, parseMac } from '../../../src/net/mac.ts';

/** Written by a real flanneld. */
const REAL =
  '{"PublicIP":"10.245.1.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":3,"VtepMAC":"72:55:b1:be:47:8f"}}';

const ATTRIBUTES: LeaseAttributes = {
  publicIp: parseIpv4('10.245.1.11'),
  backendType: 'vxlan',
  vtepMac: parseMac('72:55:b1:be:47:8f'),
  vni: 3,
};

test('written byte for byte as flanneld writes it', () => {
  assert.equal(formatLeaseAttributes(ATTRIBUTES), REAL);
});

test('read back', () => {
  assert.deepEqual(parseLeaseAttributes(REAL), ATTRIBUTES);
});

test('a VNI above 65535 is written as its low 16 bits, the width of the field in flannel', () => {
  const text = formatLeaseAttributes({ ...ATTRIBUTES, vni: 0x1_0003 });
  assert.equal(text, REAL);
});

test('a dual-stack lease is read, and written byte for byte as flanneld writes it', () => {
  const text =
    '{"PublicIP":"10.245.1.11","PublicIPv6":"fd00:245:1::11","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"2a:ae:45:04:9b:12"},"BackendV6Data":{"VNI":1,"VtepMAC":"82:90:db:90:8a:cc"}}';
  assert.deepEqual(parseLeaseAttributes(text), {
    publicIp: '10.245.1.11',
    publicIpv6: 'fd00:245:1::11',
    backendType: 'vxlan',
    vtepMac: '2a:ae:45:04:9b:12',
    vni: 1,
    vtepMac6: '82:90:db:90:8a:cc',
  });
  assert.equal(formatLeaseAttributes(parseLeaseAttributes(text)), text);
  const hostGw = '{"PublicIP":"10.245.1.11","PublicIPv6":null,"BackendType":"host-gw"}';
  assert.equal(formatLeaseAttributes(parseLeaseAttributes(hostGw)), hostGw);
  const udp = '{"PublicIP":"10.245.1.11","PublicIPv6":null,"BackendType":"udp"}';
  assert.equal(formatLeaseAttributes(parseLeaseAttributes(udp)), udp);
});

test('tolerated, as by real peers', () => {
  const data = { VNI: 3, VtepMAC: '72:55:b1:be:47:8f' };
  const lease = (over: object, dataOver: object = {}) =>
    parseLeaseAttributes(
      JSON.stringify({ PublicIP: '10.245.1.11', BackendType: 'vxlan', BackendData: { ...data, ...dataOver }, ...over }),
    );
  assert.deepEqual(lease({}), ATTRIBUTES, 'PublicIPv6 missing');
  assert.deepEqual(lease({ Extra: [1], PublicIPv6: null }, { Extra: {} }), ATTRIBUTES, 'unknown fields');
  assert.deepEqual(lease({}, { VNI: 77 }), { ...ATTRIBUTES, vni: 77 }, 'another VNI');
  const { vni: _, ...withoutVni } = ATTRIBUTES;
  assert.deepEqual(lease({}, { VNI: undefined }), withoutVni, 'VNI missing');
  assert.deepEqual(lease({}, { VtepMAC: '72-55-B1-BE-47-8F' }), ATTRIBUTES, 'hyphens');
  assert.deepEqual(lease({}, { VtepMAC: '7255.b1be.478f' }), ATTRIBUTES, 'dots');
  assert.deepEqual(
    parseLeaseAttributes(REAL.replace('PublicIP"', 'publicip"').replace('VtepMAC', 'vtepmac')),
    ATTRIBUTES,
    'names in any case',
  );
});

test('leases of other backends are read without their data', () => {
  assert.deepEqual(parseLeaseAttributes('{"PublicIP":"10.245.1.11"}'), { publicIp: '10.245.1.11', backendType: '' });
  assert.deepEqual(
    parseLeaseAttributes('{"PublicIP":"10.245.1.11","BackendType":"extension","BackendData":"some text"}'),
    {
      publicIp: '10.245.1.11',
      backendType: 'extension',
    },
  );
  assert.equal(parseLeaseAttributes(REAL.replace('vxlan', 'VXLAN')).vtepMac, undefined, 'compared exactly');
});

test('unusable values are refused with the field and the reason', () => {
  const table: [string, string, RegExp][] = [
    ['', '', /not JSON/],
    ['{', '', /not JSON/],
    ['"x"', '', /object/],
    ['{}', 'PublicIP', /missing/],
    ['{"PublicIP":""}', 'PublicIP', /not an IPv4/],
    ['{"PublicIP":"fd00::1"}', 'PublicIP', /not an IPv4/],
    ['{"PublicIP":7}', 'PublicIP', /is 7/],
    ['{"PublicIP":"0.0.0.0","BackendType":"vxlan"}', 'PublicIP', /not served yet/],
    ['{"PublicIP":"224.0.0.1"}', 'PublicIP', /not a host/],
    ['{"PublicIP":"255.255.255.255"}', 'PublicIP', /not a host/],
    ['{"PublicIP":"10.0.0.1","PublicIPv6":"10.0.0.1"}', 'PublicIPv6', /not an IPv6/],
    ['{"PublicIP":"10.0.0.1","BackendType":"vxlan"}', 'BackendData', /missing/],
    ['{"PublicIP":"10.0.0.1","BackendType":"vxlan","BackendData":"x"}', 'BackendData', /object/],
    ['{"PublicIP":"10.0.0.1","BackendType":"vxlan","BackendData":{}}', 'BackendData.VtepMAC', /missing/],
    [REAL.replace('72:55:b1:be:47:8f', '72:55:b1:be:47'), 'BackendData.VtepMAC', /not a MAC/],
    [REAL.replace('72:55:b1:be:47:8f', '02:00:5e:10:00:00:00:01'), 'BackendData.VtepMAC', /not a MAC/],
    [REAL.replace('72:55:b1:be:47:8f', '00:00:00:00:00:00'), 'BackendData.VtepMAC', /no device/],
    [REAL.replace('72:55:b1:be:47:8f', 'ff:ff:ff:ff:ff:ff'), 'BackendData.VtepMAC', /no device/],
    [REAL.replace('"VNI":3', '"VNI":"3"'), 'BackendData.VNI', /"3"/],
  ];
  for (const [text, field, message] of table) {
    assert.throws(
      () => parseLeaseAttributes(text),
      (error) => {
        assert.ok(error instanceof FlannelError && error.code === 'INVALID_LEASE', text);
        assert.equal(error.field, field, text);
        assert.match(error.message, message, text);
        return true;
      },
      text,
    );
  }
});

test('whatever is written is read back', () => {
  const ip = fc.nat({ max: 0xdfffffff }).map((value) => numberToIpv4(value + 1));
  const mac = fc.string().map(deriveMac);
  fc.assert(
    fc.property(ip, mac, fc.nat({ max: 0xffff }), fc.boolean(), (publicIp, vtepMac, vni, six) => {
      if (publicIp === '224.0.0.0') return;
      const attributes = {
        publicIp,
        backendType: 'vxlan',
        vtepMac,
        vni,
        ...(six ? { publicIpv6: parseIpv6('fd00::1') } : {}),
      };
      assert.deepEqual(parseLeaseAttributes(formatLeaseAttributes(attributes)), attributes);
    }),
  );
});

test('no text breaks the reader in another way', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        parseLeaseAttributes(text);
      } catch (error) {
        assert.ok(error instanceof FlannelError);
      }
    }),
  );
});
