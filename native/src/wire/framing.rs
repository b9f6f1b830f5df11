//! What packets begin with on the inside of a network.

/// The kind of device, and with it what one reads from it and what a datagram carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Framing {
    /// Ethernet frames: a TAP, and a VXLAN header in front of each frame in a datagram.
    #[default]
    Ethernet,
    /// Bare IPv4 packets: a TUN, and nothing in front of a packet in a datagram (flannel's `udp` backend).
    Bare,
}

impl Framing {
    /// Bytes in front of the IP packet on the device, VLAN tags aside.
    pub const fn link_len(self) -> usize {
        match self {
            Framing::Ethernet => super::ethernet::HEADER_LEN,
            Framing::Bare => 0,
        }
    }

    /// Bytes in front of the inner IP packet in a datagram.
    pub const fn tunnel_len(self) -> usize {
        match self {
            Framing::Ethernet => super::vxlan::HEADER_LEN + super::ethernet::HEADER_LEN,
            Framing::Bare => 0,
        }
    }
}
