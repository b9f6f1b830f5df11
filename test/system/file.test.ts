/** The file datastore: no etcd, one list of hosts, reloaded when it changes; a broken edit changes nothing. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost, HOST_A, HOST_B, HOST_C } from './lib/bed.ts';
import { assertPing, assertTcp } from './lib/checks.ts';
import { eventually } from './lib/exec.ts';
import {
  DEVICE,
  type FileEnd,
  hostsFile,
  hostsFilePath,
  joinByFile,
  PORT,
  replaceHostsFile,
  VNI,
} from './lib/hosts-file.ts';
import { addFlannelDevice, addFlannelPeer } from './lib/kernel-vxlan.ts';
import { withoutKernelVxlan } from './lib/requirements.ts';
import type { VtepdHost } from './lib/vtepd.ts';

const noKernel = await withoutKernelVxlan();
const MAC_C = '02:00:00:00:00:0c';

describe('hosts joined by a file', () => {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let c: BedHost;
  let onA: VtepdHost;
  let endA: FileEnd;

  before(async () => {
    bed = await Bed.create({ hosts: [HOST_A, HOST_B, HOST_C] });
    [a, b, c] = [bed.host('a'), bed.host('b'), bed.host('c')];
    const [first] = await joinByFile(bed, [a, b]);
    endA = first ?? assert.fail('host a did not join');
    onA = endA.vtepd;
  });
  after(() => bed?.destroy());

  const subnets = async (): Promise<string[]> => (await onA.neighbours(DEVICE)).map((entry) => entry.prefix).sort();

  test('containers reach each other', async () => {
    await assertPing(a, b);
    await assertPing(b, a);
    await assertTcp(a, b, 1_000_000);
  });

  test("subnet.env is flannel's, byte for byte", async () => {
    const text =
      'FLANNEL_NETWORK=10.246.0.0/16\nFLANNEL_SUBNET=10.246.30.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n';
    assert.equal(await readFile(onA.subnetFile, 'utf8'), text);
  });

  test('a host that is added, here one with the kernel device, is reached without a restart', {
    skip: noKernel,
  }, async () => {
    const mac = (await onA.status()).controller;
    assert.ok(mac.running && mac.lease?.mac, 'host a knows its MAC');
    await addFlannelDevice(c, { name: DEVICE, vni: VNI, port: PORT, mac: MAC_C, underlay: 4 });
    await addFlannelPeer(c, DEVICE, { subnet: a.subnet, base: a.base, mac: mac.lease.mac, vtep: a.ipv4 });
    await c.container.ip('link set eth0 mtu 1450');
    await replaceHostsFile(bed, hostsFile([a, b, { ...c, mac: MAC_C }]));
    await eventually('host c is programmed', async () => (await subnets()).includes(c.subnet));
    await assertPing(a, c);
    await assertPing(c, a);
  });

  test('a broken edit is refused with its line, and the old tables stay in use', async () => {
    const text = hostsFile([a, b, { ...c, mac: MAC_C }]);
    const before = await subnets();
    // In place, as a plain editor saves: the subnet of the third host is spoilt.
    const broken = text.replace(`subnet: ${c.subnet}`, 'subnet: 10.246.81.0/33');
    const line = broken.split('\n').findIndex((each) => each.includes('/33')) + 1;
    await writeFile(hostsFilePath(bed), broken);
    const stale = await eventually('vtepd says that the file is refused', async () => {
      const { controller } = await onA.status();
      return controller.running && controller.datastore.state === 'stale'
        ? (controller.datastore.reason ?? undefined)
        : undefined;
    });
    assert.match(stale, new RegExp(`:${line}:`), 'the reason names the line');
    await endA.daemon.waitFor(new RegExp(`:${line}:`));
    assert.deepEqual(await subnets(), before);
    await assertPing(a, b);
    await replaceHostsFile(bed, text);
    await eventually('vtepd says that the file is in use again', async () => {
      const { controller } = await onA.status();
      return controller.running && controller.datastore.state === 'fresh';
    });
  });

  test('a host that is taken out is gone, the others stay', async () => {
    await replaceHostsFile(bed, hostsFile([a, b]));
    await eventually('only host b is left', async () => (await subnets()).join() === b.subnet);
    const routes = await a.ns.exec(['ip', 'route', 'show', c.subnet]);
    assert.equal(routes, '');
    await assertPing(a, b);
  });

  test('entries by hand survive the datastore', async () => {
    await onA.cli('fdb', 'add', '02:00:00:00:00:77', 'dst', '10.245.1.77', 'static', 'dev', DEVICE);
    await replaceHostsFile(bed, hostsFile([a, b, { ...c, mac: MAC_C }]));
    await eventually('host c is programmed', async () => (await subnets()).includes(c.subnet));
    const entries = await onA.fdb(DEVICE);
    const sources = Object.fromEntries(entries.map((entry) => [entry.mac, [entry.source, entry.state]]));
    assert.deepEqual(sources['02:00:00:00:00:77'], ['hand', 'static']);
    assert.deepEqual(sources[MAC_C], ['file', 'permanent']);
  });

  test('a file without this host is refused at start with a message that says so', async () => {
    const file = `${hostsFilePath(bed)}.other`;
    await writeFile(file, hostsFile([b]));
    const daemon = c.ns.background(
      [onA.command, 'run', '--file', file, '--iface', 'eth0', '--subnet-file', `${c.dir}.env`],
      {
        env: { VTEPD_RUNTIME_DIR: `${c.dir}/run`, VTEPD_STATE_DIR: `${c.dir}/state` },
      },
    );
    await daemon.waitFor(/10\.245\.1\.5/);
    await daemon.stop();
  });
});
