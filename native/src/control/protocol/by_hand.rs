//! One entry at a time, in the words of `bridge fdb` and `ip neigh`.

use super::tables::{Destination, EntryState};
use crate::wire::Mac;
use ipnet::IpNet;
use std::net::IpAddr;

wire_types! {
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
}
