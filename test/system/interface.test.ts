/** Which interface and address the underlay is, by flanneld's flags, on a host that has two. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost, HOST_A } from './lib/bed.ts';
import { hostsFile, hostsFilePath } from './lib/hosts-file.ts';
import { VtepdHost } from './lib/vtepd.ts';

const FIRST = ['eth0', '10.245.1.3'];
const SECOND = ['stor1', '10.245.2.3'];
const SECONDARY = ['eth0', '10.245.1.33'];

/** Flags, and the interface and address that flanneld takes by them. */
const CHOICES: [string, string[]][] = [
  ['--iface-regex ^stor', SECOND],
  ['--iface-regex ^eth9$ --iface-regex ^10\\.245\\.1\\.\\d{2,3}$', SECONDARY],
  // An address that fits counts before a name that fits.
  ['--iface-regex 10.245.2|eth0', SECOND],
  ['--iface eth9 --iface stor1', SECOND],
  ['--iface eth9 --iface-regex (?i)^ETH --iface-can-reach 10.245.2.9', FIRST],
  ['--iface-can-reach 10.245.2.9', SECOND],
  ['--iface-regex ^wlan --iface-can-reach 192.0.2.7', FIRST],
  ['--iface fd00:245:2::3', SECOND],
];

describe('a host with two interfaces', () => {
  let bed: Bed;
  let a: BedHost;
  let vtepd: VtepdHost;

  before(async () => {
    bed = await Bed.create({ hosts: [HOST_A] });
    a = bed.host('a');
    vtepd = await VtepdHost.on(a);
    await a.ns.ip(
      'addr add 10.245.1.33/24 dev eth0',
      'link add stor1 type veth peer name peer0',
      'addr add 10.245.2.3/24 dev stor1',
      'addr add fd00:245:2::3/64 dev stor1',
      'link set stor1 up',
      'link set peer0 up',
      'route add default via 10.245.1.1',
    );
    const addresses = [FIRST, SECOND, SECONDARY].map(([, ipv4 = ''], at) => ({ ipv4, subnet: `10.246.3${at}.0/24` }));
    await writeFile(hostsFilePath(bed), hostsFile(addresses));
  });
  after(() => bed?.destroy());

  for (const [flags, [iface, local]] of CHOICES) {
    test(`${flags}: ${iface} ${local}`, async () => {
      const daemon = vtepd.run('--file', hostsFilePath(bed), ...flags.split(' '));
      const { network } = await vtepd.isRunning(daemon);
      assert.deepEqual([network?.iface, network?.local], [iface, local]);
      await daemon.stop();
    });
  }

  test('where nothing fits it ends, and says what there is', async () => {
    const daemon = vtepd.run(
      '--file',
      hostsFilePath(bed),
      '--iface-regex',
      '^wlan',
      '--iface-can-reach',
      '2001:db8::1',
    );
    assert.equal(await daemon.exited, 1);
    await daemon.waitFor(/nothing matches \^wlan \(there are .*eth0 10\.245\.1\.3 10\.245\.1\.33.*stor1 10\.245\.2\.3/);
    await daemon.waitFor(/no route leads to 2001:db8::1/);
  });
});
