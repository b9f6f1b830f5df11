//! Limits of learning: whoever may send can make entries and move them, so both have a bound.

use super::protocol::NetworkSpec;
use crate::wire::Mac;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

/// Most FDB entries and most neighbours of one network.
pub const MAX_ENTRIES: usize = 1 << 20;
/// Most learned entries where `maxaddress` sets no limit.
const MAX_LEARNED: usize = 65_536;
/// Most learned entries of one VTEP and most moves in a minute, where a datastore made the network and says nothing.
const PER_PEER: u32 = 16_384;
const MOVES: u32 = 60;
/// What moves are counted in, and how long an entry is held, in seconds.
pub const WINDOW: u32 = 60;

/// What a network allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of all kinds.
    pub entries: usize,
    /// Learned entries.
    pub learned: usize,
    /// Learned entries of one VTEP.
    pub per_peer: usize,
    /// Moves of one entry in [`WINDOW`].
    pub moves: u32,
}

fn or_none(limit: u32, none: usize) -> usize {
    if limit == 0 { none } else { limit as usize }
}

impl Limits {
    /// As asked for.
    pub fn new(spec: &NetworkSpec) -> Self {
        let by_hand = spec.owner == "hand";
        let per_peer = spec.maxperpeer.unwrap_or(if by_hand { 0 } else { PER_PEER });
        let moves = spec.maxmoves.unwrap_or(if by_hand { 0 } else { MOVES });
        Limits { per_peer: or_none(per_peer, MAX_ENTRIES), moves: or_none(moves, 0) as u32, ..Self::of(spec.maxaddress) }
    }

    /// Only `maxaddress`.
    pub fn of(maxaddress: u32) -> Self {
        Limits {
            entries: or_none(maxaddress, MAX_ENTRIES).min(MAX_ENTRIES),
            learned: or_none(maxaddress, MAX_LEARNED),
            per_peer: MAX_ENTRIES,
            moves: 0,
        }
    }
}

/// What has been learned, counted.
#[derive(Default)]
pub struct Learned {
    /// Entries.
    pub total: usize,
    by_peer: HashMap<IpAddr, usize>,
    /// By MAC: when the window began, and moves since.
    moves: HashMap<Mac, (u32, u32)>,
}

impl Learned {
    /// One more entry at a VTEP.
    pub fn add(&mut self, ip: IpAddr) {
        self.total += 1;
        *self.by_peer.entry(ip).or_default() += 1;
    }

    /// One entry less.
    pub fn remove(&mut self, ip: IpAddr) {
        self.total -= 1;
        if let Entry::Occupied(mut count) = self.by_peer.entry(ip) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Entries at a VTEP.
    pub fn at(&self, ip: IpAddr) -> usize {
        self.by_peer.get(&ip).copied().unwrap_or(0)
    }

    /// Counts a move; false if it is one too many.
    pub fn may_move(&mut self, mac: Mac, limit: u32, now: u32) -> bool {
        if limit == 0 {
            return true;
        }
        let (since, count) = self.moves.entry(mac).or_insert((now, 0));
        if now.saturating_sub(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= limit
    }

    /// Forgets windows that are over.
    pub fn forget(&mut self, now: u32) {
        self.moves.retain(|_, (since, _)| now.saturating_sub(*since) < WINDOW);
    }
}
