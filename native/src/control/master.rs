//! The tables of one network as they were given, by source, and the copy that lanes look things up in.
//!
//! Every key has at most one value from each source. The strongest source's value is in use: `hand` before a datastore before
//! `learned`. All changes go through here, so that what is in use, the set of known VTEPs and the counts stay one thing.

mod by_hand;
mod dump;
mod learning;

use super::error::RpcError;
use super::journal::Journal;
use super::limits::{Learned, Limits, MAX_ENTRIES, WINDOW};
use super::protocol::{
    Destination, EntryState, EntryVerb, FdbDump, FdbEntry, FdbFlush, FdbFlushed, Neighbour, NeighbourDump, TablesChanged,
    TablesDump, TablesPatch, TablesReplace,
};
use crate::tables::{FdbTargets, Network, Peer, Target};
use crate::wire::{Mac, vxlan};
use ipnet::IpNet;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Most destinations of a flood list.
const MAX_DESTINATIONS: usize = 4_096;

/// Who said it; stronger ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `vtepd fdb`, `vtepd neigh`.
    Hand,
    /// Leases in etcd.
    Etcd,
    /// The file datastore.
    File,
    /// Received frames.
    Learned,
}

impl Source {
    /// The name that travels.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Hand => "hand",
            Source::Etcd => "etcd",
            Source::File => "file",
            Source::Learned => "learned",
        }
    }

    /// A source that whole tables may come from.
    pub fn datastore(name: &str) -> Result<Self, RpcError> {
        match name {
            "etcd" => Ok(Source::Etcd),
            "file" => Ok(Source::File),
            _ => Err(RpcError::new("EINVAL", format!("source '{name}' is not a datastore (etcd, file)"))),
        }
    }
}

/// Values of one key by source, strongest first.
#[derive(Clone, Debug)]
struct Layered<T>(Vec<(Source, T)>);

impl<T: PartialEq> Layered<T> {
    fn get(&self, source: Source) -> Option<&T> {
        self.0.iter().find(|(held, _)| *held == source).map(|(_, value)| value)
    }

    fn set(&mut self, source: Source, value: T) -> Option<T> {
        match self.0.iter_mut().find(|(held, _)| *held == source) {
            Some((_, held)) => Some(std::mem::replace(held, value)),
            None => {
                self.0.push((source, value));
                self.0.sort_by_key(|(held, _)| *held);
                None
            }
        }
    }

    /// True if no other source has a value.
    fn is_only(&self, source: Source) -> bool {
        matches!(self.0.as_slice(), [(only, _)] if *only == source)
    }

    fn remove(&mut self, source: Source) -> Option<T> {
        let position = self.0.iter().position(|(held, _)| *held == source)?;
        Some(self.0.remove(position).1)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct FdbValue {
    pub destinations: Vec<Destination>,
    pub state: EntryState,
    pub router: bool,
}

/// What became of one report of a source MAC.
#[derive(Debug, PartialEq, Eq)]
pub enum Learning {
    /// A new entry.
    Learned,
    /// It was elsewhere.
    Moved(IpAddr),
    /// Already so, or a fixed entry says otherwise.
    Unchanged,
    /// The table is full, or the VTEP's share of it.
    Full,
    /// It moved too often and stays there for a while.
    Held(IpAddr),
}

/// The tables of one network.
pub struct Master {
    /// The copy to publish; its tables are changed by this type only.
    pub network: Network,
    /// Indices of the interfaces that destinations name.
    pub interfaces: HashMap<String, u32>,
    /// What requests have changed since somebody looked.
    pub journal: Journal,
    /// What may be held.
    pub limits: Limits,
    /// How often something was not learned because of them.
    pub refused: u64,
    fdb: HashMap<Mac, Layered<FdbValue>>,
    neighbours: HashMap<IpNet, Layered<Mac>>,
    extra_peers: BTreeMap<Source, HashSet<IpAddr>>,
    /// Set when an answer of the proxy changes; whoever acts on it clears it.
    pub neighbours_changed: bool,
    /// How many table values name a VTEP.
    peer_uses: HashMap<IpAddr, usize>,
    /// How many destinations have a UDP port and VXLAN header.
    tunnel_uses: HashMap<(u16, [u8; vxlan::HEADER_LEN]), usize>,
    revisions: BTreeMap<Source, u64>,
    learned: Learned,
}

#[derive(Default)]
struct Changes {
    added: u32,
    changed: u32,
    removed: u32,
}

impl Changes {
    fn with(self, revision: u64) -> TablesChanged {
        TablesChanged { revision, added: self.added, changed: self.changed, removed: self.removed }
    }
}

/// How many keys of a table come and go with a request.
#[derive(Clone, Copy, Default)]
struct Growth {
    new: usize,
    gone: usize,
}

impl Growth {
    fn exceeds(self, held: usize, limit: usize) -> bool {
        self.new > self.gone && held + self.new - self.gone > limit
    }
}

fn is_list(mac: Mac) -> bool {
    mac.is_zero() || mac.is_multicast()
}

impl Master {
    /// Empty tables.
    pub fn new(network: Network, limits: Limits) -> Self {
        Master {
            network,
            interfaces: HashMap::new(),
            journal: Journal::default(),
            limits,
            refused: 0,
            fdb: HashMap::new(),
            neighbours: HashMap::new(),
            extra_peers: BTreeMap::new(),
            neighbours_changed: false,
            peer_uses: HashMap::new(),
            tunnel_uses: HashMap::new(),
            revisions: BTreeMap::new(),
            learned: Learned::default(),
        }
    }

    /// Entries of the FDB.
    pub fn fdb_len(&self) -> usize {
        self.fdb.len()
    }

    /// Entries of the neighbour table.
    pub fn neighbours_len(&self) -> usize {
        self.neighbours.len()
    }

    /// Revision by source.
    pub fn revisions(&self) -> BTreeMap<String, u64> {
        self.revisions.iter().map(|(source, revision)| (source.name().to_owned(), *revision)).collect()
    }

    // Known VTEPs.

    fn use_peer(&mut self, ip: IpAddr) {
        let uses = self.peer_uses.entry(ip).or_default();
        *uses += 1;
        if *uses == 1 {
            self.network.peers.insert(ip, Arc::new(Peer::new(ip)));
        }
    }

    fn release_peer(&mut self, ip: IpAddr) {
        if let Entry::Occupied(mut uses) = self.peer_uses.entry(ip) {
            *uses.get_mut() -= 1;
            if *uses.get() == 0 {
                uses.remove();
                self.network.peers.remove(&ip);
            }
        }
    }

    fn port_of(&self, to: &Destination) -> u16 {
        to.port.unwrap_or(self.network.port.port)
    }

    fn vni_of(&self, to: &Destination) -> u32 {
        to.vni.unwrap_or(self.network.vni)
    }

    /// The same place, however it is written: the network's own port and VNI may be said or left out.
    fn is_same(&self, a: &Destination, b: &Destination) -> bool {
        (a.ip, self.port_of(a), self.vni_of(a), &a.via) == (b.ip, self.port_of(b), self.vni_of(b), &b.via)
    }

    fn tunnel(&self, to: &Destination) -> (u16, [u8; vxlan::HEADER_LEN]) {
        (self.port_of(to), vxlan::header(self.vni_of(to)))
    }

    fn use_destination(&mut self, to: &Destination) {
        self.use_peer(to.ip);
        let tunnel = self.tunnel(to);
        let uses = self.tunnel_uses.entry(tunnel).or_default();
        *uses += 1;
        if *uses == 1 {
            self.network.sends_as.insert(tunnel, ());
        }
    }

    fn release_destination(&mut self, to: &Destination) {
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

    // One key.

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
    fn publish_mac(&mut self, mac: Mac, now: u32) {
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

    fn set_mac(&mut self, source: Source, mac: Mac, value: FdbValue, now: u32, changes: &mut Changes) {
        if self.fdb.get(&mac).and_then(|layers| layers.get(source)) == Some(&value) {
            return;
        }
        for to in &value.destinations {
            self.use_destination(to);
        }
        if source == Source::Learned {
            value.destinations.iter().for_each(|to| self.learned.add(to.ip));
        }
        self.journal.fdb(source, mac, &value, self.fdb.get(&mac).is_some_and(|layers| layers.get(source).is_some()));
        let old = self.fdb.entry(mac).or_insert_with(|| Layered(Vec::new())).set(source, value);
        self.publish_mac(mac, now);
        match old {
            Some(old) => {
                old.destinations.iter().for_each(|to| self.release(source, to));
                changes.changed += 1;
            }
            None => changes.added += 1,
        }
    }

    fn release(&mut self, source: Source, to: &Destination) {
        self.release_destination(to);
        if source == Source::Learned {
            self.learned.remove(to.ip);
        }
    }

    fn remove_mac(&mut self, source: Source, mac: Mac, now: u32, changes: &mut Changes) -> bool {
        let Some(layers) = self.fdb.get_mut(&mac) else { return false };
        let Some(old) = layers.remove(source) else { return false };
        self.journal.fdb_gone(source, mac, &old);
        if layers.0.is_empty() {
            self.fdb.remove(&mac);
        }
        self.publish_mac(mac, now);
        old.destinations.iter().for_each(|to| self.release(source, to));
        changes.removed += 1;
        true
    }

    fn publish_prefix(&mut self, prefix: IpNet) {
        self.neighbours_changed = true;
        match self.neighbours.get(&prefix).and_then(|layers| layers.0.first()) {
            Some((_, lladdr)) => self.network.neighbours.insert(prefix, *lladdr),
            None => self.network.neighbours.remove(&prefix),
        }
    }

    fn set_prefix(&mut self, source: Source, prefix: IpNet, lladdr: Mac, changes: &mut Changes) {
        match self.neighbours.entry(prefix).or_insert_with(|| Layered(Vec::new())).set(source, lladdr) {
            Some(old) if old == lladdr => return,
            Some(_) => {
                self.journal.neighbour(source.name(), "changed", prefix, lladdr);
                changes.changed += 1;
            }
            None => {
                self.journal.neighbour(source.name(), "new", prefix, lladdr);
                changes.added += 1;
            }
        }
        self.publish_prefix(prefix);
    }

    fn remove_prefix(&mut self, source: Source, prefix: IpNet, changes: &mut Changes) -> bool {
        let Some(layers) = self.neighbours.get_mut(&prefix) else { return false };
        let Some(old) = layers.remove(source) else { return false };
        self.journal.neighbour(source.name(), "deleted", prefix, old);
        if layers.0.is_empty() {
            self.neighbours.remove(&prefix);
        }
        self.publish_prefix(prefix);
        changes.removed += 1;
        true
    }

    fn add_peer(&mut self, source: Source, ip: IpAddr, changes: &mut Changes) {
        if self.extra_peers.entry(source).or_default().insert(ip) {
            self.use_peer(ip);
            changes.added += 1;
        }
    }

    fn remove_peer(&mut self, source: Source, ip: IpAddr, changes: &mut Changes) {
        if self.extra_peers.get_mut(&source).is_some_and(|peers| peers.remove(&ip)) {
            self.release_peer(ip);
            changes.removed += 1;
        }
    }

    // What is refused, before anything is changed.

    fn check_destination(&self, to: &Destination) -> Result<(), RpcError> {
        if to.ip.is_ipv6() != self.network.port.v6 {
            let family = if self.network.port.v6 { "IPv6" } else { "IPv4" };
            return Err(RpcError::new(
                "EAFNOSUPPORT",
                format!("destination {} is not of this network's family, {family}", to.ip),
            ));
        }
        if to.port == Some(0) {
            return Err(RpcError::new("EINVAL", format!("destination {} has port 0", to.ip)));
        }
        if to.vni.is_some_and(|vni| vni >= 1 << 24) {
            return Err(RpcError::new("EINVAL", format!("destination {} has a VNI beyond 24 bits", to.ip)));
        }
        Ok(())
    }

    fn check_entry(&self, entry: &FdbEntry) -> Result<(), RpcError> {
        let count = entry.destinations.len();
        if count == 0 || count > MAX_DESTINATIONS {
            return Err(RpcError::new(
                "EINVAL",
                format!("FDB entry {} has {count} destinations; 1 to {MAX_DESTINATIONS} are possible", entry.mac),
            ));
        }
        if count > 1 && !is_list(entry.mac) {
            return Err(RpcError::new(
                "EINVAL",
                format!("unicast FDB entry {} has {count} destinations; it can have one", entry.mac),
            ));
        }
        entry.destinations.iter().try_for_each(|to| self.check_destination(to))
    }

    /// Room for what comes beside what goes; a table that does not grow has it, whatever the limit has become since.
    fn check_room(&self, fdb: Growth, neighbours: Growth) -> Result<(), RpcError> {
        if fdb.exceeds(self.fdb.len(), self.limits.entries) {
            return Err(RpcError::new(
                "ENOSPC",
                format!("the FDB would exceed its {} entries (maxaddress)", self.limits.entries),
            ));
        }
        if neighbours.exceeds(self.neighbours.len(), MAX_ENTRIES) {
            return Err(RpcError::new("ENOSPC", format!("the neighbour table would exceed its {MAX_ENTRIES} entries")));
        }
        Ok(())
    }

    /// Checks what is to be set; `macs` and `prefixes` of the source go.
    fn check_all(
        &self,
        source: Source,
        fdb: &[FdbEntry],
        neighbours: &[Neighbour],
        macs: &HashSet<Mac>,
        prefixes: &HashSet<IpNet>,
    ) -> Result<(), RpcError> {
        fdb.iter().try_for_each(|entry| self.check_entry(entry))?;
        let fdb = Growth {
            new: fdb.iter().filter(|entry| !self.fdb.contains_key(&entry.mac)).count(),
            gone: macs.iter().filter(|mac| self.fdb.get(mac).is_some_and(|layers| layers.is_only(source))).count(),
        };
        let alone = |prefix: &&IpNet| self.neighbours.get(prefix).is_some_and(|layers| layers.is_only(source));
        let neighbours = Growth {
            new: neighbours.iter().filter(|entry| !self.neighbours.contains_key(&entry.prefix.trunc())).count(),
            gone: prefixes.iter().filter(alone).count(),
        };
        self.check_room(fdb, neighbours)
    }

    fn set_all(&mut self, source: Source, fdb: Vec<FdbEntry>, neighbours: Vec<Neighbour>, now: u32, changes: &mut Changes) {
        for FdbEntry { mac, destinations, state, router } in fdb {
            let value = FdbValue { destinations, state, router: router == Some(true) };
            self.set_mac(source, mac, value, now, changes);
        }
        for Neighbour { prefix, lladdr } in neighbours {
            self.set_prefix(source, prefix.trunc(), lladdr, changes);
        }
    }

    // Requests.

    /// `tables.replace`
    pub fn replace(&mut self, request: TablesReplace, now: u32) -> Result<TablesChanged, RpcError> {
        let source = Source::datastore(&request.source)?;
        let macs: HashSet<Mac> = request.fdb.iter().map(|entry| entry.mac).collect();
        let prefixes: HashSet<IpNet> = request.neighbours.iter().map(|entry| entry.prefix.trunc()).collect();
        let of_source = |(mac, layers): (&Mac, &Layered<FdbValue>)| layers.get(source).map(|_| *mac);
        let gone_macs: HashSet<Mac> = self.fdb.iter().filter_map(of_source).filter(|mac| !macs.contains(mac)).collect();
        let of_source = |(prefix, layers): (&IpNet, &Layered<Mac>)| layers.get(source).map(|_| *prefix);
        let gone_prefixes: HashSet<IpNet> =
            self.neighbours.iter().filter_map(of_source).filter(|prefix| !prefixes.contains(prefix)).collect();
        self.check_all(source, &request.fdb, &request.neighbours, &gone_macs, &gone_prefixes)?;
        let mut changes = Changes::default();
        let peers: HashSet<IpAddr> = request.peers.iter().copied().collect();
        // Peers first: one that stays known is never forgotten in between, and keeps its counters.
        peers.iter().for_each(|ip| self.add_peer(source, *ip, &mut changes));
        self.set_all(source, request.fdb, request.neighbours, now, &mut changes);
        gone_macs.into_iter().for_each(|mac| _ = self.remove_mac(source, mac, now, &mut changes));
        gone_prefixes.into_iter().for_each(|prefix| _ = self.remove_prefix(source, prefix, &mut changes));
        let gone: Vec<IpAddr> =
            self.extra_peers.get(&source).into_iter().flatten().filter(|ip| !peers.contains(ip)).copied().collect();
        gone.into_iter().for_each(|ip| self.remove_peer(source, ip, &mut changes));
        self.revisions.insert(source, request.revision);
        Ok(changes.with(request.revision))
    }

    /// `tables.patch`
    pub fn patch(&mut self, request: TablesPatch, now: u32) -> Result<TablesChanged, RpcError> {
        let source = Source::datastore(&request.source)?;
        let held = self.revisions.get(&source).copied();
        if held != Some(request.base) {
            let held = held.map_or("none".to_owned(), |revision| revision.to_string());
            return Err(RpcError::new(
                "REVISION_MISMATCH",
                format!("revision held is {held}, the patch is against {}", request.base),
            ));
        }
        // Removal before addition as the protocol says, but a key that is set again is replaced in place: no frame meets a gap.
        let set: HashSet<Mac> = request.fdb_set.iter().map(|entry| entry.mac).collect();
        let prefixes: HashSet<IpNet> = request.neighbours_set.iter().map(|entry| entry.prefix.trunc()).collect();
        let gone_macs: HashSet<Mac> = request.fdb_remove.iter().copied().filter(|mac| !set.contains(mac)).collect();
        let gone_prefixes: HashSet<IpNet> =
            request.neighbours_remove.iter().map(IpNet::trunc).filter(|prefix| !prefixes.contains(prefix)).collect();
        self.check_all(source, &request.fdb_set, &request.neighbours_set, &gone_macs, &gone_prefixes)?;
        let mut changes = Changes::default();
        request.peers_add.iter().for_each(|ip| self.add_peer(source, *ip, &mut changes));
        self.set_all(source, request.fdb_set, request.neighbours_set, now, &mut changes);
        gone_macs.into_iter().for_each(|mac| _ = self.remove_mac(source, mac, now, &mut changes));
        gone_prefixes.into_iter().for_each(|prefix| _ = self.remove_prefix(source, prefix, &mut changes));
        let added: HashSet<IpAddr> = request.peers_add.into_iter().collect();
        for ip in request.peers_remove.into_iter().filter(|ip| !added.contains(ip)) {
            self.remove_peer(source, ip, &mut changes);
        }
        self.revisions.insert(source, request.revision);
        Ok(changes.with(request.revision))
    }
}

#[cfg(test)]
mod tests;
