//! Cuts superframes from the TAP into datagrams, and completes the checksums that the host's stack left to its "hardware".
//!
//! Payload is never copied: a segment is a header block, built here, and a range of the superframe. What is the same in all
//! segments is summed once; a segment adds only its own length, IP identification, sequence number, flags and payload.

use super::layers::{Inside, Layers, look, look_as};
use crate::drops::DropReason;
use crate::wire::checksum::{fold, sum};
use crate::wire::ip::{Family, V6_LEN};
use crate::wire::virtio::{GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, RSC, VirtioHeader};
use crate::wire::{Framing, be16, be32, put16, tcp, udp};

/// One superframe makes at most this many datagrams: 65535 / 8, where 8 is the smallest segment that Linux's TCP makes
/// (TCP_MIN_SND_MSS 48 less 40 bytes of options). UDP's cap is 128. Bounds what a hostile `gso_size` of 1 can cost.
const MAX_SEGMENTS: usize = 8191;

/// One datagram's pieces: `headers[header]` then `frame[payload]` (as start and end).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// VXLAN, Ethernet, IP and TCP or UDP header.
    pub header: (u32, u32),
    /// What follows them; borrowed from the superframe.
    pub payload: (u32, u32),
}

impl Segment {
    /// Bytes of the datagram.
    #[expect(clippy::len_without_is_empty, reason = "a datagram has headers")]
    pub const fn len(&self) -> u32 {
        self.header.1 - self.header.0 + self.payload.1 - self.payload.0
    }
}

/// Cuts a superframe into segments, appended to `headers` and `segments`; on an error nothing is appended.
///
/// Each header block is `prefix` (the VXLAN header) and the inner headers with lengths, IPv4 identification (counting up,
/// as the kernel's own segmentation does), sequence number, flags (CWR only in the first, FIN and PSH only in the last) and
/// checksums complete. `virtio.hdr_len` is not trusted: on forwarded frames it is not the length of the headers.
pub fn segment(
    prefix: &[u8],
    frame: &[u8],
    virtio: &VirtioHeader,
    headers: &mut Vec<u8>,
    segments: &mut Vec<Segment>,
) -> Result<(), DropReason> {
    cut(prefix, frame, virtio, look(frame), headers, segments)
}

/// The same for what a device of this kind hands over.
pub fn segment_as(
    framing: Framing,
    frame: &[u8],
    virtio: &VirtioHeader,
    headers: &mut Vec<u8>,
    segments: &mut Vec<Segment>,
) -> Result<(), DropReason> {
    cut(&[], frame, virtio, look_as(framing, frame), headers, segments)
}

fn cut(
    prefix: &[u8],
    frame: &[u8],
    virtio: &VirtioHeader,
    inside: Inside,
    headers: &mut Vec<u8>,
    segments: &mut Vec<Segment>,
) -> Result<(), DropReason> {
    let layers = validate(frame, virtio, inside)?;
    let size = usize::from(virtio.gso_size);
    let count = layers.payload_len().div_ceil(size).max(1);
    if count > MAX_SEGMENTS {
        return Err(DropReason::TxBadSuperframe);
    }
    let common = Common::new(frame, &layers);
    let block_len = prefix.len() + layers.payload;
    headers.reserve(count * block_len);
    segments.reserve(count);
    for index in 0..count {
        let start = layers.payload + index * size;
        let payload = (start, layers.end.min(start + size));
        let header = headers.len();
        headers.extend_from_slice(prefix);
        let inner = headers.len();
        headers.extend_from_slice(frame.get(..layers.payload).unwrap_or(&[]));
        if let Some(block) = headers.get_mut(inner..) {
            let place = Place { offset: index * size, index: index as u16, first: index == 0, last: index + 1 == count };
            common.stamp(block, &layers, frame.get(payload.0..payload.1).unwrap_or(&[]), place);
        }
        segments.push(Segment { header: (header as u32, headers.len() as u32), payload: (payload.0 as u32, payload.1 as u32) });
    }
    Ok(())
}

/// Everything that must hold before the first byte is written.
fn validate(frame: &[u8], virtio: &VirtioHeader, inside: Inside) -> Result<Layers, DropReason> {
    let bad = DropReason::TxBadSuperframe;
    let Inside::Transport(layers) = inside else { return Err(bad) };
    let family_fits = match virtio.gso_type & !GSO_ECN {
        kind @ (GSO_TCPV4 | GSO_TCPV6 | GSO_UDP_L4) => kind == layers.gso_type(),
        _ => false,
    };
    if !family_fits || virtio.gso_size == 0 || layers.end != frame.len() {
        return Err(bad);
    }
    if !layers.is_tcp() && be16(frame, layers.transport + udp::LENGTH).map(usize::from) != Some(layers.end - layers.transport) {
        return Err(bad);
    }
    let start = usize::from(virtio.csum_start);
    let offset = usize::from(virtio.csum_offset);
    if virtio.flags & RSC != 0 || virtio.needs_csum() && (start, offset) != (layers.transport, layers.checksum_offset()) {
        return Err(DropReason::TxBadVirtioHeader);
    }
    Ok(layers)
}

/// Which segment it is.
struct Place {
    /// Payload bytes before it.
    offset: usize,
    index: u16,
    first: bool,
    last: bool,
}

/// What all segments of a superframe have in common: the sums without the words that differ, and those words.
struct Common {
    /// Sum over the IPv4 header, less total length, identification and checksum.
    ip_sum: u64,
    identification: u16,
    /// Sum over pseudo header and L4 header, less length, checksum, sequence number and flags.
    l4_sum: u64,
    sequence: u32,
    /// TCP's 16 bits of data offset and flags.
    flags: u16,
}

impl Common {
    fn new(frame: &[u8], layers: &Layers) -> Self {
        let word = |at: usize| be16(frame, at).unwrap_or(0);
        // Adding a word's complement takes the word out of a one's complement sum.
        let without = |sum: u64, at: usize| sum + u64::from(!word(at));
        let Layers { network, transport, .. } = *layers;

        let mut ip_sum = sum(frame.get(network..transport).unwrap_or(&[]), 0);
        for at in [2, 4, 10] {
            ip_sum = without(ip_sum, network + at);
        }
        let mut l4_sum = sum(frame.get(transport..layers.payload).unwrap_or(&[]), layers.pseudo_header(frame, 0));
        l4_sum = without(l4_sum, transport + layers.checksum_offset());
        if layers.is_tcp() {
            for at in [tcp::SEQUENCE, tcp::SEQUENCE + 2, tcp::DATA_OFFSET] {
                l4_sum = without(l4_sum, transport + at);
            }
        } else {
            l4_sum = without(l4_sum, transport + udp::LENGTH);
        }
        Common {
            ip_sum,
            identification: word(network + 4),
            l4_sum,
            sequence: be32(frame, transport + tcp::SEQUENCE),
            flags: word(transport + tcp::DATA_OFFSET),
        }
    }

    /// Makes a copy of the superframe's headers those of one segment.
    fn stamp(&self, block: &mut [u8], layers: &Layers, payload: &[u8], place: Place) {
        let Layers { network, transport, .. } = *layers;
        let l4_len = (layers.payload - transport + payload.len()) as u16;
        match layers.ip.family {
            Family::V4 => {
                let length = layers.ip.header_len as u16 + l4_len;
                let identification = self.identification.wrapping_add(place.index);
                put16(block, network + 2, length);
                put16(block, network + 4, identification);
                put16(block, network + 10, !fold(self.ip_sum + u64::from(length) + u64::from(identification)));
            }
            Family::V6 => put16(block, network + 4, (layers.ip.header_len - V6_LEN) as u16 + l4_len),
        }
        let payload_sum = sum(payload, self.l4_sum + u64::from(l4_len));
        if layers.is_tcp() {
            let [high, low] = split(self.sequence.wrapping_add(place.offset as u32));
            let mut cleared = 0;
            if !place.first {
                cleared |= tcp::CWR;
            }
            if !place.last {
                cleared |= tcp::FIN | tcp::PSH;
            }
            let flags = self.flags & !u16::from(cleared);
            put16(block, transport + tcp::SEQUENCE, high);
            put16(block, transport + tcp::SEQUENCE + 2, low);
            put16(block, transport + tcp::DATA_OFFSET, flags);
            let check = !fold(payload_sum + u64::from(high) + u64::from(low) + u64::from(flags));
            put16(block, transport + tcp::CHECKSUM, check);
        } else {
            put16(block, transport + udp::LENGTH, l4_len);
            put16(block, transport + udp::CHECKSUM, not_zero(!fold(payload_sum + u64::from(l4_len))));
        }
    }
}

const fn split(number: u32) -> [u16; 2] {
    [(number >> 16) as u16, number as u16]
}

/// A UDP checksum that computes to 0 is sent as 0xffff, for 0 means that there is none. For every other protocol both are
/// equally right, so the kernel (`CSUM_MANGLED_0`) does not ask which it is, and neither do we.
const fn not_zero(check: u16) -> u16 {
    if check == 0 { 0xffff } else { check }
}

/// Completes the checksum of a frame that is not a superframe, if its header says that it is partial: the field holds the
/// folded pseudo-header sum, and everything from `csum_start` to the end of the frame is still to be added.
pub fn complete_checksum(frame: &mut [u8], virtio: &VirtioHeader) -> Result<(), DropReason> {
    complete_checksum_as(Framing::Ethernet, frame, virtio)
}

/// The same for what a device of this kind hands over.
pub fn complete_checksum_as(framing: Framing, frame: &mut [u8], virtio: &VirtioHeader) -> Result<(), DropReason> {
    if virtio.flags & RSC != 0 {
        return Err(DropReason::TxBadVirtioHeader);
    }
    if !virtio.needs_csum() {
        return Ok(());
    }
    let start = usize::from(virtio.csum_start);
    let field = start + usize::from(virtio.csum_offset);
    let fits = start >= framing.link_len() && field + 2 <= frame.len();
    let Some(covered) = frame.get(start..).filter(|_| fits) else {
        return Err(DropReason::TxBadVirtioHeader);
    };
    let check = not_zero(!fold(sum(covered, 0)));
    put16(frame, field, check);
    Ok(())
}

#[cfg(test)]
mod tests;
