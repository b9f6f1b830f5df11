import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EventName, eventLine, isAbout, parseMonitor } from '../../../src/cli/monitor-lines.ts';
import type { Notifications } from '../../../src/dataplane/protocol.ts';

const MAC = '02:00:00:00:00:0b';
const at = { network: 'vx0', mac: MAC, ip: '10.245.1.4' };

function line<N extends EventName>(name: N, event: Notifications[N], expected: string | undefined): void {
  test(`${name}: ${expected ?? 'nothing'}`, () => assert.equal(eventLine(name, event), expected));
}

line('learned', { ...at, from: null }, `learned ${MAC} dev vx0 dst 10.245.1.4`);
line('moved', { ...at, from: '10.245.1.5' }, `moved ${MAC} dev vx0 dst 10.245.1.4 from 10.245.1.5`);
line('aged', { ...at, from: null }, `aged ${MAC} dev vx0 dst 10.245.1.4`);
line(
  'held',
  { ...at, from: '10.245.1.5' },
  `held ${MAC} dev vx0 dst 10.245.1.4 seen at 10.245.1.5, it moves too often`,
);
line('miss', { network: 'vx0', layer: 'l2', key: MAC, count: 3 }, `miss lladdr ${MAC} dev vx0 count 3`);
line('miss', { network: 'vx0', layer: 'l3', key: '10.9.0.9', count: 1 }, 'miss 10.9.0.9 dev vx0');
line(
  'fdb',
  {
    network: 'vx0',
    what: 'new',
    mac: '00:00:00:00:00:00',
    destinations: [
      { ip: '10.245.1.4', port: null },
      { ip: '10.245.1.5', port: 8472, vni: 7, via: 'eth1' },
    ],
    state: 'static',
    source: 'hand',
    router: true,
  },
  'fdb new 00:00:00:00:00:00 dev vx0 dst 10.245.1.4 dst 10.245.1.5 port 8472 vni 7 via eth1 router static source hand',
);
line(
  'neigh',
  { network: 'vx0', what: 'deleted', prefix: '10.246.13.0/24', lladdr: MAC, source: 'etcd' },
  `neigh deleted 10.246.13.0/24 dev vx0 lladdr ${MAC} source etcd`,
);
line('changed', { network: 'vx0', what: 'created' }, 'network vx0 created');
// `fdb` has told each entry already.
line('changed', { network: 'vx0', what: 'fdb' }, undefined);
line('link', { network: 'vx0', what: 'mtu', value: '1400' }, 'link vx0 mtu 1400');
line('link', { network: 'vx0', what: 'up', value: '' }, 'link vx0 up');
line('offload-disabled', { offload: 'udp_segment', reason: 'EIO' }, 'offload udp_segment disabled: EIO');

test('one network is followed, and offloads with it, as they are of them all', () => {
  assert.ok(isAbout({ network: 'vx0', what: 'created' }, undefined));
  assert.ok(isAbout({ network: 'vx0', what: 'created' }, 'vx0'));
  assert.ok(!isAbout({ network: 'vx1', what: 'created' }, 'vx0'));
  assert.ok(isAbout({ offload: 'udp_gro', reason: 'EIO' }, 'vx0'));
});

test('monitor takes a device and nothing else', () => {
  assert.deepEqual(parseMonitor(['dev', 'vx0']), { network: 'vx0' });
  assert.deepEqual(parseMonitor([]), { network: undefined });
  assert.throws(() => parseMonitor(['vx0']), /unknown word "vx0"/);
});
