//! The IPv6 half of the neighbour proxy: the Linux device's `neigh_reduce`, but with the checks of RFC 4861 §7.1.1 that it
//! leaves out (hop limit, checksum, addresses) and with the answer to duplicate address detection that §7.2.4 asks for.
//!
//! Neighbour discovery never has a partial checksum: the kernel completes it in software (`ndisc_send_skb`).

use super::ip::{ICMPV6, V6_LEN};
use super::{Mac, checksum, ethernet};
use std::net::Ipv6Addr;

/// Ethernet 14 + IPv6 40 + advertisement 24 + target link-layer address option 8.
const FRAME_LEN: usize = 86;
/// Type, code, checksum, reserved, target: what stands before the options, in solicitation and advertisement alike.
const MESSAGE_LEN: usize = 24;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// What the proxy does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nd {
    /// Somebody asks for an address: look it up, answer or stay silent.
    Solicitation(Solicitation),
    /// A solicitation that RFC 4861 §7.1.1 says to discard; the kernel device never forwards one either.
    Malformed,
    /// Not for the proxy: forward it. Also what the kernel does not recognise: shorter than 24 bytes, code not 0.
    Other,
}

/// Who asks for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Where the answer goes: the source link-layer address option, else the Ethernet source.
    pub reply_to: Mac,
    /// IPv6 source; `::` while it checks whether the address is free (duplicate address detection).
    pub source: Ipv6Addr,
    /// The address asked for.
    pub target: Ipv6Addr,
    /// Copied into the answer.
    pub traffic_class: u8,
}

/// Reads an untagged frame of any kind.
pub fn parse(frame: &[u8]) -> Nd {
    let Some((header, packet)) = frame.split_first_chunk::<{ ethernet::HEADER_LEN }>() else { return Nd::Other };
    let Some((ip, payload)) = packet.split_first_chunk::<V6_LEN>() else { return Nd::Other };
    if header[12..14] != ethernet::IPV6.to_be_bytes() || ip[0] >> 4 != 6 || ip[6] != ICMPV6 {
        return Nd::Other;
    }
    let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    if len < MESSAGE_LEN || payload.first_chunk() != Some(&[SOLICITATION, 0]) {
        return Nd::Other;
    }
    match payload.get(..len).and_then(|message| parse_message(header, ip, message)) {
        Some(solicitation) => Nd::Solicitation(solicitation),
        None => Nd::Malformed,
    }
}

fn parse_message(header: &[u8; ethernet::HEADER_LEN], ip: &[u8; V6_LEN], message: &[u8]) -> Option<Solicitation> {
    let (fixed, options) = message.split_first_chunk::<MESSAGE_LEN>()?;
    let source = address(ip, 8)?;
    let destination = address(ip, 24)?;
    let target = address(fixed, 8)?;
    let pseudo = checksum::pseudo_header_v6(source, destination, ICMPV6, message.len());
    if ip[7] != 255 || checksum::fold(checksum::sum(message, pseudo)) != 0xffff {
        return None;
    }
    if target.is_multicast() || source.is_multicast() || destination.is_loopback() {
        return None;
    }
    let option = source_link_layer(options)?;
    if source.is_unspecified() && (option.is_some() || !is_solicited_node(destination)) {
        return None;
    }
    let &[_, _, _, _, _, _, s0, s1, s2, s3, s4, s5, ..] = header;
    Some(Solicitation {
        reply_to: option.unwrap_or(Mac([s0, s1, s2, s3, s4, s5])),
        source,
        target,
        traffic_class: ip[0] << 4 | ip[1] >> 4,
    })
}

/// Walks all options; `None` if one is cut, empty (which would never end), or a link-layer address that is not Ethernet's.
/// The kernel read past the end here: CVE-2026-31738.
fn source_link_layer(mut options: &[u8]) -> Option<Option<Mac>> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let (option, rest) = options.split_at_checked(usize::from(units) * 8)?;
        match *option {
            [SOURCE_LINK_LAYER, 1, a, b, c, d, e, f] => found = found.or(Some(Mac([a, b, c, d, e, f]))),
            [] => return None,
            _ if kind == SOURCE_LINK_LAYER => return None,
            _ => {}
        }
        options = rest;
    }
    options.is_empty().then_some(found)
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    bytes.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

/// ff02::1:ff00:0/104 (RFC 4291 §2.7.1).
fn is_solicited_node(address: Ipv6Addr) -> bool {
    address.octets().starts_with(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff])
}

/// The frame to write to the TAP: "`target` is at `lladdr`". To a host that checks whether the address is free, the answer goes
/// to all nodes and is not marked as solicited (RFC 4861 §7.2.4); the kernel device answers to `::`, which hosts discard.
pub fn advertisement(solicitation: &Solicitation, lladdr: Mac, router: bool) -> [u8; FRAME_LEN] {
    let (to_mac, to, solicited) = match solicitation.source.is_unspecified() {
        true => (ALL_NODES_MAC, ALL_NODES, 0),
        false => (solicitation.reply_to, solicitation.source, FLAG_SOLICITED),
    };
    let class = solicitation.traffic_class;
    let mut frame = [0; FRAME_LEN];
    frame[0..6].copy_from_slice(&to_mac.0);
    frame[6..12].copy_from_slice(&lladdr.0);
    frame[12..14].copy_from_slice(&ethernet::IPV6.to_be_bytes());
    frame[14..22].copy_from_slice(&[0x60 | class >> 4, class << 4, 0, 0, 0, 32, ICMPV6, 255]);
    frame[22..38].copy_from_slice(&solicitation.target.octets());
    frame[38..54].copy_from_slice(&to.octets());
    frame[54] = ADVERTISEMENT;
    frame[58] = FLAG_OVERRIDE | solicited | if router { FLAG_ROUTER } else { 0 };
    frame[62..78].copy_from_slice(&solicitation.target.octets());
    frame[78..80].copy_from_slice(&[TARGET_LINK_LAYER, 1]);
    frame[80..86].copy_from_slice(&lladdr.0);
    let pseudo = checksum::pseudo_header_v6(solicitation.target, to, ICMPV6, FRAME_LEN - 54);
    let check = !checksum::fold(checksum::sum(&frame[54..], pseudo));
    frame[56..58].copy_from_slice(&check.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ASKER: &str = "fd00:1::a";
    const TARGET: &str = "fd00:2::5";
    const VTEP: Mac = Mac([0x16, 0x8d, 0x1e, 0x23, 0x70, 0xcf]);
    const OPTION: [u8; 8] = [1, 1, 0x02, 0, 0, 0, 0, 0x0b];

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn naive(bytes: &[u8]) -> u16 {
        let sum = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum::<u32>();
        (sum % 0xffff) as u16
    }

    /// A solicitation from 02:..:0a, with options, its checksum right.
    fn solicitation(source: &str, destination: &str, target: &str, options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x33, 0x33, 0xff, 0, 0, 5, 0x02, 0, 0, 0, 0, 0x0a, 0x86, 0xdd];
        frame.extend([0x6b, 0x80, 0, 0, 0, 24 + options.len() as u8, 58, 255]);
        frame.extend(ip(source).octets());
        frame.extend(ip(destination).octets());
        frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(ip(target).octets());
        frame.extend(options);
        sign(&mut frame);
        frame
    }

    /// Writes the checksum, for as many bytes as there are.
    fn sign(frame: &mut [u8]) {
        frame[56..58].copy_from_slice(&[0, 0]);
        let covered = [&frame[22..54], &[0, 0, 0, (frame.len() - 54) as u8, 0, 0, 0, 58], &frame[54..]].concat();
        let check = !naive(&covered);
        frame[56..58].copy_from_slice(&check.to_be_bytes());
    }

    fn ordinary() -> Vec<u8> {
        solicitation(ASKER, "ff02::1:ff00:5", TARGET, &OPTION)
    }

    fn accept(frame: &[u8]) -> Solicitation {
        match parse(frame) {
            Nd::Solicitation(solicitation) => solicitation,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ordinary_solicitation_is_answered_byte_for_byte() {
        #[rustfmt::skip]
        let mut expected = [
            0x02, 0, 0, 0, 0, 0x0b,  0x16, 0x8d, 0x1e, 0x23, 0x70, 0xcf,  0x86, 0xdd,
            0x6b, 0x80, 0, 0,  0, 32,  58, 255,
            0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5,
            0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a,
            136, 0,  0x79, 0x08,  0x60, 0, 0, 0,
            0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5,
            2, 1,  0x16, 0x8d, 0x1e, 0x23, 0x70, 0xcf,
        ];
        assert_eq!(advertisement(&accept(&ordinary()), VTEP, false), expected);
        (expected[58], expected[56]) = (0xe0, 0xf9);
        expected[57] = 0x07;
        assert_eq!(advertisement(&accept(&ordinary()), VTEP, true), expected, "a router");
    }

    #[test]
    fn without_option_the_answer_goes_to_the_ethernet_source() {
        assert_eq!(accept(&ordinary()).reply_to, Mac([2, 0, 0, 0, 0, 0x0b]));
        assert_eq!(accept(&solicitation(ASKER, "ff02::1:ff00:5", TARGET, &[])).reply_to, Mac([2, 0, 0, 0, 0, 0x0a]));
        let nonce_then_address = [&[14, 1, 1, 2, 3, 4, 5, 6][..], &OPTION].concat();
        assert_eq!(
            accept(&solicitation(ASKER, "ff02::1:ff00:5", TARGET, &nonce_then_address)).reply_to,
            Mac([2, 0, 0, 0, 0, 0x0b])
        );
        let two = [&OPTION[..], &[1, 1, 2, 2, 2, 2, 2, 2]].concat();
        assert_eq!(accept(&solicitation(ASKER, TARGET, TARGET, &two)).reply_to, Mac([2, 0, 0, 0, 0, 0x0b]), "the first one");
        assert_eq!(accept(&solicitation(ASKER, TARGET, TARGET, &OPTION)).target, ip(TARGET), "unicast: is it still there?");
    }

    #[test]
    fn duplicate_address_detection_is_answered_to_all_nodes_unsolicited() {
        let asked = accept(&solicitation("::", "ff02::1:ff00:5", TARGET, &[]));
        let answer = advertisement(&asked, VTEP, false);
        assert_eq!(answer[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(answer[38..54], ip("ff02::1").octets());
        assert_eq!(answer[58], 0x20, "override, not solicited");
        let mut signed = answer;
        sign(&mut signed);
        assert_eq!(answer, signed);
    }

    #[test]
    fn trailing_padding_is_no_part_of_the_message() {
        let padded = [&ordinary()[..], &[0xaa; 7]].concat();
        assert_eq!(parse(&padded), parse(&ordinary()));
    }

    #[test]
    fn what_rfc_4861_says_to_discard_is_malformed() {
        let changed = |at: usize, value: u8| {
            let mut frame = ordinary();
            frame[at] = value;
            frame
        };
        assert_eq!(parse(&changed(21, 254)), Nd::Malformed, "hop limit");
        assert_eq!(parse(&changed(57, ordinary()[57] ^ 1)), Nd::Malformed, "checksum");
        for (why, frame) in [
            ("multicast target", solicitation(ASKER, "ff02::1:ff00:5", "ff02::1", &[])),
            ("from multicast", solicitation("ff02::1", "ff02::1:ff00:5", TARGET, &OPTION)),
            ("to loopback", solicitation(ASKER, "::1", TARGET, &[])),
            ("duplicate address detection with an address", solicitation("::", "ff02::1:ff00:5", TARGET, &OPTION)),
            ("duplicate address detection by unicast", solicitation("::", TARGET, TARGET, &[])),
            ("option of length 0", solicitation(ASKER, TARGET, TARGET, &[1, 0, 2, 0, 0, 0, 0, 1])),
            ("option past the end", solicitation(ASKER, TARGET, TARGET, &[1, 2, 2, 0, 0, 0, 0, 1])),
            ("address option cut", solicitation(ASKER, TARGET, TARGET, &[1, 1, 2, 0, 0, 0])),
            ("option of one byte", solicitation(ASKER, TARGET, TARGET, &[1])),
            ("address not Ethernet's", solicitation(ASKER, TARGET, TARGET, &[&[1, 2][..], &[0; 14]].concat())),
            ("second option broken", solicitation(ASKER, TARGET, TARGET, &[&OPTION[..], &[5, 0, 0, 0, 0, 0, 0, 0]].concat())),
        ] {
            assert_eq!(parse(&frame), Nd::Malformed, "{why}");
        }
        assert_eq!(parse(&ordinary()[..85]), Nd::Malformed, "frame shorter than its IP length");
    }

    #[test]
    fn everything_else_is_forwarded() {
        let other = |why: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = ordinary();
            change(&mut frame);
            assert_eq!(parse(&frame), Nd::Other, "{why}");
        };
        other("advertisement", &|frame| frame[54] = 136);
        other("router solicitation", &|frame| frame[54] = 133);
        other("code 1", &|frame| frame[55] = 1);
        other("version 4", &|frame| frame[14] = 0x4b);
        other("UDP", &|frame| frame[20] = 17);
        other("behind a hop-by-hop header", &|frame| frame[20] = 0);
        other("ethertype IPv4", &|frame| frame[12..14].copy_from_slice(&[8, 0]));
        other("shorter than 24 bytes", &|frame| frame[19] = 23);
        other("VLAN-tagged", &|frame| drop(frame.splice(12..12, [0x81, 0, 0, 5])));
        for len in 0..56 {
            assert_eq!(parse(&ordinary()[..len]), Nd::Other, "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn never_panics(options: Vec<u8>, noise: Vec<u8>, len: u8) {
            parse(&noise);
            let mut frame = solicitation(ASKER, TARGET, TARGET, &options[..options.len().min(200)]);
            parse(&frame);
            frame[19] = len;
            parse(&frame);
        }

        #[test]
        fn a_walk_over_any_options_ends(options: Vec<u8>) {
            source_link_layer(&options);
        }
    }
}
