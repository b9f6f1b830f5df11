/** `vtepd preflight`: what a host lacks is said beforehand with its cause, and nothing of the trial stays. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { ENDPOINT } from './lib/cluster.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { type ClusterBed, clusterBed } from './lib/fixtures.ts';

const FLAGS = ['--etcd-endpoints', ENDPOINT, '--iface', 'eth0'];

interface Report {
  ok: boolean;
  checks: { name: string; state: string; text: string }[];
}

describe('preflight', { skip: await withoutEtcd() }, () => {
  let { bed, cluster, a, onA: vtepd } = {} as ClusterBed<never, 'a'>;

  before(async () => {
    ({ bed, cluster, a, onA: vtepd } = await clusterBed({ run: {}, bare: ['a'] }));
  });
  after(() => bed?.destroy());

  /** Runs it, perhaps in a shell that takes something away first; the exit status must agree with what it says. */
  async function preflight(flags: readonly string[] = FLAGS, shell: readonly string[] = []): Promise<Report> {
    const words = ['preflight', '--subnet-file', vtepd.subnetFile, ...flags, '--json'];
    const { stdout, stderr, status } = await a.ns.tryExec([...shell, vtepd.command, ...words], { env: vtepd.env });
    assert.equal(stderr, '');
    const report = JSON.parse(stdout) as Report;
    assert.equal(status, report.ok ? 0 : 1);
    return report;
  }

  /** What is wrong, as one text. */
  function problems({ checks }: Report): string {
    return checks.flatMap(({ name, state, text }) => (state === 'problem' ? [`${name}: ${text}`] : [])).join('\n');
  }

  test('a host that lacks nothing: all is well, and nothing was left behind', async () => {
    const names = async () => (await a.ns.exec(['ip', '-o', 'link'])).match(/^\d+: \S+/gm);
    const links = await names();
    const report = await preflight();
    assert.equal(problems(report), '');
    assert.match(
      JSON.stringify(report.checks),
      /eth0 10\.245\.1\.3 mtu 1500; UDP port 4789 is free, a TAP can be made/,
    );
    assert.deepEqual(await names(), links);
    assert.deepEqual(await a.ns.pids(), []);
    assert.equal(await cluster.lease(a), undefined);
    assert.match(await vtepd.cli('preflight', ...FLAGS), /^ok +tun +\/dev\/net\/tun can be opened$/m);
  });

  test('a busy port, a missing interface, a datastore out of reach', async () => {
    const holder = a.ns.background([
      'node',
      '-e',
      `require('dgram').createSocket('udp4').bind(4789, () => console.log('bound'))`,
    ]);
    await holder.waitFor(/bound/);
    assert.match(problems(await preflight()), /^network: UDP port 4789 is in use by another socket/);
    await holder.stop();
    assert.match(
      problems(await preflight([...FLAGS.slice(0, 2), '--iface', 'eth7'])),
      /^network: iface: there is no interface eth7/,
    );
    const away = problems(await preflight(['--etcd-endpoints', 'http://10.245.1.1:2999', '--iface', 'eth0']));
    assert.match(away, /^datastore: .*http:\/\/10\.245\.1\.1:2999/);
  });

  test('no /dev/net/tun; no CAP_NET_ADMIN', async () => {
    const withoutTun = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /dev/net && exec "$@"', 'sh'];
    assert.match(problems(await preflight(FLAGS, withoutTun)), /^tun: \/dev\/net\/tun is missing: load the module/);
    const withoutRights = ['setpriv', '--bounding-set', '-net_admin', '--inh-caps', '-net_admin'];
    const said = problems(await preflight(FLAGS, withoutRights));
    assert.match(said, /^rights: CAP_NET_ADMIN is missing: run vtepd as root/);
    assert.match(said, /TUNSETIFF .*EPERM/, 'and trying says the same');
  });

  test('settings that can be read, with a link that cannot be made: that is all it says of them', async () => {
    const file = `${vtepd.subnetFile}.yaml`;
    writeFileSync(file, 'links: [{ name: vx0, id: seven }]\n');
    const { checks } = await preflight([...FLAGS, '--config', file]);
    const said = checks.flatMap(({ name, state, text }) => (name === 'settings' ? [`${state}: ${text}`] : []));
    assert.equal(said.length, 1);
    assert.match(said.join(), /^problem: .*links\[0\].*seven/);
  });

  test("another host's lease carries our PublicIP", async () => {
    await cluster.putLease({ base: '10.246.44.0' }, a.ipv4, '02:00:00:00:04:44');
    assert.match(problems(await preflight()), /^network: lease 10\.246\.44\.0-24 carries our PublicIP/);
    await cluster.deleteLease({ base: '10.246.44.0' });
  });

  test('beside the vtepd run that runs', async () => {
    await cluster.addVtepd(a);
    const report = await preflight();
    assert.equal(problems(report), '');
    assert.match(JSON.stringify(report.checks), /UDP port 4789 is our own dataplane's/);
  });
});
