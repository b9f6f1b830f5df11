//! One network as the lanes see it, and the snapshot of all of them.

use super::{Neighbours, Options, Peer, Sharded};
use crate::wire::{Framing, Mac, vxlan};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// One place to send to, with everything that encapsulation needs computed beforehand.
pub struct Target {
    /// VTEP and UDP port.
    pub address: SocketAddr,
    /// Index of the interface to send by; 0 = the network's or the route's.
    pub via: u32,
    /// The VXLAN header to put in front.
    pub header: [u8; vxlan::HEADER_LEN],
    /// Counters of the VTEP.
    pub peer: Arc<Peer>,
}

/// The value of an FDB key.
pub struct FdbTargets {
    /// One for a unicast MAC; any number for the flood list and multicast MACs.
    pub targets: Box<[Target]>,
    /// Learned or added as dynamic: moves when its MAC shows up elsewhere, and ages. The others do neither.
    pub dynamic: bool,
    /// The MAC is a router's.
    pub router: bool,
    /// Seconds on the dataplane's clock at which a received frame last refreshed it.
    pub used: AtomicU32,
    /// Seconds on that clock until which it may not move: it did too often.
    pub held: AtomicU32,
}

impl FdbTargets {
    /// An entry that neither moves nor ages.
    pub fn fixed(targets: Box<[Target]>) -> Self {
        FdbTargets { targets, dynamic: false, router: false, used: AtomicU32::new(0), held: AtomicU32::new(0) }
    }

    /// True when a frame whose outer source is `source` agrees with this entry.
    pub fn is_at(&self, source: IpAddr) -> bool {
        self.targets.iter().any(|target| target.address.ip() == source)
    }
}

/// Where datagrams come in: networks of one family and port share their VNIs' number space, as in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PortKey {
    /// IPv6 underlay.
    pub v6: bool,
    /// UDP port.
    pub port: u16,
}

/// In the place of a VNI: a layer-3 network, which has none and its port for itself.
pub const NO_VNI: u32 = 1 << 24;

/// One VNI with its tables and policy.
#[derive(Clone)]
pub struct Network {
    /// Index among the lanes' devices; reused after the network is gone from every lane.
    pub slot: usize,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Where it receives.
    pub port: PortKey,
    /// Frames in VXLAN, or bare IPv4 packets.
    pub framing: Framing,
    /// The tunnel's own address, from which a layer-3 network's ICMP errors come.
    pub tunnel_address: Option<Ipv4Addr>,
    /// Where it sends from, if that is fixed.
    pub local: Option<IpAddr>,
    /// MAC of the TAP.
    pub mac: Mac,
    /// MTU of the TAP.
    pub mtu: u32,
    /// Largest IP packet that the underlay carries unfragmented, as known when the network was made.
    pub underlay_mtu: u32,
    /// Answer ARP and neighbour solicitations.
    pub proxy: bool,
    /// Learn source MACs.
    pub learning: bool,
    /// Take frames from known VTEPs only.
    pub peersonly: bool,
    /// What else was asked for.
    pub options: Options,
    /// MAC -> where to.
    pub fdb: Sharded<Mac, Arc<FdbTargets>>,
    /// Address or subnet -> MAC.
    pub neighbours: Neighbours,
    /// What somebody set on the TAP with `ip neigh`; asked only where `neighbours` has no answer.
    pub kernel_neighbours: Sharded<IpAddr, Mac>,
    /// UDP port and VXLAN header of everything that the FDB says to send: what an ICMP error may quote.
    pub sends_as: Sharded<(u16, [u8; vxlan::HEADER_LEN]), ()>,
    /// Known VTEPs.
    pub peers: Sharded<IpAddr, Arc<Peer>>,
}

impl Network {
    /// A network without entries, every switch off, on an underlay of 1500.
    pub fn new(slot: usize, vni: u32, port: PortKey) -> Self {
        Network {
            slot,
            vni,
            port,
            framing: Framing::Ethernet,
            tunnel_address: None,
            local: None,
            mac: Mac::ZERO,
            mtu: 1450,
            underlay_mtu: 1500,
            proxy: false,
            learning: false,
            peersonly: false,
            options: Options::default(),
            fdb: Sharded::default(),
            neighbours: Neighbours::default(),
            kernel_neighbours: Sharded::default(),
            sends_as: Sharded::default(),
            peers: Sharded::default(),
        }
    }

    /// The MAC that answers for an address.
    pub fn neighbour(&self, address: IpAddr) -> Option<Mac> {
        self.neighbours.lookup(address).or_else(|| self.kernel_neighbours.get(&address).copied())
    }

    /// True where the FDB has the unspecified address for a MAC, which means that it is on this side of the tunnel: whoever has it answers
    /// for itself, and the proxy does not (`arp_reduce`).
    pub fn is_local(&self, mac: Mac) -> bool {
        let first = self.fdb.get(&mac).and_then(|entry| entry.targets.first());
        first.is_some_and(|target| target.address.ip().is_unspecified())
    }

    /// Where a frame for `destination` goes: exact match (multicast and broadcast entries included), then the flood list.
    pub fn targets(&self, destination: Mac) -> Option<&Arc<FdbTargets>> {
        self.fdb.get(&destination).or_else(|| self.fdb.get(&Mac::ZERO))
    }

    /// Where a layer-3 network's packet for `destination` goes. A peer's MAC is there the name by which its subnets (neighbours) and its address
    /// (FDB) are joined, so that both kinds of network have one set of tables.
    pub fn carrier(&self, destination: Ipv4Addr) -> Option<&Arc<FdbTargets>> {
        self.fdb.get(&self.neighbours.lookup(destination.into())?)
    }
}

/// All networks, as published to the lanes.
#[derive(Default, Clone)]
pub struct Snapshot {
    /// By slot.
    pub networks: Vec<Option<Arc<Network>>>,
    /// (where it came in, VNI) -> slot.
    pub vnis: HashMap<(PortKey, u32), usize>,
}

impl Snapshot {
    /// The network of a slot.
    pub fn network(&self, slot: usize) -> Option<&Arc<Network>> {
        self.networks.get(slot)?.as_ref()
    }

    /// The network of a VNI that came in at a port.
    pub fn by_vni(&self, port: PortKey, vni: u32) -> Option<&Arc<Network>> {
        self.network(*self.vnis.get(&(port, vni))?)
    }
}
