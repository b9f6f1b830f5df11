//! IPv4 and IPv6 headers, as far as a tunnel endpoint looks into them: lengths, protocol, addresses, whether it is a fragment.
//!
//! IPv6 extension headers are not walked (a walk is where others had endless loops and bypasses): a packet that has one is
//! of a protocol that nobody here knows, and passes verbatim. Only who would answer it with an ICMP error looks behind them.

use super::{be16, checksum, ethernet};

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;

/// Smallest IPv4 header.
pub const V4_LEN: usize = 20;
/// IPv6 header.
pub const V6_LEN: usize = 40;

/// IPv4's "don't fragment", in the 16 bits at offset 6.
pub const V4_DF: u16 = 0x4000;
/// IPv4's "more fragments" and fragment offset.
const V4_FRAGMENT: u16 = 0x3fff;

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// What an IP header says. Offsets count from the header's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Which IP.
    pub family: Family,
    /// Bytes of the header, IPv4 options included, IPv6 extension headers not.
    pub header_len: usize,
    /// Bytes of the packet according to the header, itself included; the frame may hold fewer or more.
    pub length: usize,
    /// What follows: IPv4's protocol, or IPv6's next header.
    pub protocol: u8,
    /// True for any piece of a fragmented IPv4 packet, the first included. IPv6 says it in an extension header.
    pub fragment: bool,
}

impl Ip {
    /// Reads the header at the front of `packet`. `None` if `ethertype` is not IP, the header is cut, or it contradicts itself
    /// (version, header length, a length smaller than the header).
    pub fn parse(ethertype: u16, packet: &[u8]) -> Option<Ip> {
        match ethertype {
            ethernet::IPV4 => Self::parse_v4(packet),
            ethernet::IPV6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    fn parse_v4(packet: &[u8]) -> Option<Ip> {
        let header: &[u8; V4_LEN] = packet.first_chunk()?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] >> 4 != 4 || header_len < V4_LEN || header_len > packet.len() || length < header_len {
            return None;
        }
        let fragment = u16::from_be_bytes([header[6], header[7]]) & V4_FRAGMENT != 0;
        Some(Ip { family: Family::V4, header_len, length, protocol: header[9], fragment })
    }

    fn parse_v6(packet: &[u8]) -> Option<Ip> {
        let header: &[u8; V6_LEN] = packet.first_chunk()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let length = V6_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
        Some(Ip { family: Family::V6, header_len: V6_LEN, length, protocol: header[6], fragment: false })
    }

    /// Source and destination, one behind the other; empty if `packet` is not the one that was parsed.
    pub fn addresses<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        let range = match self.family {
            Family::V4 => 12..20,
            Family::V6 => 8..40,
        };
        packet.get(range).unwrap_or(&[])
    }

    /// Sum over the pseudo header of an L4 packet of `l4_len` bytes.
    pub fn pseudo_header(&self, packet: &[u8], l4_len: usize) -> u64 {
        checksum::sum(self.addresses(packet), u64::from(self.protocol) + l4_len as u64)
    }

    /// Bytes behind the header, according to the header.
    pub const fn payload_len(&self) -> usize {
        self.length - self.header_len
    }

    /// True if the protocol is an IPv6 extension header (IANA's list), behind which any protocol may hide.
    pub const fn is_extended(&self) -> bool {
        matches!(self.family, Family::V6) && matches!(self.protocol, 0 | 43 | 44 | 50 | 51 | 60 | 135 | 139 | 140 | 253 | 254)
    }
}

/// True if an IPv4 header's checksum is right (`header` is the whole header and no more).
pub fn v4_checksum_ok(header: &[u8]) -> bool {
    checksum::fold(checksum::sum(header, 0)) == 0xffff
}

/// Takes the checksum of an IPv4 header anew and writes it.
pub fn v4_write_checksum(header: &mut [u8]) {
    let old = u64::from(!be16(header, 10).unwrap_or(0));
    let check = !checksum::fold(checksum::sum(header, old));
    super::put16(header, 10, check);
}

/// Takes one from the TTL of an IPv4 packet and patches its checksum (RFC 1624), so that one that was wrong stays wrong. False, with
/// nothing changed, where none would be left.
pub fn v4_decrement_ttl(packet: &mut [u8]) -> bool {
    let Some([ttl, protocol, high, low]) = packet.get_mut(8..12) else { return false };
    let Some(less) = ttl.checked_sub(1).filter(|less| *less > 0) else { return false };
    let word = |ttl: u8| u16::from_be_bytes([ttl, *protocol]);
    let check = checksum::update16(u16::from_be_bytes([*high, *low]), word(*ttl), word(less));
    [*high, *low] = check.to_be_bytes();
    *ttl = less;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071's favourite: a header whose checksum b861 is in every textbook.
    const V4: [u8; 20] =
        [0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7];

    #[test]
    fn reads_a_v4_header() {
        let ip = Ip::parse(ethernet::IPV4, &V4).unwrap();
        assert_eq!(ip, Ip { family: Family::V4, header_len: 20, length: 115, protocol: UDP, fragment: false });
        assert_eq!(ip.addresses(&V4), [192, 168, 0, 1, 192, 168, 0, 199]);
    }

    #[test]
    fn v4_checksum_is_verified_and_rewritten() {
        assert!(v4_checksum_ok(&V4));
        let mut header = V4;
        header[10..12].copy_from_slice(&[0xde, 0xad]);
        assert!(!v4_checksum_ok(&header));
        v4_write_checksum(&mut header);
        assert_eq!(header, V4);
    }

    #[test]
    fn every_ttl_but_the_last_is_decremented_and_the_checksum_stays_right() {
        for ttl in 2..=255 {
            let mut header = V4;
            header[8] = ttl;
            v4_write_checksum(&mut header);
            assert!(v4_decrement_ttl(&mut header));
            assert_eq!(header[8], ttl - 1);
            assert!(v4_checksum_ok(&header), "{ttl}");
            header[10] ^= 1;
            assert!(v4_decrement_ttl(&mut header) == (ttl > 2) && !v4_checksum_ok(&header), "what is wrong stays wrong");
        }
        for ttl in [0, 1] {
            let mut header = V4;
            header[8] = ttl;
            let before = header;
            assert!(!v4_decrement_ttl(&mut header));
            assert_eq!(header, before);
        }
        assert!(!v4_decrement_ttl(&mut [0x45; 11]));
    }

    #[test]
    fn refuses_contradictions() {
        let change = |at: usize, value: u8| {
            let mut header = V4;
            header[at] = value;
            Ip::parse(ethernet::IPV4, &header)
        };
        assert_eq!(change(0, 0x65), None, "version 6 behind IPv4's ethertype");
        assert_eq!(change(0, 0x44), None, "header of 16 bytes");
        assert_eq!(change(0, 0x46), None, "options that are cut");
        assert_eq!(change(3, 19), None, "packet shorter than its header");
        assert_eq!(Ip::parse(ethernet::IPV6, &V4), None);
        assert_eq!(Ip::parse(ethernet::ARP, &V4), None);
        assert_eq!(Ip::parse(ethernet::IPV4, &V4[..19]), None);
    }

    #[test]
    fn every_piece_of_a_fragmented_packet_is_a_fragment() {
        for (high, low, fragment) in [(0x20, 0, true), (0x00, 1, true), (0x40, 0, false), (0x60, 0, true), (0x80, 0, false)] {
            let mut header = V4;
            header[6..8].copy_from_slice(&[high, low]);
            assert_eq!(Ip::parse(ethernet::IPV4, &header).unwrap().fragment, fragment, "{high:02x}{low:02x}");
        }
    }

    #[test]
    fn reads_a_v6_header() {
        let mut header = [0; 40];
        header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 24, ICMPV6, 255]);
        let ip = Ip::parse(ethernet::IPV6, &header).unwrap();
        assert_eq!(ip, Ip { family: Family::V6, header_len: 40, length: 64, protocol: ICMPV6, fragment: false });
        assert!(!ip.is_extended());
        header[6] = 44;
        assert!(Ip::parse(ethernet::IPV6, &header).unwrap().is_extended());
        assert_eq!(Ip::parse(ethernet::IPV6, &header[..39]), None);
    }

    proptest! {
        #[test]
        fn never_panics(
            ethertype in prop_oneof![Just(ethernet::IPV4), Just(ethernet::IPV6), any::<u16>()],
            first in prop_oneof![Just(0x45u8), Just(0x60), Just(0x4f), any::<u8>()],
            mut packet: Vec<u8>,
        ) {
            if let Some(byte) = packet.first_mut() { *byte = first; }
            if let Some(ip) = Ip::parse(ethertype, &packet) {
                prop_assert!(ip.header_len <= packet.len() && ip.header_len <= ip.length);
                ip.pseudo_header(&packet, ip.payload_len());
            }
            v4_write_checksum(&mut packet);
        }
    }
}
