//! The host's neighbour caches beside our neighbour table.
//!
//! The kernel asks on the TAP, the proxy answers, and the kernel keeps the answer for as long as it is used; while the dataplane
//! was away it asked in vain and waits a second before it asks again. So whenever the neighbour table of a network with
//! the proxy on has changed, the cache entries of its TAP that came by asking are made to agree with it: what is answered
//! otherwise now is corrected, what is answered by nobody goes, and what waits for an answer gets it.

use super::engine::Engine;
use super::network::Held;
use serde_json::json;
use std::time::{Duration, Instant};

/// Between two looks at one TAP's caches; a look costs as much as the TAP has entries there.
const PAUSE: Duration = Duration::from_millis(100);

/// When the caches of a TAP were last looked at.
#[derive(Default)]
pub struct Caches {
    /// The neighbour table has changed since.
    pub stale: bool,
    looked: Option<Instant>,
}

impl Caches {
    fn wait(&self, now: Instant) -> Option<Duration> {
        let since = self.looked.map_or(PAUSE, |looked| now.saturating_duration_since(looked));
        self.stale.then(|| PAUSE.saturating_sub(since))
    }
}

impl Engine {
    /// How long until [`Engine::refresh_caches`] has something to do; absent if nothing is to be done.
    pub fn caches_wait(&self) -> Option<Duration> {
        let now = Instant::now();
        self.networks.values().filter_map(|held| held.caches.wait(now)).min()
    }

    /// Brings the host's caches in line with neighbour tables that have changed.
    pub fn refresh_caches(&mut self) {
        let now = Instant::now();
        for (name, held) in &mut self.networks {
            if held.caches.wait(now) != Some(Duration::ZERO) {
                continue;
            }
            held.caches.stale = false;
            held.caches.looked = Some(now);
            if held.lost || !held.master.network.proxy {
                continue;
            }
            let corrected = refresh(held);
            if corrected > 0 {
                self.log.info("the host's neighbour cache was corrected", json!({ "network": name, "entries": corrected }));
            }
        }
    }
}

/// Entries corrected, answered or removed. What fails is left to the kernel, which will ask in its own time.
fn refresh(held: &Held) -> usize {
    let Ok(entries) = held.netlink.neighbours(held.ifindex) else { return 0 };
    let network = &held.master.network;
    let table = &network.neighbours;
    let asked = entries.iter().filter(|entry| entry.is_resolved_by_asking());
    asked
        .filter(|entry| match table.lookup(entry.address) {
            Some(lladdr) if entry.lladdr == Some(lladdr) || network.is_local(lladdr) => false,
            Some(lladdr) if entry.lladdr.is_some() || entry.is_unanswered() => {
                held.netlink.answer_neighbour(held.ifindex, entry.address, lladdr).is_ok()
            }
            None if entry.lladdr.is_some() => held.netlink.del_neighbour(held.ifindex, entry.address).is_ok(),
            _ => false,
        })
        .count()
}
