//! What a datastore says: `tables.replace`, all of it, and `tables.patch`, a change. Everything is checked before anything is changed.

use super::layers::{Layered, Source};
use super::{Changes, FdbValue, Master};
use crate::control::error::RpcError;
use crate::control::protocol::{FdbEntry, Neighbour, TablesChanged, TablesPatch, TablesReplace};
use crate::wire::Mac;
use ipnet::IpNet;
use std::collections::HashSet;
use std::net::IpAddr;

impl Master {
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

    fn set_all(&mut self, source: Source, fdb: Vec<FdbEntry>, neighbours: Vec<Neighbour>, now: u32, changes: &mut Changes) {
        for FdbEntry { mac, destinations, state, router } in fdb {
            let value = FdbValue { destinations, state, router: router == Some(true) };
            self.set_mac(source, mac, value, now, changes);
        }
        for Neighbour { prefix, lladdr } in neighbours {
            self.set_prefix(source, prefix.trunc(), lladdr, changes);
        }
    }
}
