/**
 * flannel's traffic rules, in the kernel: what is masqueraded and what is not, who puts the rules back, what becomes of them
 * at a restart and at cleanup, and what is said where somebody else's firewall stands in the way. The blackhole of our subnet, too.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { pino } from 'pino';
import { ROUTE_PROTOCOL } from '../../src/dataplane/protocol.ts';
import { Nft } from '../../src/host/nft.ts';
import { RulesKeeper, removeTables } from '../../src/host/nft-keeper.ts';
import { isTableOf, tableName } from '../../src/host/nft-rules.ts';
import { parsePrefix } from '../../src/net/prefix.ts';
import { createLogger } from '../../src/observe/log.ts';
import { type BedHost, setContainerMtu } from './lib/bed.ts';
import { assertPing } from './lib/checks.ts';
import { ENDPOINT } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { type Background, eventually } from './lib/exec.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';
import { Netns } from './lib/netns.ts';
import { ping } from './lib/traffic.ts';

/** On the underlay, without a route to containers: it answers only what comes from a host's own address. */
const OUTSIDE = '10.245.1.1';

/** The rules of host a as nft prints them. */
const RULES = [
  'type filter hook forward priority filter; policy accept;',
  'ip saddr 10.246.0.0/16 accept',
  'ip daddr 10.246.0.0/16 accept',
  'type nat hook postrouting priority srcnat; policy accept;',
  'meta mark & 0x00004000 == 0x00004000 return',
  'ip saddr 10.246.30.0/24 ip daddr 10.246.0.0/16 return',
  'ip saddr 10.246.0.0/16 ip daddr 10.246.30.0/24 return',
  'ip saddr != 10.246.0.0/16 ip daddr 10.246.30.0/24 return',
  'ip saddr 10.246.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random',
  'ip saddr != 10.246.0.0/16 ip daddr 10.246.0.0/16 masquerade fully-random',
];

/** Prints the address that the first TCP connection comes from. */
const WHO = `require('node:net').createServer((socket) => {
  console.log('from', socket.remoteAddress);
  process.exit(0);
}).listen(7100, () => console.log('listening'))`;
const CALL = `require('node:net').connect(7100, process.argv[1])`;

async function seenFrom(caller: Netns, server: Netns, address: string): Promise<string> {
  const listening = server.background([process.execPath, '-e', WHO]);
  await listening.waitFor(/listening/);
  await caller.tryExec([process.execPath, '-e', CALL, address]);
  const [, from = ''] = await listening.waitFor(/from (?:::ffff:)?(\S+)/);
  await listening.stop();
  return from;
}

describe('traffic rules', { skip: await withoutEtcd() }, () => {
  let { bed, cluster, a, b, onA, daemonA } = {} as ClusterBed;

  before(async () => {
    const flags = ['--ip-masq', '--iptables-resync', '1', '--ip-blackhole-route'];
    ({ bed, cluster, a, b, onA, daemonA } = await clusterBed({ run: { a: flags, b: [] } }));
    await setContainerMtu(bed.hosts, 1450);
  });
  after(() => bed?.destroy());

  /** The lines of our table that say something; undefined without the table. */
  async function rules(host: BedHost): Promise<string[] | undefined> {
    const { status, stdout } = await host.ns.tryExec(['nft', 'list', 'table', 'ip', 'vtepd-default']);
    if (status !== 0) return undefined;
    const lines = stdout.split('\n').map((line) => line.trim());
    return lines.filter((line) => line !== '' && line !== '}' && !/^(table|chain) /.test(line));
  }

  async function warnings(): Promise<readonly string[]> {
    const { controller } = await onA.status();
    return controller.running ? controller.warnings : [];
  }

  test('with --ip-masq there are all of the rules, and subnet.env says so; without it, the forward rules only', async () => {
    assert.deepEqual(await rules(a), RULES);
    assert.deepEqual(await rules(b), RULES.slice(0, 3));
    assert.match(await readFile(onA.subnetFile, 'utf8'), /^FLANNEL_IPMASQ=true$/m);
  });

  test('a container reaches the world outside by its host, and only where that masquerades', async () => {
    assert.equal(await seenFrom(a.container, bed.underlay, OUTSIDE), a.ipv4);
    assert.equal((await ping(b.container, OUTSIDE, { count: 2 })).received, 0);
  });

  test('between containers, and from a container to a host, nothing is masqueraded', async () => {
    assert.equal(await seenFrom(a.container, b.container, b.address), a.address);
    assert.equal(await seenFrom(b.container, a.container, a.address), b.address);
  });

  test('what comes from outside to an own container keeps its source', async () => {
    await bed.underlay.ip(`route add ${a.subnet} via ${a.ipv4}`);
    assert.equal(await seenFrom(bed.underlay, a.container, a.address), OUTSIDE);
    await bed.underlay.ip(`route del ${a.subnet}`);
  });

  test('packets with mark 0x4000 are left alone', async () => {
    const mark = 'table ip marks { chain pre { type filter hook prerouting priority -300; meta mark set 0x4001; }; }';
    await a.ns.exec(['nft', mark]);
    assert.equal((await ping(a.container, OUTSIDE, { count: 2 })).received, 0);
    await a.ns.exec(['nft', 'delete table ip marks']);
    assert.equal((await ping(a.container, OUTSIDE, { count: 2 })).received, 2);
  });

  test('rules that somebody removes, or changes, are back within seconds', async () => {
    await a.ns.exec(['nft', 'flush ruleset']);
    await eventually('the table is back', async () => (await rules(a))?.length === RULES.length);
    await a.ns.exec(['nft', 'flush chain ip vtepd-default postrouting']);
    await eventually('the rules are back', async () => (await rules(a))?.length === RULES.length);
    assert.deepEqual(await rules(a), RULES);
    await daemonA.waitFor(/our traffic rules were changed or removed by somebody and are put back/);
  });

  const blackholes = async (ns: Netns): Promise<string> =>
    (await ns.exec(['ip', 'route', 'show', 'type', 'blackhole'])).trim();

  test('with --ip-blackhole-route, what is for an unused address of our subnet does not leave by the default route', async () => {
    const route = new RegExp(
      `^blackhole ${a.subnet.replaceAll('.', '\\.')} proto ${ROUTE_PROTOCOL} metric 2147483647$`,
    );
    assert.match(await blackholes(a.ns), route);
    assert.equal(await blackholes(b.ns), '');
    const unused = a.address.replace(/\d+$/, '77');
    assert.match(await a.ns.exec(['ip', 'route', 'get', unused]), / dev br0 /, "the bridge's own route is stronger");
    await a.ns.ip(`addr del ${a.gateway}/24 dev br0`);
    const lost = await a.ns.tryExec(['ip', 'route', 'get', unused]);
    assert.notEqual(lost.status, 0, lost.stdout);
    await a.ns.ip(`addr add ${a.gateway}/24 dev br0`);
    await a.ns.ip(`route del blackhole ${a.subnet}`);
    await eventually('it is back', async () => route.test(await blackholes(a.ns)), { timeoutMs: 30_000 });
    await daemonA.waitFor(/put right: blackhole \S+ was missing/);
  });

  for (const variant of ['iptables-nft', 'iptables-legacy']) {
    test(`${variant} that drops what it does not know is named in status, with what to do, until it lets us through`, async () => {
      await dropsUntilTold(variant);
    });
  }

  async function dropsUntilTold(variant: string): Promise<void> {
    assert.deepEqual(await warnings(), []);
    const iptables = (...words: string[]): Promise<string> => a.ns.exec([variant, ...words]);
    await iptables('-P', 'FORWARD', 'DROP');
    const [warning = ''] = await eventually('a warning', async () => {
      const found = await warnings();
      return found.length > 0 && found;
    });
    assert.match(warning, /^chain FORWARD of table ip filter drops forwarded packets/);
    // It is true: nftables has no accept that ends all tables.
    assert.equal((await ping(a.container, b.address, { count: 2 })).received, 0);
    const commands = warning.slice(warning.indexOf('; ') + 2).split('; ');
    assert.equal(commands.length, 2);
    for (const command of commands) await iptables(...command.split(' ').slice(1));
    await assertPing(a, b);
    await eventually('no warning', async () => (await warnings()).length === 0);
    await iptables('-P', 'FORWARD', 'ACCEPT');
  }

  test('stopped, the rules stay; started without --ip-masq, what was masqueraded is no more', async () => {
    assert.equal(await daemonA.stop(), 0, daemonA.output);
    assert.deepEqual(await rules(a), RULES);
    ({ daemon: daemonA } = await cluster.addVtepd(a, '--ip-masq=false'));
    assert.deepEqual(await rules(a), RULES.slice(0, 3));
    await eventually('no blackhole either', async () => (await blackholes(a.ns)) === '');
    assert.match(await readFile(onA.subnetFile, 'utf8'), /^FLANNEL_IPMASQ=false$/m);
    await assertPing(a, b);
  });

  test('with both kinds off, nothing is left of ours', async () => {
    await daemonA.stop();
    ({ daemon: daemonA } = await cluster.addVtepd(a, '--iptables-forward-rules=false'));
    assert.equal(await rules(a), undefined);
    await assertPing(a, b);
  });

  test('without nft, --ip-masq is refused at start with what to install; forward rules are a warning', async () => {
    await daemonA.stop();
    // A mount namespace in which the directory of nft is empty.
    const hidden = 'mount -t tmpfs none /usr/sbin && exec "$@"';
    const words = ['run', '--subnet-file', onA.subnetFile, '--etcd-endpoints', ENDPOINT, '--iface', 'eth0'];
    const start = (...flags: string[]): Background =>
      a.ns.background(['unshare', '--mount', 'sh', '-c', hidden, 'sh', onA.command, ...words, ...flags], {
        env: onA.env,
      });
    const refused = start('--ip-masq');
    assert.equal(await refused.exited, 1);
    assert.match(refused.output, /there is no nft on this host: apt-get install nftables/);
    daemonA = start();
    await onA.isRunning(daemonA);
    assert.match((await warnings()).join(), /traffic rules are not in place.*apt-get install nftables/);
    await assertPing(a, b);
    await daemonA.stop();
  });

  test('cleanup removes the rules and the blackhole', async () => {
    ({ daemon: daemonA } = await cluster.addVtepd(a, '--ip-masq', '--ip-blackhole-route'));
    assert.deepEqual(await rules(a), RULES);
    await eventually('the blackhole', async () => (await blackholes(a.ns)) !== '');
    await daemonA.stop();
    const { removed } = await onA.json<{ removed: string[] }>('cleanup');
    assert.ok(removed.includes('traffic rules (nftables table ip vtepd-default)'), removed.join('\n'));
    assert.equal(await rules(a), undefined);
    assert.equal(await blackholes(a.ns), '');
  });

  test("the rules are in the TAP's namespace, each network's in a table of its own; cleanup finds them there", async () => {
    await cluster.etcdctl('put', '/multi/blue/config', cluster.config.replace('"VNI":3', '"VNI":7'));
    const { daemon } = await cluster.addVtepd(
      a,
      ...[
        '--etcd-prefix',
        '/multi',
        '--networks',
        'blue',
        '--netns',
        a.container.name,
        '--ip-masq',
        '--ip-blackhole-route',
      ],
    );
    const tables = (ns: Netns): Promise<string> => ns.exec(['nft', 'list', 'tables', 'ip']);
    assert.equal(await tables(a.container), 'table ip vtepd-default/blue\n');
    assert.doesNotMatch(await tables(a.ns), /vtepd/);
    await eventually('the blackhole', async () => (await blackholes(a.container)) !== '');
    assert.equal(await blackholes(a.ns), '');
    await daemon.stop();
    await onA.cli('cleanup');
    assert.equal(await tables(a.container), '');
    assert.equal(await blackholes(a.container), '');
  });
});

describe('the keeper of the rules, in a namespace of its own', () => {
  const V4 = { network: parsePrefix('10.246.0.0/16'), subnet: parsePrefix('10.246.30.0/24') };
  const V6 = { network: parsePrefix('fd00:246::/48'), subnet: parsePrefix('fd00:246:0:f::/64') };
  const ALL = { forward: true, masquerade: true, fullyRandom: true };
  let ns: Netns;
  let keeper: RulesKeeper;

  before(async () => {
    ns = await Netns.create('rules');
    const logger = createLogger({ level: 'silent', instance: 'test' });
    const nft = new Nft(ns.path);
    keeper = new RulesKeeper({ nft, table: tableName('a.b-1', 'blue'), choice: ALL, resyncSeconds: 1, logger });
  });
  after(() => ns?.delete());

  const tables = async (): Promise<string[]> =>
    (await ns.exec(['nft', 'list', 'tables'])).split('\n').filter((line) => line !== '');

  test('the kernel takes the rules of both families, which come and go with the networks', async () => {
    await keeper.keep([V4, V6]);
    assert.deepEqual(await tables(), ['table ip vtepd-a.b-1/blue', 'table ip6 vtepd-a.b-1/blue']);
    const text = await ns.exec(['nft', 'list', 'table', 'ip6', 'vtepd-a.b-1/blue']);
    assert.match(text, /ip6 saddr fd00:246::\/48 ip6 daddr != ff00::\/8 masquerade fully-random/);
    await keeper.keep([V4]);
    assert.deepEqual(await tables(), ['table ip vtepd-a.b-1/blue']);
    await keeper.keep([V6]);
    assert.deepEqual(await tables(), ['table ip6 vtepd-a.b-1/blue']);
  });

  test('changes that come at once end in the last one', async () => {
    const other = { network: parsePrefix('10.247.0.0/16'), subnet: parsePrefix('10.247.1.0/24') };
    await Promise.all([keeper.keep([V4]), keeper.keep([V4, V6]), keeper.keep([other])]);
    assert.deepEqual(await tables(), ['table ip vtepd-a.b-1/blue']);
    assert.match(await ns.exec(['nft', 'list', 'ruleset']), /10\.247\.1\.0\/24/);
  });

  test('who changes the rules before they are read again does not become right', async () => {
    class Raced extends Nft {
      #raced = false;
      override async apply(text: string): Promise<void> {
        await super.apply(text);
        if (!this.#raced) await super.apply('flush chain ip vtepd-raced postrouting');
        this.#raced = true;
      }
    }
    const lines: string[] = [];
    const logger = pino({}, { write: (line: string) => void lines.push(JSON.parse(line).msg) });
    const raced = new RulesKeeper({
      nft: new Raced(ns.path),
      table: 'vtepd-raced',
      choice: ALL,
      resyncSeconds: 1,
      logger,
    });
    const end = new AbortController();
    await raced.keep([V4]);
    const running = raced.run(end.signal);
    await eventually('the rules are back', async () =>
      (await ns.exec(['nft', 'list', 'table', 'ip', 'vtepd-raced'])).includes('masquerade'),
    );
    end.abort();
    await running;
    assert.ok(
      lines.some((line) => line.includes('changed or removed by somebody at once')),
      lines.join('\n'),
    );
    await ns.exec(['nft', 'delete table ip vtepd-raced']);
  });

  test('cleanup of an instance takes the tables of its networks, and nobody else has', async () => {
    await ns.exec(['nft', 'add table ip vtepd-a.b; add table inet vtepd-a.b-1; add table ip vtepd-a.b-1']);
    const removed = await removeTables(new Nft(ns.path), (table) => isTableOf('a.b-1', table));
    assert.deepEqual(removed.sort(), ['ip vtepd-a.b-1', 'ip vtepd-a.b-1/blue']);
    assert.deepEqual(await tables(), ['table ip vtepd-a.b', 'table inet vtepd-a.b-1']);
  });
});
