//! Where the headers of a TCP or UDP packet are in its frame.

use crate::wire::ip::{self, Family, Ip};
use crate::wire::{Framing, be16, checksum, ethernet, put16, tcp, udp, virtio};

/// What a frame holds, as far as offloads care.
#[derive(Clone, Copy, Debug)]
pub enum Inside {
    /// A whole TCP or UDP packet.
    Transport(Layers),
    /// A piece of some flow, but of which is not to be seen: a fragment, extension headers, cut or contradictory headers.
    Opaque,
    /// Neither TCP nor UDP.
    Foreign,
}

/// Offsets into the frame. `network <= transport <= payload <= end <= frame.len()`.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    /// The IP header's facts.
    pub ip: Ip,
    /// First byte of the IP header.
    pub network: usize,
    /// First byte of the TCP or UDP header.
    pub transport: usize,
    /// First byte behind it, options included.
    pub payload: usize,
    /// First byte behind the IP packet; Ethernet padding may follow.
    pub end: usize,
}

/// Looks into a frame.
pub fn look(frame: &[u8]) -> Inside {
    let Some(ethernet) = ethernet::parse(frame) else { return Inside::Foreign };
    if ethernet.ethertype != ethernet::IPV4 && ethernet.ethertype != ethernet::IPV6 {
        return Inside::Foreign;
    }
    look_behind(frame, ethernet.ethertype, ethernet.network_offset)
}

/// Looks into what a device of this kind hands over.
pub fn look_as(framing: Framing, frame: &[u8]) -> Inside {
    match framing {
        Framing::Ethernet => look(frame),
        Framing::Bare => look_behind(frame, ethernet::IPV4, 0),
    }
}

/// Looks at the packet that begins at `network`.
fn look_behind(frame: &[u8], ethertype: u16, network: usize) -> Inside {
    let packet = frame.get(network..).unwrap_or(&[]);
    let Some(ip) = Ip::parse(ethertype, packet) else { return Inside::Opaque };
    if ip.fragment || ip.is_extended() {
        return Inside::Opaque;
    }
    if ip.protocol != ip::TCP && ip.protocol != ip::UDP {
        return Inside::Foreign;
    }
    let segment = packet.get(ip.header_len..ip.length);
    let header_len = segment.and_then(|segment| match ip.protocol {
        ip::TCP => tcp::header_len(segment),
        _ => (segment.len() >= udp::HEADER_LEN).then_some(udp::HEADER_LEN),
    });
    let Some(header_len) = header_len else { return Inside::Opaque };
    let transport = network + ip.header_len;
    Inside::Transport(Layers { ip, network, transport, payload: transport + header_len, end: network + ip.length })
}

impl Layers {
    /// Is it TCP? If not, it is UDP.
    pub const fn is_tcp(&self) -> bool {
        self.ip.protocol == ip::TCP
    }

    /// Bytes behind the headers.
    pub const fn payload_len(&self) -> usize {
        self.end - self.payload
    }

    /// The kind of superframe that this packet could be.
    pub const fn gso_type(&self) -> u8 {
        match (self.is_tcp(), self.ip.family) {
            (true, Family::V4) => virtio::GSO_TCPV4,
            (true, Family::V6) => virtio::GSO_TCPV6,
            (false, _) => virtio::GSO_UDP_L4,
        }
    }

    /// Where the checksum is, from the L4 header's first byte.
    pub const fn checksum_offset(&self) -> usize {
        if self.is_tcp() { tcp::CHECKSUM } else { udp::CHECKSUM }
    }

    /// The checksum field as it is.
    pub fn checksum(&self, frame: &[u8]) -> u16 {
        be16(frame, self.transport + self.checksum_offset()).unwrap_or(0)
    }

    /// Source and destination address, one behind the other.
    pub fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        self.ip.addresses(frame.get(self.network..).unwrap_or(&[]))
    }

    /// Sum over the pseudo header if L4 header and payload had `l4_len` bytes.
    pub fn pseudo_header(&self, frame: &[u8], l4_len: usize) -> u64 {
        self.ip.pseudo_header(frame.get(self.network..).unwrap_or(&[]), l4_len)
    }

    /// What the checksum field holds while the checksum is partial: the folded pseudo-header sum, not complemented.
    pub fn partial_checksum(&self, frame: &[u8], l4_len: usize) -> u16 {
        checksum::fold(self.pseudo_header(frame, l4_len))
    }

    /// Writes that value, for L4 header and payload of `l4_len` bytes.
    pub fn write_partial_checksum(&self, frame: &mut [u8], l4_len: usize) {
        let partial = self.partial_checksum(frame, l4_len);
        put16(frame, self.transport + self.checksum_offset(), partial);
    }

    /// True if the L4 checksum is complete and right. A UDP checksum of 0 (none) is not right.
    pub fn checksum_ok(&self, frame: &[u8]) -> bool {
        let absent = !self.is_tcp() && self.checksum(frame) == 0;
        let sum = self.pseudo_header(frame, self.end - self.transport);
        !absent && checksum::fold(checksum::sum(frame.get(self.transport..self.end).unwrap_or(&[]), sum)) == 0xffff
    }

    /// True if there is no IPv4 header checksum, or it is right.
    pub fn header_checksum_ok(&self, frame: &[u8]) -> bool {
        self.ip.family == Family::V6 || ip::v4_checksum_ok(frame.get(self.network..self.transport).unwrap_or(&[]))
    }
}
