//! The copy that lanes look things up in, brought up to date key by key: what the strongest source says of each, and the VTEPs and
//! headers that it needs.

use super::Master;
use crate::control::protocol::{Destination, EntryState};
use crate::tables::{FdbTargets, Peer, Target};
use crate::wire::{Mac, vxlan};
use ipnet::IpNet;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

impl Master {
    pub(super) fn use_peer(&mut self, ip: IpAddr) {
        let uses = self.peer_uses.entry(ip).or_default();
        *uses += 1;
        if *uses == 1 {
            self.network.peers.insert(ip, Arc::new(Peer::new(ip)));
        }
    }

    pub(super) fn release_peer(&mut self, ip: IpAddr) {
        if let Entry::Occupied(mut uses) = self.peer_uses.entry(ip) {
            *uses.get_mut() -= 1;
            if *uses.get() == 0 {
                uses.remove();
                self.network.peers.remove(&ip);
            }
        }
    }

    pub(super) fn port_of(&self, to: &Destination) -> u16 {
        to.port.unwrap_or(self.network.port.port)
    }

    pub(super) fn vni_of(&self, to: &Destination) -> u32 {
        to.vni.unwrap_or(self.network.vni)
    }

    /// The same place, however it is written: the network's own port and VNI may be said or left out.
    pub(super) fn is_same(&self, a: &Destination, b: &Destination) -> bool {
        (a.ip, self.port_of(a), self.vni_of(a), &a.via) == (b.ip, self.port_of(b), self.vni_of(b), &b.via)
    }

    fn tunnel(&self, to: &Destination) -> (u16, [u8; vxlan::HEADER_LEN]) {
        (self.port_of(to), vxlan::header(self.vni_of(to)))
    }

    pub(super) fn use_destination(&mut self, to: &Destination) {
        self.use_peer(to.ip);
        let tunnel = self.tunnel(to);
        let uses = self.tunnel_uses.entry(tunnel).or_default();
        *uses += 1;
        if *uses == 1 {
            self.network.sends_as.insert(tunnel, ());
        }
    }

    pub(super) fn release_destination(&mut self, to: &Destination) {
        self.release_peer(to.ip);
        let tunnel = self.tunnel(to);
        if let Entry::Occupied(mut uses) = self.tunnel_uses.entry(tunnel) {
            *uses.get_mut() -= 1;
            if *uses.get() == 0 {
                uses.remove();
                self.network.sends_as.remove(&tunnel);
            }
        }
    }

    /// Where datagrams for a destination go, its flow label included.
    fn address(&self, to: &Destination) -> SocketAddr {
        let port = to.port.unwrap_or(self.network.port.port);
        match to.ip {
            IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
            // The kernel takes the flow label in network order, the standard library hands it on as it is.
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, self.network.options.flowlabel.to_be(), 0).into(),
        }
    }

    /// Brings the copy in use up to date with the strongest value of a MAC. `now` in seconds starts a new entry's age.
    pub(super) fn publish_mac(&mut self, mac: Mac, now: u32) {
        let Some((_, value)) = self.fdb.get(&mac).and_then(|layers| layers.0.first()) else {
            self.network.fdb.remove(&mac);
            return;
        };
        let targets: Box<[Target]> = value
            .destinations
            .iter()
            .filter_map(|to| {
                Some(Target {
                    address: self.address(to),
                    via: to.via.as_ref().and_then(|name| self.interfaces.get(name)).copied().unwrap_or(0),
                    header: vxlan::header(to.vni.unwrap_or(self.network.vni)),
                    peer: Arc::clone(self.network.peers.get(&to.ip)?),
                })
            })
            .collect();
        let entry = FdbTargets {
            targets,
            dynamic: value.state == EntryState::Dynamic,
            router: value.router,
            used: AtomicU32::new(now),
            held: AtomicU32::new(0),
        };
        self.network.fdb.insert(mac, Arc::new(entry));
    }

    /// Brings everything in use up to date with changed options; ages stay.
    pub fn republish(&mut self, now: u32) {
        let macs: Vec<Mac> = self.fdb.keys().copied().collect();
        for mac in macs {
            let old = self.network.fdb.get(&mac).cloned();
            self.publish_mac(mac, now);
            if let (Some(old), Some(new)) = (old, self.network.fdb.get(&mac)) {
                new.used.store(old.used.load(Relaxed), Relaxed);
                new.held.store(old.held.load(Relaxed), Relaxed);
            }
        }
    }

    pub(super) fn publish_prefix(&mut self, prefix: IpNet) {
        self.neighbours_changed = true;
        match self.neighbours.get(&prefix).and_then(|layers| layers.0.first()) {
            Some((_, lladdr)) => self.network.neighbours.insert(prefix, *lladdr),
            None => self.network.neighbours.remove(&prefix),
        }
    }
}
