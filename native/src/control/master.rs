//! The tables of one network as they were given, by source, and the copy that lanes look things up in.
//!
//! Every key has at most one value from each source. The strongest source's value is in use: `hand` before a datastore before
//! `learned`. Requests and reports are in the modules; what they change goes through here, key by key, so that what is in use, the set
//! of known VTEPs and the counts stay one thing.

mod by_hand;
mod checks;
mod datastore;
mod dump;
mod layers;
mod learning;
mod publish;

pub use layers::Source;
pub use learning::Learning;

use super::journal::Journal;
use super::limits::{Learned, Limits};
use super::protocol::{Destination, EntryState, TablesChanged};
use crate::tables::Network;
use crate::wire::{Mac, vxlan};
use ipnet::IpNet;
use layers::Layered;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct FdbValue {
    pub destinations: Vec<Destination>,
    pub state: EntryState,
    pub router: bool,
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

    // One source's value of one key.

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
}

#[cfg(test)]
mod tests;
