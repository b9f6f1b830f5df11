/**
 * A real Docker daemon on each of two hosts, its bridge from the subnet.env that `vtepd run` writes: containers reach each
 * other by the addresses that Docker gives them, and the world outside by their host.
 */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { Bed, type BedHost } from './lib/bed.ts';
import { Cluster } from './lib/cluster.ts';
import { DOCKER_OPTIONS, DockerHost, moveFile, withoutDocker } from './lib/docker.ts';
import { withoutEtcd } from './lib/etcd.ts';
import { run } from './lib/exec.ts';
import { RUN_ID } from './lib/netns.ts';
import { checksumErrors } from './lib/traffic.ts';
import type { VtepdHost } from './lib/vtepd.ts';

const FILE_BYTES = 20_000_000;

describe('Docker on two hosts', { skip: (await withoutDocker()) || (await withoutEtcd()) }, () => {
  let bed: Bed;
  let a: BedHost;
  let b: BedHost;
  let vtepdA: VtepdHost;
  let onA: DockerHost;
  let onB: DockerHost;
  let addressA: string;
  let addressB: string;

  before(async () => {
    bed = await Bed.create({ mode: 'wire' });
    [a, b] = [bed.host('a'), bed.host('b')];
    const cluster = await Cluster.start(bed);
    const joined = await Promise.all([cluster.addVtepd(a, '--ip-masq'), cluster.addVtepd(b, '--ip-masq')]);
    vtepdA = joined[0].vtepd;
    [onA, onB] = (await Promise.all(
      joined.map(async ({ vtepd }) => {
        const docker = await DockerHost.start(vtepd.host, vtepd.subnetFile);
        bed.teardown.defer(`dockerd on host ${vtepd.host.label}`, () => docker.stop());
        return docker;
      }),
    )) as [DockerHost, DockerHost];
    [addressA, addressB] = await Promise.all([onA.start('box'), onB.start('box')]);
  });
  after(() => bed?.destroy());

  test("subnet.env is a shell's input, and gives what flannel's mk-docker-opts.sh makes of it", async () => {
    const line = `set -eu; . "$1"; ${DOCKER_OPTIONS}; echo "--bip=$FLANNEL_SUBNET --ip-masq=$masq --mtu=$FLANNEL_MTU"`;
    const options = await run(['sh', '-c', line, 'sh', vtepdA.subnetFile]);
    assert.equal(options, '--bip=10.246.30.1/24 --ip-masq=false --mtu=1450\n');
  });

  test("containers have addresses of their host's subnet and the overlay's MTU", async () => {
    assert.match(addressA, /^10\.246\.30\.\d+$/);
    assert.match(addressB, /^10\.246\.13\.\d+$/);
    for (const [docker, address] of [
      [onA, addressA],
      [onB, addressB],
    ] as const) {
      const text = await docker.sh('box', 'ip addr show dev eth0');
      assert.match(text, / mtu 1450 /);
      assert.match(text, new RegExp(`inet ${address.replaceAll('.', '\\.')}/24 `));
    }
  });

  test('they ping each other, with full packets, and see each other by their own addresses', async () => {
    assert.match(await onA.sh('box', `ping -c 3 -s 1422 ${addressB}`), /3 packets transmitted, 3 packets received/);
    assert.match(await onB.sh('box', `ping -c 3 -s 1422 ${addressA}`), /3 packets transmitted, 3 packets received/);
  });

  test(`a file of ${FILE_BYTES / 1e6} MB over TCP, each way: what arrives is what was sent`, async () => {
    for (const [from, to, address] of [
      [onA, onB, addressB],
      [onB, onA, addressA],
    ] as const) {
      const { sent, received } = await moveFile(from, to, 'box', address, FILE_BYTES);
      assert.match(sent, /^[0-9a-f]{64}$/);
      assert.equal(received, sent);
      assert.equal(await from.sh('box', 'wc -c </file'), String(FILE_BYTES));
    }
    assert.deepEqual(await checksumErrors(a.ns, b.ns), {});
  });

  test('the world outside is reached by the host, which masquerades in the place of Docker', async () => {
    assert.match(await onA.sh('box', 'ping -c 2 10.245.1.1'), /2 packets received/);
    const rules = await a.ns.exec(['iptables', '-t', 'nat', '-S', 'POSTROUTING']);
    assert.doesNotMatch(rules, /MASQUERADE/);
  });

  test('what Docker leaves in the way is nothing: no warning of the rules', async () => {
    const { controller } = await vtepdA.status();
    assert.deepEqual(controller.running && controller.warnings, []);
  });

  test('afterwards nothing is left: no process, no mount, no control group', async () => {
    await Promise.all([onA.stop(), onB.stop()]);
    const mine = await run(['sh', '-c', `find /sys/fs/cgroup -type d -name '${RUN_ID}-docker-*'`]);
    assert.equal(mine, '');
    assert.equal((await readFile('/proc/self/mountinfo', 'utf8')).includes(a.dir), false);
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      assert.doesNotMatch(command, new RegExp(`(containerd|dockerd).*${bed.dir}`));
    }
  });
});
