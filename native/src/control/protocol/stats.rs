//! Counters.

use crate::drops::DropReason;
use std::collections::BTreeMap;
use std::net::IpAddr;

wire_types! {
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
        /// Microseconds spent looking for work before sleeping.
        #[cfg_attr(test, ts(type = "number"))]
        pub spin_us: u64,
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
}

/// The reason under which a count travels.
pub fn drop_key(reason: DropReason) -> String {
    reason.name().to_owned()
}
