//! One chain of segments: what may join it, and the superframe that it becomes.
//!
//! The conditions are those of the kernel's own GRO and of what others learned: whatever cutting the superframe again (here or in
//! the host's stack) would not give back keeps two segments apart.

use crate::offload::layers::Layers;
use crate::wire::ip::{Family, V4_DF, V4_LEN, v4_write_checksum};
use crate::wire::virtio::{NEEDS_CSUM, VirtioHeader};
use crate::wire::{be16, be32, put16, tcp, udp};

/// No superframe is larger, Ethernet header included: IP's length has 16 bits, and the kernel's legacy GSO limit is 65536.
pub const FRAME_MAX: usize = 65535;

/// The flags with which a segment may join: anything else (SYN, RST, URG, and CWR, which belongs to one segment alone) may not.
const FLAGS_JOINABLE: u8 = tcp::ACK | tcp::PSH | tcp::FIN | tcp::ECE;
/// The flags after which nothing may join, and which only the last segment of a superframe keeps.
const FLAGS_LAST: u8 = tcp::PSH | tcp::FIN;

/// What an item knows that may grow.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// The first frame's headers.
    pub layers: Layers,
    /// Payload of the first segment, and of all others but the last.
    size: usize,
    /// Payload of all.
    total: usize,
    /// Payload of the last one.
    last: usize,
    /// How many frames.
    pub segments: usize,
    next_sequence: u32,
    /// IPv4's, of the last one.
    identification: u16,
    /// TCP's, of all.
    flags: u8,
    /// The first frame's checksums are known to be right. Only looked at when a second one comes.
    verified: bool,
    /// Where the list of the payloads behind the first begins and ends.
    pub first_piece: Option<usize>,
    /// See there.
    pub last_piece: Option<usize>,
}

impl Chain {
    /// A chain of one frame.
    pub fn new(frame: &[u8], layers: Layers) -> Self {
        let mut chain = Chain {
            layers,
            size: layers.payload_len(),
            total: 0,
            last: 0,
            segments: 0,
            next_sequence: 0,
            identification: 0,
            flags: 0,
            verified: false,
            first_piece: None,
            last_piece: None,
        };
        chain.add(frame, &layers);
        chain
    }

    /// Counts a segment in.
    pub fn add(&mut self, frame: &[u8], layers: &Layers) {
        self.segments += 1;
        self.total += layers.payload_len();
        self.last = layers.payload_len();
        self.identification = be16(frame, layers.network + 4).unwrap_or(0);
        if layers.is_tcp() {
            self.flags |= tcp_flags(frame, layers);
            self.next_sequence = be32(frame, layers.transport + tcp::SEQUENCE).wrapping_add(layers.payload_len() as u32);
        }
    }

    /// Nothing may follow a short segment, PSH or FIN.
    pub const fn is_open(&self, max_segments: usize) -> bool {
        self.segments < max_segments && self.last == self.size && self.flags & FLAGS_LAST == 0
    }

    /// True if the first frame's checksums are right; looks once.
    pub fn verify(&mut self, first: &[u8]) -> bool {
        self.verified = self.verified || is_intact(first, &self.layers);
        self.verified
    }

    /// True if `frame`, of the same flow (addresses, ports and protocol are known to be equal), is the next segment, and cutting
    /// the superframe again would give it back.
    pub fn continues(&self, first: &[u8], frame: &[u8], layers: &Layers) -> bool {
        let same = |from: usize, to: usize| matches!((first.get(from..to), frame.get(from..to)), (Some(a), Some(b)) if a == b);
        let Layers { network, transport, payload, .. } = *layers;
        if (network, transport, payload) != (self.layers.network, self.layers.transport, self.layers.payload) {
            return false;
        }
        if layers.payload_len() > self.size || payload + self.total + layers.payload_len() > FRAME_MAX {
            return false;
        }
        // MAC addresses and VLAN tags.
        if !same(0, network) {
            return false;
        }
        let ip = match layers.ip.family {
            // The whole TOS byte (a mix of ECN codepoints would invent congestion), fragment bits, TTL.
            Family::V4 => {
                same(network, network + 2) && same(network + 6, network + 10) && self.identification_continues(frame, network)
            }
            // Traffic class and flow label, hop limit.
            Family::V6 => same(network, network + 4) && same(network + 6, network + 8),
        };
        if !ip {
            return false;
        }
        if !layers.is_tcp() {
            return true;
        }
        // Acknowledgement, data offset, ECE, window, urgent pointer, options.
        be32(frame, transport + tcp::SEQUENCE) == self.next_sequence
            && same(transport + 8, transport + tcp::FLAGS)
            && (self.flags ^ tcp_flags(frame, layers)) & tcp::ECE == 0
            && same(transport + 14, transport + tcp::CHECKSUM)
            && same(transport + 18, payload)
    }

    /// Identification only means something where fragmentation is allowed (RFC 6864 §4), but there it must count up, as it will
    /// when the superframe is cut again.
    fn identification_continues(&self, frame: &[u8], network: usize) -> bool {
        let fragmentable = be16(frame, network + 6).unwrap_or(0) & V4_DF == 0;
        !fragmentable || be16(frame, network + 4) == Some(self.identification.wrapping_add(1))
    }

    /// Makes the first frame's headers those of the superframe: lengths, IPv4 checksum, the flags of the last segment, and the L4
    /// checksum partial, with the whole L4 length in it (with less, the host takes every segment but the first for corrupt).
    pub fn finish(&self, frame: &mut [u8]) -> VirtioHeader {
        let Layers { ip, network, transport, payload, .. } = self.layers;
        let l4_len = payload - transport + self.total;
        match ip.family {
            Family::V4 => {
                put16(frame, network + 2, (ip.header_len + l4_len) as u16);
                v4_write_checksum(frame.get_mut(network..transport).unwrap_or(&mut []));
            }
            Family::V6 => put16(frame, network + 4, l4_len as u16),
        }
        if !self.layers.is_tcp() {
            put16(frame, transport + udp::LENGTH, l4_len as u16);
        } else if let Some(flags) = frame.get_mut(transport + tcp::FLAGS) {
            *flags |= self.flags & FLAGS_LAST;
        }
        self.layers.write_partial_checksum(frame, l4_len);
        VirtioHeader {
            flags: NEEDS_CSUM,
            gso_type: self.layers.gso_type(),
            hdr_len: payload as u16,
            gso_size: self.size as u16,
            csum_start: transport as u16,
            csum_offset: self.layers.checksum_offset() as u16,
        }
    }
}

/// May the frame be part of a superframe at all?
pub fn joinable(frame: &[u8], layers: &Layers, udp: bool) -> bool {
    // IPv4 without options and without the reserved bit; an IPv6 header never has more at this point.
    let plain = match layers.ip.family {
        Family::V4 => layers.ip.header_len == V4_LEN && be16(frame, layers.network + 6).unwrap_or(0) & !V4_DF == 0,
        Family::V6 => true,
    };
    let transport = match layers.is_tcp() {
        true => {
            let flags = tcp_flags(frame, layers);
            let reserved = frame.get(layers.transport + tcp::DATA_OFFSET).copied().unwrap_or(0) & 0x0f;
            flags & tcp::ACK != 0 && flags & !FLAGS_JOINABLE == 0 && reserved == 0
        }
        false => {
            let length = be16(frame, layers.transport + udp::LENGTH).map(usize::from);
            udp && length == Some(layers.end - layers.transport)
        }
    };
    plain && transport && layers.payload_len() > 0
}

/// A TCP segment that says nothing but how far its sender has read.
pub fn is_pure_ack(frame: &[u8], layers: &Layers) -> bool {
    layers.is_tcp() && layers.payload_len() == 0 && tcp_flags(frame, layers) == tcp::ACK
}

/// Both checksums are right, and there is one: a superframe's is always complete in the end, so that a UDP datagram without one
/// would be changed.
pub fn is_intact(frame: &[u8], layers: &Layers) -> bool {
    layers.header_checksum_ok(frame) && layers.checksum_ok(frame)
}

fn tcp_flags(frame: &[u8], layers: &Layers) -> u8 {
    frame.get(layers.transport + tcp::FLAGS).copied().unwrap_or(0)
}
