/**
 * The words of `ip link add ... type vxlan`, `bridge fdb` and `ip neigh`: those served, with their help, and those that
 * are not, which are refused by name. Pure tables, read by the parsers and by the help.
 */

export type WordRow = readonly [word: string, text: string];

/** Of `link add` and `link set`. */
const LINK_OPTION_ROWS: readonly WordRow[] = [
  ['local ADDR', 'underlay address to bind and send from; default: any, the kernel chooses the source'],
  ['remote ADDR', 'default destination, an entry of the flood list; unicast'],
  ['group ADDR', 'multicast group as default destination, joined on `dev`; instead of `remote`'],
  ['dev DEV', 'underlay interface; default MTU and, when given, the only one used'],
  ['ttl N', 'TTL or hop limit outside: 1 to 255, inherit, or auto (64; 1 to a group), the default (also: hoplimit)'],
  [
    'tos N',
    'TOS or traffic class outside: 0 to 255, 0x.., or inherit; default 0; ECN is always carried (also: dsfield)',
  ],
  ['df MODE', 'may the underlay fragment: unset (it may, the default), set, inherit'],
  ['flowlabel N', 'flow label on an IPv6 underlay, 0 to 1048575; default 0'],
  ['srcport MIN MAX', 'UDP source ports, MAX exclusive; default 49152 65535 (also: port)'],
  ['[no]udpcsum', 'UDP checksums on an IPv4 underlay; default on; without them superframes are cut up'],
  ['[no]udp6zerocsumtx', 'no UDP checksums on an IPv6 underlay; default off'],
  ['[no]learning', 'learn where source MACs live; default on'],
  ['[no]proxy', 'answer ARP and neighbour solicitations from the table; default off'],
  ['[no]proxy-flood', 'with proxy: flood what it cannot answer; default off: swallow it (not a word of ip)'],
  ['[no]peersonly', 'take frames from known VTEPs only; default off (not a word of ip)'],
  ['[no]l2miss', 'tell `vtepd monitor` of MACs without an entry; default off'],
  ['[no]l3miss', 'tell `vtepd monitor` of addresses that the proxy does not know; default off'],
  ['[no]rsc', "send what is for a router's MAC straight to the neighbour; default off"],
  ['[no]gbp', 'take group policy headers and strip them; none is sent; default off'],
  [
    'reserved_bits MASK',
    'bits of the VXLAN header that drop a datagram; default 0xf7ffffff000000ff, 0 ignores them all',
  ],
  ['address MAC', "the TAP's MAC; default: the existing device's, else random"],
  ['mtu N', "the TAP's MTU, 68 to 65485; default: the underlay's less 50 (IPv4) or 70 (IPv6)"],
  ['ageing SECONDS', 'life of a learned entry that nobody refreshes; default 300, 0 or none: for ever'],
  ['maxaddress N', 'most FDB entries; default 0 or unlimited: the built-in limit'],
  ['maxperpeer N', 'most learned entries of one VTEP; default 0 or unlimited (not a word of ip)'],
  ['maxmoves N', 'most moves of a learned entry in a minute; default 0 or unlimited (not a word of ip)'],
];

export const LINK_ADD_WORDS: readonly WordRow[] = [
  ['id VNI', 'network identifier, 0 to 16777215 (also: vni)'],
  ['dstport PORT', 'UDP port to listen on and send to; default 4789 (the kernel device: 8472)'],
  ...LINK_OPTION_ROWS,
  ['[no]udp6zerocsumrx', 'take datagrams without UDP checksum on an IPv6 underlay; default off'],
  ['netns NAME', 'network namespace of the TAP, a name or a path; sockets stay outside'],
  ['type vxlan', 'accepted, as is `up`: lines written for ip work unchanged'],
];

export const LINK_SET_WORDS: readonly WordRow[] = [
  ['up', 'bring the TAP up (also: down)'],
  ...LINK_OPTION_ROWS,
  ['type vxlan', 'accepted: lines written for ip work unchanged'],
];

/** Words that ask for what is done anyway: accepted without effect, so that the output of `ip -d link` can be pasted. */
export const LINK_ADD_NO_EFFECT: readonly string[] = [
  'up',
  'noremcsumtx',
  'noremcsumrx',
  'nogpe',
  'noexternal',
  'novnifilter',
  'nomcroute',
];

const ADD_AGAIN = 'delete the network and add it again';

/** Words of `link add` that `link set` refuses, as `ip` does, with the reason. */
export const LINK_SET_FIXED: Readonly<Record<string, string>> = {
  id: `its counters and its peers go by it; ${ADD_AGAIN}`,
  vni: `its counters and its peers go by it; ${ADD_AGAIN}`,
  dstport: `sockets and peers go by it; ${ADD_AGAIN}`,
  udp6zerocsumrx: `it belongs to the socket, which networks share; ${ADD_AGAIN}`,
  noudp6zerocsumrx: `it belongs to the socket, which networks share; ${ADD_AGAIN}`,
  netns: `the TAP would lose its addresses and routes; ${ADD_AGAIN}`,
  name: `the network is known by it; ${ADD_AGAIN}`,
};

/** Words of `ip link add` that are not served yet, and what to do instead where there is something. */
export const LINK_ADD_UNSERVED: Readonly<Record<string, string>> = {
  gpe: '',
  external: 'make one network a VNI',
  vnifilter: 'make one network a VNI',
  remcsumtx: '',
  remcsumrx: '',
  localbypass: '',
  nolocalbypass: '',
  mdb: 'an FDB entry of a multicast MAC names who gets it',
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
  ['via DEV', "underlay interface to send by; default the network's `dev`, else the route's"],
  ['router', 'the MAC is a router: the ND proxy says so, and `rsc` looks through it'],
  ['static', 'stays until removed; the default (also: temp)'],
  ['permanent', 'stays until removed (also: local)'],
  ['dynamic', 'ages like a learned entry'],
  ['self', 'accepted, has no effect: there is no other table'],
];

export const FDB_FLUSH_WORDS: readonly WordRow[] = [
  ['dev NAME', 'the network'],
  ['dst ADDR', 'destinations at this VTEP'],
  ['port PORT', "destinations with this UDP port, the network's own included"],
  ['vni VNI', "destinations with this VNI, the network's own included"],
  ['via DEV', 'destinations by this underlay interface'],
  ['static', 'entries of this state (also: permanent, dynamic)'],
  ['[no]router', "routers' MACs, or all others"],
  ['self', 'accepted, has no effect: there is no other table'],
];

export const FDB_UNSERVED: Readonly<Record<string, string>> = {
  src_vni: 'make one network a VNI',
  nhid: '',
  master: "that is the bridge's own table: use `bridge fdb`",
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
