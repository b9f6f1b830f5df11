//! A network's tables as a datastore gives them, whole or as a change, and as they are held.

use crate::wire::Mac;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

wire_types! {
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
}
