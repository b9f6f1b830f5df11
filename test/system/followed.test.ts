/** What happens below and beside a network without its doing is followed, or told: never passed over. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { BedHost } from './lib/bed.ts';
import { type Background, eventually } from './lib/exec.ts';
import { type HostsBed, hostsBed } from './lib/fixtures.ts';
import { macOf } from './lib/overlay.ts';
import { ping } from './lib/traffic.ts';

const GROUP = '239.7.7.8';
const FAR = '10.9.0.2';

describe('what others do is followed', () => {
  let { bed, a, b, onA: vtepd, onB } = {} as HostsBed;
  let monitor: Background;

  before(async () => {
    ({ bed, a, b, onA: vtepd, onB } = await hostsBed());
    const common = (host: BedHost): string[] =>
      `link add vx0 id 7 group ${GROUP} dev eth0 local ${host.ipv4} address ${macOf(host)} proxy`.split(' ');
    await vtepd.cli(...common(a));
    await onB.cli(...common(b).filter((word) => word !== 'proxy'));
    await a.ns.ip('addr add 10.9.0.1/24 dev vx0');
    // A proxy swallows the answers of its own host too.
    await b.ns.ip(`addr add ${FAR}/24 dev vx0`, `neigh add 10.9.0.1 lladdr ${macOf(a)} dev vx0 nud permanent`);
    monitor = vtepd.background('monitor');
    // Its first line says that it listens.
    await eventually('the monitor listens', async () => {
      await vtepd.cli('link', 'set', 'vx0', 'ttl', '9');
      return /network vx0 updated/.test(monitor.output);
    });
  });
  after(() => bed?.destroy());

  /** One frame to the flood list, and an answer from the other host. */
  async function reaches(): Promise<boolean> {
    await a.ns.tryExec(['ip', 'neigh', 'flush', 'dev', 'vx0']);
    return (await ping(a.ns, FAR, { count: 2 })).received > 0;
  }

  async function remake(): Promise<void> {
    await bed.underlay.ip(
      `link add name to-a type veth peer name eth0 netns ${a.ns.name}`,
      'link set to-a master ul0 up',
    );
    await a.ns.ip('link set eth0 up', `addr add ${a.ipv4}/24 dev eth0`);
  }

  test('two changes of our own right after each other are no change from outside', async () => {
    await vtepd.withDataplane(async (client) => {
      const set = (mtu: number) =>
        client.request('network.update', {
          network: 'vx0',
          mac: null,
          mtu,
          learning: null,
          proxy: null,
          peersonly: null,
          up: null,
        });
      await Promise.all([1400, 1300, 1350, 1280, 1400].map(set));
    });
    await a.ns.ip('link set vx0 mtu 1390');
    await monitor.waitFor(/^link vx0 mtu 1390$/m);
    assert.deepEqual(monitor.output.match(/^link vx0 mtu .*$/gm), ['link vx0 mtu 1390']);
  });

  test('a destination of 0.0.0.0 means that the MAC is here: the proxy leaves the answer to it', async () => {
    await vtepd.cli('neigh', 'add', FAR, 'lladdr', macOf(b), 'dev', 'vx0');
    assert.ok(await reaches());
    const replies = async (): Promise<number> => (await vtepd.stats()).networks[0]?.arp_replies ?? 0;
    const before = await replies();
    await vtepd.cli('fdb', 'replace', macOf(b), 'dst', '0.0.0.0', 'dev', 'vx0');
    assert.equal(await reaches(), false);
    assert.equal(await replies(), before);
    await vtepd.cli('fdb', 'del', macOf(b), 'dev', 'vx0');
    assert.ok(await reaches());
    assert.ok((await replies()) > before);
  });

  test('an entry of `bridge fdb` on the TAP is warned of', async () => {
    await a.ns.exec(['bridge', 'fdb', 'add', '02:00:00:00:05:05', 'dev', 'vx0', 'dst', '10.245.1.4']);
    await monitor.waitFor(/^link vx0 bridge-fdb 02:00:00:00:05:05$/m);
  });

  test('an underlay interface that is made again is taken into use again, its group too', async () => {
    assert.ok(await reaches());
    await a.ns.ip('link del eth0');
    await monitor.waitFor(/^link vx0 dev-deleted eth0$/m);
    await remake();
    await monitor.waitFor(/^link vx0 dev-back eth0$/m);
    await eventually('frames go and come again', reaches, { timeoutMs: 20_000 });
    assert.ok((await a.ns.exec(['ip', 'maddr', 'show', 'dev', 'eth0'])).includes(GROUP));
    assert.ok((await ping(b.ns, '10.9.0.1')).received > 0);
  });
});
