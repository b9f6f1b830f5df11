// Generated from native/src/control/protocol/ and native/src/drops.rs by `UPDATE=1 cargo test generated`. Do not edit.

export const PROTOCOL = 1;

/** `RTPROT_*` number of the routes that vtepd makes. */
export const ROUTE_PROTOCOL = 86;

/**
 * An Ethernet (EUI-48) address.
 */
export type Mac = string;

/**
 * Parameters of a method that takes none.
 */
export type Empty = Record<symbol, never>;

/**
 * Answer of `hello`.
 */
export type Hello = { 
/**
 * Version of the program.
 */
version: string, 
/**
 * Version of this protocol.
 */
protocol: number, 
/**
 * Process id of the dataplane.
 */
pid: number, 
/**
 * Seconds since it started.
 */
uptime: number, 
/**
 * How many lanes move packets.
 */
lanes: number, 
/**
 * Longest time in microseconds that a lane looks for work before it sleeps.
 */
spin_us: number, 
/**
 * What the kernel lets it use, found by trying.
 */
capabilities: Capabilities, 
/**
 * Names of the networks held.
 */
networks: Array<string>, };

/**
 * What the kernel lets the dataplane use, found by trying at start.
 */
export type Capabilities = { 
/**
 * TAP hands over and takes TCP superframes.
 */
tap_tso: boolean, 
/**
 * TAP hands over and takes UDP superframes (Linux >= 6.2).
 */
tap_uso: boolean, 
/**
 * One `sendmsg` can carry a train.
 */
udp_segment: boolean, 
/**
 * One `recvmsg` can return a train.
 */
udp_gro: boolean, };

/**
 * What a network is to be. Everything optional has the default that its comment names.
 */
export type NetworkSpec = { 
/**
 * Name of the TAP device, 1 to 15 bytes.
 */
name: string, 
/**
 * VXLAN network identifier, below 2^24.
 */
vni: number, 
/**
 * Who made it: `hand`, `settings` (a file of them says so), `etcd` or `file`.
 */
owner: string, 
/**
 * Network namespace of the TAP: a name below /run/netns, or a path. Default: the dataplane's own.
 */
netns: string | null, 
/**
 * Underlay address to bind and to send from. Default: any, the kernel chooses the source.
 */
local: string | null, 
/**
 * UDP port to listen on and to send to.
 */
port: number, 
/**
 * Underlay interface: source of the default MTU, and the only one used when set.
 */
dev: string | null, 
/**
 * Default destination: becomes a permanent entry of the flood list, as with `ip link add type vxlan remote`.
 */
remote: string | null, 
/**
 * MAC of the TAP. Default: the existing device's, else random and locally administered.
 */
mac: Mac | null, 
/**
 * MTU of the TAP. Default: the underlay's less 50 (IPv4), 70 (IPv6), or 28 (`layer3`).
 */
mtu: number | null, 
/**
 * Answer ARP and neighbour solicitations from the neighbour table, swallow the rest.
 */
proxy: boolean, 
/**
 * Learn where source MACs live from received frames.
 */
learning: boolean, 
/**
 * Take frames from known VTEPs only.
 */
peersonly: boolean, 
/**
 * Seconds until a learned entry that nobody refreshed goes; 0 = never.
 */
ageing: number, 
/**
 * Most FDB entries; 0 = no limit but the built-in one.
 */
maxaddress: number, 
/**
 * Default destination where that is a multicast group, which is joined on `dev`; excludes `remote`.
 */
group?: string, 
/**
 * TTL or hop limit of the outer header: 1 to 255, or the inner packet's. Default: the kernel's (64; 1 for multicast).
 */
ttl?: OuterField, 
/**
 * TOS or traffic class of the outer header, or the inner packet's; the lower two bits are always ECN's. Default: 0.
 */
tos?: OuterField, 
/**
 * Whether the underlay may fragment. Default: `unset`, it may.
 */
df?: OuterDf, 
/**
 * Flow label of the outer header, IPv6 only, below 2^20. Default: 0.
 */
flowlabel?: number, 
/**
 * UDP source ports. Default: 49152 to 65535.
 */
srcport?: PortRange, 
/**
 * Send UDP checksums over IPv4. Default: true; without them trains are not possible, and a kernel peer's GRO is not either.
 */
udpcsum?: boolean, 
/**
 * Send no UDP checksums over IPv6. Default: false.
 */
udp6zerocsumtx?: boolean, 
/**
 * Take datagrams without UDP checksum over IPv6. Default: false.
 */
udp6zerocsumrx?: boolean, 
/**
 * Bits of the VXLAN header that may be set in what is received, as a 64-bit number in text (`0xff00000000000000`): first
 * byte uppermost. Default: none but the I flag. The complement of the mask that `ip link` takes, which names what drops.
 */
reserved_bits?: string, 
/**
 * Take group-based policy headers and strip them. The mark of a frame cannot be seen on a TAP, so none is sent. Default: false.
 */
gbp?: boolean, 
/**
 * Tell of destination MACs without an entry, by `miss`. Default: true, but false for owner `hand`.
 */
l2miss?: boolean, 
/**
 * Tell of addresses that the proxy does not know, by `miss`. Default: as `l2miss`.
 */
l3miss?: boolean, 
/**
 * Send packets for a MAC whose FDB entry has `router` straight to the neighbour they are for. Default: false.
 */
rsc?: boolean, 
/**
 * With `proxy`: what it cannot answer is flooded instead of swallowed. Default: false.
 */
proxy_flood?: boolean, 
/**
 * Most learned entries of one VTEP; 0 = no limit. Default: 16384, but 0 for owner `hand`.
 */
maxperpeer?: number, 
/**
 * How often a learned entry may move in a minute before it is held where it is for a minute; 0 = no limit. Default: 60, but
 * 0 for owner `hand`.
 */
maxmoves?: number, 
/**
 * A layer-3 network, as flannel's `udp` backend: a TUN instead of the TAP, and bare IPv4 packets as UDP payload, from and to `port`.
 * Its neighbours are peers' subnets, and a peer's MAC is only the name by which subnets and FDB entry are joined. Takes
 * none of VXLAN's options. Default: false.
 */
layer3?: boolean, 
/**
 * With `layer3`: the tunnel's own address, from which ICMP errors come. Default: no errors are sent.
 */
tunnel_address?: string, };

/**
 * A field of the outer header: a number, `inherit`, or `auto`, which is what an absent one is.
 */
export type OuterField = number | OuterWord;

/**
 * What a field of the outer header is where it is no number.
 */
export type OuterWord = "auto" | "inherit";

/**
 * Whether the underlay may fragment.
 */
export type OuterDf = "unset" | "set" | "inherit";

/**
 * UDP ports.
 */
export type PortRange = { 
/**
 * The first.
 */
min: number, 
/**
 * One past the last, as with `ip link add type vxlan srcport`.
 */
max: number, };

/**
 * What a network is.
 */
export type NetworkState = { 
/**
 * As it was asked for.
 */
spec: NetworkSpec, 
/**
 * Interface index of the TAP, in its namespace.
 */
ifindex: number, 
/**
 * MAC of the TAP; a TUN has none, and it is zero.
 */
mac: Mac, 
/**
 * MTU of the TAP.
 */
mtu: number, 
/**
 * True while the TAP is administratively up.
 */
up: boolean, 
/**
 * TAP queues in use: 16 a lane, one where the kernel cannot steer flows.
 */
queues: number, 
/**
 * Revision of the tables by source; absent before the first `tables.replace`.
 */
revisions: { [source: string]: number }, };

/**
 * A network by name.
 */
export type NetworkName = { 
/**
 * Name of the TAP device.
 */
network: string, };

/**
 * `network.update`: what may change while packets flow. Absent fields stay as they are.
 */
export type NetworkUpdate = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * New MAC of the TAP.
 */
mac: Mac | null, 
/**
 * New MTU of the TAP.
 */
mtu: number | null, 
/**
 * Switch learning.
 */
learning: boolean | null, 
/**
 * Switch the ARP and ND proxy.
 */
proxy: boolean | null, 
/**
 * Switch the peer filter.
 */
peersonly: boolean | null, 
/**
 * Administrative state of the TAP.
 */
up: boolean | null, 
/**
 * New ageing time in seconds; 0 = never.
 */
ageing?: number, 
/**
 * New limit of the FDB; entries held beyond it stay.
 */
maxaddress?: number, 
/**
 * New limit of learned entries of one VTEP; entries held beyond it stay.
 */
maxperpeer?: number, 
/**
 * New limit of moves in a minute.
 */
maxmoves?: number, 
/**
 * New default destination, in place of the old one or of the group in the flood list; 0.0.0.0 or :: for none.
 */
remote?: string, 
/**
 * New multicast group, in place of the old one or of `remote`.
 */
group?: string, 
/**
 * New underlay address to bind and to send from, of the same family; 0.0.0.0 or :: for any.
 */
local?: string, 
/**
 * New underlay interface. The TAP's MTU stays.
 */
dev?: string, 
/**
 * As in the specification.
 */
ttl?: OuterField, 
/**
 * As in the specification.
 */
tos?: OuterField, 
/**
 * As in the specification.
 */
df?: OuterDf, 
/**
 * As in the specification.
 */
flowlabel?: number, 
/**
 * As in the specification.
 */
srcport?: PortRange, 
/**
 * As in the specification.
 */
udpcsum?: boolean, 
/**
 * As in the specification.
 */
udp6zerocsumtx?: boolean, 
/**
 * As in the specification.
 */
reserved_bits?: string, 
/**
 * As in the specification.
 */
gbp?: boolean, 
/**
 * As in the specification.
 */
l2miss?: boolean, 
/**
 * As in the specification.
 */
l3miss?: boolean, 
/**
 * As in the specification.
 */
rsc?: boolean, 
/**
 * As in the specification.
 */
proxy_flood?: boolean, 
/**
 * As in the specification.
 */
tunnel_address?: string, };

/**
 * One place to which frames for a MAC go.
 */
export type Destination = { 
/**
 * The VTEP.
 */
ip: string, 
/**
 * UDP port there. Default: the network's.
 */
port?: number | null, 
/**
 * VNI there. Default: the network's.
 */
vni?: number | null, 
/**
 * Underlay interface to send by. Default: the network's `dev`, else the route's.
 */
via?: string, };

/**
 * How an FDB entry ends.
 */
export type EntryState = "permanent" | "static" | "dynamic";

/**
 * One entry of the FDB as a controller gives it: a MAC, or 00:00:00:00:00:00 for the flood list.
 */
export type FdbEntry = { 
/**
 * Destination MAC.
 */
mac: Mac, 
/**
 * Where frames go: one VTEP for a unicast MAC, one or more for the flood list and multicast MACs.
 */
destinations: Array<Destination>, 
/**
 * How the entry ends.
 */
state: EntryState, 
/**
 * The MAC is a router's: the ND proxy says so, and `rsc` looks through it. Default: false.
 */
router?: boolean, };

/**
 * One entry of the neighbour table: an address or a whole subnet, and the MAC that answers for it.
 */
export type Neighbour = { 
/**
 * `10.246.13.5/32` or `10.246.13.0/24`.
 */
prefix: string, 
/**
 * The MAC that the proxy answers with.
 */
lladdr: Mac, };

/**
 * `tables.replace`: makes what `source` has said of a network equal to this, whole. Entries of other sources stay;
 * where two sources name the same key, `hand` wins over a datastore and a datastore over `learned`.
 */
export type TablesReplace = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * `etcd` or `file` (`hand` and `learned` entries are changed by `fdb.change` and `neigh.change`).
 */
source: string, 
/**
 * The datastore's revision that this is; any number that grows.
 */
revision: number, 
/**
 * All FDB entries of this source.
 */
fdb: Array<FdbEntry>, 
/**
 * All neighbours of this source.
 */
neighbours: Array<Neighbour>, 
/**
 * VTEPs that may send although no FDB entry names them.
 */
peers: Array<string>, };

/**
 * `tables.patch`: changes what `source` has said. Refused with `REVISION_MISMATCH` unless `base` is the revision held.
 */
export type TablesPatch = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * As in `tables.replace`.
 */
source: string, 
/**
 * Revision that this change is computed against.
 */
base: number, 
/**
 * Revision after the change.
 */
revision: number, 
/**
 * MACs whose entry goes. Removal comes before addition.
 */
fdb_remove: Array<Mac>, 
/**
 * Entries added, or put in place of this source's entry for the same MAC.
 */
fdb_set: Array<FdbEntry>, 
/**
 * Prefixes whose neighbour goes.
 */
neighbours_remove: Array<string>, 
/**
 * Neighbours added or replaced.
 */
neighbours_set: Array<Neighbour>, 
/**
 * Peers that may no longer send.
 */
peers_remove: Array<string>, 
/**
 * Peers that may send.
 */
peers_add: Array<string>, };

/**
 * What a table change did.
 */
export type TablesChanged = { 
/**
 * Revision now held for the source.
 */
revision: number, 
/**
 * Entries of all tables that are new.
 */
added: number, 
/**
 * Entries that differ from before.
 */
changed: number, 
/**
 * Entries that are gone.
 */
removed: number, };

/**
 * An FDB entry as held.
 */
export type FdbDump = { 
/**
 * Destination MAC.
 */
mac: Mac, 
/**
 * Where frames go.
 */
destinations: Array<Destination>, 
/**
 * How the entry ends.
 */
state: EntryState, 
/**
 * `hand`, `etcd`, `file` or `learned`.
 */
source: string, 
/**
 * True where the MAC is a router's; absent elsewhere.
 */
router?: boolean, 
/**
 * Seconds since a received frame refreshed it; dynamic entries only.
 */
used: number | null, 
/**
 * False where an entry of a stronger source for the same MAC is in use instead.
 */
active: boolean, };

/**
 * A neighbour as held.
 */
export type NeighbourDump = { 
/**
 * Address or subnet.
 */
prefix: string, 
/**
 * MAC that the proxy answers with.
 */
lladdr: Mac, 
/**
 * `hand`, `etcd`, `file`, or `kernel`: what `ip neigh` shows on the TAP in a connected state, asked where no other has an answer.
 */
source: string, 
/**
 * False where an entry of a stronger source for the same prefix is in use instead.
 */
active: boolean, };

/**
 * Answer of `tables.dump`.
 */
export type TablesDump = { 
/**
 * Revision by source.
 */
revisions: { [source: string]: number }, 
/**
 * The FDB, sorted by MAC.
 */
fdb: Array<FdbDump>, 
/**
 * The neighbour table, sorted by prefix.
 */
neighbours: Array<NeighbourDump>, 
/**
 * Extra peers by source (those of FDB entries are peers without being listed here).
 */
peers: { [source: string]: Array<string> }, };

/**
 * What to do with one entry, in the words of `bridge fdb` and `ip neigh`.
 */
export type EntryVerb = "add" | "append" | "replace" | "del";

/**
 * `fdb.change`: one entry by hand.
 */
export type FdbChange = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * What to do.
 */
verb: EntryVerb, 
/**
 * Destination MAC; 00:00:00:00:00:00 is the flood list.
 */
mac: Mac, 
/**
 * The VTEP. May be absent for `del`: then the whole entry goes.
 */
destination: Destination | null, 
/**
 * How the entry ends; not for `del`.
 */
state: EntryState | null, 
/**
 * The MAC is a router's; not for `del`. Default: false, or for `append` as it was.
 */
router?: boolean, };

/**
 * `fdb.flush`: removes entries by hand and learned ones, those that match all that is said; what a datastore said stays. Of an
 * entry with several destinations, those go that match.
 */
export type FdbFlush = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * Entries of this state.
 */
state?: EntryState, 
/**
 * Destinations at this VTEP.
 */
dst?: string, 
/**
 * Destinations with this UDP port, the network's own included.
 */
port?: number, 
/**
 * Destinations with this VNI, the network's own included.
 */
vni?: number, 
/**
 * Destinations by this interface.
 */
via?: string, 
/**
 * Routers' MACs, or all others.
 */
router?: boolean, };

/**
 * What `fdb.flush` did.
 */
export type FdbFlushed = { 
/**
 * Entries that are gone.
 */
removed: number, 
/**
 * Entries that lost some of their destinations.
 */
reduced: number, 
/**
 * Entries of datastores that match and stay.
 */
kept: number, };

/**
 * `neigh.change`: one neighbour by hand.
 */
export type NeighChange = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * What to do (`append` is refused).
 */
verb: EntryVerb, 
/**
 * Address or subnet.
 */
prefix: string, 
/**
 * The MAC; not for `del`.
 */
lladdr: Mac | null, };

/**
 * `host.read`: facts of the kernel in one network namespace.
 */
export type HostRead = { 
/**
 * A name below /run/netns, or a path. Default: the dataplane's own.
 */
netns: string | null, };

/**
 * Answer of `host.read`.
 */
export type HostFacts = { 
/**
 * Every link.
 */
links: Array<LinkFacts>, 
/**
 * Every route of the main table that is unicast and scope link or universe.
 */
routes: Array<RouteFacts>, 
/**
 * Every route of the main table that throws packets away.
 */
blackholes: Array<BlackholeFacts>, };

/**
 * One link.
 */
export type LinkFacts = { 
/**
 * Interface index.
 */
index: number, 
/**
 * Name.
 */
name: string, 
/**
 * `tun`, `vxlan`, `veth`, ...; absent for hardware.
 */
kind: string | null, 
/**
 * MAC; absent where the link type has none.
 */
mac: Mac | null, 
/**
 * MTU in bytes.
 */
mtu: number, 
/**
 * Administratively up.
 */
up: boolean, 
/**
 * Somebody listens at the other end.
 */
carrier: boolean, 
/**
 * Addresses with their prefix lengths.
 */
addresses: Array<AddressFacts>, };

/**
 * One address of a link.
 */
export type AddressFacts = { 
/**
 * Address and prefix length, host bits kept.
 */
address: string, 
/**
 * `global`, `link`, `host` or a number.
 */
scope: string, 
/**
 * Not from DHCP or router advertisement with a lifetime.
 */
permanent: boolean, 
/**
 * IPv6: no longer to be used for new connections.
 */
deprecated: boolean, 
/**
 * IPv6 privacy address.
 */
temporary: boolean, };

/**
 * One route of the main table.
 */
export type RouteFacts = { 
/**
 * Destination; `0.0.0.0/0` or `::/0` is the default route.
 */
destination: string, 
/**
 * Gateway.
 */
via: string | null, 
/**
 * Name of the outgoing link.
 */
dev: string | null, 
/**
 * Gateway is taken as reachable on the link.
 */
onlink: boolean, 
/**
 * Preferred source address.
 */
source: string | null, 
/**
 * Priority; lower wins.
 */
metric: number, 
/**
 * Who made it (`RTPROT_*` of linux/rtnetlink.h).
 */
protocol: number, };

/**
 * One route of the main table that throws packets away.
 */
export type BlackholeFacts = { 
/**
 * Destination.
 */
destination: string, 
/**
 * Priority; lower wins.
 */
metric: number, 
/**
 * Who made it (`RTPROT_*` of linux/rtnetlink.h).
 */
protocol: number, };

/**
 * `host.route_get`: what the kernel would do with a packet, as `ip route get`.
 */
export type RouteGet = { 
/**
 * Destination.
 */
to: string, 
/**
 * Namespace, as in `host.read`.
 */
netns: string | null, };

/**
 * `host.change`: a list of changes, tried in order; each has its own answer.
 */
export type HostChange = { 
/**
 * Namespace, as in `host.read`.
 */
netns: string | null, 
/**
 * What to change.
 */
operations: Array<HostOperation>, };

/**
 * One change on the host. Deleting what is absent and adding what is there succeed.
 */
export type HostOperation = { "op": "address.add", 
/**
 * Link name.
 */
dev: string, 
/**
 * Address and prefix length.
 */
address: string, } | { "op": "address.del", 
/**
 * Link name.
 */
dev: string, 
/**
 * Address and prefix length.
 */
address: string, } | { "op": "route.replace", 
/**
 * Link name.
 */
dev: string, 
/**
 * Destination.
 */
destination: string, 
/**
 * Gateway.
 */
via: string | null, 
/**
 * Take the gateway as reachable on the link.
 */
onlink: boolean, 
/**
 * Priority; default the kernel's.
 */
metric: number | null, } | { "op": "route.del", 
/**
 * Link name.
 */
dev: string, 
/**
 * Destination.
 */
destination: string, 
/**
 * Gateway; absent = any.
 */
via: string | null, 
/**
 * Priority; absent = any.
 */
metric: number | null, } | { "op": "blackhole.add", 
/**
 * Destination.
 */
destination: string, 
/**
 * Priority.
 */
metric: number, } | { "op": "blackhole.del", 
/**
 * Destination.
 */
destination: string, 
/**
 * Priority.
 */
metric: number, } | { "op": "link.del", 
/**
 * Link name.
 */
dev: string, } | { "op": "link.set", 
/**
 * Link name.
 */
dev: string, 
/**
 * Up or down.
 */
up: boolean, };

/**
 * Answer of `host.change`: one outcome for each operation, in order.
 */
export type HostChanged = { 
/**
 * Absent where the operation succeeded.
 */
errors: Array<RpcErrorData | null>, };

/**
 * A failure with a stable name.
 */
export type RpcErrorData = { 
/**
 * An errno name (`EEXIST`, `ENOENT`, ...) or one of this protocol's: `REVISION_MISMATCH`, `NOT_SERVED`.
 */
name: string, 
/**
 * What happened, to what, and what to do.
 */
message: string, };

/**
 * Packets and bytes.
 */
export type Traffic = { 
/**
 * Frames; a superframe counts as its segments.
 */
packets: number, 
/**
 * Bytes without the inner Ethernet header, as the kernel's vxlan device counts.
 */
bytes: number, };

/**
 * Counters of one network, absolute since it was made.
 */
export type NetworkStats = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * VNI.
 */
vni: number, 
/**
 * Delivered to the TAP.
 */
rx: Traffic, 
/**
 * Handed to the underlay; a copy for each destination counts.
 */
tx: Traffic, 
/**
 * ARP requests answered by the proxy.
 */
arp_replies: number, 
/**
 * Neighbour solicitations answered by the proxy.
 */
nd_replies: number, 
/**
 * Received frames whose inner checksum was completed here (offload of a neighbouring kernel).
 */
partial_checksums: number, 
/**
 * Received superframes that nobody had segmented.
 */
whole_superframes: number, 
/**
 * Senders told by ICMP that their packet does not fit a peer's path; absent while there was none.
 */
too_big_replies?: number, 
/**
 * Senders told by ICMP that a layer-3 network does not carry their packet; absent while there was none.
 */
refusals?: number, 
/**
 * Times that a source MAC was not learned because of `maxaddress`, `maxperpeer` or the built-in limit; absent while there was
 * none.
 */
learning_refused?: number, 
/**
 * Frames that the kernel threw away because the TAP's queue was full: the lanes were too slow.
 */
tap_queue_overflows: number, 
/**
 * Frames that died, by reason; reasons that never happened are absent.
 */
drops: { [reason in DropReason]?: number }, 
/**
 * Entries held.
 */
fdb_entries: number, 
/**
 * Neighbours held.
 */
neighbour_entries: number, };

/**
 * Counters of one lane, absolute since it started.
 */
export type LaneStats = { 
/**
 * Number of the lane.
 */
lane: number, 
/**
 * Delivered to TAPs.
 */
rx: Traffic, 
/**
 * Handed to the underlay.
 */
tx: Traffic, 
/**
 * Reads of a TAP that returned a frame or superframe.
 */
tap_reads: number, 
/**
 * Writes to a TAP.
 */
tap_writes: number, 
/**
 * `recvmmsg` calls that returned datagrams.
 */
udp_receives: number, 
/**
 * `sendmmsg` calls.
 */
udp_sends: number, 
/**
 * Datagrams or trains received.
 */
udp_messages_received: number, 
/**
 * Datagrams or trains sent.
 */
udp_messages_sent: number, 
/**
 * Turns: times the lane looked what there is to do and did it.
 */
turns: number, 
/**
 * Microseconds spent working.
 */
busy_us: number, 
/**
 * Microseconds spent looking for work before sleeping.
 */
spin_us: number, 
/**
 * Longest turn in microseconds.
 */
longest_turn_us: number, };

/**
 * One VTEP as seen on the wire.
 */
export type PeerStats = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * The VTEP.
 */
ip: string, 
/**
 * Received from it and delivered.
 */
rx: Traffic, 
/**
 * Sent to it.
 */
tx: Traffic, 
/**
 * Seconds since the last valid frame; absent if there was none.
 */
last_heard: number | null, 
/**
 * Largest IP packet that the path to it carries, where ICMP said that it is less than the interface's MTU; forgotten
 * after ten minutes.
 */
path_mtu?: number, };

/**
 * Answer of `stats`.
 */
export type Stats = { 
/**
 * Seconds since the dataplane started.
 */
uptime: number, 
/**
 * By network.
 */
networks: Array<NetworkStats>, 
/**
 * By lane.
 */
lanes: Array<LaneStats>, 
/**
 * By network and VTEP.
 */
peers: Array<PeerStats>, 
/**
 * Frames that died before a network was known, by reason.
 */
drops: { [reason in DropReason]?: number }, 
/**
 * Datagrams that the kernel threw away because a receive buffer was full.
 */
socket_overflows: number, 
/**
 * Datagrams that the kernel threw away because their UDP checksum was wrong; absent while there was none.
 */
bad_checksums?: number, 
/**
 * Notifications that were left out by the rate limit.
 */
events_suppressed: number, };

/**
 * Notification `miss`: no table had an answer.
 */
export type MissEvent = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * `l2` (a MAC) or `l3` (an address).
 */
layer: string, 
/**
 * The MAC or address that was looked for.
 */
key: string, 
/**
 * How often since the last notification about this key.
 */
count: number, };

/**
 * Notifications `learned`, `moved`, `aged` and `held`: a dynamic FDB entry.
 */
export type FdbEvent = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * The MAC.
 */
mac: Mac, 
/**
 * Where it is, or was.
 */
ip: string, 
/**
 * `moved`: where it was before. `held`: from where it was seen, too often.
 */
from: string | null, };

/**
 * Notification `fdb`: one entry was made, changed or removed, by hand or by a datastore; for what is learned see `learned`.
 */
export type FdbNotification = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * `new`, `changed` or `deleted`.
 */
what: string, 
/**
 * The MAC.
 */
mac: Mac, 
/**
 * Where frames go, or went.
 */
destinations: Array<Destination>, 
/**
 * How the entry ends.
 */
state: EntryState, 
/**
 * `hand`, `etcd`, `file` or `learned`.
 */
source: string, 
/**
 * True where the MAC is a router's; absent elsewhere.
 */
router?: boolean, };

/**
 * Notification `neigh`: one neighbour was made, changed or removed.
 */
export type NeighbourNotification = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * `new`, `changed` or `deleted`.
 */
what: string, 
/**
 * Address or subnet.
 */
prefix: string, 
/**
 * The MAC that the proxy answers with, or answered with.
 */
lladdr: Mac, 
/**
 * `hand`, `etcd`, `file` or `kernel`.
 */
source: string, };

/**
 * Notification `changed`: entries by hand of a network changed, or a network came or went.
 */
export type ChangedEvent = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * `created`, `updated`, `deleted`, `fdb` or `neigh`.
 */
what: string, };

/**
 * Notification `link`: a fact of a TAP, or of the underlay interface below it, changed without our doing.
 */
export type LinkEvent = { 
/**
 * Name of the TAP device.
 */
network: string, 
/**
 * `up`, `down`, `mac`, `mtu`, `deleted`, `renamed`; `bridge-fdb`: somebody added that MAC with `bridge fdb`, which has no effect
 * here; `dev-deleted`, `dev-back`: the underlay interface of that name.
 */
what: string, 
/**
 * The new value, where there is one.
 */
value: string, };

/**
 * Notification `offload-disabled`: an offload was given up after the kernel refused it.
 */
export type OffloadEvent = { 
/**
 * `tap_tso`, `tap_uso`, `udp_segment` or `udp_gro`.
 */
offload: string, 
/**
 * The error that showed it.
 */
reason: string, };

/**
 * One offload: whether it can be used, may be used, and is used.
 */
export type OffloadState = { 
/**
 * `tap_tso`, `tap_uso`, `udp_segment` or `udp_gro`.
 */
offload: string, 
/**
 * The kernel took it when it was tried.
 */
supported: boolean, 
/**
 * Its switch is on.
 */
enabled: boolean, 
/**
 * It is in use.
 */
active: boolean, 
/**
 * Why it is not in use; empty where it is.
 */
reason: string, };

/**
 * `offloads.set`: one switch. Takes effect at once; on again forgets an earlier failure.
 */
export type OffloadSet = { 
/**
 * `tap_tso`, `tap_uso`, `udp_segment` or `udp_gro`.
 */
offload: string, 
/**
 * On or off.
 */
enabled: boolean, };

/**
 * `lanes.set`: what is given changes, at once.
 */
export type LanesSet = { 
/**
 * How many lanes move packets, 1 to 16. Frames that wait in the TAP queue of a lane that ends are lost.
 */
lanes?: number, 
/**
 * Longest time in microseconds that a lane looks for work before it sleeps, 0 (sleep at once) to 1000.
 */
spin_us?: number, };

/**
 * `shutdown`: ends the dataplane.
 */
export type Shutdown = { 
/**
 * Also delete the TAPs (otherwise they stay, without carrier, with addresses and routes).
 */
delete_taps: boolean, };

/**
 * The name of why a frame died.
 */
export type DropReason = "tx_runt" | "tx_bad_virtio_header" | "tx_bad_superframe" | "tx_no_destination" | "tx_recursion" | "tx_destination_unspecified" | "tx_unroutable" | "tx_too_big" | "tx_queue_full" | "tx_socket_error" | "tx_arp_malformed" | "tx_arp_unanswered" | "tx_arp_swallowed" | "tx_nd_malformed" | "tx_nd_unanswered" | "tx_not_ipv4" | "tx_no_subnet" | "tx_ttl_expired" | "rx_truncated" | "rx_short" | "rx_no_vni" | "rx_reserved_bits" | "rx_unknown_vni" | "rx_not_peer" | "rx_inner_runt" | "rx_inner_truncated" | "rx_source_mac_invalid" | "rx_source_mac_own" | "rx_source_mac_conflict" | "rx_source_mac_moves" | "rx_not_ipv4" | "rx_ttl_expired" | "rx_ecn" | "tap_down" | "tap_full" | "tap_rejected";

/** What each drop reason means and what to do about it. */
export const DROP_REASONS: { readonly [reason in DropReason]: { readonly text: string; readonly hint: string } } = {
  tx_runt: { text: "A frame shorter than an Ethernet header (on a layer-3 network: than an IPv4 header) came from the TAP.", hint: "the sender on this host writes broken frames; capture on the TAP" },
  tx_bad_virtio_header: { text: "The virtio header of a frame from the TAP contradicts the frame.", hint: "a guest or program below the TAP hands on unchecked offload metadata" },
  tx_bad_superframe: { text: "A superframe from the TAP could not be cut into segments.", hint: "switch the sender's offloads off (ethtool -K DEV tso off gso off) and report the frame" },
  tx_no_destination: { text: "Neither the FDB nor a flood list names a VTEP for the destination MAC.", hint: "a missing lease or entry: look at vtepd fdb show and vtepd peers" },
  tx_recursion: { text: "The frame is a VXLAN packet of this very endpoint: the route to a VTEP leads into the overlay.", hint: "the route to the VTEP points to the TAP; fix it: ip route get VTEP" },
  tx_destination_unspecified: { text: "The FDB's destination is the unspecified address.", hint: "replace the entry: vtepd fdb replace MAC dst VTEP dev NAME" },
  tx_unroutable: { text: "The kernel has no route to the VTEP.", hint: "add a route to the VTEP: ip route get VTEP" },
  tx_too_big: { text: "The encapsulated packet does not fit the path and may not be fragmented.", hint: "lower the MTU of the overlay device, or raise the underlay's" },
  tx_queue_full: { text: "The socket or the interface below it had no room.", hint: "the underlay is saturated: look at the interface's queue" },
  tx_socket_error: { text: "The kernel refused to send for another reason (a firewall rule, for example).", hint: "look at the log for the error's name; often an output firewall rule" },
  tx_arp_malformed: { text: "An ARP packet from the TAP was malformed.", hint: "the sender writes broken ARP; capture on the TAP" },
  tx_arp_unanswered: { text: "The ARP proxy swallowed a request for an address that it does not know.", hint: "no lease covers the address: vtepd neigh show" },
  tx_arp_swallowed: { text: "The ARP proxy swallowed a reply or a gratuitous announcement, as the kernel device does.", hint: "expected with proxy on: announcements do not cross the tunnel" },
  tx_nd_malformed: { text: "A neighbour solicitation from the TAP was malformed.", hint: "the sender writes broken neighbour discovery; capture on the TAP" },
  tx_nd_unanswered: { text: "The ND proxy swallowed a solicitation for an address that it does not know.", hint: "no lease covers the address: vtepd neigh show" },
  tx_not_ipv4: { text: "A packet from the TUN of a layer-3 network was not IPv4, or its header contradicts itself.", hint: "such a network carries IPv4 only: switch IPv6 off on the TUN, or use the vxlan backend" },
  tx_no_subnet: { text: "No peer's subnet holds the destination of a packet on a layer-3 network.", hint: "no lease covers the address: vtepd peers" },
  tx_ttl_expired: { text: "The TTL of a packet for a layer-3 network is used up; a layer-3 network takes one at each end.", hint: "expected from traceroute; else a routing loop, or a sender with a very small TTL" },
  rx_truncated: { text: "A datagram was cut because it was larger than a receive slot.", hint: "the peer sends more than 64 KiB in one datagram; report it" },
  rx_short: { text: "A datagram was too short for a VXLAN header (on a layer-3 network: for an IPv4 header).", hint: "something else sends to the tunnel's port; see who with vtepd drops" },
  rx_no_vni: { text: "The I flag of the VXLAN header was clear.", hint: "something else sends to the VXLAN port" },
  rx_reserved_bits: { text: "A reserved bit of the VXLAN header was set.", hint: "the peer uses GBP or GPE, which this network does not" },
  rx_unknown_vni: { text: "No network here has the VNI.", hint: "compare the VNI on both hosts" },
  rx_not_peer: { text: "The outer source is not a known VTEP and the network takes frames from peers only.", hint: "a host without a lease, NAT on the way, or an attack; vtepd peers lists who may send" },
  rx_inner_runt: { text: "The frame inside was shorter than an Ethernet header.", hint: "the peer sends broken frames" },
  rx_inner_truncated: { text: "The IP header inside was missing or cut.", hint: "the peer sends broken frames, or a middlebox merged two packets" },
  rx_source_mac_invalid: { text: "The source MAC inside was multicast or zero on a network that learns.", hint: "the peer sends broken frames" },
  rx_source_mac_own: { text: "The source MAC inside was our own.", hint: "a loop, or two hosts with one VTEP MAC" },
  rx_source_mac_conflict: { text: "A permanent or static entry places the source MAC at another VTEP.", hint: "the peer sends from another address than its entry says; check NAT and local" },
  rx_source_mac_moves: { text: "The source MAC inside moved more often than it may and is held where it is.", hint: "two hosts with one MAC, a loop, or an attack: look at vtepd fdb show and at maxmoves" },
  rx_not_ipv4: { text: "A datagram of a layer-3 network was not IPv4, or its header contradicts itself.", hint: "something else sends to the tunnel's port, or the peer runs another backend" },
  rx_ttl_expired: { text: "The TTL of a packet from a layer-3 network is used up.", hint: "expected from traceroute; else a routing loop, or a sender with a very small TTL" },
  rx_ecn: { text: "The outer header said congestion experienced, the inner one cannot carry it (RFC 6040).", hint: "a router marks packets of a transport without ECN; expected under congestion" },
  tap_down: { text: "The TAP was down.", hint: "bring it up: ip link set NAME up" },
  tap_full: { text: "The TAP's receive path had no room.", hint: "the host cannot keep up with what arrives" },
  tap_rejected: { text: "The kernel refused the frame.", hint: "report it together with the log line that names the error" },
};

/** Method name -> parameters and result. */
export interface Methods {
  "hello": { params: Empty; result: Hello };
  "network.create": { params: NetworkSpec; result: NetworkState };
  "network.update": { params: NetworkUpdate; result: NetworkState };
  "network.delete": { params: NetworkName; result: Empty };
  "network.list": { params: Empty; result: Array<NetworkState> };
  "tables.replace": { params: TablesReplace; result: TablesChanged };
  "tables.patch": { params: TablesPatch; result: TablesChanged };
  "tables.dump": { params: NetworkName; result: TablesDump };
  "fdb.change": { params: FdbChange; result: Empty };
  "fdb.flush": { params: FdbFlush; result: FdbFlushed };
  "neigh.change": { params: NeighChange; result: Empty };
  "host.read": { params: HostRead; result: HostFacts };
  "host.route_get": { params: RouteGet; result: RouteFacts };
  "host.change": { params: HostChange; result: HostChanged };
  "stats": { params: Empty; result: Stats };
  "offloads.show": { params: Empty; result: Array<OffloadState> };
  "offloads.set": { params: OffloadSet; result: Array<OffloadState> };
  "lanes.set": { params: LanesSet; result: Hello };
  "events.subscribe": { params: Empty; result: Empty };
  "shutdown": { params: Shutdown; result: Empty };
}

/** Notification name -> what it carries. */
export interface Notifications {
  "learned": FdbEvent;
  "moved": FdbEvent;
  "aged": FdbEvent;
  "held": FdbEvent;
  "miss": MissEvent;
  "fdb": FdbNotification;
  "neigh": NeighbourNotification;
  "changed": ChangedEvent;
  "link": LinkEvent;
  "offload-disabled": OffloadEvent;
}
