//! Bare packets are cut, completed and joined as the same packets in frames.

use super::coalesce::Coalescer;
use super::fixture::*;
use super::segment::{Segment, complete_checksum, complete_checksum_as, segment, segment_as};
use crate::wire::Framing;
use crate::wire::virtio::VirtioHeader;
use proptest::prelude::*;

const LINK: usize = 14;

fn bare(virtio: VirtioHeader) -> VirtioHeader {
    let less = |offset: u16| if offset == 0 { 0 } else { offset - LINK as u16 };
    VirtioHeader { hdr_len: less(virtio.hdr_len), csum_start: less(virtio.csum_start), ..virtio }
}

fn pieces(frame: &[u8], headers: &[u8], segments: &[Segment]) -> Vec<Vec<u8>> {
    let whole = |s: &Segment| {
        [&headers[s.header.0 as usize..s.header.1 as usize], &frame[s.payload.0 as usize..s.payload.1 as usize]].concat()
    };
    segments.iter().map(whole).collect()
}

/// What one batch is written as.
fn join(framing: Framing, frames: &[&[u8]]) -> Vec<(Vec<u8>, VirtioHeader)> {
    let mut coalescer = Coalescer::new(64, true).of(framing);
    let mut arena = frames.concat();
    let mut at = 0;
    for frame in frames {
        coalescer.push(&mut arena, at, frame.len(), VirtioHeader::default());
        at += frame.len();
    }
    let mut writes = vec![];
    coalescer.flush(&mut arena, &mut |arena, virtio, ranges, _| {
        writes.push((ranges.iter().flat_map(|(from, to)| arena[*from..*to].to_vec()).collect(), *virtio));
    });
    writes
}

#[test]
fn a_superframe_is_cut_into_packets_with_right_ids_and_checksums_and_they_become_one_again() {
    let packet = Packet { id: 0xfffe, ..tcp4(&[7; 3500]) };
    let frame = packet.build_partial();
    let virtio = bare(packet.gso(1432));
    assert_eq!((virtio.hdr_len, virtio.csum_start), (40, 20));
    let (mut headers, mut segments) = (vec![], vec![]);
    segment_as(Framing::Bare, &frame[LINK..], &virtio, &mut headers, &mut segments).unwrap();
    let cut = pieces(&frame[LINK..], &headers, &segments);
    let facts: Vec<_> = cut.iter().map(|packet| (packet.len(), u16::from_be_bytes([packet[4], packet[5]]))).collect();
    assert_eq!(facts, [(1472, 0xfffe), (1472, 0xffff), (40 + 636, 0)]);
    cut.iter().for_each(|packet| assert_sound(&[&frame[..LINK], packet].concat()));
    let joined = join(Framing::Bare, &cut.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(joined, [(frame[LINK..].to_vec(), virtio)]);
}

#[test]
fn a_checksum_begins_behind_the_packets_first_byte() {
    let packet = udp4(b"abc");
    let mut bytes = packet.build_partial().split_off(LINK);
    complete_checksum_as(Framing::Bare, &mut bytes, &bare(packet.needs_csum())).unwrap();
    assert_eq!(bytes, packet.build().split_off(LINK));
    let beyond = VirtioHeader { csum_start: bytes.len() as u16, ..packet.needs_csum() };
    assert!(complete_checksum_as(Framing::Bare, &mut bytes, &beyond).is_err());
}

proptest! {
    #[test]
    fn packets_are_treated_as_in_frames(
        packet in any_packet(proptest::collection::vec(any::<u8>(), 1..4000)),
        size in 1u16..3000,
        change in any::<Option<(prop::sample::Index, u8)>>(),
    ) {
        let packet = Packet { v6: false, tags: 0, ..packet };
        let mut frame = packet.build_partial();
        if let Some((at, value)) = change {
            let at = LINK + at.index(frame.len() - LINK);
            frame[at] = value;
        }
        let gso = packet.gso(size);
        let (mut headers, mut segments) = (vec![], vec![]);
        let framed = segment(&[], &frame, &gso, &mut headers, &mut segments).map(|()| pieces(&frame, &headers, &segments));
        let (mut headers, mut segments) = (vec![], vec![]);
        let stripped = segment_as(Framing::Bare, &frame[LINK..], &bare(gso), &mut headers, &mut segments);
        let stripped = stripped.map(|()| pieces(&frame[LINK..], &headers, &segments));
        // A version that is not IPv4's makes another kind of frame of the one, and no packet of the other.
        prop_assert_eq!(framed.clone().map(|cut| cut.iter().map(|f| f[LINK..].to_vec()).collect::<Vec<_>>()), stripped);

        let mut plain = packet.needs_csum();
        let (mut in_frame, mut alone) = (frame.clone(), frame[LINK..].to_vec());
        let done = complete_checksum(&mut in_frame, &plain);
        plain.csum_start -= LINK as u16;
        prop_assert_eq!(done, complete_checksum_as(Framing::Bare, &mut alone, &plain));
        prop_assert_eq!(&in_frame[LINK..], &alone[..]);

        let frames = framed.unwrap_or_else(|_| vec![frame]);
        let with: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let without: Vec<&[u8]> = with.iter().map(|frame| &frame[LINK..]).collect();
        let expected: Vec<_> =
            join(Framing::Ethernet, &with).into_iter().map(|(bytes, virtio)| (bytes[LINK..].to_vec(), bare(virtio))).collect();
        prop_assert_eq!(join(Framing::Bare, &without), expected);
    }
}
