//! Why a frame died: the one list from which the counters, the TypeScript union, the metrics' labels and
//! `docs/drop-reasons.md` are made (`cargo test generated` checks all of them against this file).
//!
//! A reason that starts with `tx_` ends a frame that came from the TAP; `rx_` one that came from the underlay;
//! `tap_` one that was decapsulated but that the TAP would not take.

use serde::Serialize;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $hint:literal;)+) => {
        /// The name of why a frame died.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[cfg_attr(test, derive(ts_rs::TS))]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order in which they are counted.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant),+];

            /// The stable name that operators see.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name),+ }
            }

            /// One sentence: what happened to the frame.
            pub const fn text(self) -> &'static str {
                match self { $(DropReason::$variant => concat!($($doc),+)),+ }
            }

            /// What an operator does about it.
            pub const fn hint(self) -> &'static str {
                match self { $(DropReason::$variant => $hint),+ }
            }
        }
    };
}

drop_reasons! {
    /// A frame shorter than an Ethernet header (on a layer-3 network: than an IPv4 header) came from the TAP.
    TxRunt = "tx_runt", "the sender on this host writes broken frames; capture on the TAP";
    /// The virtio header of a frame from the TAP contradicts the frame.
    TxBadVirtioHeader = "tx_bad_virtio_header", "a guest or program below the TAP hands on unchecked offload metadata";
    /// A superframe from the TAP could not be cut into segments.
    TxBadSuperframe = "tx_bad_superframe", "switch the sender's offloads off (ethtool -K DEV tso off gso off) and report the frame";
    /// Neither the FDB nor a flood list names a VTEP for the destination MAC.
    TxNoDestination = "tx_no_destination", "a missing lease or entry: look at vtepd fdb show and vtepd peers";
    /// The frame is a VXLAN packet of this very endpoint: the route to a VTEP leads into the overlay.
    TxRecursion = "tx_recursion", "the route to the VTEP points to the TAP; fix it: ip route get VTEP";
    /// The FDB's destination is the unspecified address.
    TxDestinationUnspecified = "tx_destination_unspecified", "replace the entry: vtepd fdb replace MAC dst VTEP dev NAME";
    /// The kernel has no route to the VTEP.
    TxUnroutable = "tx_unroutable", "add a route to the VTEP: ip route get VTEP";
    /// The encapsulated packet does not fit the path and may not be fragmented.
    TxTooBig = "tx_too_big", "lower the MTU of the overlay device, or raise the underlay's";
    /// The socket or the interface below it had no room.
    TxQueueFull = "tx_queue_full", "the underlay is saturated: look at the interface's queue";
    /// The kernel refused to send for another reason (a firewall rule, for example).
    TxSocketError = "tx_socket_error", "look at the log for the error's name; often an output firewall rule";
    /// An ARP packet from the TAP was malformed.
    TxArpMalformed = "tx_arp_malformed", "the sender writes broken ARP; capture on the TAP";
    /// The ARP proxy swallowed a request for an address that it does not know.
    TxArpUnanswered = "tx_arp_unanswered", "no lease covers the address: vtepd neigh show";
    /// The ARP proxy swallowed a reply or a gratuitous announcement, as the kernel device does.
    TxArpSwallowed = "tx_arp_swallowed", "expected with proxy on: announcements do not cross the tunnel";
    /// A neighbour solicitation from the TAP was malformed.
    TxNdMalformed = "tx_nd_malformed", "the sender writes broken neighbour discovery; capture on the TAP";
    /// The ND proxy swallowed a solicitation for an address that it does not know.
    TxNdUnanswered = "tx_nd_unanswered", "no lease covers the address: vtepd neigh show";
    /// A packet from the TUN of a layer-3 network was not IPv4, or its header contradicts itself.
    TxNotIpv4 = "tx_not_ipv4", "such a network carries IPv4 only: switch IPv6 off on the TUN, or use the vxlan backend";
    /// No peer's subnet holds the destination of a packet on a layer-3 network.
    TxNoSubnet = "tx_no_subnet", "no lease covers the address: vtepd peers";
    /// The TTL of a packet for a layer-3 network is used up; a layer-3 network takes one at each end.
    TxTtlExpired = "tx_ttl_expired", "expected from traceroute; else a routing loop, or a sender with a very small TTL";
    /// A datagram was cut because it was larger than a receive slot.
    RxTruncated = "rx_truncated", "the peer sends more than 64 KiB in one datagram; report it";
    /// A datagram was too short for a VXLAN header (on a layer-3 network: for an IPv4 header).
    RxShort = "rx_short", "something else sends to the tunnel's port; see who with vtepd drops";
    /// The I flag of the VXLAN header was clear.
    RxNoVni = "rx_no_vni", "something else sends to the VXLAN port";
    /// A reserved bit of the VXLAN header was set.
    RxReservedBits = "rx_reserved_bits", "the peer uses GBP or GPE, which this network does not";
    /// No network here has the VNI.
    RxUnknownVni = "rx_unknown_vni", "compare the VNI on both hosts";
    /// The outer source is not a known VTEP and the network takes frames from peers only.
    RxNotPeer = "rx_not_peer", "a host without a lease, NAT on the way, or an attack; vtepd peers lists who may send";
    /// The frame inside was shorter than an Ethernet header.
    RxInnerRunt = "rx_inner_runt", "the peer sends broken frames";
    /// The IP header inside was missing or cut.
    RxInnerTruncated = "rx_inner_truncated", "the peer sends broken frames, or a middlebox merged two packets";
    /// The source MAC inside was multicast or zero on a network that learns.
    RxSourceMacInvalid = "rx_source_mac_invalid", "the peer sends broken frames";
    /// The source MAC inside was our own.
    RxSourceMacOwn = "rx_source_mac_own", "a loop, or two hosts with one VTEP MAC";
    /// A permanent or static entry places the source MAC at another VTEP.
    RxSourceMacConflict = "rx_source_mac_conflict", "the peer sends from another address than its entry says; check NAT and local";
    /// The source MAC inside moved more often than it may and is held where it is.
    RxSourceMacMoves = "rx_source_mac_moves", "two hosts with one MAC, a loop, or an attack: look at vtepd fdb show and at maxmoves";
    /// A datagram of a layer-3 network was not IPv4, or its header contradicts itself.
    RxNotIpv4 = "rx_not_ipv4", "something else sends to the tunnel's port, or the peer runs another backend";
    /// The TTL of a packet from a layer-3 network is used up.
    RxTtlExpired = "rx_ttl_expired", "expected from traceroute; else a routing loop, or a sender with a very small TTL";
    /// The outer header said congestion experienced, the inner one cannot carry it (RFC 6040).
    RxEcn = "rx_ecn", "a router marks packets of a transport without ECN; expected under congestion";
    /// The TAP was down.
    TapDown = "tap_down", "bring it up: ip link set NAME up";
    /// The TAP's receive path had no room.
    TapFull = "tap_full", "the host cannot keep up with what arrives";
    /// The kernel refused the frame.
    TapRejected = "tap_rejected", "report it together with the log line that names the error";
}

/// How many reasons there are.
pub const COUNT: usize = DropReason::ALL.len();
