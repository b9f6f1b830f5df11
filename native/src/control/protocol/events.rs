//! What notifications carry.

use super::tables::{Destination, EntryState};
use crate::wire::Mac;
use ipnet::IpNet;
use std::net::IpAddr;

wire_types! {
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
}
