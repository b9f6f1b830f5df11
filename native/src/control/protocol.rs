//! The control protocol: newline-delimited JSON-RPC 2.0 over a unix stream socket.
//!
//! Types are written here and nowhere else; `src/dataplane/protocol.ts` is generated from them (`cargo test generated`
//! fails when it is out of date, `UPDATE=1 cargo test generated` rewrites it). Addresses and MACs travel as text,
//! prefixes as `10.246.13.0/24`. A request that changes something is applied whole or not at all, unless it says otherwise.

use crate::drops::DropReason;
use crate::wire::Mac;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

#[cfg(test)]
use ts_rs::TS;

/// Version of this protocol; a controller refuses a dataplane with another one.
pub const PROTOCOL: u32 = 1;
/// Longest request line in bytes (100,000 FDB entries need about 12 MiB); a longer one ends the connection.
pub const MAX_LINE: usize = 64 << 20;

macro_rules! wire_types {
    ($($(#[$meta:meta])* pub $kind:ident $name:ident { $($body:tt)* })+) => {
        $(
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[cfg_attr(test, derive(TS))]
            #[serde(deny_unknown_fields)]
            $(#[$meta])*
            pub $kind $name { $($body)* }
        )+
    };
}

wire_types! {
    /// Parameters of a method that takes none.
    #[derive(Default)]
    pub struct Empty {}

    /// Answer of `hello`.
    pub struct Hello {
        /// Version of the program.
        pub version: String,
        /// Version of this protocol.
        pub protocol: u32,
        /// Process id of the dataplane.
        pub pid: u32,
        /// Seconds since it started.
        #[cfg_attr(test, ts(type = "number"))]
        pub uptime: u64,
        /// How many lanes move packets.
        pub lanes: u32,
        /// What the kernel lets it use, found by trying.
        pub capabilities: Capabilities,
        /// Names of the networks held.
        pub networks: Vec<String>,
    }

    /// What the kernel lets the dataplane use, found by trying at start.
    pub struct Capabilities {
        /// TAP hands over and takes TCP superframes.
        pub tap_tso: bool,
        /// TAP hands over and takes UDP superframes (Linux >= 6.2).
        pub tap_uso: bool,
        /// One `sendmsg` can carry a train.
        pub udp_segment: bool,
        /// One `recvmsg` can return a train.
        pub udp_gro: bool,
    }

    /// What a network is to be. Everything optional has the default that its comment names.
    pub struct NetworkSpec {
        /// Name of the TAP device, 1 to 15 bytes.
        pub name: String,
        /// VXLAN network identifier, below 2^24.
        pub vni: u32,
        /// Who made it: `hand`, `settings` (a file of them says so), `etcd` or `file`.
        pub owner: String,
        /// Network namespace of the TAP: a name below /run/netns, or a path. Default: the dataplane's own.
        #[serde(default)]
        pub netns: Option<String>,
        /// Underlay address to bind and to send from. Default: any, the kernel chooses the source.
        #[serde(default)]
        pub local: Option<IpAddr>,
        /// UDP port to listen on and to send to.
        pub port: u16,
        /// Underlay interface: source of the default MTU, and the only one used when set.
        #[serde(default)]
        pub dev: Option<String>,
        /// Default destination: becomes a permanent entry of the flood list, as with `ip link add type vxlan remote`.
        #[serde(default)]
        pub remote: Option<IpAddr>,
        /// MAC of the TAP. Default: the existing device's, else random and locally administered.
        #[serde(default)]
        pub mac: Option<Mac>,
        /// MTU of the TAP. Default: the underlay's less 50 (IPv4), 70 (IPv6), or 28 (`layer3`).
        #[serde(default)]
        pub mtu: Option<u32>,
        /// Answer ARP and neighbour solicitations from the neighbour table, swallow the rest.
        pub proxy: bool,
        /// Learn where source MACs live from received frames.
        pub learning: bool,
        /// Take frames from known VTEPs only.
        pub peersonly: bool,
        /// Seconds until a learned entry that nobody refreshed goes; 0 = never.
        pub ageing: u32,
        /// Most FDB entries; 0 = no limit but the built-in one.
        pub maxaddress: u32,
        /// Default destination where that is a multicast group, which is joined on `dev`; excludes `remote`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub group: Option<IpAddr>,
        /// TTL or hop limit of the outer header: 1 to 255, or the inner packet's. Default: the kernel's (64; 1 for multicast).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub ttl: Option<OuterField>,
        /// TOS or traffic class of the outer header, or the inner packet's; the lower two bits are always ECN's. Default: 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub tos: Option<OuterField>,
        /// Whether the underlay may fragment. Default: `unset`, it may.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub df: Option<OuterDf>,
        /// Flow label of the outer header, IPv6 only, below 2^20. Default: 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub flowlabel: Option<u32>,
        /// UDP source ports. Default: 49152 to 65535.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub srcport: Option<PortRange>,
        /// Send UDP checksums over IPv4. Default: true; without them trains are not possible, and a kernel peer's GRO is not either.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub udpcsum: Option<bool>,
        /// Send no UDP checksums over IPv6. Default: false.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub udp6zerocsumtx: Option<bool>,
        /// Take datagrams without UDP checksum over IPv6. Default: false.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub udp6zerocsumrx: Option<bool>,
        /// Bits of the VXLAN header that may be set in what is received, as a 64-bit number in text (`0xff00000000000000`): first
        /// byte uppermost. Default: none but the I flag. The complement of the mask that `ip link` takes, which names what drops.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub reserved_bits: Option<String>,
        /// Take group-based policy headers and strip them. The mark of a frame cannot be seen on a TAP, so none is sent. Default: false.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub gbp: Option<bool>,
        /// Tell of destination MACs without an entry, by `miss`. Default: true, but false for owner `hand`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub l2miss: Option<bool>,
        /// Tell of addresses that the proxy does not know, by `miss`. Default: as `l2miss`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub l3miss: Option<bool>,
        /// Send packets for a MAC whose FDB entry has `router` straight to the neighbour they are for. Default: false.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub rsc: Option<bool>,
        /// With `proxy`: what it cannot answer is flooded instead of swallowed. Default: false.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub proxy_flood: Option<bool>,
        /// Most learned entries of one VTEP; 0 = no limit. Default: 16384, but 0 for owner `hand`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub maxperpeer: Option<u32>,
        /// How often a learned entry may move in a minute before it is held where it is for a minute; 0 = no limit. Default: 60, but
        /// 0 for owner `hand`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub maxmoves: Option<u32>,
        /// A layer-3 network, as flannel's `udp` backend: a TUN instead of the TAP, and bare IPv4 packets as UDP payload, from and to `port`.
        /// Its neighbours are peers' subnets, and a peer's MAC is only the name by which subnets and FDB entry are joined. Takes
        /// none of VXLAN's options. Default: false.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub layer3: Option<bool>,
        /// With `layer3`: the tunnel's own address, from which ICMP errors come. Default: no errors are sent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub tunnel_address: Option<Ipv4Addr>,
    }

    /// A field of the outer header: a number, `inherit`, or `auto`, which is what an absent one is.
    #[derive(Copy, Eq)]
    #[serde(untagged)]
    pub enum OuterField {
        /// This one.
        Number(u8),
        /// One of the words.
        Word(OuterWord),
    }

    /// What a field of the outer header is where it is no number.
    #[derive(Copy, Eq)]
    #[serde(rename_all = "lowercase")]
    pub enum OuterWord {
        /// The default.
        Auto,
        /// The inner packet's.
        Inherit,
    }

    /// Whether the underlay may fragment.
    #[derive(Copy, Eq)]
    #[serde(rename_all = "lowercase")]
    pub enum OuterDf {
        /// It may.
        Unset,
        /// It may not.
        Set,
        /// It may not where the inner packet may not be fragmented.
        Inherit,
    }

    /// UDP ports.
    #[derive(Copy, Eq)]
    pub struct PortRange {
        /// The first.
        pub min: u16,
        /// One past the last, as with `ip link add type vxlan srcport`.
        pub max: u16,
    }

    /// What a network is.
    pub struct NetworkState {
        /// As it was asked for.
        pub spec: NetworkSpec,
        /// Interface index of the TAP, in its namespace.
        pub ifindex: u32,
        /// MAC of the TAP; a TUN has none, and it is zero.
        pub mac: Mac,
        /// MTU of the TAP.
        pub mtu: u32,
        /// True while the TAP is administratively up.
        pub up: bool,
        /// TAP queues in use: 16 a lane, one where the kernel cannot steer flows.
        pub queues: u32,
        /// Revision of the tables by source; absent before the first `tables.replace`.
        #[cfg_attr(test, ts(type = "{ [source: string]: number }"))]
        pub revisions: BTreeMap<String, u64>,
    }

    /// A network by name.
    pub struct NetworkName {
        /// Name of the TAP device.
        pub network: String,
    }

    /// `network.update`: what may change while packets flow. Absent fields stay as they are.
    pub struct NetworkUpdate {
        /// Name of the TAP device.
        pub network: String,
        /// New MAC of the TAP.
        #[serde(default)]
        pub mac: Option<Mac>,
        /// New MTU of the TAP.
        #[serde(default)]
        pub mtu: Option<u32>,
        /// Switch learning.
        #[serde(default)]
        pub learning: Option<bool>,
        /// Switch the ARP and ND proxy.
        #[serde(default)]
        pub proxy: Option<bool>,
        /// Switch the peer filter.
        #[serde(default)]
        pub peersonly: Option<bool>,
        /// Administrative state of the TAP.
        #[serde(default)]
        pub up: Option<bool>,
        /// New ageing time in seconds; 0 = never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub ageing: Option<u32>,
        /// New limit of the FDB; entries held beyond it stay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub maxaddress: Option<u32>,
        /// New limit of learned entries of one VTEP; entries held beyond it stay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub maxperpeer: Option<u32>,
        /// New limit of moves in a minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub maxmoves: Option<u32>,
        /// New default destination, in place of the old one or of the group in the flood list; 0.0.0.0 or :: for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub remote: Option<IpAddr>,
        /// New multicast group, in place of the old one or of `remote`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub group: Option<IpAddr>,
        /// New underlay address to bind and to send from, of the same family; 0.0.0.0 or :: for any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub local: Option<IpAddr>,
        /// New underlay interface. The TAP's MTU stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub dev: Option<String>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub ttl: Option<OuterField>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub tos: Option<OuterField>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub df: Option<OuterDf>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub flowlabel: Option<u32>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub srcport: Option<PortRange>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub udpcsum: Option<bool>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub udp6zerocsumtx: Option<bool>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub reserved_bits: Option<String>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub gbp: Option<bool>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub l2miss: Option<bool>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub l3miss: Option<bool>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub rsc: Option<bool>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub proxy_flood: Option<bool>,
        /// As in the specification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub tunnel_address: Option<Ipv4Addr>,
    }

    /// One place to which frames for a MAC go.
    #[derive(Eq, Hash)]
    pub struct Destination {
        /// The VTEP.
        pub ip: IpAddr,
        /// UDP port there. Default: the network's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub port: Option<u16>,
        /// VNI there. Default: the network's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub vni: Option<u32>,
        /// Underlay interface to send by. Default: the network's `dev`, else the route's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub via: Option<String>,
    }

    /// How an FDB entry ends.
    #[derive(Copy, Eq)]
    #[serde(rename_all = "lowercase")]
    pub enum EntryState {
        /// Stays until removed.
        Permanent,
        /// Stays until removed; shown as `static`.
        Static,
        /// Learned, or added as `dynamic`: ages.
        Dynamic,
    }

    /// One entry of the FDB as a controller gives it: a MAC, or 00:00:00:00:00:00 for the flood list.
    pub struct FdbEntry {
        /// Destination MAC.
        pub mac: Mac,
        /// Where frames go: one VTEP for a unicast MAC, one or more for the flood list and multicast MACs.
        pub destinations: Vec<Destination>,
        /// How the entry ends.
        pub state: EntryState,
        /// The MAC is a router's: the ND proxy says so, and `rsc` looks through it. Default: false.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub router: Option<bool>,
    }

    /// One entry of the neighbour table: an address or a whole subnet, and the MAC that answers for it.
    pub struct Neighbour {
        /// `10.246.13.5/32` or `10.246.13.0/24`.
        #[cfg_attr(test, ts(type = "string"))]
        pub prefix: IpNet,
        /// The MAC that the proxy answers with.
        pub lladdr: Mac,
    }

    /// `tables.replace`: makes what `source` has said of a network equal to this, whole. Entries of other sources stay;
    /// where two sources name the same key, `hand` wins over a datastore and a datastore over `learned`.
    pub struct TablesReplace {
        /// Name of the TAP device.
        pub network: String,
        /// `etcd` or `file` (`hand` and `learned` entries are changed by `fdb.change` and `neigh.change`).
        pub source: String,
        /// The datastore's revision that this is; any number that grows.
        #[cfg_attr(test, ts(type = "number"))]
        pub revision: u64,
        /// All FDB entries of this source.
        pub fdb: Vec<FdbEntry>,
        /// All neighbours of this source.
        pub neighbours: Vec<Neighbour>,
        /// VTEPs that may send although no FDB entry names them.
        pub peers: Vec<IpAddr>,
    }

    /// `tables.patch`: changes what `source` has said. Refused with `REVISION_MISMATCH` unless `base` is the revision held.
    pub struct TablesPatch {
        /// Name of the TAP device.
        pub network: String,
        /// As in `tables.replace`.
        pub source: String,
        /// Revision that this change is computed against.
        #[cfg_attr(test, ts(type = "number"))]
        pub base: u64,
        /// Revision after the change.
        #[cfg_attr(test, ts(type = "number"))]
        pub revision: u64,
        /// MACs whose entry goes. Removal comes before addition.
        pub fdb_remove: Vec<Mac>,
        /// Entries added, or put in place of this source's entry for the same MAC.
        pub fdb_set: Vec<FdbEntry>,
        /// Prefixes whose neighbour goes.
        #[cfg_attr(test, ts(type = "Array<string>"))]
        pub neighbours_remove: Vec<IpNet>,
        /// Neighbours added or replaced.
        pub neighbours_set: Vec<Neighbour>,
        /// Peers that may no longer send.
        pub peers_remove: Vec<IpAddr>,
        /// Peers that may send.
        pub peers_add: Vec<IpAddr>,
    }

    /// What a table change did.
    pub struct TablesChanged {
        /// Revision now held for the source.
        #[cfg_attr(test, ts(type = "number"))]
        pub revision: u64,
        /// Entries of all tables that are new.
        pub added: u32,
        /// Entries that differ from before.
        pub changed: u32,
        /// Entries that are gone.
        pub removed: u32,
    }

    /// An FDB entry as held.
    pub struct FdbDump {
        /// Destination MAC.
        pub mac: Mac,
        /// Where frames go.
        pub destinations: Vec<Destination>,
        /// How the entry ends.
        pub state: EntryState,
        /// `hand`, `etcd`, `file` or `learned`.
        pub source: String,
        /// True where the MAC is a router's; absent elsewhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub router: Option<bool>,
        /// Seconds since a received frame refreshed it; dynamic entries only.
        pub used: Option<u32>,
        /// False where an entry of a stronger source for the same MAC is in use instead.
        pub active: bool,
    }

    /// A neighbour as held.
    pub struct NeighbourDump {
        /// Address or subnet.
        #[cfg_attr(test, ts(type = "string"))]
        pub prefix: IpNet,
        /// MAC that the proxy answers with.
        pub lladdr: Mac,
        /// `hand`, `etcd`, `file`, or `kernel`: what `ip neigh` shows on the TAP in a connected state, asked where no other has an answer.
        pub source: String,
        /// False where an entry of a stronger source for the same prefix is in use instead.
        pub active: bool,
    }

    /// Answer of `tables.dump`.
    pub struct TablesDump {
        /// Revision by source.
        #[cfg_attr(test, ts(type = "{ [source: string]: number }"))]
        pub revisions: BTreeMap<String, u64>,
        /// The FDB, sorted by MAC.
        pub fdb: Vec<FdbDump>,
        /// The neighbour table, sorted by prefix.
        pub neighbours: Vec<NeighbourDump>,
        /// Extra peers by source (those of FDB entries are peers without being listed here).
        #[cfg_attr(test, ts(type = "{ [source: string]: Array<string> }"))]
        pub peers: BTreeMap<String, Vec<IpAddr>>,
    }

    /// What to do with one entry, in the words of `bridge fdb` and `ip neigh`.
    #[derive(Copy, Eq)]
    #[serde(rename_all = "lowercase")]
    pub enum EntryVerb {
        /// New; `EEXIST` if there is one.
        Add,
        /// One more destination of a flood list or multicast MAC.
        Append,
        /// In place of what is there, or new.
        Replace,
        /// Gone; `ENOENT` if there is none.
        Del,
    }

    /// `fdb.change`: one entry by hand.
    pub struct FdbChange {
        /// Name of the TAP device.
        pub network: String,
        /// What to do.
        pub verb: EntryVerb,
        /// Destination MAC; 00:00:00:00:00:00 is the flood list.
        pub mac: Mac,
        /// The VTEP. May be absent for `del`: then the whole entry goes.
        #[serde(default)]
        pub destination: Option<Destination>,
        /// How the entry ends; not for `del`.
        #[serde(default)]
        pub state: Option<EntryState>,
        /// The MAC is a router's; not for `del`. Default: false, or for `append` as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub router: Option<bool>,
    }

    /// `fdb.flush`: removes entries by hand and learned ones, those that match all that is said; what a datastore said stays. Of an
    /// entry with several destinations, those go that match.
    pub struct FdbFlush {
        /// Name of the TAP device.
        pub network: String,
        /// Entries of this state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub state: Option<EntryState>,
        /// Destinations at this VTEP.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub dst: Option<IpAddr>,
        /// Destinations with this UDP port, the network's own included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub port: Option<u16>,
        /// Destinations with this VNI, the network's own included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub vni: Option<u32>,
        /// Destinations by this interface.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub via: Option<String>,
        /// Routers' MACs, or all others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub router: Option<bool>,
    }

    /// What `fdb.flush` did.
    pub struct FdbFlushed {
        /// Entries that are gone.
        pub removed: u32,
        /// Entries that lost some of their destinations.
        pub reduced: u32,
        /// Entries of datastores that match and stay.
        pub kept: u32,
    }

    /// `neigh.change`: one neighbour by hand.
    pub struct NeighChange {
        /// Name of the TAP device.
        pub network: String,
        /// What to do (`append` is refused).
        pub verb: EntryVerb,
        /// Address or subnet.
        #[cfg_attr(test, ts(type = "string"))]
        pub prefix: IpNet,
        /// The MAC; not for `del`.
        #[serde(default)]
        pub lladdr: Option<Mac>,
    }

    /// `host.read`: facts of the kernel in one network namespace.
    pub struct HostRead {
        /// A name below /run/netns, or a path. Default: the dataplane's own.
        #[serde(default)]
        pub netns: Option<String>,
    }

    /// Answer of `host.read`.
    pub struct HostFacts {
        /// Every link.
        pub links: Vec<LinkFacts>,
        /// Every route of the main table that is unicast and scope link or universe.
        pub routes: Vec<RouteFacts>,
        /// Every route of the main table that throws packets away.
        pub blackholes: Vec<BlackholeFacts>,
    }

    /// One link.
    pub struct LinkFacts {
        /// Interface index.
        pub index: u32,
        /// Name.
        pub name: String,
        /// `tun`, `vxlan`, `veth`, ...; absent for hardware.
        pub kind: Option<String>,
        /// MAC; absent where the link type has none.
        pub mac: Option<Mac>,
        /// MTU in bytes.
        pub mtu: u32,
        /// Administratively up.
        pub up: bool,
        /// Somebody listens at the other end.
        pub carrier: bool,
        /// Addresses with their prefix lengths.
        pub addresses: Vec<AddressFacts>,
    }

    /// One address of a link.
    pub struct AddressFacts {
        /// Address and prefix length, host bits kept.
        #[cfg_attr(test, ts(type = "string"))]
        pub address: IpNet,
        /// `global`, `link`, `host` or a number.
        pub scope: String,
        /// Not from DHCP or router advertisement with a lifetime.
        pub permanent: bool,
        /// IPv6: no longer to be used for new connections.
        pub deprecated: bool,
        /// IPv6 privacy address.
        pub temporary: bool,
    }

    /// One route of the main table.
    pub struct RouteFacts {
        /// Destination; `0.0.0.0/0` or `::/0` is the default route.
        #[cfg_attr(test, ts(type = "string"))]
        pub destination: IpNet,
        /// Gateway.
        pub via: Option<IpAddr>,
        /// Name of the outgoing link.
        pub dev: Option<String>,
        /// Gateway is taken as reachable on the link.
        pub onlink: bool,
        /// Preferred source address.
        pub source: Option<IpAddr>,
        /// Priority; lower wins.
        pub metric: u32,
        /// Who made it (`RTPROT_*` of linux/rtnetlink.h).
        pub protocol: u8,
    }

    /// One route of the main table that throws packets away.
    pub struct BlackholeFacts {
        /// Destination.
        #[cfg_attr(test, ts(type = "string"))]
        pub destination: IpNet,
        /// Priority; lower wins.
        pub metric: u32,
        /// Who made it (`RTPROT_*` of linux/rtnetlink.h).
        pub protocol: u8,
    }

    /// `host.route_get`: what the kernel would do with a packet, as `ip route get`.
    pub struct RouteGet {
        /// Destination.
        pub to: IpAddr,
        /// Namespace, as in `host.read`.
        #[serde(default)]
        pub netns: Option<String>,
    }

    /// `host.change`: a list of changes, tried in order; each has its own answer.
    pub struct HostChange {
        /// Namespace, as in `host.read`.
        #[serde(default)]
        pub netns: Option<String>,
        /// What to change.
        pub operations: Vec<HostOperation>,
    }

    /// One change on the host. Deleting what is absent and adding what is there succeed.
    #[serde(tag = "op")]
    pub enum HostOperation {
        /// Puts an address on a link.
        #[serde(rename = "address.add")]
        AddressAdd {
            /// Link name.
            dev: String,
            /// Address and prefix length.
            #[cfg_attr(test, ts(type = "string"))]
            address: IpNet,
        },
        /// Takes an address off a link.
        #[serde(rename = "address.del")]
        AddressDel {
            /// Link name.
            dev: String,
            /// Address and prefix length.
            #[cfg_attr(test, ts(type = "string"))]
            address: IpNet,
        },
        /// Puts a route in the main table, marked with this program's protocol number, in place of one with the same
        /// destination and metric.
        #[serde(rename = "route.replace")]
        RouteReplace {
            /// Link name.
            dev: String,
            /// Destination.
            #[cfg_attr(test, ts(type = "string"))]
            destination: IpNet,
            /// Gateway.
            #[serde(default)]
            via: Option<IpAddr>,
            /// Take the gateway as reachable on the link.
            #[serde(default)]
            onlink: bool,
            /// Priority; default the kernel's.
            #[serde(default)]
            metric: Option<u32>,
        },
        /// Takes a route out of the main table.
        #[serde(rename = "route.del")]
        RouteDel {
            /// Link name.
            dev: String,
            /// Destination.
            #[cfg_attr(test, ts(type = "string"))]
            destination: IpNet,
            /// Gateway; absent = any.
            #[serde(default)]
            via: Option<IpAddr>,
            /// Priority; absent = any.
            #[serde(default)]
            metric: Option<u32>,
        },
        /// Puts a route in the main table that throws packets away, marked as the others.
        #[serde(rename = "blackhole.add")]
        BlackholeAdd {
            /// Destination.
            #[cfg_attr(test, ts(type = "string"))]
            destination: IpNet,
            /// Priority.
            metric: u32,
        },
        /// Takes such a route out of the main table.
        #[serde(rename = "blackhole.del")]
        BlackholeDel {
            /// Destination.
            #[cfg_attr(test, ts(type = "string"))]
            destination: IpNet,
            /// Priority.
            metric: u32,
        },
        /// Deletes a link.
        #[serde(rename = "link.del")]
        LinkDel {
            /// Link name.
            dev: String,
        },
        /// Administrative state of a link.
        #[serde(rename = "link.set")]
        LinkSet {
            /// Link name.
            dev: String,
            /// Up or down.
            up: bool,
        },
    }

    /// Answer of `host.change`: one outcome for each operation, in order.
    pub struct HostChanged {
        /// Absent where the operation succeeded.
        pub errors: Vec<Option<RpcErrorData>>,
    }

    /// A failure with a stable name.
    pub struct RpcErrorData {
        /// An errno name (`EEXIST`, `ENOENT`, ...) or one of this protocol's: `REVISION_MISMATCH`, `NOT_SERVED`.
        pub name: String,
        /// What happened, to what, and what to do.
        pub message: String,
    }

    /// Packets and bytes.
    #[derive(Copy, Eq, Default)]
    pub struct Traffic {
        /// Frames; a superframe counts as its segments.
        #[cfg_attr(test, ts(type = "number"))]
        pub packets: u64,
        /// Bytes without the inner Ethernet header, as the kernel's vxlan device counts.
        #[cfg_attr(test, ts(type = "number"))]
        pub bytes: u64,
    }

    /// Counters of one network, absolute since it was made.
    pub struct NetworkStats {
        /// Name of the TAP device.
        pub network: String,
        /// VNI.
        pub vni: u32,
        /// Delivered to the TAP.
        pub rx: Traffic,
        /// Handed to the underlay; a copy for each destination counts.
        pub tx: Traffic,
        /// ARP requests answered by the proxy.
        #[cfg_attr(test, ts(type = "number"))]
        pub arp_replies: u64,
        /// Neighbour solicitations answered by the proxy.
        #[cfg_attr(test, ts(type = "number"))]
        pub nd_replies: u64,
        /// Received frames whose inner checksum was completed here (offload of a neighbouring kernel).
        #[cfg_attr(test, ts(type = "number"))]
        pub partial_checksums: u64,
        /// Received superframes that nobody had segmented.
        #[cfg_attr(test, ts(type = "number"))]
        pub whole_superframes: u64,
        /// Senders told by ICMP that their packet does not fit a peer's path; absent while there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional, type = "number"))]
        pub too_big_replies: Option<u64>,
        /// Senders told by ICMP that a layer-3 network does not carry their packet; absent while there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional, type = "number"))]
        pub refusals: Option<u64>,
        /// Times that a source MAC was not learned because of `maxaddress`, `maxperpeer` or the built-in limit; absent while there was
        /// none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional, type = "number"))]
        pub learning_refused: Option<u64>,
        /// Frames that the kernel threw away because the TAP's queue was full: the lanes were too slow.
        #[cfg_attr(test, ts(type = "number"))]
        pub tap_queue_overflows: u64,
        /// Frames that died, by reason; reasons that never happened are absent.
        #[cfg_attr(test, ts(type = "{ [reason in DropReason]?: number }"))]
        pub drops: BTreeMap<String, u64>,
        /// Entries held.
        pub fdb_entries: u32,
        /// Neighbours held.
        pub neighbour_entries: u32,
    }

    /// Counters of one lane, absolute since it started.
    pub struct LaneStats {
        /// Number of the lane.
        pub lane: u32,
        /// Delivered to TAPs.
        pub rx: Traffic,
        /// Handed to the underlay.
        pub tx: Traffic,
        /// Reads of a TAP that returned a frame or superframe.
        #[cfg_attr(test, ts(type = "number"))]
        pub tap_reads: u64,
        /// Writes to a TAP.
        #[cfg_attr(test, ts(type = "number"))]
        pub tap_writes: u64,
        /// `recvmmsg` calls that returned datagrams.
        #[cfg_attr(test, ts(type = "number"))]
        pub udp_receives: u64,
        /// `sendmmsg` calls.
        #[cfg_attr(test, ts(type = "number"))]
        pub udp_sends: u64,
        /// Datagrams or trains received.
        #[cfg_attr(test, ts(type = "number"))]
        pub udp_messages_received: u64,
        /// Datagrams or trains sent.
        #[cfg_attr(test, ts(type = "number"))]
        pub udp_messages_sent: u64,
        /// Turns: times the lane looked what there is to do and did it.
        #[cfg_attr(test, ts(type = "number"))]
        pub turns: u64,
        /// Microseconds spent working.
        #[cfg_attr(test, ts(type = "number"))]
        pub busy_us: u64,
        /// Longest turn in microseconds.
        #[cfg_attr(test, ts(type = "number"))]
        pub longest_turn_us: u64,
    }

    /// One VTEP as seen on the wire.
    pub struct PeerStats {
        /// Name of the TAP device.
        pub network: String,
        /// The VTEP.
        pub ip: IpAddr,
        /// Received from it and delivered.
        pub rx: Traffic,
        /// Sent to it.
        pub tx: Traffic,
        /// Seconds since the last valid frame; absent if there was none.
        pub last_heard: Option<u32>,
        /// Largest IP packet that the path to it carries, where ICMP said that it is less than the interface's MTU; forgotten
        /// after ten minutes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub path_mtu: Option<u32>,
    }

    /// Answer of `stats`.
    pub struct Stats {
        /// Seconds since the dataplane started.
        #[cfg_attr(test, ts(type = "number"))]
        pub uptime: u64,
        /// By network.
        pub networks: Vec<NetworkStats>,
        /// By lane.
        pub lanes: Vec<LaneStats>,
        /// By network and VTEP.
        pub peers: Vec<PeerStats>,
        /// Frames that died before a network was known, by reason.
        #[cfg_attr(test, ts(type = "{ [reason in DropReason]?: number }"))]
        pub drops: BTreeMap<String, u64>,
        /// Datagrams that the kernel threw away because a receive buffer was full.
        #[cfg_attr(test, ts(type = "number"))]
        pub socket_overflows: u64,
        /// Datagrams that the kernel threw away because their UDP checksum was wrong; absent while there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional, type = "number"))]
        pub bad_checksums: Option<u64>,
        /// Notifications that were left out by the rate limit.
        #[cfg_attr(test, ts(type = "number"))]
        pub events_suppressed: u64,
    }

    /// Notification `miss`: no table had an answer.
    pub struct MissEvent {
        /// Name of the TAP device.
        pub network: String,
        /// `l2` (a MAC) or `l3` (an address).
        pub layer: String,
        /// The MAC or address that was looked for.
        pub key: String,
        /// How often since the last notification about this key.
        #[cfg_attr(test, ts(type = "number"))]
        pub count: u64,
    }

    /// Notifications `learned`, `moved`, `aged` and `held`: a dynamic FDB entry.
    pub struct FdbEvent {
        /// Name of the TAP device.
        pub network: String,
        /// The MAC.
        pub mac: Mac,
        /// Where it is, or was.
        pub ip: IpAddr,
        /// `moved`: where it was before. `held`: from where it was seen, too often.
        pub from: Option<IpAddr>,
    }

    /// Notification `fdb`: one entry was made, changed or removed, by hand or by a datastore; for what is learned see `learned`.
    pub struct FdbNotification {
        /// Name of the TAP device.
        pub network: String,
        /// `new`, `changed` or `deleted`.
        pub what: String,
        /// The MAC.
        pub mac: Mac,
        /// Where frames go, or went.
        pub destinations: Vec<Destination>,
        /// How the entry ends.
        pub state: EntryState,
        /// `hand`, `etcd`, `file` or `learned`.
        pub source: String,
        /// True where the MAC is a router's; absent elsewhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub router: Option<bool>,
    }

    /// Notification `neigh`: one neighbour was made, changed or removed.
    pub struct NeighbourNotification {
        /// Name of the TAP device.
        pub network: String,
        /// `new`, `changed` or `deleted`.
        pub what: String,
        /// Address or subnet.
        #[cfg_attr(test, ts(type = "string"))]
        pub prefix: IpNet,
        /// The MAC that the proxy answers with, or answered with.
        pub lladdr: Mac,
        /// `hand`, `etcd`, `file` or `kernel`.
        pub source: String,
    }

    /// Notification `changed`: entries by hand of a network changed, or a network came or went.
    pub struct ChangedEvent {
        /// Name of the TAP device.
        pub network: String,
        /// `created`, `updated`, `deleted`, `fdb` or `neigh`.
        pub what: String,
    }

    /// Notification `link`: a fact of a TAP, or of the underlay interface below it, changed without our doing.
    pub struct LinkEvent {
        /// Name of the TAP device.
        pub network: String,
        /// `up`, `down`, `mac`, `mtu`, `deleted`, `renamed`; `bridge-fdb`: somebody added that MAC with `bridge fdb`, which has no effect
        /// here; `dev-deleted`, `dev-back`: the underlay interface of that name.
        pub what: String,
        /// The new value, where there is one.
        pub value: String,
    }

    /// Notification `offload-disabled`: an offload was given up after the kernel refused it.
    pub struct OffloadEvent {
        /// `tap_tso`, `tap_uso`, `udp_segment` or `udp_gro`.
        pub offload: String,
        /// The error that showed it.
        pub reason: String,
    }

    /// One offload: whether it can be used, may be used, and is used.
    pub struct OffloadState {
        /// `tap_tso`, `tap_uso`, `udp_segment` or `udp_gro`.
        pub offload: String,
        /// The kernel took it when it was tried.
        pub supported: bool,
        /// Its switch is on.
        pub enabled: bool,
        /// It is in use.
        pub active: bool,
        /// Why it is not in use; empty where it is.
        pub reason: String,
    }

    /// `offloads.set`: one switch. Takes effect at once; on again forgets an earlier failure.
    pub struct OffloadSet {
        /// `tap_tso`, `tap_uso`, `udp_segment` or `udp_gro`.
        pub offload: String,
        /// On or off.
        pub enabled: bool,
    }

    /// `lanes.set`: how many lanes move packets, 1 to 16. Takes effect at once; frames that wait in the TAP queue of a lane that
    /// ends are lost.
    pub struct LanesSet {
        /// The number.
        pub lanes: u32,
    }

    /// `shutdown`: ends the dataplane.
    pub struct Shutdown {
        /// Also delete the TAPs (otherwise they stay, without carrier, with addresses and routes).
        pub delete_taps: bool,
    }
}

/// Calls `$callback!` with the table of methods: name, parameters, result. The server's dispatch and the generated TypeScript
/// come from it.
#[macro_export]
macro_rules! protocol_methods {
    ($callback:ident) => {
        $callback! {
            "hello" => hello(Empty) -> Hello;
            "network.create" => network_create(NetworkSpec) -> NetworkState;
            "network.update" => network_update(NetworkUpdate) -> NetworkState;
            "network.delete" => network_delete(NetworkName) -> Empty;
            "network.list" => network_list(Empty) -> Vec<NetworkState>;
            "tables.replace" => tables_replace(TablesReplace) -> TablesChanged;
            "tables.patch" => tables_patch(TablesPatch) -> TablesChanged;
            "tables.dump" => tables_dump(NetworkName) -> TablesDump;
            "fdb.change" => fdb_change(FdbChange) -> Empty;
            "fdb.flush" => fdb_flush(FdbFlush) -> FdbFlushed;
            "neigh.change" => neigh_change(NeighChange) -> Empty;
            "host.read" => host_read(HostRead) -> HostFacts;
            "host.route_get" => host_route_get(RouteGet) -> RouteFacts;
            "host.change" => host_change(HostChange) -> HostChanged;
            "stats" => stats(Empty) -> Stats;
            "offloads.show" => offloads_show(Empty) -> Vec<OffloadState>;
            "offloads.set" => offloads_set(OffloadSet) -> Vec<OffloadState>;
            "lanes.set" => lanes_set(LanesSet) -> Hello;
            "events.subscribe" => events_subscribe(Empty) -> Empty;
            "shutdown" => shutdown(Shutdown) -> Empty;
        }
    };
}

/// The names of the notifications and what they carry; the generated TypeScript comes from it.
#[macro_export]
macro_rules! protocol_notifications {
    ($callback:ident) => {
        $callback! {
            "learned" => FdbEvent;
            "moved" => FdbEvent;
            "aged" => FdbEvent;
            "held" => FdbEvent;
            "miss" => MissEvent;
            "fdb" => FdbNotification;
            "neigh" => NeighbourNotification;
            "changed" => ChangedEvent;
            "link" => LinkEvent;
            "offload-disabled" => OffloadEvent;
        }
    };
}

/// `RTPROT_*` number that marks this program's routes ("V"; unused in linux/rtnetlink.h and iproute2's rt_protos).
pub const ROUTE_PROTOCOL: u8 = 86;

/// The reason under which a count travels.
pub fn drop_key(reason: DropReason) -> String {
    reason.name().to_owned()
}
