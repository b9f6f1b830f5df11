//! Superframes cut, and checksums completed: sums are right, payloads add up, and what contradicts itself is refused.

use super::*;
use crate::offload::fixture::*;
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
