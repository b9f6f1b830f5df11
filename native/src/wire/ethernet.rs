//! The Ethernet header, with up to two VLAN tags (802.1Q, 802.1ad) looked through.

use super::{Mac, be16};

/// Two addresses and an ethertype.
pub const HEADER_LEN: usize = 14;
/// Bytes that one VLAN tag adds.
pub const TAG_LEN: usize = 4;

/// IPv4.
pub const IPV4: u16 = 0x0800;
/// ARP.
pub const ARP: u16 = 0x0806;
/// 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// 802.1ad service tag.
pub const QINQ: u16 = 0x88a8;
/// IPv6.
pub const IPV6: u16 = 0x86dd;

/// What the front of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// What follows, after the tags. A third tag, or one that is cut, is not looked through: then this is its own type.
    pub ethertype: u16,
    /// Where what follows begins.
    pub network_offset: usize,
    /// True if a tag was looked through.
    pub tagged: bool,
}

/// Reads the header; `None` if the frame is shorter than one.
pub fn parse(frame: &[u8]) -> Option<Ethernet> {
    let (header, _) = frame.split_first_chunk::<HEADER_LEN>()?;
    let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = header;
    let mut ethertype = u16::from_be_bytes([t0, t1]);
    let mut network_offset = HEADER_LEN;
    for _ in 0..2 {
        if ethertype != VLAN && ethertype != QINQ {
            break;
        }
        let Some(inside) = be16(frame, network_offset + 2) else { break };
        ethertype = inside;
        network_offset += TAG_LEN;
    }
    Some(Ethernet {
        destination: Mac([d0, d1, d2, d3, d4, d5]),
        source: Mac([s0, s1, s2, s3, s4, s5]),
        ethertype,
        network_offset,
        tagged: network_offset != HEADER_LEN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];

    fn with_tags(tags: &[[u8; 4]]) -> Vec<u8> {
        let mut frame = PLAIN[..12].to_vec();
        tags.iter().for_each(|tag| frame.extend(tag));
        frame.extend([0x86, 0xdd]);
        frame
    }

    #[test]
    fn plain() {
        let ethernet = parse(&PLAIN).unwrap();
        assert_eq!(ethernet.destination, Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(ethernet.source, Mac([2, 0, 0, 0, 0, 2]));
        assert_eq!((ethernet.ethertype, ethernet.network_offset, ethernet.tagged), (IPV4, 14, false));
        assert_eq!(parse(&PLAIN[..13]), None);
    }

    #[test]
    fn one_and_two_tags_are_looked_through_a_third_is_not() {
        let seen = |tags: &[[u8; 4]]| {
            let ethernet = parse(&with_tags(tags)).unwrap();
            (ethernet.ethertype, ethernet.network_offset, ethernet.tagged)
        };
        let (q, s) = ([0x81, 0, 0, 5], [0x88, 0xa8, 0, 7]);
        assert_eq!(seen(&[q]), (IPV6, 18, true));
        assert_eq!(seen(&[s, q]), (IPV6, 22, true));
        assert_eq!(seen(&[s, q, q]), (VLAN, 22, true));
    }

    #[test]
    fn a_cut_tag_is_left_alone() {
        let frame = with_tags(&[[0x81, 0, 0, 5]]);
        for len in 14..18 {
            let ethernet = parse(&frame[..len]).unwrap();
            assert_eq!((ethernet.ethertype, ethernet.network_offset, ethernet.tagged), (VLAN, 14, false), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn the_network_header_begins_inside_or_at_the_end(frame: Vec<u8>) {
            match parse(&frame) {
                Some(ethernet) => prop_assert!(ethernet.network_offset <= frame.len()),
                None => prop_assert!(frame.len() < HEADER_LEN),
            }
        }
    }
}
