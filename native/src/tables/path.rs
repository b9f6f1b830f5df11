//! Path MTUs: what an ICMP error changes, if it can be about something that was sent.

use super::{Peer, Snapshot};
use std::net::SocketAddr;
use std::sync::Arc;

/// Lowest path MTU that is believed, as the kernel's `min_pmtu` and RFC 8200 §5: whoever claims less wants to do harm.
const FLOOR_V4: u32 = 552;
const FLOOR_V6: u32 = 1280;

/// One error about the size of a packet.
pub struct TooBig {
    /// Where the packet was for.
    pub to: SocketAddr,
    /// The VXLAN header quoted; absent in an error of this host's own kernel, which needs no proof.
    pub header: Option<[u8; 8]>,
    /// The largest IP packet that gets through.
    pub mtu: u32,
}

impl Snapshot {
    /// Lowers the path MTU of the peers that the error is about: those of networks that send with exactly this header to this port. The
    /// source address and port were matched by the kernel when it chose the socket.
    pub fn too_big(&self, error: &TooBig, now: u32) {
        let ip = error.to.ip();
        let mtu = error.mtu.max(if ip.is_ipv6() { FLOOR_V6 } else { FLOOR_V4 });
        for network in self.networks.iter().flatten().filter(|network| network.port.v6 == ip.is_ipv6()) {
            let could_have_sent = error.header.is_none_or(|header| network.sends_as.get(&(error.to.port(), header)).is_some());
            let peer: Option<&Arc<Peer>> = network.peers.get(&ip).filter(|_| could_have_sent);
            if let Some(peer) = peer.filter(|_| mtu < network.underlay_mtu) {
                peer.lower_path_mtu(mtu, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{Network, PortKey};
    use crate::wire::{Mac, vxlan};
    use std::net::IpAddr;

    fn snapshot(peer: &Arc<Peer>) -> Snapshot {
        let mut network = Network::new(0, 7, PortKey { v6: peer.ip.is_ipv6(), port: 4789 });
        network.mac = Mac([2, 0, 0, 0, 0, 1]);
        network.sends_as.insert((4789, vxlan::header(7)), ());
        network.peers.insert(peer.ip, Arc::clone(peer));
        Snapshot { networks: vec![None, Some(Arc::new(network))], vnis: Default::default() }
    }

    fn tell(peer: &Arc<Peer>, to: &str, header: Option<[u8; 8]>, mtu: u32) -> Option<u32> {
        snapshot(peer).too_big(&TooBig { to: to.parse().unwrap(), header, mtu }, 100);
        peer.path_mtu(100)
    }

    #[test]
    fn only_an_error_about_what_was_sent_there_lowers_a_path_mtu_and_only_for_a_time() {
        let peer = Arc::new(Peer::new([10, 9, 0, 2].into()));
        assert_eq!(tell(&peer, "10.9.0.3:4789", Some(vxlan::header(7)), 1400), None, "another host");
        assert_eq!(tell(&peer, "10.9.0.2:4790", Some(vxlan::header(7)), 1400), None, "another port");
        assert_eq!(tell(&peer, "10.9.0.2:4789", Some(vxlan::header(8)), 1400), None, "another VNI");
        assert_eq!(tell(&peer, "10.9.0.2:4789", Some([0x88, 0, 0, 1, 0, 0, 7, 0]), 1400), None, "a header that is never sent");
        assert_eq!(tell(&peer, "10.9.0.2:4789", Some(vxlan::header(7)), 1500), None, "no news");
        assert_eq!(tell(&peer, "10.9.0.2:4789", Some(vxlan::header(7)), 1400), Some(1400));
        assert_eq!(tell(&peer, "10.9.0.2:4789", Some(vxlan::header(7)), 1450), Some(1400), "never raised");
        assert_eq!(tell(&peer, "10.9.0.2:4789", Some(vxlan::header(7)), 68), Some(552), "never below the floor");
        assert_eq!((peer.path_mtu(699), peer.path_mtu(700)), (Some(552), None), "forgotten after ten minutes");
        assert_eq!(tell(&peer, "10.9.0.2:0", None, 1300), Some(552));
    }

    #[test]
    fn ipv6_has_a_floor_of_its_own_and_this_hosts_kernel_needs_no_proof() {
        let peer = Arc::new(Peer::new("fd09::2".parse::<IpAddr>().unwrap()));
        assert_eq!(tell(&peer, "[fd09::2]:0", None, 1400), Some(1400));
        assert_eq!(tell(&peer, "[fd09::2]:4789", Some(vxlan::header(7)), 600), Some(1280));
    }
}
