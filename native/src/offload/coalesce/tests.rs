//! What may join and what may not, one condition a test.

use super::chain::FRAME_MAX;
use super::*;
use crate::offload::fixture::*;
use crate::wire::virtio::{DATA_VALID, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4};

/// One write: the virtio header, the bytes, the number of segments.
type Write = (VirtioHeader, Vec<u8>, usize);

/// Lays frames in an arena with gaps between, pushes, flushes.
fn run_with(coalescer: &mut Coalescer, frames: &[(Vec<u8>, VirtioHeader)]) -> Vec<Write> {
    let mut arena = vec![];
    let mut places = vec![];
    for (frame, virtio) in frames {
        arena.extend([0xaa; 5]);
        places.push((arena.len(), frame.len(), *virtio));
        arena.extend(frame);
    }
    for (at, len, virtio) in places {
        coalescer.push(&mut arena, at, len, virtio);
    }
    let mut writes = vec![];
    coalescer.flush(&mut arena, &mut |arena, virtio, pieces, segments| {
        let bytes = pieces.iter().flat_map(|(from, to)| arena[*from..*to].to_vec()).collect();
        writes.push((*virtio, bytes, segments));
    });
    writes
}

fn run(frames: &[Vec<u8>]) -> Vec<Write> {
    let plain: Vec<_> = frames.iter().map(|frame| (frame.clone(), VirtioHeader::default())).collect();
    run_with(&mut Coalescer::new(64, true), &plain)
}

fn sizes(writes: &[Write]) -> Vec<usize> {
    writes.iter().map(|write| write.2).collect()
}

/// Two neighbouring segments of a flow; `change` is made to the second.
fn pair(first: &Packet, change: impl Fn(&mut Packet)) -> Vec<Vec<u8>> {
    let mut second = first.clone();
    second.sequence = second.sequence.wrapping_add(first.payload.len() as u32);
    second.id = second.id.wrapping_add(1);
    change(&mut second);
    vec![first.build(), second.build()]
}

fn assert_joined(why: &str, frames: &[Vec<u8>]) {
    assert_eq!(sizes(&run(frames)), [frames.len()], "{why}");
}

/// Every frame leaves as the bytes that came.
fn assert_verbatim(why: &str, frames: &[Vec<u8>]) {
    let expected: Vec<Write> = frames.iter().map(|frame| (VirtioHeader::default(), frame.clone(), 1)).collect();
    assert_eq!(run(frames), expected, "{why}");
}

#[test]
fn three_segments_become_the_superframe_that_makes_them() {
    for (packet, gso_type) in [
        (tcp4(b""), GSO_TCPV4),
        (tcp6(b""), GSO_TCPV6),
        (udp4(b""), GSO_UDP_L4),
        (udp6(b""), GSO_UDP_L4),
        (Packet { tags: 2, options: vec![1; 12], ..tcp4(b"") }, GSO_TCPV4),
    ] {
        let piece = |n: u16, payload: &[u8], flags| Packet {
            id: packet.id + n,
            sequence: packet.sequence + 4 * u32::from(n),
            flags,
            payload: payload.to_vec(),
            ..packet.clone()
        };
        let last_flags = if packet.udp { 0x10 } else { 0x19 };
        let writes =
            run(&[piece(0, b"abcd", 0x10).build(), piece(1, b"efgh", 0x10).build(), piece(2, b"ij", last_flags).build()]);
        let whole = piece(0, b"abcdefghij", last_flags);
        assert_eq!(writes, [(VirtioHeader { gso_type, ..whole.gso(4) }, whole.build_partial(), 3)]);
    }
}

#[test]
fn a_chain_that_never_grew_is_the_bytes_that_came() {
    let mut padded = tcp4(b"abc").build();
    padded.extend([0x55; 3]);
    let mut corrupt = tcp4(b"abcd").build();
    corrupt[54] ^= 1;
    assert_verbatim("padding and a wrong checksum", &[padded]);
    assert_verbatim("a wrong checksum", &[corrupt]);
}

#[test]
fn ethernet_padding_is_cut_before_joining() {
    let mut frames = pair(&tcp4(b"ab"), |_| ());
    frames.iter_mut().for_each(|frame| frame.extend([0; 4]));
    let writes = run(&frames);
    assert_eq!(writes[0].1, Packet { payload: b"abab".to_vec(), ..tcp4(b"") }.build_partial());
}

#[test]
fn every_field_that_cutting_would_not_give_back_keeps_segments_apart() {
    type Change = fn(&mut Packet);
    let both: [(&str, Change); 4] =
        [("TTL", |p| p.ttl -= 1), ("ECN", |p| p.tos |= 3), ("DSCP", |p| p.tos |= 0xb8), ("VLAN", |p| p.tags = 1)];
    let tcp: [(&str, Change); 12] = [
        ("acknowledgement", |p| p.acknowledgement += 1),
        ("window", |p| p.window -= 1),
        ("options", |p| p.options[3] ^= 1),
        ("length of options", |p| p.options.truncate(4)),
        ("a gap", |p| p.sequence += 1),
        ("repeated", |p| p.sequence -= 4),
        ("larger", |p| p.payload.push(0)),
        ("empty", |p| p.payload.clear()),
        ("ECE", |p| p.flags |= 0x40),
        ("CWR", |p| p.flags |= 0x80),
        ("SYN", |p| p.flags |= 0x02),
        ("URG", |p| p.flags |= 0x20),
    ];
    for base in [Packet { options: vec![1; 8], ..tcp4(b"abcd") }, Packet { options: vec![1; 8], ..tcp6(b"abcd") }] {
        assert_joined("nothing changed", &pair(&base, |_| ()));
        for (why, change) in both.iter().chain(&tcp) {
            assert_verbatim(why, &pair(&base, change));
        }
        assert_verbatim("RST", &pair(&base, |p| p.flags |= 0x04));
        assert_verbatim("no ACK", &pair(&base, |p| p.flags = 0));
    }
    for base in [udp4(b"abcd"), udp6(b"abcd")] {
        assert_joined("nothing changed", &pair(&base, |_| ()));
        for (why, change) in &both {
            assert_verbatim(why, &pair(&base, change));
        }
        assert_verbatim("larger", &pair(&base, |p| p.payload.push(0)));
    }
    let mut macs = pair(&tcp4(b"abcd"), |_| ());
    macs[1][0] ^= 4;
    assert_verbatim("MAC", &macs);
    let mut label = pair(&tcp6(b"abcd"), |_| ());
    label[1][17] ^= 1;
    assert_verbatim("flow label", &label);
}

#[test]
fn fields_that_the_fixture_cannot_build() {
    // Two bytes that go up by as much as two others go down leave the checksum right.
    let swap = |frame: &mut Vec<u8>, from: usize, to: usize, by: u8| {
        frame[from] += by;
        frame[to] -= by;
    };
    let mut accurate = pair(&Packet { window: 0x0101, ..tcp4(b"abcd") }, |_| ());
    accurate.iter_mut().for_each(|frame| swap(frame, 46, 48, 1));
    assert_verbatim("AccECN's bit", &accurate);
    let mut urgent = pair(&tcp4(b"aaaa"), |p| p.payload = b"abaa".to_vec());
    swap(&mut urgent[1], 53, 55, 1);
    assert_verbatim("urgent pointer", &urgent);
    let mut address = pair(&tcp4(b"abcd"), |_| ());
    swap(&mut address[1], 29, 33, 1);
    assert_verbatim("addresses", &address);
    for base in [tcp4(b"abcd"), udp4(b"abcd")] {
        let mut ports = pair(&base, |_| ());
        swap(&mut ports[1], 35, 37, 1);
        assert_verbatim("ports", &ports);
    }
    let mut length = pair(&udp4(&[8, 8, 0, 8]), |_| ());
    length.iter_mut().for_each(|frame| swap(frame, 43, 39, 1));
    assert_verbatim("UDP length of less than the packet", &length);
    let mut reserved = pair(&Packet { ttl: 0xff, ..tcp4(b"abcd") }, |_| ());
    reserved.iter_mut().for_each(|frame| swap(frame, 20, 22, 0x80));
    assert_verbatim("IPv4's reserved bit", &reserved);
}

#[test]
fn ipv4_options_keep_segments_apart() {
    let mut frames = pair(&tcp4(b"abcd"), |_| ());
    for frame in &mut frames {
        // Four bytes of "no operation"; both checksums stay right.
        frame.splice(34..34, [1, 1, 1, 1]);
        frame[14] = 0x46;
        frame[17] += 4;
        crate::wire::ip::v4_write_checksum(&mut frame[14..38]);
    }
    assert_verbatim("options", &frames);
}

#[test]
fn identification_counts_up_where_fragmentation_is_allowed() {
    for base in [tcp4(b"abcd"), udp4(b"abcd")] {
        let may = Packet { df: false, id: 0xffff, ..base.clone() };
        assert_joined("wraps", &pair(&may, |_| ()));
        assert_verbatim("stands still", &pair(&may, |p| p.id = 0xffff));
        assert_verbatim("jumps", &pair(&may, |p| p.id = 7));
        assert_joined("means nothing with DF", &pair(&base, |p| p.id = 7));
        assert_verbatim("DF differs", &pair(&base, |p| p.df = false));
    }
}

#[test]
fn nothing_joins_after_psh_fin_or_a_short_segment() {
    for flags in [0x18, 0x11] {
        let base = Packet { flags, ..tcp4(b"abcd") };
        assert_verbatim("after PSH or FIN", &pair(&base, |p| p.flags = 0x10));
    }
    let base = tcp4(b"abcd");
    let mut frames = pair(&base, |p| p.payload.truncate(2));
    frames.push(Packet { sequence: base.sequence + 6, id: base.id + 2, payload: b"xy".to_vec(), ..base.clone() }.build());
    assert_eq!(sizes(&run(&frames)), [2, 1]);
}

#[test]
fn checksums_are_verified_before_joining() {
    for base in [tcp4(b"abcd"), tcp6(b"abcd"), udp4(b"abcd"), udp6(b"abcd")] {
        for wrong in [0, 1] {
            let mut frames = pair(&base, |_| ());
            *frames[wrong].last_mut().unwrap() ^= 1;
            assert_verbatim("L4 checksum", &frames);
        }
    }
    for wrong in [0, 1] {
        let mut frames = pair(&tcp4(b"abcd"), |_| ());
        frames[wrong][24] ^= 1;
        assert_verbatim("IPv4 header checksum", &frames);
    }
    let mut absent = pair(&udp4(b"abcd"), |_| ());
    absent[1][40..42].copy_from_slice(&[0, 0]);
    assert_verbatim("no UDP checksum", &absent);
}

#[test]
fn what_classify_said_something_of_is_not_touched() {
    let packet = tcp4(b"abcd");
    let frames = pair(&packet, |_| ());
    let handed: Vec<_> = [frames[0].clone(), packet.build_partial(), frames[1].clone()]
        .into_iter()
        .zip([VirtioHeader::default(), packet.needs_csum(), VirtioHeader::default()])
        .collect();
    let writes = run_with(&mut Coalescer::new(64, true), &handed);
    let expected: Vec<Write> = handed.into_iter().map(|(frame, virtio)| (virtio, frame, 1)).collect();
    assert_eq!(writes, expected, "and nothing joins over it");
    let verified = VirtioHeader { flags: DATA_VALID, ..Default::default() };
    let handed: Vec<_> = frames.into_iter().map(|frame| (frame, verified)).collect();
    assert_eq!(sizes(&run_with(&mut Coalescer::new(64, true), &handed)), [1, 1]);
}

#[test]
fn two_flows_in_turn_are_two_chains_in_order_of_their_first_frames() {
    let (a, b) = (pair(&tcp4(b"abcd"), |_| ()), pair(&Packet { flow: 2, ..tcp6(b"efgh") }, |_| ()));
    let writes = run(&[a[0].clone(), b[0].clone(), a[1].clone(), b[1].clone()]);
    assert_eq!(writes.iter().map(|write| (write.0.gso_type, write.2)).collect::<Vec<_>>(), [(GSO_TCPV4, 2), (GSO_TCPV6, 2)]);
}

#[test]
fn tcp_and_udp_between_the_same_ports_are_two_flows() {
    let (a, b) = (pair(&tcp4(b"abcd"), |_| ()), pair(&udp4(b"efgh"), |_| ()));
    assert_eq!(sizes(&run(&[a[0].clone(), b[0].clone(), a[1].clone(), b[1].clone()])), [2, 2]);
}

#[test]
fn nothing_joins_over_a_frame_of_its_flow_that_stayed_behind() {
    let frames = pair(&tcp4(b"abcd"), |_| ());
    let beyond = Packet { sequence: 0x9000, flags: 0x18, ..tcp4(b"abcd") }.build();
    assert_verbatim("over a gap", &[frames[0].clone(), beyond, frames[1].clone()]);
    let mut corrupt = frames[1].clone();
    corrupt[54] ^= 1;
    assert_verbatim("over a corrupt one", &[frames[0].clone(), corrupt, frames[1].clone()]);
}

#[test]
fn a_fragment_seals_every_chain_but_arp_does_not() {
    let frames = pair(&tcp4(b"abcd"), |_| ());
    let mut fragment = udp4(b"abcd").build();
    fragment[20] = 0x20;
    assert_verbatim("over a fragment", &[frames[0].clone(), fragment, frames[1].clone()]);
    let mut extended = tcp6(b"abcd").build();
    extended[20] = 0;
    assert_verbatim("over extension headers", &[frames[0].clone(), extended, frames[1].clone()]);
    let arp = [&[0xff; 12][..], &[8, 6], &[0; 28]].concat();
    assert_eq!(sizes(&run(&[frames[0].clone(), arp, frames[1].clone()])), [2, 1]);
}

#[test]
fn a_pure_acknowledgement_may_be_overtaken_anything_else_may_not() {
    let frames = pair(&tcp4(b"abcd"), |_| ());
    let bare = |flags| Packet { flags, sequence: 0x1004, ..tcp4(b"") }.build();
    assert_eq!(sizes(&run(&[frames[0].clone(), bare(0x10), frames[1].clone()])), [2, 1]);
    assert_verbatim("RST", &[frames[0].clone(), bare(0x14), frames[1].clone()]);
    assert_verbatim("FIN", &[frames[0].clone(), bare(0x11), frames[1].clone()]);
}

#[test]
fn limits() {
    let many = |count: u32, len: usize| {
        let base = tcp4(&vec![7; len]);
        let piece = |n: u32| Packet { sequence: n * len as u32, id: n as u16, ..base.clone() }.build();
        (0..count).map(piece).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&run(&many(150, 10))), [64, 64, 22]);
    let writes = run(&many(64, 1410));
    assert_eq!(sizes(&writes), [46, 18]);
    assert!(writes[0].1.len() <= FRAME_MAX && writes[0].1.len() + 1410 > FRAME_MAX);
    let plain: Vec<_> = pair(&udp4(b"abcd"), |_| ()).into_iter().map(|frame| (frame, VirtioHeader::default())).collect();
    assert_eq!(sizes(&run_with(&mut Coalescer::new(64, false), &plain)), [1, 1], "UDP switched off");
    assert_eq!(sizes(&run_with(&mut Coalescer::new(1, true), &plain)), [1, 1], "joining switched off");
}

#[test]
fn more_flows_than_may_be_open_at_once() {
    let flow = |flow: u8| pair(&Packet { flow, ..tcp4(b"abcd") }, |_| ());
    let firsts = (0..=OPEN_MAX as u8).map(|n| flow(n)[0].clone());
    let seconds = (0..=OPEN_MAX as u8).map(|n| flow(n)[1].clone());
    let writes = run(&firsts.chain(seconds).collect::<Vec<_>>());
    // The first flow was sealed for the last one's sake; its second segment then sealed the second flow's, and so on.
    assert_eq!(sizes(&writes), vec![1; 2 * (OPEN_MAX + 1)]);

    // A flow that just got something is not the oldest.
    let firsts = (0..OPEN_MAX as u8).map(|n| flow(n)[0].clone());
    let third = Packet { flow: 0, sequence: 0x1008, id: 0x0102, ..tcp4(b"abcd") }.build();
    let then = [flow(0)[1].clone(), flow(OPEN_MAX as u8)[0].clone(), third];
    assert_eq!(sizes(&run(&firsts.chain(then).collect::<Vec<_>>()))[..2], [3, 1]);
}

#[test]
fn nothing_is_left_of_a_batch() {
    let mut coalescer = Coalescer::new(64, true);
    let frames = <[Vec<u8>; 2]>::try_from(pair(&tcp4(b"abcd"), |_| ())).unwrap();
    for frame in &frames {
        let alone = (VirtioHeader::default(), frame.clone(), 1);
        assert_eq!(run_with(&mut coalescer, &[(frame.clone(), VirtioHeader::default())]), [alone]);
    }
    run_with(&mut coalescer, &frames.map(|frame| (frame, VirtioHeader::default())));
    assert!(coalescer.items.is_empty() && coalescer.pieces.is_empty() && coalescer.open.is_empty());
    assert!(run_with(&mut coalescer, &[]).is_empty());
    coalescer.push(&mut [0; 10], 5, usize::MAX, VirtioHeader::default());
    coalescer.push(&mut [0; 10], 5, 6, VirtioHeader::default());
    assert!(run_with(&mut coalescer, &[]).is_empty(), "ranges outside of the arena");
}
