//! What the outer header says for an inner frame: TOS with its ECN bits, TTL, and "don't fragment", by a network's policy.
//!
//! As the kernel's device does it (measured on Linux 6.18): TOS and TTL are read through VLAN tags, DF is not; what is not IP
//! has a TOS and TTL of its own only where the policy names one.

use super::ethernet::{self, Ethernet};
use super::{ecn, ip};

/// `ttl`: time to live, or hop limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// The kernel's default (64), and 1 for multicast.
    #[default]
    Auto,
    /// This one.
    Fixed(u8),
    /// The inner packet's.
    Inherit,
}

/// `tos`: the upper six bits of TOS or traffic class; the lower two are always ECN's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tos {
    /// This one, its ECN bits cut.
    Fixed(u8),
    /// The inner packet's.
    Inherit,
}

impl Default for Tos {
    fn default() -> Self {
        Tos::Fixed(0)
    }
}

/// `df`: whether the underlay may fragment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Df {
    /// It may.
    #[default]
    Unset,
    /// It may not.
    Set,
    /// It may not where the inner packet may not be fragmented: IPv4 with DF, IPv6.
    Inherit,
}

/// A network's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Time to live.
    pub ttl: Ttl,
    /// Type of service.
    pub tos: Tos,
    /// Fragmentation.
    pub df: Df,
}

/// What one datagram's outer header says beside addresses and ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outer {
    /// TOS or traffic class, ECN included.
    pub tos: u8,
    /// Time to live or hop limit; 0 = the socket's default.
    pub ttl: u8,
    /// It may not be fragmented.
    pub df: bool,
    /// Index of the interface that it leaves by; 0 = the socket's or the route's.
    pub via: u32,
}

impl Policy {
    /// What the outer header of a frame says.
    pub fn outer(&self, frame: &[u8], ethernet: &Ethernet) -> Outer {
        let ecn = ecn::encapsulate(frame, ethernet);
        let packet = || frame.get(ethernet.network_offset..).unwrap_or_default();
        let tos = match self.tos {
            Tos::Fixed(tos) => tos,
            Tos::Inherit => inner_tos(ethernet.ethertype, packet()),
        };
        let ttl = match self.ttl {
            Ttl::Auto => 0,
            Ttl::Fixed(ttl) => ttl,
            Ttl::Inherit => inner_ttl(ethernet.ethertype, packet()),
        };
        let df = match self.df {
            Df::Unset => false,
            Df::Set => true,
            Df::Inherit => !ethernet.tagged && may_not_be_fragmented(ethernet.ethertype, packet()),
        };
        Outer { tos: (tos & !3) | ecn, ttl, df, via: 0 }
    }
}

fn inner_tos(ethertype: u16, packet: &[u8]) -> u8 {
    match (ethertype, packet) {
        (ethernet::IPV4, [_, tos, ..]) => *tos,
        (ethernet::IPV6, [first, second, ..]) => first << 4 | second >> 4,
        _ => 0,
    }
}

/// 0 for what is not IP: then the outer one is the default.
fn inner_ttl(ethertype: u16, packet: &[u8]) -> u8 {
    let at = match ethertype {
        ethernet::IPV4 => 8,
        ethernet::IPV6 => 7,
        _ => return 0,
    };
    packet.get(at).copied().unwrap_or(0)
}

/// True for IPv4 with DF and for IPv6, which routers never fragment.
pub fn may_not_be_fragmented(ethertype: u16, packet: &[u8]) -> bool {
    match ethertype {
        ethernet::IPV4 => packet.get(6).is_some_and(|byte| u16::from(*byte) << 8 & ip::V4_DF != 0),
        ethernet::IPV6 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(tos: u8, ttl: u8, df: bool) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, tos, 0, 20, 0, 0, if df { 0x40 } else { 0 }, 0, ttl, 17, 0, 0]);
        frame.extend([10; 8]);
        frame
    }

    fn v6(class: u8, hops: u8) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x86, 0xdd, 0x60 | class >> 4, class << 4, 0, 0, 0, 0, 59, hops]);
        frame.extend([0xfd; 32]);
        frame
    }

    fn arp() -> Vec<u8> {
        [vec![2; 12], vec![8, 6], vec![0xff; 28]].concat()
    }

    fn tagged(frame: &[u8]) -> Vec<u8> {
        [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat()
    }

    fn outer(policy: Policy, frame: &[u8]) -> Outer {
        policy.outer(frame, &ethernet::parse(frame).unwrap())
    }

    #[test]
    fn the_default_carries_the_ecn_mark_and_nothing_else() {
        for (tos, want) in [(0xb8, 0), (0xb9, 1), (0xba, 2), (0xbb, 2)] {
            for frame in [v4(tos, 7, true), v6(tos, 7), tagged(&v4(tos, 7, true))] {
                assert_eq!(outer(Policy::default(), &frame), Outer { tos: want, ..Outer::default() });
            }
        }
    }

    #[test]
    fn tos_is_the_constant_or_the_inner_one_with_the_inner_mark() {
        let inherit = Policy { tos: Tos::Inherit, ..Policy::default() };
        let fixed = Policy { tos: Tos::Fixed(0x13), ..Policy::default() };
        for (inner, inherited, constant) in [(0xb8, 0xb8, 0x10), (0xbb, 0xba, 0x12), (0x01, 0x01, 0x11)] {
            for frame in [v4(inner, 1, false), v6(inner, 1), tagged(&v4(inner, 1, false)), tagged(&v6(inner, 1))] {
                assert_eq!(outer(inherit, &frame).tos, inherited);
                assert_eq!(outer(fixed, &frame).tos, constant);
            }
        }
        assert_eq!((outer(inherit, &arp()).tos, outer(fixed, &arp()).tos), (0, 0x10));
    }

    #[test]
    fn ttl_is_the_default_the_constant_or_the_inner_one() {
        let ttl = |ttl, frame: &[u8]| outer(Policy { ttl, ..Policy::default() }, frame).ttl;
        assert_eq!(ttl(Ttl::Auto, &v4(0, 9, false)), 0);
        assert_eq!(ttl(Ttl::Fixed(9), &arp()), 9);
        for frame in [v4(0, 9, false), v6(0, 9), tagged(&v4(0, 9, false))] {
            assert_eq!(ttl(Ttl::Inherit, &frame), 9);
        }
        assert_eq!(ttl(Ttl::Inherit, &arp()), 0);
    }

    #[test]
    fn df_is_inherited_from_untagged_packets_that_may_not_be_fragmented() {
        let df = |df, frame: &[u8]| outer(Policy { df, ..Policy::default() }, frame).df;
        for (frame, inherited) in [
            (v4(0, 9, true), true),
            (v4(0, 9, false), false),
            (v6(0, 9), true),
            (arp(), false),
            (tagged(&v4(0, 9, true)), false),
            (tagged(&v6(0, 9)), false),
        ] {
            assert_eq!(df(Df::Inherit, &frame), inherited);
            assert!(df(Df::Set, &frame));
            assert!(!df(Df::Unset, &frame));
        }
    }

    proptest! {
        #[test]
        fn never_panics(frame in proptest::collection::vec(any::<u8>(), 14..60), kind in prop_oneof![Just(8u8), Just(0x86u8)]) {
            let mut frame = frame;
            (frame[12], frame[13]) = (kind, if kind == 8 { 0 } else { 0xdd });
            outer(Policy { ttl: Ttl::Inherit, tos: Tos::Inherit, df: Df::Inherit }, &frame);
        }
    }
}
