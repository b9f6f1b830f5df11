import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeLink, toLinkRow } from '../../../src/cli/link-show.ts';
import { parseLinkAdd } from '../../../src/cli/link-words.ts';

/** The line of words that `link show` prints of a network added so. */
function shown(words: string, owner = 'hand'): string {
  const spec = { ...parseLinkAdd(`vx0 id 2 ${words}`.trim().split(' ')), owner };
  const state = { spec, ifindex: 5, mac: '02:00:00:00:00:01', mtu: 1450, up: true, queues: 1, revisions: {} };
  return describeLink(toLinkRow(state)).split('\n')[2]?.trim() ?? '';
}

test('what is as ip link makes it is not named', () => {
  assert.equal(shown(''), 'vxlan id 2 dstport 4789 learning ageing 300 queues 1 owner hand');
});

test('what differs is named in the words that make it', () => {
  const words =
    'group 239.1.1.1 dev eth0 srcport 5000 5002 dstport 8472 nolearning proxy proxy-flood peersonly rsc l2miss l3miss tos 0xb8 ' +
    'ttl 7 df inherit noudpcsum gbp reserved_bits 0xf7ffffff00000000 ageing 5 maxaddress 9 maxperpeer 8 maxmoves 7 netns blue';
  assert.equal(shown(words), `vxlan id 2 ${words} queues 1 owner hand`);
  const over6 = 'remote fd00::1 dstport 4789 learning flowlabel 0x12345 udp6zerocsumtx udp6zerocsumrx ageing 300';
  assert.equal(shown(over6), `vxlan id 2 ${over6} queues 1 owner hand`);
});

test('a layer-3 network is no vxlan and has no MAC', () => {
  const given = { layer3: true, tunnel_address: '10.246.30.0', local: '10.245.1.3', dev: 'eth0', port: 8285 };
  const fed = { peersonly: true, proxy: false, learning: false, owner: 'etcd' };
  const spec = { ...parseLinkAdd('flannel0 id 0'.split(' ')), ...given, ...fed };
  const state = { spec, ifindex: 5, mac: '00:00:00:00:00:00', mtu: 1472, up: true, queues: 2, revisions: {} };
  assert.equal(
    describeLink(toLinkRow(state)),
    '5: flannel0: <POINTOPOINT,MULTICAST,NOARP,UP> mtu 1472 state UP\n    link/none\n' +
      '    udp tunnel-address 10.246.30.0 local 10.245.1.3 dev eth0 port 8285 peersonly queues 2 owner etcd\n',
  );
});

test('what is shown can be pasted into link add', () => {
  for (const words of ['ttl inherit tos inherit df set', 'reserved_bits 0', 'l2miss', 'l3miss']) {
    const line = shown(words).replace(/^vxlan id 2 (.*) queues 1 owner hand$/, '$1');
    assert.equal(shown(line), shown(words));
  }
});

test('a datastore has limits and misses where nothing was said', () => {
  assert.match(shown('', 'etcd'), / l2miss l3miss .* maxperpeer 16384 maxmoves 60 .*owner etcd$/);
});
