//! The hash of an inner flow, from which lane and outer source port come.
//!
//! Symmetric as the kernel's (`udp_flow_src_port`): A to B and B to A give one value, so that both directions of a flow meet in
//! one lane. Unlike the kernel's, which gives all non-IP frames one port, those spread over their MAC addresses.

use super::ip::{self, Family, Ip};
use super::{ethernet, ip::SCTP};

/// Well mixed in all 32 bits: `(hash as u64 * n) >> 32` spreads evenly over n. A frame without Ethernet header hashes to 0.
pub fn hash(frame: &[u8]) -> u32 {
    let Some(ethernet) = ethernet::parse(frame) else { return 0 };
    let packet = frame.get(ethernet.network_offset..).unwrap_or(&[]);
    let hash = match Ip::parse(ethernet.ethertype, packet) {
        Some(ip) => hash_ip(&ip, packet),
        None => symmetric(number(&ethernet.source.0), number(&ethernet.destination.0), u64::from(ethernet.ethertype)),
    };
    (hash >> 32) as u32
}

fn hash_ip(ip: &Ip, packet: &[u8]) -> u64 {
    let (source_port, destination_port) = ports(ip, packet).unwrap_or((0, 0));
    let (source, destination) = {
        let addresses = ip.addresses(packet);
        addresses.split_at(addresses.len() / 2)
    };
    let end = |address: &[u8], port: u16| match ip.family {
        Family::V4 => number(address) << 16 | u64::from(port),
        Family::V6 => {
            let (prefix, host) = address.split_at(address.len() / 2);
            mix(mix(number(prefix), number(host)), u64::from(port))
        }
    };
    symmetric(end(source, source_port), end(destination, destination_port), u64::from(ip.protocol))
}

/// Only a packet's first fragment has ports, so that all fragments, the first included, go without.
fn ports(ip: &Ip, packet: &[u8]) -> Option<(u16, u16)> {
    if ip.fragment || !matches!(ip.protocol, ip::TCP | ip::UDP | SCTP) {
        return None;
    }
    match packet.get(ip.header_len..)? {
        [a, b, c, d, ..] => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
        _ => None,
    }
}

/// Up to eight bytes as one number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn symmetric(a: u64, b: u64, kind: u64) -> u64 {
    mix(mix(a.min(b), a.max(b)), kind)
}

/// A 64 x 64 -> 128-bit multiplication folded by xor, as in wyhash; the constants are the golden ratio's and splitmix64's.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xbf58_476d_1ce4_e5b9);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, fragment: u16, ports: [u16; 2]) -> Vec<u8> {
        let mut frame = V4.to_vec();
        frame.extend([0x08, 0, 0x45, 0, 0, 28, 0, 0]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, protocol, 0, 0]);
        frame.extend(source);
        frame.extend(destination);
        ports.iter().for_each(|port| frame.extend(port.to_be_bytes()));
        frame.extend([0; 4]);
        frame
    }

    fn v6(source: [u8; 16], destination: [u8; 16], protocol: u8, ports: [u16; 2]) -> Vec<u8> {
        let mut frame = V4.to_vec();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, protocol, 64]);
        frame.extend(source);
        frame.extend(destination);
        ports.iter().for_each(|port| frame.extend(port.to_be_bytes()));
        frame.extend([0; 4]);
        frame
    }

    const A: [u8; 4] = [10, 1, 0, 1];
    const B: [u8; 4] = [10, 2, 0, 2];

    #[test]
    fn vlan_tags_do_not_change_the_flow() {
        let plain = v4(A, B, ip::TCP, 0, [1000, 80]);
        let mut tagged = plain[..12].to_vec();
        tagged.extend([0x88, 0xa8, 0, 9, 0x81, 0, 0, 7]);
        tagged.extend(&plain[12..]);
        assert_eq!(hash(&plain), hash(&tagged));
    }

    #[test]
    fn all_fragments_of_a_packet_take_one_way() {
        let first = hash(&v4(A, B, ip::UDP, 0x2000, [1000, 80]));
        assert_eq!(first, hash(&v4(A, B, ip::UDP, 0x2010, [0xdead, 0xbeef])));
        assert_eq!(first, hash(&v4(A, B, ip::UDP, 0x0020, [0, 1])));
    }

    #[test]
    fn protocols_without_ports_go_by_address_and_protocol() {
        let of = |protocol| hash(&v4(A, B, protocol, 0, [1, 2]));
        assert_eq!(of(1), hash(&v4(A, B, 1, 0, [3, 4])));
        assert_ne!(of(1), of(47));
        assert_ne!(of(1), hash(&v4(A, [10, 2, 0, 3], 1, 0, [1, 2])));
        for protocol in [ip::TCP, ip::UDP, SCTP] {
            assert_ne!(of(protocol), hash(&v4(A, B, protocol, 0, [3, 4])));
        }
    }

    #[test]
    fn non_ip_frames_spread_over_their_addresses() {
        let arp = |last| hash(&[2, 0, 0, 0, 0, last, 2, 0, 0, 0, 0, 0xff, 8, 6]);
        assert_ne!(arp(1), arp(2));
        assert_eq!(hash(&[0; 13]), hash(&[1; 3]));
    }

    /// 200 balls in 64 urns leave 61.3 of them hit on average when thrown at random; with a fixed set of flows there is no chance
    /// left, so the bounds can be tight.
    fn assert_spread(kind: &str, flows: impl Iterator<Item = Vec<u8>>) {
        let mut urns = [0; 64];
        flows.for_each(|frame| urns[((u64::from(hash(&frame)) * 64) >> 32) as usize] += 1);
        let hit = urns.iter().filter(|count| **count > 0).count();
        let most = urns.iter().max().unwrap();
        assert_eq!(urns.iter().sum::<u32>(), 200);
        assert!(hit >= 57 && *most <= 12, "{kind}: {hit} of 64 hit, most {most}: {urns:?}");
    }

    #[test]
    fn two_hundred_similar_flows_spread_evenly() {
        assert_spread("source ports", (0..200).map(|n| v4(A, B, ip::UDP, 0, [40000 + n, 5001])));
        assert_spread("even source ports", (0..200).map(|n| v4(A, B, ip::TCP, 0, [32768 + 2 * n, 443])));
        assert_spread("both ports alike", (0..200).map(|n| v4(A, B, ip::UDP, 0, [9000 + n, 9000 + n])));
        assert_spread("hosts", (0..200).map(|n| v4([10, 1, 0, n as u8], B, 1, 0, [0, 0])));
        assert_spread("both hosts alike", (0..200).map(|n| v4([10, 1, 0, n as u8], [10, 2, 0, n as u8], 1, 0, [0, 0])));
        assert_spread("IPv6 hosts", (0..200).map(|n| v6([n as u8; 16], [0xfd; 16], ip::TCP, [5000, 80])));
        assert_spread("IPv6 ports", (0..200).map(|n| v6([0xfc; 16], [0xfd; 16], ip::TCP, [5000 + n, 80])));
        assert_spread("MACs", (0..200).map(|n| vec![2, 0, 0, 0, 0, n as u8, 2, 0, 0, 0, 0, 0xff, 8, 6]));
    }

    proptest! {
        #[test]
        fn symmetric_v4(a: [u8; 4], b: [u8; 4], p: u16, q: u16, protocol: u8) {
            prop_assert_eq!(hash(&v4(a, b, protocol, 0, [p, q])), hash(&v4(b, a, protocol, 0, [q, p])));
        }

        #[test]
        fn symmetric_v6(a: [u8; 16], b: [u8; 16], p: u16, q: u16, protocol: u8) {
            prop_assert_eq!(hash(&v6(a, b, protocol, [p, q])), hash(&v6(b, a, protocol, [q, p])));
        }

        #[test]
        fn symmetric_mac(a: [u8; 6], b: [u8; 6], kind: [u8; 2]) {
            prop_assert_eq!(hash(&[&a[..], &b, &kind].concat()), hash(&[&b[..], &a, &kind].concat()));
        }

        #[test]
        fn never_panics(frame: Vec<u8>, cut in 0usize..70) {
            hash(&frame);
            for whole in [v4(A, B, ip::TCP, 0, [1, 2]), v6([1; 16], [2; 16], ip::TCP, [1, 2])] {
                hash(&whole[..cut.min(whole.len())]);
            }
        }
    }
}
