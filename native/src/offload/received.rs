//! What a decapsulated frame needs so that the TAP takes it for what it is.
//!
//! A frame from a real wire needs nothing. But where sender and receiver share a kernel (network namespaces, containers on one
//! host) or a NIC that segments tunnels, Linux hands a plain UDP socket datagrams that it meant to segment and checksum on
//! the way out: whole superframes of up to 64 KiB, and TCP and UDP checksums that are still the folded pseudo-header sum.
//! Nothing beside the datagram says so. Written to the TAP as they are, each would be discarded as corrupt by the host.
//!
//! A checksum that is complete and happens to equal the pseudo-header sum (one in 65536) is taken for a partial one. That is
//! harmless: whoever completes it comes to the same value. It only costs that this one frame is not coalesced.

use super::layers::{Inside, Layers, look};
use crate::drops::DropReason;
use crate::wire::virtio::{GSO_ECN, NEEDS_CSUM, VirtioHeader};
use crate::wire::{ethernet, ip, tcp};

/// How to write a frame to the TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the frame to write. Less than it has only if something follows the IP packet and `virtio` is not the default:
    /// then the kernel would take the rest for payload.
    pub len: usize,
    /// The header to put in front.
    pub virtio: VirtioHeader,
    /// The checksum was partial.
    pub partial_checksum: bool,
    /// The frame is worth more than one segment.
    pub whole_superframe: bool,
}

/// Looks at a decapsulated frame; `mtu` is the TAP's.
///
/// TCP that is larger is a superframe, to be cut at the MTU: where its sender would have cut it does not matter to a byte
/// stream. UDP that is larger may be one datagram or several, and nothing in it tells; it is delivered as one, as a
/// kernel without the cut would, unless [`classify_sized`] knows the size. A superframe needs [`prepare`] before it is written.
pub fn classify(frame: &[u8], mtu: u32) -> Result<Received, DropReason> {
    classify_sized(frame, mtu, None)
}

/// As [`classify`], where the socket's `UDP_GRO` control message named a size although the datagram is one frame and no train
/// (Linux then names the *inner* segment size). This is the payload size of a UDP superframe's datagrams.
pub fn classify_sized(frame: &[u8], mtu: u32, inner_size: Option<u16>) -> Result<Received, DropReason> {
    let ethernet = ethernet::parse(frame).ok_or(DropReason::RxInnerRunt)?;
    let room = frame.len() - ethernet.network_offset;
    // The kernel looks for the IP header of untagged frames only (`pskb_inet_may_pull`), and only whether it is there.
    match ethernet.ethertype {
        ethernet::IPV4 if !ethernet.tagged && room < ip::V4_LEN => return Err(DropReason::RxInnerTruncated),
        ethernet::IPV6 if !ethernet.tagged && room < ip::V6_LEN => return Err(DropReason::RxInnerTruncated),
        _ => {}
    }
    let plain = Received { len: frame.len(), virtio: VirtioHeader::default(), partial_checksum: false, whole_superframe: false };
    let Inside::Transport(layers) = look(frame) else { return Ok(plain) };

    // A UDP checksum of 0 (none) is never taken for one: the sum over a pseudo header is not 0.
    let partial = layers.checksum(frame) == layers.partial_checksum(frame, layers.end - layers.transport);
    let size = superframe_size(&layers, mtu, inner_size);
    let whole = size.is_some() && layers.header_checksum_ok(frame) && (partial || layers.checksum_ok(frame));
    if !partial && !whole {
        return Ok(plain);
    }
    let mut virtio = VirtioHeader {
        flags: NEEDS_CSUM,
        csum_start: layers.transport as u16,
        csum_offset: layers.checksum_offset() as u16,
        ..VirtioHeader::default()
    };
    if let Some(size) = size.filter(|_| whole) {
        virtio.gso_type = layers.gso_type() | ecn(frame, &layers);
        virtio.gso_size = size;
        virtio.hdr_len = layers.payload as u16;
    }
    Ok(Received { len: layers.end, virtio, partial_checksum: partial, whole_superframe: whole })
}

/// The payload of one segment if the packet is a superframe.
fn superframe_size(layers: &Layers, mtu: u32, inner_size: Option<u16>) -> Option<u16> {
    if layers.ip.length <= mtu as usize {
        return None;
    }
    let headers = layers.payload - layers.network;
    let size = match layers.is_tcp() {
        true => (mtu as usize).checked_sub(headers)?,
        false => usize::from(inner_size?),
    };
    // One segment is no superframe; UDP_MAX_SEGMENTS is 128, beyond which the kernel refuses the write.
    let few_enough = layers.is_tcp() || layers.payload_len() <= size * 128;
    (size > 0 && size < layers.payload_len() && few_enough).then(|| u16::try_from(size).ok())?
}

/// CWR on a superframe is for its first segment only, which the kernel is told by a bit in the type.
fn ecn(frame: &[u8], layers: &Layers) -> u8 {
    let flags = frame.get(layers.transport + tcp::FLAGS).copied().unwrap_or(0);
    if layers.is_tcp() && flags & tcp::CWR != 0 { GSO_ECN } else { 0 }
}

/// Makes the bytes agree with [`Received::virtio`]: with `NEEDS_CSUM` the checksum field must hold the folded pseudo-header sum,
/// which a superframe that came with a complete (and verified) checksum does not. Does nothing if nothing is needed.
pub fn prepare(frame: &mut [u8], received: &Received) {
    if received.partial_checksum || !received.whole_superframe {
        return;
    }
    if let Inside::Transport(layers) = look(frame) {
        layers.write_partial_checksum(frame, layers.end - layers.transport);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::wire::virtio::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4};
    use proptest::prelude::*;

    const MTU: u32 = 1450;

    fn plain(len: usize) -> Result<Received, DropReason> {
        Ok(Received { len, virtio: VirtioHeader::default(), partial_checksum: false, whole_superframe: false })
    }

    #[test]
    fn ordinary_frames_need_nothing() {
        for packet in [tcp4(b"abc"), tcp6(b"abc"), udp4(b"abc"), udp6(b"abc"), Packet { tags: 1, ..tcp4(b"abc") }] {
            let frame = packet.build();
            assert_eq!(classify(&frame, MTU), plain(frame.len()));
            let padded = [&frame[..], &[0; 9]].concat();
            assert_eq!(classify(&padded, MTU), plain(padded.len()), "padding passes, as through the kernel device");
        }
        let arp = [&[0xff; 12][..], &[8, 6], &[0; 28]].concat();
        assert_eq!(classify(&arp, MTU), plain(42));
    }

    #[test]
    fn runts_and_missing_ip_headers_are_dropped_as_by_the_kernel() {
        let (four, six) = (tcp4(b"abc").build(), tcp6(b"abc").build());
        for len in 0..14 {
            assert_eq!(classify(&four[..len], MTU), Err(DropReason::RxInnerRunt));
        }
        for len in 14..34 {
            assert_eq!(classify(&four[..len], MTU), Err(DropReason::RxInnerTruncated));
        }
        for len in 14..54 {
            assert_eq!(classify(&six[..len], MTU), Err(DropReason::RxInnerTruncated));
        }
        let tagged = Packet { tags: 1, ..tcp4(b"abc") }.build();
        assert_eq!(classify(&tagged[..20], MTU), plain(20), "the kernel does not look behind a tag");
        let other = [&[2; 12][..], &[0x12, 0x34]].concat();
        assert_eq!(classify(&other, MTU), plain(14));
    }

    #[test]
    fn a_length_beyond_the_frame_is_for_the_host_to_judge() {
        let frame = tcp4(&[7; 100]).build_partial();
        assert_eq!(classify(&frame[..100], MTU), plain(100));
    }

    #[test]
    fn a_partial_checksum_is_handed_on_as_such() {
        for packet in [tcp4(b"abc"), tcp6(b"abc"), udp4(b"abc"), udp6(b"abc"), Packet { tags: 2, ..udp6(b"abc") }] {
            let frame = packet.build_partial();
            let expected =
                Received { len: frame.len(), virtio: packet.needs_csum(), partial_checksum: true, whole_superframe: false };
            assert_eq!(classify(&frame, MTU), Ok(expected));
            let padded = [&frame[..], &[9; 5]].concat();
            assert_eq!(classify(&padded, MTU), Ok(expected), "what follows would be summed");
        }
    }

    #[test]
    fn a_udp_datagram_without_checksum_stays_without() {
        let mut frame = udp4(b"abc").build();
        frame[40..42].copy_from_slice(&[0, 0]);
        assert_eq!(classify(&frame, MTU), plain(frame.len()));
    }

    #[test]
    fn tcp_larger_than_the_mtu_is_a_superframe_cut_at_the_mtu() {
        let options = vec![1; 12];
        for (packet, gso_type, size) in [
            (tcp4(&[7; 28_000]), GSO_TCPV4, 1410),
            (tcp6(&[7; 28_000]), GSO_TCPV6, 1390),
            (Packet { options, tags: 1, ..tcp4(&[7; 28_000]) }, GSO_TCPV4, 1398),
            (Packet { flags: 0x90, ..tcp4(&[7; 28_000]) }, GSO_TCPV4 | GSO_ECN, 1410),
        ] {
            let frame = packet.build_partial();
            let virtio = VirtioHeader { gso_type, ..packet.gso(size) };
            let expected = Received { len: frame.len(), virtio, partial_checksum: true, whole_superframe: true };
            assert_eq!(classify(&frame, MTU), Ok(expected));
            let mut prepared = frame.clone();
            prepare(&mut prepared, &expected);
            assert_eq!(prepared, frame);

            let mut complete = packet.build();
            let received = classify(&complete, MTU).unwrap();
            assert_eq!(received, Received { partial_checksum: false, ..expected }, "a peer with a larger MTU");
            prepare(&mut complete, &received);
            assert_eq!(complete, frame, "the sum must be partial if the kernel is to complete it");
        }
    }

    #[test]
    fn a_large_frame_with_a_wrong_checksum_is_not_made_right() {
        for at in [24, 50] {
            let mut frame = tcp4(&[7; 2000]).build();
            frame[at] ^= 1;
            assert_eq!(classify(&frame, MTU), plain(frame.len()));
        }
    }

    #[test]
    fn the_mtu_is_that_of_the_ip_packet() {
        let whole = |packet: &Packet| classify(&packet.build(), MTU).unwrap().whole_superframe;
        assert!(!whole(&tcp4(&[7; 1410])));
        assert!(!whole(&Packet { tags: 2, ..tcp4(&[7; 1410]) }));
        assert!(whole(&tcp4(&[7; 1411])));
        assert!(!classify(&tcp4(&[7; 100]).build(), 40).unwrap().whole_superframe, "no room for payload");
    }

    #[test]
    fn large_udp_is_a_superframe_only_if_its_size_is_known() {
        for packet in [udp4(&[7; 12_000]), udp6(&[7; 12_000])] {
            let frame = packet.build_partial();
            let alone =
                Received { len: frame.len(), virtio: packet.needs_csum(), partial_checksum: true, whole_superframe: false };
            assert_eq!(classify(&frame, MTU), Ok(alone));
            let whole =
                Received { virtio: VirtioHeader { gso_type: GSO_UDP_L4, ..packet.gso(1200) }, whole_superframe: true, ..alone };
            assert_eq!(classify_sized(&frame, MTU, Some(1200)), Ok(whole));
            assert_eq!(classify_sized(&frame, MTU, Some(12_000)), Ok(alone), "one datagram is no superframe");
            assert_eq!(classify_sized(&frame, MTU, Some(93)), Ok(alone), "more than 128 segments");
            assert_eq!(classify_sized(&frame, MTU, Some(0)), Ok(alone));
        }
    }

    proptest! {
        #[test]
        fn never_panics(
            packet in any_packet(proptest::collection::vec(any::<u8>(), 0..3000)),
            noise: Vec<u8>,
            (at, value, cut) in any::<(prop::sample::Index, u8, prop::sample::Index)>(),
            (mtu, size, partial) in any::<(u32, Option<u16>, bool)>(),
        ) {
            let mut frame = if partial { packet.build_partial() } else { packet.build() };
            let at = at.index(frame.len());
            frame[at] = value;
            frame.truncate(cut.index(frame.len() + 1));
            for mut frame in [frame, noise] {
                for mtu in [mtu, mtu % 3000] {
                    if let Ok(received) = classify_sized(&frame, mtu, size) {
                        prop_assert!(received.len <= frame.len());
                        prepare(&mut frame, &received);
                    }
                }
            }
        }
    }
}
