//! The tables of one network as they were given, by source, and the copy that lanes look things up in.
//!
//! Every key has at most one value from each source. The strongest source's value is in use: `hand` before a datastore before
//! `learned`. All changes go through here, so that what is in use, the set of known VTEPs and the counts stay one thing.

use super::error::RpcError;
use super::limits::{Learned, Limits, MAX_ENTRIES, WINDOW};
use super::protocol::{
    Destination, EntryState, EntryVerb, FdbDump, FdbEntry, Neighbour, NeighbourDump, TablesChanged, TablesDump, TablesPatch,
    TablesReplace,
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

    fn remove(&mut self, source: Source) -> Option<T> {
        let position = self.0.iter().position(|(held, _)| *held == source)?;
        Some(self.0.remove(position).1)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct FdbValue {
    destinations: Vec<Destination>,
    state: EntryState,
    router: bool,
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

fn is_list(mac: Mac) -> bool {
    mac.is_zero() || mac.is_multicast()
}

impl Master {
    /// Empty tables.
    pub fn new(network: Network, limits: Limits) -> Self {
        Master {
            network,
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

    fn tunnel(&self, to: &Destination) -> (u16, [u8; vxlan::HEADER_LEN]) {
        (to.port.unwrap_or(self.network.port.port), vxlan::header(to.vni.unwrap_or(self.network.vni)))
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
            Some(_) => changes.changed += 1,
            None => changes.added += 1,
        }
        self.publish_prefix(prefix);
    }

    fn remove_prefix(&mut self, source: Source, prefix: IpNet, changes: &mut Changes) -> bool {
        let Some(layers) = self.neighbours.get_mut(&prefix) else { return false };
        if layers.remove(source).is_none() {
            return false;
        }
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

    fn check_room(&self, fdb: usize, neighbours: usize) -> Result<(), RpcError> {
        if self.fdb.len() + fdb > self.limits.entries {
            return Err(RpcError::new(
                "ENOSPC",
                format!("the FDB would exceed its {} entries (maxaddress)", self.limits.entries),
            ));
        }
        if self.neighbours.len() + neighbours > MAX_ENTRIES {
            return Err(RpcError::new("ENOSPC", format!("the neighbour table would exceed its {MAX_ENTRIES} entries")));
        }
        Ok(())
    }

    fn check_all(&self, fdb: &[FdbEntry], neighbours: &[Neighbour]) -> Result<(), RpcError> {
        fdb.iter().try_for_each(|entry| self.check_entry(entry))?;
        let new_macs = fdb.iter().filter(|entry| !self.fdb.contains_key(&entry.mac)).count();
        let new_prefixes = neighbours.iter().filter(|entry| !self.neighbours.contains_key(&entry.prefix.trunc())).count();
        self.check_room(new_macs, new_prefixes)
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
        self.check_all(&request.fdb, &request.neighbours)?;
        let mut changes = Changes::default();
        let macs: HashSet<Mac> = request.fdb.iter().map(|entry| entry.mac).collect();
        let prefixes: HashSet<IpNet> = request.neighbours.iter().map(|entry| entry.prefix.trunc()).collect();
        let peers: HashSet<IpAddr> = request.peers.iter().copied().collect();
        // Peers first: one that stays known is never forgotten in between, and keeps its counters.
        peers.iter().for_each(|ip| self.add_peer(source, *ip, &mut changes));
        self.set_all(source, request.fdb, request.neighbours, now, &mut changes);
        let of_source = |(mac, layers): (&Mac, &Layered<FdbValue>)| layers.get(source).map(|_| *mac);
        let gone: Vec<Mac> = self.fdb.iter().filter_map(of_source).filter(|mac| !macs.contains(mac)).collect();
        gone.into_iter().for_each(|mac| _ = self.remove_mac(source, mac, now, &mut changes));
        let of_source = |(prefix, layers): (&IpNet, &Layered<Mac>)| layers.get(source).map(|_| *prefix);
        let gone: Vec<IpNet> = self.neighbours.iter().filter_map(of_source).filter(|prefix| !prefixes.contains(prefix)).collect();
        gone.into_iter().for_each(|prefix| _ = self.remove_prefix(source, prefix, &mut changes));
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
        self.check_all(&request.fdb_set, &request.neighbours_set)?;
        let mut changes = Changes::default();
        request.peers_add.iter().for_each(|ip| self.add_peer(source, *ip, &mut changes));
        // Removal before addition as the protocol says, but a key that is set again is replaced in place: no frame meets a gap.
        let set: HashSet<Mac> = request.fdb_set.iter().map(|entry| entry.mac).collect();
        let prefixes: HashSet<IpNet> = request.neighbours_set.iter().map(|entry| entry.prefix.trunc()).collect();
        self.set_all(source, request.fdb_set, request.neighbours_set, now, &mut changes);
        for mac in request.fdb_remove.into_iter().filter(|mac| !set.contains(mac)) {
            self.remove_mac(source, mac, now, &mut changes);
        }
        for prefix in request.neighbours_remove.iter().map(IpNet::trunc).filter(|prefix| !prefixes.contains(prefix)) {
            self.remove_prefix(source, prefix, &mut changes);
        }
        let added: HashSet<IpAddr> = request.peers_add.into_iter().collect();
        for ip in request.peers_remove.into_iter().filter(|ip| !added.contains(ip)) {
            self.remove_peer(source, ip, &mut changes);
        }
        self.revisions.insert(source, request.revision);
        Ok(changes.with(request.revision))
    }

    /// `fdb.change`: the verbs of `bridge fdb`, with an error where the kernel's device says nothing and does nothing.
    pub fn change_fdb(
        &mut self,
        verb: EntryVerb,
        mac: Mac,
        to: Option<Destination>,
        state: Option<EntryState>,
        router: Option<bool>,
        now: u32,
    ) -> Result<(), RpcError> {
        let held = self.fdb.get(&mac).and_then(|layers| layers.get(Source::Hand)).cloned();
        if verb == EntryVerb::Del {
            return self.delete_fdb(mac, to, held, now);
        }
        let to = to.ok_or_else(|| RpcError::new("EINVAL", format!("no destination for {mac}: say dst VTEP")))?;
        self.check_destination(&to)?;
        let state = state.unwrap_or(EntryState::Static);
        let mut value = FdbValue { destinations: vec![to.clone()], state, router: router == Some(true) };
        match (verb, held) {
            (EntryVerb::Add, Some(_)) => {
                return Err(RpcError::new("EEXIST", format!("{mac} has an entry: use replace, or append for the flood list")));
            }
            (EntryVerb::Append, Some(_)) if !is_list(mac) => {
                return Err(RpcError::new("EOPNOTSUPP", format!("{mac} is a unicast MAC and has a destination: use replace")));
            }
            (EntryVerb::Append, Some(held)) => {
                if held.destinations.contains(&to) {
                    return Err(RpcError::new("EEXIST", format!("{} is a destination of {mac} already", to.ip)));
                }
                if held.destinations.len() >= MAX_DESTINATIONS {
                    return Err(RpcError::new("ENOSPC", format!("{mac} has {MAX_DESTINATIONS} destinations")));
                }
                value = FdbValue {
                    destinations: [held.destinations, vec![to]].concat(),
                    state: held.state,
                    router: router.unwrap_or(held.router),
                };
            }
            (EntryVerb::Replace, _) if is_list(mac) => {
                return Err(RpcError::new(
                    "EOPNOTSUPP",
                    format!("{mac} is no unicast MAC: its destinations are changed by append and del"),
                ));
            }
            _ => {}
        }
        if !self.fdb.contains_key(&mac) {
            self.check_room(1, 0)?;
        }
        self.set_mac(Source::Hand, mac, value, now, &mut Changes::default());
        Ok(())
    }

    fn delete_fdb(&mut self, mac: Mac, to: Option<Destination>, held: Option<FdbValue>, now: u32) -> Result<(), RpcError> {
        let learned = self.fdb.get(&mac).is_some_and(|layers| layers.get(Source::Learned).is_some());
        let Some(mut held) = held else {
            if learned && self.remove_mac(Source::Learned, mac, now, &mut Changes::default()) {
                return Ok(());
            }
            let why = if self.fdb.contains_key(&mac) {
                "comes from the datastore: it goes when its lease goes"
            } else {
                "has no entry"
            };
            return Err(RpcError::new("ENOENT", format!("{mac} {why}")));
        };
        if let Some(to) = to {
            let before = held.destinations.len();
            let same = |held: &Destination| {
                held.ip == to.ip
                    && to.port.is_none_or(|port| held.port == Some(port))
                    && to.vni.is_none_or(|vni| held.vni == Some(vni))
            };
            held.destinations.retain(|held| !same(held));
            if held.destinations.len() == before {
                return Err(RpcError::new("ENOENT", format!("{} is no destination of {mac}", to.ip)));
            }
            if !held.destinations.is_empty() {
                self.set_mac(Source::Hand, mac, held, now, &mut Changes::default());
                return Ok(());
            }
        }
        self.remove_mac(Source::Hand, mac, now, &mut Changes::default());
        Ok(())
    }

    /// `neigh.change`: the verbs of `ip neigh`.
    pub fn change_neighbour(&mut self, verb: EntryVerb, prefix: IpNet, lladdr: Option<Mac>) -> Result<(), RpcError> {
        let prefix = prefix.trunc();
        let held = self.neighbours.get(&prefix).is_some_and(|layers| layers.get(Source::Hand).is_some());
        if verb == EntryVerb::Del {
            if self.remove_prefix(Source::Hand, prefix, &mut Changes::default()) {
                return Ok(());
            }
            let why = if self.neighbours.contains_key(&prefix) {
                "comes from the datastore: it goes when its lease goes"
            } else {
                "has no entry"
            };
            return Err(RpcError::new("ENOENT", format!("{prefix} {why}")));
        }
        let lladdr = lladdr.ok_or_else(|| RpcError::new("EINVAL", format!("no MAC for {prefix}: say lladdr MAC")))?;
        if lladdr.is_zero() || lladdr.is_multicast() {
            return Err(RpcError::new("EINVAL", format!("{lladdr} cannot be a neighbour's MAC")));
        }
        match verb {
            EntryVerb::Append => return Err(RpcError::new("EOPNOTSUPP", "a neighbour has one MAC: use replace")),
            EntryVerb::Add if held => return Err(RpcError::new("EEXIST", format!("{prefix} has an entry: use replace"))),
            _ => {}
        }
        self.check_room(0, 1)?;
        self.set_prefix(Source::Hand, prefix, lladdr, &mut Changes::default());
        Ok(())
    }

    /// What the host's neighbour cache of the TAP says of an address; true if that is news.
    pub fn set_kernel_neighbour(&mut self, address: IpAddr, lladdr: Option<Mac>) -> bool {
        match lladdr.filter(|lladdr| !lladdr.is_zero() && !lladdr.is_multicast() && !address.is_multicast()) {
            Some(_) if self.network.kernel_neighbours.len() >= MAX_ENTRIES => false,
            Some(lladdr) => self.network.kernel_neighbours.insert(address, lladdr) != Some(lladdr),
            None => self.network.kernel_neighbours.remove(&address).is_some(),
        }
    }

    /// The cache, whole; true if that is news.
    pub fn replace_kernel_neighbours(&mut self, cache: &HashMap<IpAddr, Mac>) -> bool {
        let held: Vec<IpAddr> = self.network.kernel_neighbours.iter().map(|(address, _)| *address).collect();
        let mut news = false;
        for address in held.into_iter().filter(|address| !cache.contains_key(address)) {
            news |= self.set_kernel_neighbour(address, None);
        }
        for (address, lladdr) in cache {
            news |= self.set_kernel_neighbour(*address, Some(*lladdr));
        }
        news
    }

    /// A received frame came from `mac` behind `ip`.
    pub fn learn(&mut self, mac: Mac, ip: IpAddr, now: u32) -> Learning {
        let layers = self.fdb.get(&mac);
        let strongest = layers.and_then(|layers| layers.0.first());
        if strongest
            .is_some_and(|(_, value)| value.state != EntryState::Dynamic || value.destinations.iter().any(|to| to.ip == ip))
        {
            return Learning::Unchanged;
        }
        let (source, from) = match strongest {
            Some((source, value)) => (*source, value.destinations.first().map(|to| to.ip)),
            None => (Source::Learned, None),
        };
        let full = from.is_none() && (self.fdb.len() >= self.limits.entries || self.learned.total >= self.limits.learned);
        if full || source == Source::Learned && self.learned.at(ip) >= self.limits.per_peer {
            self.refused += 1;
            return Learning::Full;
        }
        if let Some(from) = from
            && !self.learned.may_move(mac, self.limits.moves, now)
        {
            let held = self.network.fdb.get(&mac).map_or(0, |entry| entry.held.swap(now.saturating_add(WINDOW), Relaxed));
            return if held > now { Learning::Unchanged } else { Learning::Held(from) };
        }
        let destinations = vec![Destination { ip, port: None, vni: None }];
        let value = FdbValue { destinations, state: EntryState::Dynamic, router: false };
        self.set_mac(source, mac, value, now, &mut Changes::default());
        from.map_or(Learning::Learned, Learning::Moved)
    }

    /// Forgets moves of which no limit depends any more.
    pub fn forget_moves(&mut self, now: u32) {
        self.learned.forget(now);
    }

    /// Removes dynamic entries that nobody refreshed for `ageing` seconds; returns them.
    pub fn age(&mut self, ageing: u32, now: u32) -> Vec<(Mac, IpAddr)> {
        let old = |(mac, entry): (&Mac, &Arc<FdbTargets>)| {
            let idle = now.saturating_sub(entry.used.load(Relaxed));
            (entry.dynamic && idle >= ageing).then(|| Some((*mac, entry.targets.first()?.peer.ip)))?
        };
        let gone: Vec<(Mac, IpAddr)> = self.network.fdb.iter().filter_map(old).collect();
        for (mac, _) in &gone {
            let source = self.fdb.get(mac).and_then(|layers| layers.0.first()).map_or(Source::Learned, |(source, _)| *source);
            self.remove_mac(source, *mac, now, &mut Changes::default());
        }
        gone
    }

    /// `tables.dump`
    pub fn dump(&self, now: u32) -> TablesDump {
        let mut fdb: Vec<FdbDump> = self
            .fdb
            .iter()
            .flat_map(|(mac, layers)| {
                layers.0.iter().enumerate().map(|(position, (source, value))| {
                    let used = self.network.fdb.get(mac).filter(|entry| position == 0 && entry.dynamic);
                    FdbDump {
                        mac: *mac,
                        destinations: value.destinations.clone(),
                        state: value.state,
                        source: source.name().to_owned(),
                        router: value.router.then_some(true),
                        used: used.map(|entry| now.saturating_sub(entry.used.load(Relaxed))),
                        active: position == 0,
                    }
                })
            })
            .collect();
        fdb.sort_by_key(|entry| (entry.mac, !entry.active));
        let mut neighbours: Vec<NeighbourDump> = self
            .neighbours
            .iter()
            .flat_map(|(prefix, layers)| {
                layers.0.iter().enumerate().map(|(position, (source, lladdr))| NeighbourDump {
                    prefix: *prefix,
                    lladdr: *lladdr,
                    source: source.name().to_owned(),
                    active: position == 0,
                })
            })
            .collect();
        neighbours.extend(self.network.kernel_neighbours.iter().map(|(address, lladdr)| NeighbourDump {
            prefix: IpNet::from(*address),
            lladdr: *lladdr,
            source: "kernel".to_owned(),
            active: self.network.neighbours.lookup(*address).is_none(),
        }));
        neighbours.sort_by_key(|entry| (entry.prefix, !entry.active));
        let peers = self.extra_peers.iter().filter(|(_, peers)| !peers.is_empty()).map(|(source, peers)| {
            let mut peers: Vec<IpAddr> = peers.iter().copied().collect();
            peers.sort();
            (source.name().to_owned(), peers)
        });
        TablesDump { revisions: self.revisions(), fdb, neighbours, peers: peers.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{Neighbours, Options, PortKey, Sharded};

    fn master(maxaddress: u32) -> Master {
        let network = Network {
            slot: 0,
            vni: 1,
            port: PortKey { v6: false, port: 8472 },
            local: None,
            mac: Mac([2, 0, 0, 0, 0, 0xfe]),
            mtu: 1450,
            underlay_mtu: 1500,
            proxy: true,
            learning: true,
            peersonly: true,
            options: Options::default(),
            fdb: Sharded::default(),
            neighbours: Neighbours::default(),
            kernel_neighbours: Sharded::default(),
            sends_as: Sharded::default(),
            peers: Sharded::default(),
        };
        Master::new(network, Limits::of(maxaddress))
    }

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    fn ip(last: u8) -> IpAddr {
        [10, 245, 1, last].into()
    }

    fn to(last: u8) -> Destination {
        Destination { ip: ip(last), port: None, vni: None }
    }

    fn entry(last: u8, at: u8) -> FdbEntry {
        FdbEntry { mac: mac(last), destinations: vec![to(at)], state: EntryState::Permanent, router: None }
    }

    fn neighbour(prefix: &str, last: u8) -> Neighbour {
        Neighbour { prefix: prefix.parse().unwrap(), lladdr: mac(last) }
    }

    fn replace(revision: u64, fdb: Vec<FdbEntry>, neighbours: Vec<Neighbour>) -> TablesReplace {
        TablesReplace { network: "x".into(), source: "etcd".into(), revision, fdb, neighbours, peers: vec![] }
    }

    fn patch(base: u64) -> TablesPatch {
        TablesPatch {
            network: "x".into(),
            source: "etcd".into(),
            base,
            revision: base + 1,
            fdb_remove: vec![],
            fdb_set: vec![],
            neighbours_remove: vec![],
            neighbours_set: vec![],
            peers_remove: vec![],
            peers_add: vec![],
        }
    }

    fn destination(master: &Master, last: u8) -> Option<IpAddr> {
        master.network.fdb.get(&mac(last)).map(|entry| entry.targets[0].address.ip())
    }

    fn error(result: Result<(), RpcError>) -> String {
        result.unwrap_err().data.name
    }

    #[test]
    fn replace_changes_only_the_difference_and_only_its_own_source() {
        let mut master = master(0);
        master.change_fdb(EntryVerb::Add, mac(9), Some(to(9)), None, None, 0).unwrap();
        let first = master.replace(replace(5, vec![entry(1, 1), entry(2, 2)], vec![neighbour("10.246.1.0/24", 1)]), 0).unwrap();
        assert_eq!((first.added, first.changed, first.removed), (3, 0, 0));
        let kept = Arc::clone(master.network.fdb.get(&mac(1)).unwrap());
        let second = master.replace(replace(6, vec![entry(1, 1), entry(2, 3)], vec![]), 0).unwrap();
        assert_eq!((second.added, second.changed, second.removed), (0, 1, 1));
        assert!(Arc::ptr_eq(&kept, master.network.fdb.get(&mac(1)).unwrap()), "an entry that stays is not touched");
        assert_eq!((destination(&master, 2), destination(&master, 9)), (Some(ip(3)), Some(ip(9))));
        assert_eq!(master.network.peers.len(), 3, "VTEPs 1, 3 and 9 may send; 2 no longer");
        assert!(master.network.peers.get(&ip(2)).is_none());
        assert_eq!(master.revisions(), BTreeMap::from([("etcd".to_owned(), 6)]));
    }

    #[test]
    fn a_patch_against_another_revision_changes_nothing() {
        let mut master = master(0);
        master.replace(replace(5, vec![entry(1, 1)], vec![]), 0).unwrap();
        let wrong = TablesPatch { fdb_remove: vec![mac(1)], ..patch(4) };
        assert_eq!(master.patch(wrong, 0).unwrap_err().data.name, "REVISION_MISMATCH");
        assert_eq!(destination(&master, 1), Some(ip(1)));
        let right =
            TablesPatch { fdb_remove: vec![mac(1), mac(7)], fdb_set: vec![entry(2, 1)], peers_add: vec![ip(8)], ..patch(5) };
        let changed = master.patch(right, 0).unwrap();
        assert_eq!((changed.added, changed.removed), (2, 1));
        assert_eq!((destination(&master, 1), destination(&master, 2)), (None, Some(ip(1))));
        assert!(master.network.peers.get(&ip(8)).is_some());
    }

    #[test]
    fn a_bad_entry_refuses_the_whole_request() {
        let mut master = master(0);
        let two = FdbEntry { destinations: vec![to(1), to(2)], ..entry(3, 1) };
        let v6 =
            FdbEntry { destinations: vec![Destination { ip: "fd00::1".parse().unwrap(), port: None, vni: None }], ..entry(3, 1) };
        let none = FdbEntry { destinations: vec![], ..entry(3, 1) };
        for (bad, name) in [(two, "EINVAL"), (v6, "EAFNOSUPPORT"), (none, "EINVAL")] {
            let refused = master.replace(replace(1, vec![entry(1, 1), bad], vec![]), 0).unwrap_err();
            assert_eq!(refused.data.name, name);
            assert_eq!((master.fdb_len(), master.network.fdb.len(), master.network.peers.len()), (0, 0, 0));
        }
    }

    #[test]
    fn by_hand_wins_over_the_datastore_and_the_datastore_over_learned() {
        let mut master = master(0);
        assert_eq!(master.learn(mac(1), ip(1), 0), Learning::Learned);
        master.replace(replace(1, vec![entry(1, 2)], vec![neighbour("10.246.1.0/24", 1)]), 0).unwrap();
        assert_eq!(destination(&master, 1), Some(ip(2)));
        assert_eq!(master.learn(mac(1), ip(1), 0), Learning::Unchanged);
        master.change_fdb(EntryVerb::Add, mac(1), Some(to(3)), None, None, 0).unwrap();
        master.change_neighbour(EntryVerb::Add, "10.246.1.0/24".parse().unwrap(), Some(mac(7))).unwrap();
        assert_eq!(destination(&master, 1), Some(ip(3)));
        assert_eq!(master.network.neighbours.lookup("10.246.1.1".parse().unwrap()), Some(mac(7)));
        let dump = master.dump(0);
        let seen: Vec<_> = dump.fdb.iter().map(|entry| (entry.source.as_str(), entry.active)).collect();
        assert_eq!(seen, [("hand", true), ("etcd", false), ("learned", false)]);
        master.change_fdb(EntryVerb::Del, mac(1), None, None, None, 0).unwrap();
        master.change_neighbour(EntryVerb::Del, "10.246.1.0/24".parse().unwrap(), None).unwrap();
        assert_eq!(destination(&master, 1), Some(ip(2)));
        assert_eq!(master.network.neighbours.lookup("10.246.1.1".parse().unwrap()), Some(mac(1)));
        assert_eq!(error(master.change_fdb(EntryVerb::Del, mac(2), None, None, None, 0)), "ENOENT");
    }

    #[test]
    fn the_verbs_refuse_what_bridge_fdb_refuses_and_what_it_ignores() {
        let mut master = master(0);
        let list = Mac::ZERO;
        master.change_fdb(EntryVerb::Append, list, Some(to(1)), None, None, 0).unwrap();
        master.change_fdb(EntryVerb::Append, list, Some(to(2)), None, None, 0).unwrap();
        assert_eq!(error(master.change_fdb(EntryVerb::Append, list, Some(to(2)), None, None, 0)), "EEXIST");
        assert_eq!(error(master.change_fdb(EntryVerb::Add, list, Some(to(3)), None, None, 0)), "EEXIST");
        assert_eq!(error(master.change_fdb(EntryVerb::Replace, list, Some(to(3)), None, None, 0)), "EOPNOTSUPP");
        assert_eq!(master.network.fdb.get(&list).unwrap().targets.len(), 2);
        assert_eq!(error(master.change_fdb(EntryVerb::Del, list, Some(to(3)), None, None, 0)), "ENOENT");
        master.change_fdb(EntryVerb::Del, list, Some(to(1)), None, None, 0).unwrap();
        assert_eq!(master.network.fdb.get(&list).unwrap().targets[0].address.ip(), ip(2));
        master.change_fdb(EntryVerb::Del, list, Some(to(2)), None, None, 0).unwrap();
        assert_eq!((master.fdb_len(), master.network.peers.len(), master.network.sends_as.len()), (0, 0, 0));

        master.change_fdb(EntryVerb::Replace, mac(1), Some(to(1)), None, None, 0).unwrap();
        master.change_fdb(EntryVerb::Replace, mac(1), Some(to(2)), None, None, 0).unwrap();
        assert_eq!(error(master.change_fdb(EntryVerb::Append, mac(1), Some(to(3)), None, None, 0)), "EOPNOTSUPP");
        assert_eq!(error(master.change_fdb(EntryVerb::Add, mac(2), None, None, None, 0)), "EINVAL");
        let v6 = Destination { ip: "fd00::1".parse().unwrap(), port: None, vni: None };
        assert_eq!(error(master.change_fdb(EntryVerb::Add, mac(2), Some(v6), None, None, 0)), "EAFNOSUPPORT");
        assert_eq!(error(master.change_neighbour(EntryVerb::Append, "10.0.0.1/32".parse().unwrap(), Some(mac(1)))), "EOPNOTSUPP");
        assert_eq!(
            error(master.change_neighbour(EntryVerb::Add, "10.0.0.1/32".parse().unwrap(), Some(Mac::BROADCAST))),
            "EINVAL"
        );
    }

    #[test]
    fn learned_entries_move_age_and_end_at_the_limit() {
        let mut master = master(3);
        assert_eq!(master.learn(mac(1), ip(1), 10), Learning::Learned);
        assert_eq!(master.learn(mac(1), ip(1), 11), Learning::Unchanged);
        assert_eq!(master.learn(mac(1), ip(2), 12), Learning::Moved(ip(1)));
        assert_eq!(master.learn(mac(2), ip(2), 20), Learning::Learned);
        assert_eq!(master.learn(mac(3), ip(2), 20), Learning::Learned);
        assert_eq!(master.learn(mac(4), ip(2), 20), Learning::Full);
        assert_eq!(error(master.change_fdb(EntryVerb::Add, mac(5), Some(to(1)), None, None, 0)), "ENOSPC");
        master.network.fdb.get(&mac(2)).unwrap().used.store(29, Relaxed);
        assert_eq!(master.age(10, 22), [(mac(1), ip(2))]);
        assert_eq!(master.age(10, 30), [(mac(3), ip(2))]);
        assert_eq!((master.fdb_len(), master.network.fdb.len(), master.learned.total), (1, 1, 1));
        assert_eq!(master.network.peers.len(), 1);
    }

    #[test]
    fn what_the_host_knows_answers_where_nobody_else_does_and_goes_with_it() {
        let mut master = master(0);
        let address: IpAddr = "10.246.1.5".parse().unwrap();
        assert!(master.set_kernel_neighbour(address, Some(mac(5))));
        assert!(!master.set_kernel_neighbour(address, Some(mac(5))), "no news");
        assert!(!master.set_kernel_neighbour("224.0.0.1".parse().unwrap(), Some(mac(5))));
        assert_eq!(master.network.neighbour(address), Some(mac(5)));
        master.change_neighbour(EntryVerb::Add, "10.246.1.0/24".parse().unwrap(), Some(mac(7))).unwrap();
        assert_eq!(master.network.neighbour(address), Some(mac(7)), "the weakest, however long the prefix");
        let seen: Vec<_> = master.dump(0).neighbours.into_iter().map(|entry| (entry.source, entry.active)).collect();
        assert_eq!(seen, [("hand".to_owned(), true), ("kernel".to_owned(), false)]);
        master.change_neighbour(EntryVerb::Del, "10.246.1.0/24".parse().unwrap(), None).unwrap();
        let cache = HashMap::from([("10.246.1.6".parse().unwrap(), mac(6))]);
        assert!(master.replace_kernel_neighbours(&cache));
        assert!(!master.replace_kernel_neighbours(&cache));
        assert_eq!((master.network.neighbour(address), master.network.kernel_neighbours.len()), (None, 1));
        assert!(master.replace_kernel_neighbours(&HashMap::new()));
        assert!(master.network.kernel_neighbours.is_empty());
    }

    #[test]
    fn a_peer_has_its_share_and_an_entry_moves_only_so_often() {
        let mut master = master(0);
        master.limits = Limits { per_peer: 2, moves: 2, ..master.limits };
        assert_eq!(master.learn(mac(1), ip(1), 0), Learning::Learned);
        assert_eq!(master.learn(mac(2), ip(1), 0), Learning::Learned);
        assert_eq!(master.learn(mac(3), ip(1), 0), Learning::Full);
        assert_eq!(master.learn(mac(3), ip(2), 0), Learning::Learned, "another peer has its own share");
        assert_eq!(master.learn(mac(3), ip(1), 0), Learning::Full, "nor does a move get round it");
        assert_eq!(master.refused, 2);
        assert_eq!(master.learn(mac(1), ip(2), 1), Learning::Moved(ip(1)));
        assert_eq!(master.learn(mac(1), ip(3), 2), Learning::Moved(ip(2)));
        assert_eq!(master.learn(mac(1), ip(4), 3), Learning::Held(ip(3)));
        assert_eq!(master.learn(mac(1), ip(4), 4), Learning::Unchanged, "told once");
        assert_eq!(master.network.fdb.get(&mac(1)).unwrap().held.load(Relaxed), 64);
        assert_eq!(master.learn(mac(1), ip(4), 64), Learning::Moved(ip(3)), "forgiven after a minute");
        assert_eq!(master.network.fdb.get(&mac(1)).unwrap().held.load(Relaxed), 0);
        master.change_fdb(EntryVerb::Del, mac(2), None, None, None, 5).unwrap();
        assert_eq!(master.learned.at(ip(1)), 0);
        assert_eq!(master.learned.total, 2);
    }
}
