/**
 * The words of `ip link add ... type vxlan`, `bridge fdb` and `ip neigh`: those served, with their help, and those that
 * are not, which are refused by name. Pure tables, read by the parsers and by the help.
 */

export type WordRow = readonly [word: string, text: string];

export const LINK_ADD_WORDS: readonly WordRow[] = [
  ['id VNI', 'network identifier, 0 to 16777215 (also: vni)'],
  ['local ADDR', 'underlay address to bind and send from; default: any, the kernel chooses the source'],
  ['remote ADDR', 'default destination, an entry of the flood list; unicast'],
  ['dstport PORT', 'UDP port to listen on and send to; default 4789 (the kernel device: 8472)'],
  ['dev DEV', 'underlay interface; default MTU and, when given, the only one used'],
  ['[no]learning', 'learn where source MACs live; default on'],
  ['[no]proxy', 'answer ARP and neighbour solicitations from the table; default off'],
  ['[no]peersonly', 'take frames from known VTEPs only; default off (not a word of ip)'],
  ['address MAC', "the TAP's MAC; default: the existing device's, else random"],
  ['mtu N', "the TAP's MTU, 68 to 65485; default: the underlay's less 50 (IPv4) or 70 (IPv6)"],
  ['ageing SECONDS', 'life of a learned entry that nobody refreshes; default 300, 0 or none: for ever'],
  ['maxaddress N', 'most FDB entries; default 0 or unlimited: the built-in limit'],
  ['netns NAME', 'network namespace of the TAP, a name or a path; sockets stay outside'],
  ['type vxlan', 'accepted, as is `up`: lines written for ip work unchanged'],
];

/** Words that ask for what is done anyway: accepted without effect, so that the output of `ip -d link` can be pasted. */
export const LINK_ADD_NO_EFFECT: readonly string[] = [
  'up',
  'udpcsum',
  'noudp6zerocsumtx',
  'noudp6zerocsumrx',
  'noremcsumtx',
  'noremcsumrx',
  'norsc',
  'nol2miss',
  'nol3miss',
  'nogbp',
  'nogpe',
  'noexternal',
  'novnifilter',
  'nomcroute',
];

/** As above, with the one value (or two) that changes nothing. */
export const LINK_ADD_NO_EFFECT_VALUES: Readonly<Record<string, readonly string[]>> = {
  ttl: ['auto'],
  hoplimit: ['auto'],
  df: ['unset'],
  flowlabel: ['0'],
  srcport: ['0', '0'],
  port: ['0', '0'],
};

/** Words of `ip link add` that are not served yet, and what to do instead where there is something. */
export const LINK_ADD_UNSERVED: Readonly<Record<string, string>> = {
  group: 'give a unicast `remote`, or list the VTEPs with `vtepd fdb append 00:00:00:00:00:00 dst VTEP`',
  ttl: '',
  hoplimit: '',
  tos: '',
  dsfield: '',
  df: '',
  flowlabel: '',
  srcport: '',
  port: 'it means the source ports; the UDP port is `dstport`',
  gbp: '',
  gpe: '',
  external: 'make one network a VNI',
  vnifilter: 'make one network a VNI',
  rsc: '',
  l2miss: '',
  l3miss: '',
  noudpcsum: '',
  udp6zerocsumtx: '',
  udp6zerocsumrx: '',
  remcsumtx: '',
  remcsumrx: '',
  localbypass: '',
  nolocalbypass: '',
  reserved_bits: '',
  mcroute: '',
  link: '`dev` names the underlay interface',
  'link-netnsid': '',
  down: '',
  txqueuelen: '',
  txqlen: '',
  qlen: '',
  broadcast: '',
  brd: '',
  index: '',
  numtxqueues: '',
  numrxqueues: '',
  gso_max_size: '',
  gso_max_segs: '',
  gro_max_size: '',
  gso_ipv4_max_size: '',
  gro_ipv4_max_size: '',
  alias: '',
  master: 'use `ip link set NAME master BRIDGE` afterwards',
  vrf: '',
  addrgenmode: '',
};

export const FDB_WORDS: readonly WordRow[] = [
  ['dst ADDR', 'the VTEP'],
  ['dev NAME', 'the network'],
  ['port PORT', "UDP port at the VTEP; default the network's"],
  ['vni VNI', "VNI at the VTEP; default the network's"],
  ['static', 'stays until removed; the default (also: temp)'],
  ['permanent', 'stays until removed (also: local)'],
  ['dynamic', 'ages like a learned entry'],
  ['self', 'accepted, has no effect: there is no other table'],
];

export const FDB_UNSERVED: Readonly<Record<string, string>> = {
  via: 'give the network `dev` at `vtepd link add`',
  src_vni: 'make one network a VNI',
  nhid: '',
  master: "that is the bridge's own table: use `bridge fdb`",
  router: '',
  use: '',
  extern_learn: '',
  sticky: '',
  norefresh: '',
  vlan: '',
  activity_notify: '',
  inactive: '',
};

export const NEIGH_WORDS: readonly WordRow[] = [
  ['lladdr MAC', 'the MAC that the proxy answers with'],
  ['dev NAME', 'the network'],
  ['nud permanent', 'accepted, has no effect: entries do not age (also: nud noarp)'],
];

export const NEIGH_UNSERVED: Readonly<Record<string, string>> = {
  proxy: 'switch the proxy on at `vtepd link add NAME ... proxy`',
  router: '',
  use: '',
  managed: '',
  extern_learn: '',
  protocol: '',
};
