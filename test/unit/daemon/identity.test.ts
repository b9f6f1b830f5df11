import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ForeignLeaseError, type IdentitySources, ourMacs, rememberMac } from '../../../src/daemon/identity.ts';
import type { HostFacts } from '../../../src/dataplane/protocol.ts';
import type { Lease } from '../../../src/datastore/types.ts';
import { parseIpv4 } from '../../../src/net/ip.ts';
import { parseMac } from '../../../src/net/mac.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import { hostFacts } from '../dataplane/fake-dataplane.ts';

const MAC = parseMac('0e:00:00:00:00:01');
const EARLIER = parseMac('0e:00:00:00:00:02');

function lease(mac = MAC): Lease {
  const attributes = { publicIp: parseIpv4('10.245.1.3'), backendType: 'vxlan', vtepMac: mac, vni: 3 };
  return { key: '10.246.30.0-24', subnet: parsePrefix('10.246.30.0/24'), attributes };
}

const none: HostFacts = { links: [], routes: [], blackholes: [] };

function sources(given: Partial<IdentitySources> = {}): IdentitySources {
  return {
    leasedMac: undefined,
    asked: undefined,
    device: 'flannel.3',
    source: 'etcd',
    states: [],
    facts: none,
    hostFacts: hostFacts(),
    ownLease: lease(),
    record: {},
    previousSubnet: undefined,
    takeOver: false,
    ...given,
  };
}

function withLink(name: string, mac: string, address?: string): HostFacts {
  const fact = { scope: 'global', permanent: true, deprecated: false, temporary: false };
  const addresses = address === undefined ? [] : [{ address, ...fact }];
  return {
    links: [{ index: 7, name, kind: 'vxlan', mac, mtu: 1450, up: true, carrier: true, addresses }],
    routes: [],
    blackholes: [],
  };
}

test('a lease with our PublicIP and a MAC that was never ours is refused, and the message says what to do', () => {
  assert.throws(
    () => ourMacs(sources()),
    (error: unknown) => {
      assert.ok(error instanceof ForeignLeaseError);
      assert.match(
        error.message,
        /lease 10\.246\.30\.0-24 carries our PublicIP 10\.245\.1\.3 with the VtepMAC 0e:00:00:00:00:01/,
      );
      assert.match(error.message, /--public-ip.*--take-over-lease/);
      return true;
    },
  );
  assert.throws(() => ourMacs(sources({ record: { mac: EARLIER }, previousSubnet: parsePrefix('10.246.31.0/24') })));
});

test('what ties the lease to this host: a MAC of any run, of any device, one asked for, the subnet, an address in it', () => {
  const tied: Partial<IdentitySources>[] = [
    { record: { mac: MAC } },
    { record: { mac: EARLIER, macs: [EARLIER, MAC] } },
    { asked: MAC },
    { facts: withLink('flannel.3', MAC) },
    { hostFacts: withLink('flannel.3', MAC) },
    { previousSubnet: parsePrefix('10.246.30.0/24') },
    { hostFacts: withLink('cni0', EARLIER, '10.246.30.1/24') },
    { takeOver: true },
  ];
  for (const evidence of tied) assert.ok(ourMacs(sources(evidence)).includes(MAC), JSON.stringify(evidence));
});

test('without a lease, or with one that names no MAC, there is nothing to refuse', () => {
  assert.deepEqual(ourMacs(sources({ ownLease: undefined, record: { mac: EARLIER }, hostFacts: none })), [EARLIER]);
  const { vtepMac: _, ...attributes } = lease().attributes;
  assert.deepEqual(ourMacs(sources({ ownLease: { ...lease(), attributes }, hostFacts: none })), []);
});

test('the MACs of the last runs are remembered, the latest first, sixteen at most', () => {
  assert.deepEqual(rememberMac(MAC, {}), [MAC]);
  assert.deepEqual(rememberMac(MAC, { mac: EARLIER }), [MAC, EARLIER]);
  assert.deepEqual(rememberMac(MAC, { mac: MAC, macs: [MAC, EARLIER] }), [MAC, EARLIER]);
  const macs = Array.from({ length: 20 }, (_, index) => `0e:00:00:00:01:${index.toString(16).padStart(2, '0')}`);
  assert.equal(rememberMac(MAC, { macs }).length, 16);
});
