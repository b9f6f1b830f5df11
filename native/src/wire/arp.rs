//! The ARP half of the neighbour proxy, with the meaning of the Linux device's `arp_reduce`: with proxy on, no untagged ARP frame
//! crosses the tunnel. Requests are answered from the neighbour table or die, everything else is swallowed.

use super::Mac;
use std::net::Ipv4Addr;

/// Ethernet 14 + ARP for IPv4 over Ethernet 28; a reply has no padding.
const FRAME_LEN: usize = 42;

/// Hardware type, protocol type, lengths: IPv4 over Ethernet.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0, 6, 4];
/// The same over IEEE 802 networks (type 6), which `arp_reduce` takes too.
const IEEE802_IPV4: [u8; 6] = [0, 6, 0x08, 0, 6, 4];

const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// What the proxy does with an ARP frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arp {
    /// Somebody asks for an address: look it up, answer or stay silent.
    Request(ArpRequest),
    /// A reply, an announcement, or a request for an address that no neighbour can have.
    Swallow,
    /// Cut, or not IPv4 over Ethernet.
    Malformed,
}

/// Who asks for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpRequest {
    /// Sender hardware address; the answer goes there, whatever the Ethernet source was.
    pub sender_mac: Mac,
    /// Sender protocol address; 0.0.0.0 in a probe (RFC 5227 §2.1.1), which is answered as well.
    pub sender_ip: Ipv4Addr,
    /// The address asked for.
    pub target: Ipv4Addr,
}

/// Reads an untagged frame of ethertype 0x0806.
pub fn parse(frame: &[u8]) -> Arp {
    let Some((_, arp)) = frame.split_first_chunk::<14>() else { return Arp::Malformed };
    let Some((kind, arp)) = arp.split_first_chunk::<6>() else { return Arp::Malformed };
    let Some((operation, arp)) = arp.split_first_chunk::<2>() else { return Arp::Malformed };
    let Some((sender_mac, arp)) = arp.split_first_chunk::<6>() else { return Arp::Malformed };
    let Some((sender_ip, arp)) = arp.split_first_chunk::<4>() else { return Arp::Malformed };
    let Some((_, arp)) = arp.split_first_chunk::<6>() else { return Arp::Malformed };
    let Some((target, _)) = arp.split_first_chunk::<4>() else { return Arp::Malformed };
    if *kind != ETHERNET_IPV4 && *kind != IEEE802_IPV4 {
        return Arp::Malformed;
    }
    let request =
        ArpRequest { sender_mac: Mac(*sender_mac), sender_ip: Ipv4Addr::from(*sender_ip), target: Ipv4Addr::from(*target) };
    let announcement = request.sender_ip == request.target;
    if *operation != REQUEST || announcement || request.target.is_loopback() || request.target.is_multicast() {
        return Arp::Swallow;
    }
    Arp::Request(request)
}

/// The frame to write to the TAP: "`target` is at `lladdr`".
pub fn reply(request: &ArpRequest, lladdr: Mac) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    frame[0..6].copy_from_slice(&request.sender_mac.0);
    frame[6..12].copy_from_slice(&lladdr.0);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame[14..20].copy_from_slice(&ETHERNET_IPV4);
    frame[20..22].copy_from_slice(&REPLY);
    frame[22..28].copy_from_slice(&lladdr.0);
    frame[28..32].copy_from_slice(&request.target.octets());
    frame[32..38].copy_from_slice(&request.sender_mac.0);
    frame[38..42].copy_from_slice(&request.sender_ip.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// "Who has 10.246.30.5? Tell 10.246.29.0" as Linux sends it.
    #[rustfmt::skip]
    const WHO_HAS: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff,  0x02, 0, 0, 0, 0, 0x0a,  0x08, 0x06,
        0, 1,  0x08, 0,  6, 4,  0, 1,
        0x02, 0, 0, 0, 0, 0x0a,  10, 246, 29, 0,
        0, 0, 0, 0, 0, 0,  10, 246, 30, 5,
    ];
    const VTEP: Mac = Mac([0x16, 0x8d, 0x1e, 0x23, 0x70, 0xcf]);

    fn changed(at: usize, bytes: &[u8]) -> Arp {
        let mut frame = WHO_HAS;
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        parse(&frame)
    }

    #[test]
    fn a_request_is_answered_byte_for_byte() {
        let Arp::Request(request) = parse(&WHO_HAS) else { panic!("{:?}", parse(&WHO_HAS)) };
        #[rustfmt::skip]
        assert_eq!(reply(&request, VTEP), [
            0x02, 0, 0, 0, 0, 0x0a,  0x16, 0x8d, 0x1e, 0x23, 0x70, 0xcf,  0x08, 0x06,
            0, 1,  0x08, 0,  6, 4,  0, 2,
            0x16, 0x8d, 0x1e, 0x23, 0x70, 0xcf,  10, 246, 30, 5,
            0x02, 0, 0, 0, 0, 0x0a,  10, 246, 29, 0,
        ]);
    }

    #[test]
    fn the_answer_goes_to_the_sender_hardware_address_whatever_the_ethernet_source() {
        let Arp::Request(request) = changed(6, &[2, 2, 2, 2, 2, 2]) else { panic!() };
        assert_eq!(reply(&request, VTEP)[..6], [2, 0, 0, 0, 0, 0x0a]);
    }

    #[test]
    fn unicast_requests_and_probes_are_requests_too() {
        assert!(matches!(changed(0, &VTEP.0), Arp::Request(_)));
        let Arp::Request(probe) = changed(28, &[0, 0, 0, 0]) else { panic!() };
        assert_eq!(probe.sender_ip, Ipv4Addr::UNSPECIFIED);
        assert!(matches!(changed(15, &[6]), Arp::Request(_)), "IEEE 802 hardware type");
        let padded = [&WHO_HAS[..], &[0; 18]].concat();
        assert_eq!(parse(&padded), parse(&WHO_HAS));
    }

    #[test]
    fn replies_announcements_and_impossible_targets_are_swallowed() {
        assert_eq!(changed(21, &[2]), Arp::Swallow, "reply");
        assert_eq!(changed(21, &[8]), Arp::Swallow, "inverse ARP");
        assert_eq!(changed(28, &[10, 246, 30, 5]), Arp::Swallow, "announcement: asks for its own address");
        assert_eq!(changed(38, &[127, 0, 0, 1]), Arp::Swallow, "loopback");
        assert_eq!(changed(38, &[224, 0, 0, 1]), Arp::Swallow, "multicast");
    }

    #[test]
    fn what_is_cut_or_not_ipv4_over_ethernet_is_malformed() {
        for len in 0..42 {
            assert_eq!(parse(&WHO_HAS[..len]), Arp::Malformed, "{len} bytes");
        }
        for (at, byte) in [(15, 7), (16, 0x86), (18, 8), (19, 16)] {
            assert_eq!(changed(at, &[byte]), Arp::Malformed, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(frame: Vec<u8>) {
            parse(&frame);
        }
    }
}
