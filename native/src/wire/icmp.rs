//! What tells an inner sender that its packet does not fit: ICMP "fragmentation needed" (RFC 792, RFC 1191) and ICMPv6 "packet too
//! big" (RFC 4443 §3.2), built as the kernel's tunnels build them (`iptunnel_pmtud_build_icmp`), to the byte.
//!
//! The answer seems to come from the packet's destination; it quotes as much as fits 576 or 1280 bytes, which every path
//! carries. VLAN tags are kept, so that it finds back to a sender behind a bridge.
//!
//! What the kernel means to ask behind IPv6 extension headers, we ask: it looks for them 14 bytes before they begin
//! (`iptunnel_pmtud_check_icmpv6` counts from the Ethernet header), so its answer there depends on the addresses.
//!
//! A layer-3 network is a hop of its own, so its errors ("net unreachable", "time exceeded") come from its tunnel address.

use super::ethernet::{self, Ethernet};
use super::ip::{self, Family, ICMPV6, Ip};
use super::{be16, checksum, put16};

/// RFC 1122 §3.2.2: the smallest packet that every IPv4 host takes.
const V4_TOTAL: usize = 576;
/// RFC 8200 §5: the smallest MTU of IPv6.
const V6_TOTAL: usize = 1280;
/// Type, code, checksum, MTU.
const ICMP_LEN: usize = 8;
/// The longest frame that `too_big` builds, two tags included.
pub const ROOM: usize = ethernet::HEADER_LEN + 2 * ethernet::TAG_LEN + V6_TOTAL;

const ICMPV4: u8 = 1;

/// Writes the answer to `frame`, whose IP packet may have `mtu` bytes, to `out`; its length. `None` where the rules forbid an answer: the
/// packet may be fragmented, is a fragment (of IPv6: one behind the first) or an ICMP error itself, is from or to nobody in particular,
/// or IPv6 could not obey.
pub fn too_big(frame: &[u8], ethernet: &Ethernet, mtu: u32, out: &mut [u8; ROOM]) -> Option<usize> {
    let link = frame.get(..ethernet.network_offset)?;
    let packet = frame.get(ethernet.network_offset..)?;
    let ip = Ip::parse(ethernet.ethertype, packet)?;
    let packet = packet.get(..ip.length.min(packet.len()))?;
    let written = match ip.family {
        Family::V4 => v4(packet, &ip, mtu, out.get_mut(link.len()..)?)?,
        Family::V6 => v6(packet, &ip, mtu, out.get_mut(link.len()..)?)?,
    };
    out.get_mut(..link.len())?.copy_from_slice(link);
    let (to, from) = out.split_at_mut_checked(6)?;
    to.swap_with_slice(from.get_mut(..6)?);
    Some(link.len() + written)
}

fn v4(packet: &[u8], ip: &Ip, mtu: u32, out: &mut [u8]) -> Option<usize> {
    let source = *packet.get(12..)?.first_chunk::<4>()?;
    let destination = *packet.get(16..)?.first_chunk::<4>()?;
    // The kernel asks for DF alone: a fragment, the reserved bit included, gets no answer.
    let fragment = be16(packet, 6)? != ip::V4_DF;
    if fragment || is_nobody(source) || is_nobody(destination) || is_no_sender(source) || is_error(packet, ip) {
        return None;
    }
    let next_hop_mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    let answer = V4Error { tos: 0, ttl: packet[8], from: destination, to: source, kind: 3, code: 4, next_hop_mtu };
    answer.write(packet, out)
}

/// Why a layer-3 network does not carry an IPv4 packet on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No peer's subnet holds its destination.
    NetUnreachable,
    /// Its TTL is used up.
    TimeExceeded,
}

/// Writes the answer to an IPv4 packet, from the tunnel's own address, to `out`; its length. `None` where the rules forbid an answer:
/// the packet is a later fragment, from or to nobody in particular, or an ICMP error. Net unreachable is not said about ICMP at
/// all, as by flannel's proxy.
pub fn refuse(refusal: Refusal, packet: &[u8], tunnel: [u8; 4], out: &mut [u8; ROOM]) -> Option<usize> {
    const FRAGMENT_OFFSET: u16 = 0x1fff;
    const TTL: u8 = 64;
    // Internetwork control (RFC 1812 §4.3.2.5), as the kernel's own errors.
    const TOS: u8 = 0xc0;
    let ip = Ip::parse(ethernet::IPV4, packet)?;
    let source = *packet.get(12..)?.first_chunk::<4>()?;
    let destination = *packet.get(16..)?.first_chunk::<4>()?;
    let later_fragment = be16(packet, 6)? & FRAGMENT_OFFSET != 0;
    if later_fragment || is_nobody(source) || is_nobody(destination) || is_no_sender(source) || is_error(packet, &ip) {
        return None;
    }
    let (kind, code) = match refusal {
        Refusal::NetUnreachable if ip.protocol == ICMPV4 => return None,
        Refusal::NetUnreachable => (3, 0),
        Refusal::TimeExceeded => (11, 0),
    };
    let packet = packet.get(..ip.length.min(packet.len()))?;
    V4Error { tos: TOS, ttl: TTL, from: tunnel, to: source, kind, code, next_hop_mtu: 0 }.write(packet, out)
}

/// A group, or everybody.
fn is_nobody([first, rest @ ..]: [u8; 4]) -> bool {
    (224..240).contains(&first) || first == 255 && rest == [255; 3]
}

/// "This network" and loopback.
const fn is_no_sender(address: [u8; 4]) -> bool {
    matches!(address[0], 0 | 127)
}

/// True for ICMP but for the types of queries; everything else is an error, or unknown (RFC 1122 §3.2.2).
fn is_error(packet: &[u8], ip: &Ip) -> bool {
    let kind = packet.get(ip.header_len).copied().unwrap_or(3);
    ip.protocol == ICMPV4 && !matches!(kind, 0 | 8 | 9 | 10 | 13..=18)
}

/// An ICMP error to be.
struct V4Error {
    tos: u8,
    ttl: u8,
    from: [u8; 4],
    to: [u8; 4],
    kind: u8,
    code: u8,
    next_hop_mtu: u16,
}

impl V4Error {
    /// Writes header, error, and as much of the packet as fits.
    fn write(&self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        let quoted = packet.get(..packet.len().min(V4_TOTAL - ip::V4_LEN - ICMP_LEN))?;
        let total = ip::V4_LEN + ICMP_LEN + quoted.len();
        let out = out.get_mut(..total)?;
        out.fill(0);
        let (header, message) = out.split_at_mut_checked(ip::V4_LEN)?;
        (header[0], header[1]) = (0x45, self.tos);
        put16(header, 2, total as u16);
        put16(header, 6, ip::V4_DF);
        (header[8], header[9]) = (self.ttl, ICMPV4);
        header[12..16].copy_from_slice(&self.from);
        header[16..20].copy_from_slice(&self.to);
        ip::v4_write_checksum(header);
        (message[0], message[1]) = (self.kind, self.code);
        put16(message, 6, self.next_hop_mtu);
        message[ICMP_LEN..].copy_from_slice(quoted);
        let check = !checksum::fold(checksum::sum(message, 0));
        put16(message, 2, check);
        Some(total)
    }
}

fn v6(packet: &[u8], ip: &Ip, mtu: u32, out: &mut [u8]) -> Option<usize> {
    let source = *packet.get(8..)?.first_chunk::<16>()?;
    let destination = *packet.get(24..)?.first_chunk::<16>()?;
    let nobody = |address: [u8; 16]| address[0] == 0xff || address == [0; 16];
    if (mtu as usize) < V6_TOTAL || nobody(source) || nobody(destination) || !v6_may_be_answered(packet, ip) {
        return None;
    }
    let quoted = packet.get(..packet.len().min(V6_TOTAL - ip::V6_LEN - ICMP_LEN))?;
    let length = ICMP_LEN + quoted.len();
    let out = out.get_mut(..ip::V6_LEN + length)?;
    out.fill(0);
    let (header, message) = out.split_at_mut_checked(ip::V6_LEN)?;
    header[0] = 0x60;
    put16(header, 4, length as u16);
    header[6] = ICMPV6;
    header[7] = packet[7];
    header[8..24].copy_from_slice(&destination);
    header[24..40].copy_from_slice(&source);
    message[0] = 2;
    message[4..8].copy_from_slice(&mtu.to_be_bytes());
    message[ICMP_LEN..].copy_from_slice(quoted);
    let pseudo = checksum::pseudo_header_v6(destination.into(), source.into(), ICMPV6, length);
    let check = !checksum::fold(checksum::sum(message, pseudo));
    put16(message, 2, check);
    Some(ip::V6_LEN + length)
}

/// False for an ICMPv6 error, a redirect, and what may be one (RFC 4443 §2.4 e): a later fragment, or extension headers that the frame
/// cuts. The headers are those that the kernel walks (`ipv6_skip_exthdr`); each has eight bytes or more, so the walk ends
/// with the packet.
fn v6_may_be_answered(packet: &[u8], ip: &Ip) -> bool {
    const FRAGMENT: u8 = 44;
    const FRAGMENT_OFFSET: u16 = 0xfff8;
    const AUTHENTICATION: u8 = 51;
    const REDIRECT: u8 = 137;
    let (mut protocol, mut at) = (ip.protocol, ip.header_len);
    loop {
        let Some(rest) = packet.get(at..) else { return false };
        let of_eights = matches!(protocol, 0 | 43 | 60);
        if !of_eights && !matches!(protocol, FRAGMENT | AUTHENTICATION) {
            return protocol != ICMPV6 || rest.first().is_some_and(|kind| *kind >= 128 && *kind != REDIRECT);
        }
        let Some([next, length, high, low, ..]) = rest.first_chunk::<8>() else { return false };
        at += match protocol {
            FRAGMENT if u16::from_be_bytes([*high, *low]) & FRAGMENT_OFFSET != 0 => return false,
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(*length) + 2) * 4,
            _ => (usize::from(*length) + 1) * 8,
        };
        protocol = *next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4_frame(protocol: u8, fragment: [u8; 2], length: usize) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0xb8]);
        frame.extend((length as u16).to_be_bytes());
        frame.extend([0x12, 0x34, fragment[0], fragment[1], 33, protocol, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
        ip::v4_write_checksum(&mut frame[14..34]);
        frame.resize(14 + length, 0xab);
        frame
    }

    fn v6_frame(next: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x6b, 0x80, 0, 0];
        frame.extend(((length - 40) as u16).to_be_bytes());
        frame.extend([next, 33]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfe; 16]);
        frame.resize(14 + length, 0xab);
        frame
    }

    fn answer(frame: &[u8], mtu: u32) -> Option<Vec<u8>> {
        let mut out = [0xee; ROOM];
        let length = too_big(frame, &ethernet::parse(frame)?, mtu, &mut out)?;
        Some(out[..length].to_vec())
    }

    const DF: [u8; 2] = [0x40, 0];

    #[test]
    fn an_ipv4_packet_is_answered_to_the_byte() {
        let frame = v4_frame(17, DF, 1451);
        let got = answer(&frame, 1450).unwrap();
        assert_eq!(got.len(), 14 + 576);
        assert_eq!(got[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        assert_eq!(got[14..24], [0x45, 0, 2, 64, 0, 0, 0x40, 0, 33, 1]);
        assert!(ip::v4_checksum_ok(&got[14..34]));
        assert_eq!(got[26..34], [10, 1, 0, 2, 10, 1, 0, 1]);
        assert_eq!((&got[34..36], &got[38..42]), (&[3, 4][..], &[0, 0, 0x05, 0xaa][..]));
        assert_eq!(checksum::fold(checksum::sum(&got[34..], 0)), 0xffff);
        assert_eq!(got[42..], frame[14..14 + 548]);
    }

    fn refused(refusal: Refusal, packet: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0xee; ROOM];
        let length = refuse(refusal, packet, [10, 246, 30, 0], &mut out)?;
        Some(out[..length].to_vec())
    }

    #[test]
    fn what_a_layer_3_network_does_not_carry_is_answered_to_the_byte() {
        let packet = v4_frame(6, DF, 1400).split_off(14);
        for (refusal, kind) in [(Refusal::NetUnreachable, 3), (Refusal::TimeExceeded, 11)] {
            let got = refused(refusal, &packet).unwrap();
            assert_eq!(got[..10], [0x45, 0xc0, 2, 64, 0, 0, 0x40, 0, 64, 1]);
            assert_eq!(got[12..20], [10, 246, 30, 0, 10, 1, 0, 1]);
            assert!(ip::v4_checksum_ok(&got[..20]));
            assert_eq!((&got[20..22], &got[24..28]), (&[kind, 0][..], &[0; 4][..]));
            assert_eq!(checksum::fold(checksum::sum(&got[20..], 0)), 0xffff);
            assert_eq!(got[28..], packet[..548]);
        }
        let short = v4_frame(17, [0, 0], 28).split_off(14);
        let padded = [&short[..], &[9; 18]].concat();
        assert_eq!(refused(Refusal::NetUnreachable, &padded).unwrap()[28..], short, "padding is not quoted");
    }

    #[test]
    fn what_a_layer_3_network_must_not_answer_it_does_not() {
        let packet = |protocol, fragment| v4_frame(protocol, fragment, 100).split_off(14);
        for refusal in [Refusal::NetUnreachable, Refusal::TimeExceeded] {
            assert_eq!(refused(refusal, &packet(17, [0, 1])), None, "a later fragment");
            assert_eq!(refused(refusal, &packet(17, [0x20, 1])), None, "a later fragment with more to come");
            assert!(refused(refusal, &packet(17, [0x20, 0])).is_some(), "the first one");
            assert_eq!(refused(refusal, &packet(1, DF)), None, "an unknown type of ICMP");
            for (at, address) in [(12, [224, 0, 0, 1]), (16, [239, 1, 1, 1]), (16, [255; 4]), (12, [127, 0, 0, 1]), (12, [0; 4])]
            {
                let mut packet = packet(17, DF);
                packet[at..at + 4].copy_from_slice(&address);
                assert_eq!(refused(refusal, &packet), None, "{address:?} at {at}");
            }
            let mut ping = packet(1, DF);
            ping[20] = 8;
            assert_eq!(refused(refusal, &ping).is_some(), refusal == Refusal::TimeExceeded, "an echo request");
            ping[20] = 11;
            assert_eq!(refused(refusal, &ping), None, "an error");
            assert_eq!(refused(refusal, &[0x45; 19]), None);
        }
    }

    #[test]
    fn an_ipv6_packet_is_answered_to_the_byte() {
        let frame = v6_frame(17, 1451);
        let got = answer(&frame, 1430).unwrap();
        assert_eq!(got.len(), 14 + 1280);
        assert_eq!(got[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0x04, 0xd8, 58, 33]);
        assert_eq!((&got[22..38], &got[38..54]), (&[0xfe; 16][..], &[0xfd; 16][..]));
        assert_eq!((&got[54..56], &got[58..62]), (&[2, 0][..], &[0, 0, 0x05, 0x96][..]));
        let pseudo = checksum::pseudo_header_v6([0xfe; 16].into(), [0xfd; 16].into(), 58, 1240);
        assert_eq!(checksum::fold(checksum::sum(&got[54..], pseudo)), 0xffff);
        assert_eq!(got[62..], frame[14..14 + 1232]);
    }

    #[test]
    fn tags_are_kept_and_trailing_padding_is_not_quoted() {
        let plain = v4_frame(17, DF, 100);
        let tagged = [&plain[..12], &[0x81, 0, 0, 7], &plain[12..], &[9; 20]].concat();
        let got = answer(&tagged, 90).unwrap();
        assert_eq!(got[12..18], [0x81, 0, 0, 7, 8, 0]);
        assert_eq!(got.len(), 18 + 28 + 100);
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        let with = |at: usize, bytes: &[u8], mut frame: Vec<u8>| {
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            answer(&frame, 1400)
        };
        let v4 = || v4_frame(17, DF, 1451);
        for fragment in [[0, 0], [0x60, 0], [0x40, 1], [0x20, 0], [0xc0, 0]] {
            assert_eq!(answer(&v4_frame(17, fragment, 1451), 1400), None, "{fragment:02x?}");
        }
        for (at, address) in [(26, [224, 0, 0, 1]), (30, [239, 1, 1, 1]), (30, [255; 4]), (26, [127, 0, 0, 1]), (26, [0; 4])] {
            assert_eq!(with(at, &address, v4()), None, "{address:?} at {at}");
        }
        for kind in [3, 4, 5, 11, 12, 40] {
            assert_eq!(with(34, &[kind], v4_frame(1, DF, 1451)), None, "ICMP {kind}");
        }
        assert!(with(34, &[8], v4_frame(1, DF, 1451)).is_some(), "an echo request");
        assert_eq!(answer(&v6_frame(17, 1451), 1279), None, "no IPv6 host could obey");
        for (at, address) in [(22, [0; 16]), (22, [0xff; 16]), (38, [0xff; 16])] {
            assert_eq!(with(at, &address, v6_frame(17, 1451)), None, "{address:?} at {at}");
        }
        assert_eq!(with(54, &[1], v6_frame(58, 1451)), None, "an ICMPv6 error");
        assert!(with(54, &[128], v6_frame(58, 1451)).is_some(), "an echo request");
        assert_eq!(with(54, &[137], v6_frame(58, 1451)), None, "a redirect");
        let arp = [vec![2; 12], vec![8, 6], vec![0; 60]].concat();
        assert_eq!(answer(&arp, 1400), None);
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        let behind = |first: u8, headers: &[&[u8]]| {
            let mut frame = v6_frame(first, 1451);
            let headers = headers.concat();
            frame[54..54 + headers.len()].copy_from_slice(&headers);
            answer(&frame, 1400).is_some()
        };
        for first in [0, 43, 60] {
            assert!(behind(first, &[&[17, 0, 1, 4, 0, 0, 0, 0]]), "{first}");
            assert!(!behind(first, &[&[58, 0, 1, 4, 0, 0, 0, 0], &[3]]), "{first}: an ICMPv6 error");
            assert!(!behind(first, &[&[58, 1, 1, 4, 0, 0, 0, 0], &[128, 0, 0, 0, 0, 0, 0, 0], &[1]]), "{first}: sixteen bytes");
            assert!(behind(first, &[&[58, 0, 1, 4, 0, 0, 0, 0], &[129]]), "{first}: an echo reply");
        }
        assert!(!behind(51, &[&[58, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[1]]), "an error behind an authentication header");
        assert!(behind(51, &[&[58, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[128]]));
        assert!(behind(44, &[&[17, 0, 0, 1, 0, 0, 0, 7]]), "the first fragment");
        assert!(!behind(44, &[&[58, 0, 0, 1, 0, 0, 0, 7], &[1]]), "the first fragment of an error");
        assert!(!behind(44, &[&[17, 0, 0, 8, 0, 0, 0, 7]]), "the second fragment");
        assert!(!behind(0, &[&[44, 0, 0, 0, 0, 0, 0, 0], &[17, 0, 0, 9, 0, 0, 0, 7]]), "a later one behind options");
        assert!(behind(59, &[]), "nothing follows");
        assert!(!behind(0, &[&[17, 255]]), "cut");
        let cut = [&v6_frame(0, 1440)[..54], &[0, 0, 0, 0, 0, 0, 0, 0].repeat(175), &[0; 7]].concat();
        assert!(answer(&cut, 1400).is_none(), "cut after many");
    }

    proptest! {
        #[test]
        fn never_panics(mut frame in proptest::collection::vec(any::<u8>(), 0..200), v6: bool, shape: bool, mtu: u32) {
            if shape && frame.len() > 15 {
                (frame[12], frame[13], frame[14]) = if v6 { (0x86, 0xdd, 0x60) } else { (8, 0, 0x45) };
            }
            answer(&frame, mtu);
            refused(Refusal::TimeExceeded, frame.get(14..).unwrap_or(&frame));
        }
    }
}
