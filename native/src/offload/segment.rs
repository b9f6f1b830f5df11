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
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::wire::virtio::{GSO_NONE, GSO_UDP};
    use crate::wire::vxlan;
    use proptest::prelude::*;

    /// Cuts, checks the VXLAN header of each datagram, and gives the inner frames.
    fn cut(frame: &[u8], virtio: &VirtioHeader) -> Result<Vec<Vec<u8>>, DropReason> {
        let (mut headers, mut segments) = (vec![0xee; 3], vec![]);
        segment(&vxlan::header(42), frame, virtio, &mut headers, &mut segments)?;
        assert_eq!(headers[..3], [0xee; 3], "appends");
        let datagram = |s: &Segment| {
            let block = &headers[s.header.0 as usize..s.header.1 as usize];
            assert_eq!(block[..8], vxlan::header(42));
            [&block[8..], &frame[s.payload.0 as usize..s.payload.1 as usize]].concat()
        };
        Ok(segments.iter().map(datagram).collect())
    }

    #[test]
    fn a_tcp_superframe_of_ten_bytes_cut_at_four() {
        let whole = Packet { id: 0xffff, sequence: 0xffff_fffe, flags: 0x99, ..tcp4(b"abcdefghij") };
        let segments = cut(&whole.build_partial(), &whole.gso(4)).unwrap();
        let piece = |payload: &[u8], id, sequence, flags| Packet { id, sequence, flags, ..tcp4(payload) }.build();
        assert_eq!(segments[0], piece(b"abcd", 0xffff, 0xffff_fffe, 0x90), "CWR only in the first");
        assert_eq!(segments[1], piece(b"efgh", 0x0000, 0x0000_0002, 0x10), "identification and sequence number wrap");
        assert_eq!(segments[2], piece(b"ij", 0x0001, 0x0000_0006, 0x19), "FIN and PSH only in the last");
        assert_eq!(segments.len(), 3);
    }

    #[test]
    fn a_udp_superframe_of_ten_bytes_cut_at_four() {
        for whole in [udp4(b"abcdefghij"), udp6(b"abcdefghij"), Packet { tags: 2, ..udp6(b"abcdefghij") }] {
            let segments = cut(&whole.build_partial(), &whole.gso(4)).unwrap();
            for (index, payload) in [&b"abcd"[..], b"efgh", b"ij"].iter().enumerate() {
                let piece = Packet { id: whole.id + index as u16, payload: payload.to_vec(), ..whole.clone() };
                assert_eq!(segments[index], piece.build());
            }
        }
    }

    #[test]
    fn a_udp_checksum_that_computes_to_zero_is_sent_as_ffff() {
        // With 0 as the last word the checksum is c, with c as the last word it is 0.
        let mut datagram = udp4(&[1, 2, 0, 0]);
        let frame = datagram.build();
        datagram.payload[2..].copy_from_slice(&frame[40..42]);
        datagram.payload.extend(b"tail");
        let segments = cut(&datagram.build_partial(), &datagram.gso(4)).unwrap();
        assert_eq!(segments[0][40..42], [0xff, 0xff]);
        datagram.payload.truncate(4);
        let mut plain = datagram.build_partial();
        complete_checksum(&mut plain, &datagram.needs_csum()).unwrap();
        assert_eq!(plain[40..42], [0xff, 0xff]);
        assert_sound(&plain);
    }

    #[test]
    fn the_header_length_of_the_kernel_is_not_trusted() {
        let whole = Packet { options: vec![1; 12], ..tcp4(&[7; 100]) };
        let lying = VirtioHeader { hdr_len: 1234, gso_type: GSO_TCPV4 | GSO_ECN, ..whole.gso(40) };
        let segments = cut(&whole.build_partial(), &lying).unwrap();
        assert_eq!(segments.iter().map(Vec::len).collect::<Vec<_>>(), [66 + 40, 66 + 40, 66 + 20]);
    }

    #[test]
    fn what_contradicts_itself_is_refused_and_nothing_is_appended() {
        let whole = tcp4(&[7; 100]);
        let (good, virtio) = (whole.build_partial(), whole.gso(40));
        let refuse = |why: &str, frame: &[u8], virtio: &VirtioHeader, reason| {
            let (mut headers, mut segments) = (vec![], vec![]);
            assert_eq!(segment(&[], frame, virtio, &mut headers, &mut segments), Err(reason), "{why}");
            assert!(headers.is_empty() && segments.is_empty(), "{why}");
        };
        let changed = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            frame
        };
        let bad = DropReason::TxBadSuperframe;
        refuse("gso_size 0", &good, &VirtioHeader { gso_size: 0, ..virtio }, bad);
        for gso_type in [GSO_NONE, GSO_UDP, GSO_TCPV6, GSO_UDP_L4, 2, 0x7f] {
            refuse("kind and headers differ", &good, &VirtioHeader { gso_type, ..virtio }, bad);
        }
        refuse("version", &changed(14, 0x65), &virtio, bad);
        refuse("length of less than the frame", &changed(17, good[17] - 1), &virtio, bad);
        refuse("length of more than the frame", &good[..good.len() - 1], &virtio, bad);
        refuse("fragment", &changed(20, 0x20), &virtio, bad);
        refuse("TCP header of 16 bytes", &changed(46, 0x40), &virtio, bad);
        refuse("TCP header longer than the packet", &tcp4_with_offset(15), &tcp4(&[]).gso(1), bad);
        refuse("empty", &[], &virtio, bad);
        let six = tcp6(&[7; 100]);
        let mut extended = six.build_partial();
        extended[20] = 0;
        refuse("IPv6 extension header", &extended, &six.gso(40), bad);
        let datagram = udp4(&[7; 100]);
        let mut short = datagram.build_partial();
        short[39] -= 1;
        refuse("UDP length", &short, &datagram.gso(40), bad);
        refuse("a segment for each of 65000 bytes", &tcp4(&vec![0; 65_000]).build_partial(), &whole.gso(1), bad);
        let reason = DropReason::TxBadVirtioHeader;
        refuse("checksum elsewhere", &good, &VirtioHeader { csum_start: 35, ..virtio }, reason);
        refuse("checksum elsewhere", &good, &VirtioHeader { csum_offset: 6, ..virtio }, reason);
        refuse("receive coalescing", &good, &VirtioHeader { flags: RSC, ..virtio }, reason);
    }

    fn tcp4_with_offset(words: u8) -> Vec<u8> {
        let mut frame = tcp4(&[7; 10]).build_partial();
        frame[46] = words << 4;
        frame
    }

    #[test]
    fn complete_checksum_leaves_complete_frames_alone_and_checks_offsets() {
        let packet = tcp4(b"abc");
        let mut frame = packet.build();
        complete_checksum(&mut frame, &VirtioHeader::default()).unwrap();
        assert_eq!(frame, packet.build());
        let end = frame.len() as u16;
        for (csum_start, csum_offset) in [(end, 0), (end - 1, 0), (34, end - 35), (13, 16), (0, 0), (u16::MAX, u16::MAX)] {
            let virtio = VirtioHeader { csum_start, csum_offset, ..packet.needs_csum() };
            assert_eq!(complete_checksum(&mut frame, &virtio), Err(DropReason::TxBadVirtioHeader), "{csum_start} {csum_offset}");
        }
        assert_eq!(
            complete_checksum(&mut frame, &VirtioHeader { flags: RSC, ..Default::default() }),
            Err(DropReason::TxBadVirtioHeader)
        );
        assert_eq!(frame, packet.build());
    }

    fn payload(max: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 1..max)
    }

    proptest! {
        #[test]
        fn segments_are_sound_and_their_payloads_add_up(packet in any_packet(payload(5000)), size in 1u16..3000) {
            let size = size.max(packet.payload.len().div_ceil(100) as u16);
            let segments = cut(&packet.build_partial(), &packet.gso(size)).unwrap();
            segments.iter().for_each(|frame| assert_sound(frame));
            let payloads: Vec<&[u8]> = segments.iter().map(|frame| &frame[packet.headers()..]).collect();
            prop_assert!(payloads.iter().rev().skip(1).all(|payload| payload.len() == usize::from(size)));
            prop_assert_eq!(payloads.concat(), packet.payload);
        }

        #[test]
        fn completed_frames_are_sound(packet in any_packet(payload(2000))) {
            let mut frame = packet.build_partial();
            complete_checksum(&mut frame, &packet.needs_csum()).unwrap();
            assert_sound(&frame);
        }

        #[test]
        fn never_panics(
            packet in any_packet(payload(200)),
            noise: Vec<u8>,
            (at, value, cut_at) in any::<(prop::sample::Index, u8, prop::sample::Index)>(),
            (header, mixed) in any::<([u8; 10], bool)>(),
        ) {
            let mut frame = packet.build_partial();
            let at = at.index(frame.len());
            frame[at] = value;
            frame.truncate(cut_at.index(frame.len() + 1));
            let random = VirtioHeader::from_bytes(&header).unwrap();
            let virtio = if mixed { VirtioHeader { gso_size: random.gso_size, ..packet.gso(1) } } else { random };
            for mut frame in [frame, noise] {
                let _ = segment(&[], &frame, &virtio, &mut vec![], &mut vec![]);
                let _ = complete_checksum(&mut frame, &virtio);
            }
        }
    }
}
