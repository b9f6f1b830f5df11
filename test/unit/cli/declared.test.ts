/** `links` and `options` of the settings file. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type Declared, declaredOf } from '../../../src/cli/declared.ts';
import { LINK_DEFAULTS } from '../../../src/cli/link-options.ts';
import { parseLinkAdd } from '../../../src/cli/link-words.ts';
import { loadSettings } from '../../../src/config/load-settings.ts';
import { updateTo } from '../../../src/daemon/links.ts';
import type { NetworkSpec, NetworkState } from '../../../src/dataplane/protocol.ts';

const directory = mkdtempSync(join(tmpdir(), 'vtepd-declared-'));
after(() => rmSync(directory, { recursive: true }));

function read(yaml: string): Declared {
  const path = join(directory, 'vtepd.yaml');
  writeFileSync(path, yaml);
  return declaredOf(loadSettings(new Map([['config', [path]]]), {}));
}

function refused(name: string, yaml: string, ...messages: RegExp[]): void {
  test(name, () =>
    assert.throws(
      () => read(yaml),
      (error) => {
        assert.ok(error instanceof Error && 'code' in error && error.code === 'INVALID_SETTINGS', String(error));
        for (const message of messages) assert.match(error.message, message);
        return true;
      },
    ),
  );
}

test('a link is what `vtepd link add` with the same words makes, but for its owner', () => {
  const { links } = read(`
links:
  - name: vx0
    id: 7
    local: 10.245.1.3
    remote: 10.245.1.4
    dev: eth0
    ttl: inherit
    tos: 0x20
    srcport: [5000, 6000]
    learning: false
    proxy: true
    reserved_bits: "0xf7ffffff00000000"
  - { name: vx1, id: 8, group: 239.1.1.1, dev: eth0, l2miss: true, maxmoves: 5 }
`);
  const words =
    'vx0 id 7 local 10.245.1.3 remote 10.245.1.4 dev eth0 ttl inherit tos 0x20 srcport 5000 6000 nolearning proxy reserved_bits 0xf7ffffff00000000';
  const owner = 'settings';
  const quiet = { l2miss: false, l3miss: false, maxperpeer: 0, maxmoves: 0 };
  assert.deepEqual(links, [
    { ...quiet, ...parseLinkAdd(words.split(' ')), owner },
    { ...quiet, ...parseLinkAdd('vx1 id 8 group 239.1.1.1 dev eth0 l2miss maxmoves 5'.split(' ')), owner },
  ]);
});

test('options are of every network of the datastore, and its own count more', () => {
  const { options } = read(`
networks:
  - name: blue
    options: { ttl: 9, udpcsum: false }
  - red
options: { ttl: 7, df: set, srcport: [0, 0], l2miss: false, ageing: 60 }
`);
  const all = { df: 'set', l2miss: false, ageing: 60 };
  assert.deepEqual(options, [
    { ...all, ttl: 9, udpcsum: false },
    { ...all, ttl: 7 },
  ]);
  assert.deepEqual(read('options: { tos: inherit }').options, [{ tos: 'inherit' }]);
  assert.deepEqual(read('{}'), { links: [], options: [{}] });
});

refused(
  'everything that is wrong is told at once, with its place',
  'links: [{ name: vx0 }, { name: vx1, id: 1, ttl: 0 }, { name: vx2, id: 2, color: red }]',
  /links\[0\]: id is needed/,
  /links\[1\]: ttl 0: must be/,
  /links\[2\]: unknown word "color"/,
);
refused('what ip knows and vtepd does not serve is named', 'links: [{ name: vx0, id: 1, external: true }]', /external/);
refused(
  'combinations that cannot work',
  'links: [{ name: vx0, id: 1, remote: 10.0.0.1, flowlabel: 5 }, { name: vx1, id: 2, remote: fd00::1, udpcsum: false }]',
  /flowlabel 5 needs an IPv6 underlay/,
  /noudpcsum is about an IPv4 underlay/,
);
refused(
  'a group needs its interface',
  'links: [{ name: vx0, id: 1, group: 239.1.1.1 }]',
  /links\[0\]: group .* needs dev/,
);
refused(
  'one name for two',
  'links: [{ name: vx0, id: 1 }, { name: vx0, id: 2 }]',
  /links\[1\]: name vx0 is that of vx0/,
);
refused('one VNI for two', 'links: [{ name: a, id: 1 }, { name: b, id: 1 }]', /id 1 on dstport 4789 is that of a/);
refused("a datastore's device", 'device: vx0\nlinks: [{ name: vx0, id: 1 }]', /device of a datastore's network/);
refused('a number that YAML cannot hold', 'options: { reserved_bits: 0xf7ffffff000000ff }', /in quotes/);
refused('no datastore and no links', 'datastore: none', /nothing to do without `links`/);
refused('no datastore and networks', 'datastore: none\nnetworks: [blue]\nlinks: [{ name: vx0, id: 1 }]', /networks/);
refused(
  'no datastore and its settings',
  'datastore: none\nfile: /x\nlinks: [{ name: vx0, id: 1 }]',
  /file: not with datastore none/,
);
refused('no map', 'links: [vx0]', /links\[0\]: must be a map/);
refused('nothing for a word', 'options: { ttl: null }', /options: ttl: must be a text/);
refused(
  "what flannel's network configuration says",
  'options: { learning: true }',
  /learning is no option of a datastore's network: Backend.Learning/,
);
refused(
  'what a setting says',
  'networks: [{ name: blue, options: { mtu: 1400 } }]',
  /networks\[0\]: options: mtu is no option/,
);

// What a change of the file does to a network that is there.

const base: NetworkSpec = { ...parseLinkAdd('vx0 id 7 remote 10.0.0.1 dev eth0'.split(' ')), owner: 'settings' };
const state = (spec: Partial<NetworkSpec> = {}): NetworkState => ({
  spec: { ...base, ...spec },
  ifindex: 5,
  mac: '02:00:00:00:00:01',
  mtu: 1450,
  up: true,
  queues: 1,
  revisions: {},
});

test('a network that is as it should be is left alone', () => {
  assert.deepEqual(updateTo(base, state(), LINK_DEFAULTS), {});
  assert.deepEqual(updateTo(base, state({ ttl: 'auto', udpcsum: true, gbp: false }), LINK_DEFAULTS), {});
});

test('a word that was added or taken away changes that one thing', () => {
  assert.deepEqual(updateTo({ ...base, ttl: 7, remote: '10.0.0.2' }, state(), LINK_DEFAULTS), {
    ttl: 7,
    remote: '10.0.0.2',
  });
  const before = state({ ttl: 7, srcport: { min: 5, max: 6 }, local: '10.0.0.9', learning: false });
  assert.deepEqual(updateTo(base, before, LINK_DEFAULTS), {
    learning: true,
    ttl: 'auto',
    srcport: { min: 49_152, max: 65_535 },
    local: '0.0.0.0',
  });
  const group = { ...base, remote: null, group: '239.1.1.1' };
  assert.deepEqual(updateTo(group, state(), LINK_DEFAULTS), { group: '239.1.1.1' });
  assert.deepEqual(updateTo(base, { ...state(), spec: group }, LINK_DEFAULTS), { remote: '10.0.0.1' });
  assert.deepEqual(updateTo({ ...base, mtu: 1400 }, { ...state(), up: false }, LINK_DEFAULTS), { mtu: 1400, up: true });
});

test('what is fixed makes the network anew, with the reason', () => {
  assert.equal(updateTo({ ...base, vni: 8 }, state(), LINK_DEFAULTS), 'vni was 7, is 8');
  assert.equal(updateTo({ ...base, dev: null }, state(), LINK_DEFAULTS), 'dev eth0 is no longer asked for');
  const over6 = updateTo({ ...base, remote: 'fd00::1' }, state(), LINK_DEFAULTS);
  assert.equal(over6, 'the family of its underlay has changed');
});
