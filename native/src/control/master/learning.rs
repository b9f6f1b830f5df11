//! What is learned: from received frames, and from the host's neighbour cache of the TAP.

use super::layers::Source;
use super::{Changes, FdbValue, Master};
use crate::control::limits::{MAX_ENTRIES, WINDOW};
use crate::control::protocol::{Destination, EntryState};
use crate::tables::FdbTargets;
use crate::wire::Mac;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

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

impl Master {
    /// A received frame came from `mac` behind `ip`.
    pub fn learn(&mut self, mac: Mac, ip: IpAddr, now: u32) -> Learning {
        let layers = self.fdb.get(&mac);
        let strongest = layers.and_then(|layers| layers.0.first());
        if strongest
            .is_some_and(|(_, value)| value.state != EntryState::Dynamic || value.destinations.iter().any(|to| to.ip == ip))
        {
            return Learning::Unchanged;
        }
        // A router stays one wherever its MAC moves, as in the kernel.
        let (source, from, router) = match strongest {
            Some((source, value)) => (*source, value.destinations.first().map(|to| to.ip), value.router),
            None => (Source::Learned, None, false),
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
        // What was said of the destination by hand besides the address stays, as in the kernel (`vxlan_snoop`).
        let told = strongest.and_then(|(_, value)| value.destinations.first()).cloned();
        let told = told.unwrap_or(Destination { ip, port: None, vni: None, via: None });
        let destinations = vec![Destination { ip, ..told }];
        let value = FdbValue { destinations, state: EntryState::Dynamic, router };
        let quiet = self.journal.len();
        self.set_mac(source, mac, value, now, &mut Changes::default());
        self.journal.truncate(quiet);
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
            let quiet = self.journal.len();
            self.remove_mac(source, *mac, now, &mut Changes::default());
            self.journal.truncate(quiet);
        }
        gone
    }

    /// What the host's neighbour cache of the TAP says of an address; true if that is news.
    pub fn set_kernel_neighbour(&mut self, address: IpAddr, lladdr: Option<Mac>) -> bool {
        match lladdr.filter(|lladdr| !lladdr.is_zero() && !lladdr.is_multicast() && !address.is_multicast()) {
            Some(_) if self.network.kernel_neighbours.len() >= MAX_ENTRIES => false,
            Some(lladdr) => {
                let old = self.network.kernel_neighbours.insert(address, lladdr);
                if old != Some(lladdr) {
                    let what = if old.is_some() { "changed" } else { "new" };
                    self.journal.neighbour("kernel", what, address.into(), lladdr);
                }
                old != Some(lladdr)
            }
            None => {
                let old = self.network.kernel_neighbours.remove(&address);
                if let Some(old) = old {
                    self.journal.neighbour("kernel", "deleted", address.into(), old);
                }
                old.is_some()
            }
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
}
