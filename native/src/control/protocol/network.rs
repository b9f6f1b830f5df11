//! What a network is: how it is asked for, changed and shown.

use crate::wire::Mac;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Makes a specification and its update, which have most options in common: one that is `changeable` is optional in the specification, and
/// the update has it as well. Whatever else an update has is written there, for it says something else than in the specification.
macro_rules! specification {
    (
        $(#[$spec_meta:meta])*
        $spec:ident {
            $($(#[$meta:meta])* $(changeable $option:ident: $option_type:ident)? $(pub $field:ident: $field_type:ty)?,)+
        }
        $(#[$update_meta:meta])*
        $update:ident { $($update_fields:tt)* }
    ) => {
        wire_types! {
            $(#[$spec_meta])*
            pub struct $spec {
                $(
                    $(#[$meta])*
                    $(
                        #[serde(default, skip_serializing_if = "Option::is_none")]
                        #[cfg_attr(test, ts(optional))]
                        pub $option: Option<$option_type>,
                    )?
                    $(pub $field: $field_type,)?
                )+
            }

            $(#[$update_meta])*
            pub struct $update {
                $($update_fields)*
                $($(
                    /// As in the specification.
                    #[serde(default, skip_serializing_if = "Option::is_none")]
                    #[cfg_attr(test, ts(optional))]
                    pub $option: Option<$option_type>,
                )?)+
            }
        }

        impl $spec {
            /// Takes over what an update says of the changeable options.
            pub fn take_options(&mut self, update: &$update) {
                $($(
                    if update.$option.is_some() {
                        self.$option.clone_from(&update.$option);
                    }
                )?)+
            }
        }
    };
}

specification! {
    /// What a network is to be. Everything optional has the default that its comment names.
    NetworkSpec {
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
        changeable ttl: OuterField,
        /// TOS or traffic class of the outer header, or the inner packet's; the lower two bits are always ECN's. Default: 0.
        changeable tos: OuterField,
        /// Whether the underlay may fragment. Default: `unset`, it may.
        changeable df: OuterDf,
        /// Flow label of the outer header, IPv6 only, below 2^20. Default: 0.
        changeable flowlabel: u32,
        /// UDP source ports. Default: 49152 to 65535.
        changeable srcport: PortRange,
        /// Send UDP checksums over IPv4. Default: true; without them trains are not possible, and a kernel peer's GRO is not either.
        changeable udpcsum: bool,
        /// Send no UDP checksums over IPv6. Default: false.
        changeable udp6zerocsumtx: bool,
        /// Take datagrams without UDP checksum over IPv6. Default: false.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub udp6zerocsumrx: Option<bool>,
        /// Bits of the VXLAN header that may be set in what is received, as a 64-bit number in text (`0xff00000000000000`): first
        /// byte uppermost. Default: none but the I flag. The complement of the mask that `ip link` takes, which names what drops.
        changeable reserved_bits: String,
        /// Take group-based policy headers and strip them. The mark of a frame cannot be seen on a TAP, so none is sent. Default: false.
        changeable gbp: bool,
        /// Tell of destination MACs without an entry, by `miss`. Default: true, but false for owner `hand`.
        changeable l2miss: bool,
        /// Tell of addresses that the proxy does not know, by `miss`. Default: as `l2miss`.
        changeable l3miss: bool,
        /// Send packets for a MAC whose FDB entry has `router` straight to the neighbour they are for. Default: false.
        changeable rsc: bool,
        /// With `proxy`: what it cannot answer is flooded instead of swallowed. Default: false.
        changeable proxy_flood: bool,
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
        changeable tunnel_address: Ipv4Addr,
    }

    /// `network.update`: what may change while packets flow. Absent fields stay as they are.
    NetworkUpdate {
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
    }
}

wire_types! {
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
}
