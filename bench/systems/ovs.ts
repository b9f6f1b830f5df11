/**
 * Open vSwitch with its userspace datapath, no kernel module: databases, sockets and logs of its own for each end.
 *
 * Two bridges, as its documentation has it for a userspace tunnel: one takes the underlay device and its address, the other holds
 * the vxlan port and the port that the host uses as its overlay device. `userspace-tso-enable` stays off: with it, TCP does
 * not pass between these ports (Open vSwitch 3.1).
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Child } from '../bed/child.ts';
import { ip, run } from '../bed/exec.ts';
import { makeDirectory } from '../bed/leftovers.ts';
import { inNamespace, LOAD_TOOL } from '../bed/load-tool.ts';
import { type End, OVERLAY_DEVICE, type Pair, UNDERLAY_DEVICE } from '../bed/pair.ts';
import type { System } from './system.ts';

const UNDERLAY_BRIDGE = 'br-und';
const OVERLAY_BRIDGE = 'br-int';
const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';

export const ovs: System = {
  name: 'ovs',
  title: 'Open vSwitch, userspace datapath',
  async unavailable() {
    try {
      await run('ovs-vswitchd', ['--version']);
      return undefined;
    } catch {
      return "ovs-vswitchd does not run; install Debian's openvswitch-switch";
    }
  },
  async install(pair) {
    const dir = await makeDirectory();
    const close = (): Promise<void> => rm(dir, { recursive: true, force: true });
    try {
      for (const end of pair.ends) await start(pair, end, join(dir, end.side));
    } catch (error) {
      await close();
      throw error;
    }
    return { address: pair.far.overlay, close };
  },
};

async function start(pair: Pair, end: End, dir: string): Promise<void> {
  await mkdir(dir);
  const env = { ...process.env, OVS_RUNDIR: dir, OVS_DBDIR: dir, OVS_LOGDIR: dir };
  const database = join(dir, 'conf.db');
  const socket = join(dir, 'db.sock');
  await run('ovsdb-tool', ['create', database, SCHEMA]);
  const child = (words: readonly string[]): Child => {
    const started = Child.start(`${words[0]} (${end.side})`, { netns: end.netns, words, env });
    end.children.push(started);
    return started;
  };
  child(['ovsdb-server', database, `--remote=punix:${socket}`, `--unixctl=${join(dir, 'db.ctl')}`, '-vconsole:err']);
  const vsctl = (...words: string[]): Promise<string> =>
    run(LOAD_TOOL, inNamespace(end.netns, ['ovs-vsctl', '--timeout=10', `--db=unix:${socket}`, ...words]), { env });
  await vsctl('--retry', '--no-wait', 'init');
  child(['ovs-vswitchd', `unix:${socket}`, `--unixctl=${join(dir, 'sw.ctl')}`, '-vconsole:err']);

  const remote = pair.other(end);
  await vsctl(
    ...['add-br', UNDERLAY_BRIDGE, '--', 'set', 'bridge', UNDERLAY_BRIDGE, 'datapath_type=netdev'],
    ...[`other_config:hwaddr="${end.underlayMac}"`, '--', 'add-port', UNDERLAY_BRIDGE, UNDERLAY_DEVICE],
    ...['--', 'add-br', OVERLAY_BRIDGE, '--', 'set', 'bridge', OVERLAY_BRIDGE, 'datapath_type=netdev'],
    ...['--', 'add-port', OVERLAY_BRIDGE, 'tunnel', '--', 'set', 'interface', 'tunnel', 'type=vxlan'],
    ...[`options:remote_ip=${remote.underlay}`, `options:local_ip=${end.underlay}`, 'options:key=2'],
    ...['--', 'add-port', OVERLAY_BRIDGE, OVERLAY_DEVICE, '--', 'set', 'interface', OVERLAY_DEVICE, 'type=internal'],
    ...[`mac="${end.overlayMac}"`, `mtu_request=${pair.overlayMtu}`],
    ...['--', 'set', 'interface', UNDERLAY_BRIDGE, `mtu_request=${pair.underlayMtu}`],
  );
  await ip(
    end.netns,
    `addr flush dev ${UNDERLAY_DEVICE}`,
    `link set ${UNDERLAY_BRIDGE} up`,
    `addr add ${end.underlay}/24 dev ${UNDERLAY_BRIDGE}`,
    `neigh replace ${remote.underlay} lladdr ${remote.underlayMac} dev ${UNDERLAY_BRIDGE} nud permanent`,
  );
  await pair.configureOverlay(end);
}
