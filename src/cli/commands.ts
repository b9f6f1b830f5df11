/**
 * The command table. Dispatch, `--help` and the suggestions all come from it; a command's code is loaded when it runs,
 * so that a query does not pay for what only `vtepd run` needs.
 */

import type { OptionSpec } from '../config/option-spec.ts';
import { RUN_OPTIONS } from '../config/options.ts';
import type { ParsedArguments } from './arguments.ts';
import type { Context } from './context.ts';
import { DATASTORE_OPTIONS } from './lease-options.ts';
import { FDB_FLUSH_WORDS, FDB_WORDS, LINK_ADD_WORDS, LINK_SET_WORDS, NEIGH_WORDS, type WordRow } from './vocabulary.ts';

export type CommandRun = (context: Context, input: ParsedArguments) => Promise<number>;

export interface CommandSpec {
  /** `status`, or object and verb: `link add`. */
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  readonly usage: string;
  readonly words?: readonly WordRow[];
  readonly options?: readonly OptionSpec[];
  readonly notes?: readonly string[];
  readonly examples?: readonly string[];
  readonly load: () => Promise<CommandRun>;
}

/** Options of every command. */
export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  { name: 'instance', value: 'NAME', text: 'which vtepd of this machine; default $VTEPD_INSTANCE or `default`' },
  { name: 'json', short: 'j', text: 'one JSON value on standard output; errors as JSON on standard error' },
  { name: 'help', short: 'h', text: 'this help' },
];

const LEASE_NOTES = [
  'Asks the datastore that flags or environment name, as for `vtepd run`; where they name none, the `vtepd run` that runs',
  '(which knows no TTL); else etcd at its default endpoints.',
];

const FDB_NOTES = ['With exactly one network held, `dev` may be left out.'];

export const COMMANDS: readonly CommandSpec[] = [
  {
    name: 'run',
    summary: 'join this host to a network by a datastore and keep it joined',
    usage: 'run [options]',
    options: RUN_OPTIONS,
    notes: [
      "Each setting comes from its flag, else from the environment (FLANNELD_... for flanneld's, VTEPD_... for the others),",
      'else from the settings file (YAML or JSON; keys are the names of the flags).',
      'The file may also have `links`, networks in the words of `vtepd link add` (`- name: vx0`, `  id: 2`, `  learning: false`),',
      "and `options`, such words for a datastore's networks (`ttl: 7`). A change of the file counts from the next start on.",
      'SIGTERM ends the controller only: the dataplane forwards on, device, routes and lease stay, as with flanneld.',
      '`vtepd cleanup` removes them. SIGHUP reads public-ip and public-ipv6 again from the settings file.',
    ],
    examples: [
      'vtepd run --etcd-endpoints http://10.245.1.2:2379 --iface eth0',
      'vtepd run --file /etc/vtepd/network.yaml',
    ],
    load: async () => (await import('./run.ts')).run,
  },
  {
    name: 'link add',
    summary: 'make a network by hand, in the words of `ip link add NAME type vxlan`',
    usage: 'link add NAME id VNI [WORDS...] [--foreground]',
    words: LINK_ADD_WORDS,
    options: [{ name: 'foreground', text: 'stay until SIGTERM or SIGINT, then remove what was made' }],
    notes: [
      'Starts the dataplane if none runs and returns when the device is up. A dataplane started so ends with its last network.',
      'Words of `ip link` that are not served are refused by name.',
    ],
    examples: ['vtepd link add vxlan2 id 2 local 10.245.1.3 remote 10.245.1.4 dev eth0'],
    load: async () => (await import('./link.ts')).linkAdd,
  },
  {
    name: 'link set',
    summary: 'change a network while packets flow, in the words of `ip link set`',
    usage: 'link set NAME WORDS...',
    words: LINK_SET_WORDS,
    notes: [
      'What cannot work is refused with the reason, before anything is changed. `remote`, `local` 0.0.0.0 or :: take it away.',
      'VNI, dstport, udp6zerocsumrx, netns and name stay as they were added.',
    ],
    examples: ['vtepd link set vxlan2 ttl 7 tos inherit', 'vtepd link set vxlan2 mtu 1400'],
    load: async () => (await import('./link.ts')).linkSet,
  },
  {
    name: 'link show',
    aliases: ['list', 'ls', 'lst'],
    summary: 'show networks',
    usage: 'link show [NAME]',
    load: async () => (await import('./link.ts')).linkShow,
  },
  {
    name: 'link del',
    aliases: ['delete'],
    summary: 'remove a network and its TAP',
    usage: 'link del NAME',
    notes: ['A dataplane that `link add` started ends with its last network, unless `vtepd run` is there.'],
    load: async () => (await import('./link.ts')).linkDel,
  },
  {
    name: 'fdb show',
    aliases: ['list', 'ls', 'lst'],
    summary: 'show which MAC lives at which VTEP',
    usage: 'fdb show [dev NAME] [MAC] [dst VTEP] [static|permanent|dynamic]',
    notes: ['Rows that agree with all that is said. `state STATE` is the same as STATE.'],
    examples: ['vtepd fdb show dev vxlan2 dynamic', 'vtepd fdb show dst 10.245.1.4'],
    load: async () => (await import('./fdb.ts')).fdbShow,
  },
  {
    name: 'fdb add',
    summary: 'add an entry, in the words of `bridge fdb`; it must be new',
    usage: 'fdb add MAC dst VTEP [WORDS...] dev NAME',
    words: FDB_WORDS,
    notes: FDB_NOTES,
    examples: ['vtepd fdb add 0e:00:00:00:00:04 dst 10.245.1.4 dev vxlan2'],
    load: async () => (await import('./fdb.ts')).fdbChange('add'),
  },
  {
    name: 'fdb append',
    summary: 'add one more destination to the flood list (00:00:00:00:00:00) or a multicast MAC',
    usage: 'fdb append MAC dst VTEP [WORDS...] dev NAME',
    words: FDB_WORDS,
    notes: FDB_NOTES,
    examples: ['vtepd fdb append 00:00:00:00:00:00 dst 10.245.1.4 dev vxlan2'],
    load: async () => (await import('./fdb.ts')).fdbChange('append'),
  },
  {
    name: 'fdb replace',
    summary: 'put an entry in place of what is there, or new',
    usage: 'fdb replace MAC dst VTEP [WORDS...] dev NAME',
    words: FDB_WORDS,
    notes: FDB_NOTES,
    load: async () => (await import('./fdb.ts')).fdbChange('replace'),
  },
  {
    name: 'fdb del',
    aliases: ['delete'],
    summary: 'remove an entry, or one destination of it',
    usage: 'fdb del MAC [dst VTEP] dev NAME',
    words: FDB_WORDS,
    notes: FDB_NOTES,
    load: async () => (await import('./fdb.ts')).fdbChange('del'),
  },
  {
    name: 'fdb flush',
    summary: 'remove entries by hand and learned ones, those that match all selectors',
    usage: 'fdb flush dev NAME [SELECTORS...]',
    words: FDB_FLUSH_WORDS,
    notes: [...FDB_NOTES, 'Of an entry with several destinations those go that match. What a datastore said stays.'],
    examples: ['vtepd fdb flush dev vxlan2 dynamic', 'vtepd fdb flush dev vxlan2 dst 10.245.1.4'],
    load: async () => (await import('./fdb.ts')).fdbFlush,
  },
  {
    name: 'neigh show',
    aliases: ['list', 'ls', 'lst'],
    summary: 'show for which addresses the proxy answers with which MAC',
    usage: 'neigh show [dev NAME]',
    load: async () => (await import('./neigh.ts')).neighShow,
  },
  {
    name: 'neigh add',
    summary: 'add a neighbour, an address or a whole subnet; it must be new',
    usage: 'neigh add ADDR[/LEN] lladdr MAC dev NAME',
    words: NEIGH_WORDS,
    notes: FDB_NOTES,
    examples: ['vtepd neigh add 10.246.13.0/24 lladdr 0e:00:00:00:00:04 dev vxlan2'],
    load: async () => (await import('./neigh.ts')).neighChange('add'),
  },
  {
    name: 'neigh replace',
    summary: 'put a neighbour in place of what is there, or new',
    usage: 'neigh replace ADDR[/LEN] lladdr MAC dev NAME',
    words: NEIGH_WORDS,
    notes: FDB_NOTES,
    load: async () => (await import('./neigh.ts')).neighChange('replace'),
  },
  {
    name: 'neigh del',
    aliases: ['delete'],
    summary: 'remove a neighbour',
    usage: 'neigh del ADDR[/LEN] dev NAME',
    words: NEIGH_WORDS,
    notes: FDB_NOTES,
    load: async () => (await import('./neigh.ts')).neighChange('del'),
  },
  {
    name: 'status',
    summary: 'show dataplane, controller, datastore, lease and networks',
    usage: 'status',
    notes: ['Exits with 3 when no dataplane runs, or when networks from a datastore are held and no controller runs.'],
    load: async () => (await import('./status.ts')).status,
  },
  {
    name: 'peers',
    summary: 'show every VTEP: lease, traffic, when it was last heard',
    usage: 'peers',
    load: async () => (await import('./peers.ts')).peers,
  },
  {
    name: 'stats',
    summary: 'show the counters of networks and lanes',
    usage: 'stats',
    load: async () => (await import('./stats.ts')).stats,
  },
  {
    name: 'drops',
    summary: 'show why frames died, with what to do about it',
    usage: 'drops [--all]',
    options: [{ name: 'all', short: 'a', text: 'also the reasons that never happened' }],
    load: async () => (await import('./drops.ts')).drops,
  },
  {
    name: 'monitor',
    summary: 'print a line for each change, learned MAC and miss, until ^C',
    usage: 'monitor [dev NAME]',
    notes: [
      'A miss is told for a network with l2miss or l3miss, once a second for each MAC or address, with the count.',
      'With --json one value a line. Above 100 lines a second (1000 of table changes) the rest is left out and counted:',
      'see events_suppressed in `vtepd stats --json`.',
    ],
    examples: ['vtepd monitor', 'vtepd monitor dev vxlan2 --json'],
    load: async () => (await import('./monitor.ts')).monitor,
  },
  {
    name: 'misses',
    summary: 'show which MACs and addresses were looked for in vain, the latest first',
    usage: 'misses [dev NAME]',
    notes: [
      'Remembered by `vtepd run`, the 1000 latest, for networks with l2miss or l3miss (those of a datastore have them).',
      'Exits with 3 where no `vtepd run` runs: `vtepd monitor` prints misses as they happen.',
    ],
    examples: ['vtepd misses', 'vtepd misses dev flannel.1 --json'],
    load: async () => (await import('./misses.ts')).misses,
  },
  {
    name: 'probe',
    summary: 'measure the path MTU to a peer, and say which overlay MTU fits',
    usage: 'probe PEER [dev NAME] [--interval SECONDS] [--tries N] [--timeout MS]',
    options: [
      { name: 'interval', value: 'SECONDS', text: 'again and again, until SIGTERM or ^C; 1 to 86400' },
      { name: 'tries', value: 'N', text: 'how often a size is sent before silence counts; default 3' },
      {
        name: 'timeout',
        value: 'MS',
        text: 'longest wait for an answer; default 1000, less once the round trip is known',
      },
    ],
    notes: [
      'PEER is an underlay address. Sends ICMP echo that may not be fragmented (DF), so it needs CAP_NET_RAW, and the optional npm',
      'package raw-socket. Compares with the networks that send to PEER; nothing is changed. Exits with 1 where PEER does not answer.',
    ],
    examples: ['vtepd probe 10.245.1.4', 'vtepd probe fd00:245::4 --interval 60 --json'],
    load: async () => (await import('./probe.ts')).probe,
  },
  {
    name: 'offloads show',
    aliases: ['list'],
    summary: 'show which offloads the kernel takes, which are in use, and why not',
    usage: 'offloads show',
    load: async () => (await import('./offloads.ts')).offloadsShow,
  },
  {
    name: 'offloads set',
    summary: 'switch an offload while packets flow',
    usage: 'offloads set tap_tso|tap_uso|udp_segment|udp_gro on|off',
    notes: ['On again forgets an earlier failure. Without any of them everything works, slower.'],
    examples: ['vtepd offloads set udp_segment off'],
    load: async () => (await import('./offloads.ts')).offloadsSet,
  },
  {
    name: 'lanes show',
    aliases: ['list'],
    summary: 'show the packet threads: segments a superframe, frames a call, busy share',
    usage: 'lanes show',
    notes: [
      'SEG/WRITE and SEG/READ are segments a superframe in and out, PKT/RECV and PKT/SEND frames a system call: about 40 where',
      'superframes are full, 1 where each frame costs its own call. BUSY is since the dataplane started, SPIN the time that went into',
      'looking for an answer before sleeping.',
    ],
    load: async () => (await import('./lanes.ts')).lanesShow,
  },
  {
    name: 'lanes set',
    summary: 'change the number of packet threads, and how they wait, while packets flow',
    usage: 'lanes set [N] [spin US]',
    notes: [
      'Frames that wait in the TAP queue of a lane that ends are lost. Default: half the CPUs that may be used.',
      'In a dialogue of small frames a lane looks for the answer for up to US microseconds (default 50; 0 to 1000) before it',
      'sleeps, and offers the CPU to others meanwhile: round trips get shorter. With 0 it sleeps at once.',
    ],
    examples: ['vtepd lanes set 2', 'vtepd lanes set spin 0'],
    load: async () => (await import('./lanes.ts')).lanesSet,
  },
  {
    name: 'lease list',
    aliases: ['ls', 'lst'],
    summary: 'show every lease: whose, how long still, reserved or overdue',
    usage: 'lease list [options]',
    options: DATASTORE_OPTIONS,
    notes: LEASE_NOTES,
    load: async () => (await import('./lease.ts')).leaseList,
  },
  {
    name: 'lease show',
    summary: 'show one lease, by its key, subnet or PublicIP',
    usage: 'lease show [KEY|SUBNET|IP] [options]',
    options: DATASTORE_OPTIONS,
    notes: LEASE_NOTES,
    load: async () => (await import('./lease.ts')).leaseShow,
  },
  {
    name: 'lease reserve',
    summary: 'reserve a subnet for a host: a key in etcd that does not expire',
    usage: 'lease reserve SUBNET [SUBNET6] --public-ip IP [--public-ipv6 IP] [options]',
    options: [
      { name: 'public-ip', value: 'IP', text: 'the host, by the address that it publishes' },
      { name: 'public-ipv6', value: 'IP', text: 'its IPv6 address, in a network with IPv6' },
      ...DATASTORE_OPTIONS,
    ],
    notes: [
      'The host takes the subnet when it joins. vtepd leaves it reserved then; flanneld gives it a life of a day.',
    ],
    examples: ['vtepd lease reserve 10.246.30.0/24 --public-ip 10.245.1.3 --etcd-endpoints http://10.245.1.2:2379'],
    load: async () => (await import('./lease.ts')).leaseReserve,
  },
  {
    name: 'lease release',
    aliases: ['del', 'delete'],
    summary: 'delete one key, exactly as `lease list` names it',
    usage: 'lease release KEY [--force] [options]',
    options: [
      { name: 'force', text: 'also a lease that is in use, or a key that cannot be read' },
      ...DATASTORE_OPTIONS,
    ],
    notes: ['A host whose lease is released loses its subnet: flanneld stops, vtepd takes a free subnet.'],
    examples: ['vtepd lease release 10.246.30.0-24'],
    load: async () => (await import('./lease.ts')).leaseRelease,
  },
  {
    name: 'config check',
    summary: 'check settings, network configuration and hosts, and show what `vtepd run` would use',
    usage: 'config check [options of vtepd run]',
    options: RUN_OPTIONS,
    notes: ['Exits with 0 if `vtepd run` could use it, with 1 if not. Changes nothing.'],
    examples: [
      'vtepd config check --file /etc/vtepd/network.yaml',
      'vtepd config check --config /etc/vtepd/vtepd.yaml',
    ],
    load: async () => (await import('./config-check.ts')).configCheck,
  },
  {
    name: 'preflight',
    summary: 'try beforehand what `vtepd run` needs of this host, and say what is missing and why',
    usage: 'preflight [options of vtepd run]',
    options: RUN_OPTIONS,
    notes: [
      'Reads settings and datastore as `config check`, opens /dev/net/tun, and makes each network under another name in a',
      'dataplane of its own: interface, UDP port, TAP. All of it is removed again; leases, routes and rules are not touched.',
      'Exits with 0 if `vtepd run` would start, with 1 if not.',
    ],
    examples: ['vtepd preflight --etcd-endpoints http://10.245.1.2:2379 --iface eth0'],
    load: async () => (await import('./preflight.ts')).preflight,
  },
  {
    name: 'cleanup',
    summary: 'remove everything that vtepd made on this host for the instance',
    usage: 'cleanup',
    notes: [
      'Ends the dataplane, deletes its TAPs (addresses and routes go with them), subnet.env, traffic rules, runtime and state files.',
      'Refused while `vtepd run` runs. The lease in the datastore is left to expire. A second run finds nothing to do.',
    ],
    load: async () => (await import('./cleanup.ts')).cleanup,
  },
];

/** Verb of an object that is named alone, as with `ip link`. */
export const DEFAULT_VERB = 'show';

export function objects(): string[] {
  return [...new Set(COMMANDS.flatMap(({ name }) => (name.includes(' ') ? [name.slice(0, name.indexOf(' '))] : [])))];
}

export function verbsOf(object: string): CommandSpec[] {
  return COMMANDS.filter((command) => command.name.startsWith(`${object} `));
}

export function verbName(command: CommandSpec): string {
  return command.name.slice(command.name.indexOf(' ') + 1);
}
