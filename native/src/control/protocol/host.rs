//! The kernel of the host: links, addresses and routes, read and changed.

use super::RpcErrorData;
use crate::wire::Mac;
use ipnet::IpNet;
use std::net::IpAddr;

wire_types! {
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
}

/// `RTPROT_*` number that marks this program's routes ("V"; unused in linux/rtnetlink.h and iproute2's rt_protos).
pub const ROUTE_PROTOCOL: u8 = 86;
