//! Notifications: coalesced, limited in rate, counted when left out.

use super::protocol::MissEvent;
use serde::Serialize;
use std::collections::HashMap;
use std::net::IpAddr;

/// Notifications of one kind of thing sent in one tick (a second) at most.
const PER_TICK: usize = 100;
/// Changes of tables told in one tick at most; beside the others, so that a table that is replaced hides nothing else.
const CHANGES_PER_TICK: usize = 1_000;
/// Different keys of misses remembered between two ticks.
const MISS_KEYS: usize = 1_000;

/// What was looked for and not found.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missed {
    /// A destination MAC.
    Mac(crate::wire::Mac),
    /// An address that the proxy was asked for.
    Ip(IpAddr),
}

/// Collects notifications until the server sends them.
#[derive(Default)]
pub struct Events {
    lines: Vec<Vec<u8>>,
    this_tick: usize,
    changes_this_tick: usize,
    misses: HashMap<(String, Missed), u64>,
    /// Notifications left out.
    pub suppressed: u64,
}

impl Events {
    /// Queues one notification line.
    pub fn push(&mut self, method: &str, params: &impl Serialize) {
        if self.this_tick >= PER_TICK {
            self.suppressed += 1;
            return;
        }
        self.this_tick += 1;
        self.line(method, params);
    }

    /// Queues one notification about a change of a table.
    pub fn push_change(&mut self, method: &str, params: &impl Serialize) {
        if self.changes_this_tick >= CHANGES_PER_TICK {
            self.suppressed += 1;
            return;
        }
        self.changes_this_tick += 1;
        self.line(method, params);
    }

    fn line(&mut self, method: &str, params: &impl Serialize) {
        let message = serde_json::json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.lines.push(format!("{message}\n").into_bytes());
    }

    /// Counts a miss; it is sent with the next tick, once for each key.
    pub fn miss(&mut self, network: &str, missed: Missed) {
        let known = self.misses.len();
        match self.misses.get_mut(&(network.to_owned(), missed)) {
            Some(count) => *count += 1,
            None if known < MISS_KEYS => _ = self.misses.insert((network.to_owned(), missed), 1),
            None => self.suppressed += 1,
        }
    }

    /// A second has passed.
    pub fn tick(&mut self) {
        self.this_tick = 0;
        self.changes_this_tick = 0;
        for ((network, missed), count) in std::mem::take(&mut self.misses) {
            let (layer, key) = match missed {
                Missed::Mac(mac) => ("l2", mac.to_string()),
                Missed::Ip(ip) => ("l3", ip.to_string()),
            };
            self.push("miss", &MissEvent { network, layer: layer.to_owned(), key, count });
        }
    }

    /// What is to be sent to every subscriber.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Mac;

    #[test]
    fn misses_are_told_once_a_second_for_each_key_with_their_count() {
        let mut events = Events::default();
        for _ in 0..5 {
            events.miss("vx0", Missed::Mac(Mac([2, 0, 0, 0, 0, 1])));
        }
        assert!(events.take().is_empty());
        events.tick();
        let lines = events.take();
        let line: serde_json::Value = serde_json::from_slice(&lines[0]).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(line["method"], "miss");
        assert_eq!(
            line["params"],
            serde_json::json!({ "network": "vx0", "layer": "l2", "key": "02:00:00:00:00:01", "count": 5 })
        );
    }

    #[test]
    fn what_exceeds_the_rate_is_counted() {
        let mut events = Events::default();
        (0..PER_TICK + 7).for_each(|number| events.push("aged", &number));
        assert_eq!((events.take().len(), events.suppressed), (PER_TICK, 7));
        events.tick();
        events.push("aged", &0);
        assert_eq!(events.take().len(), 1);
    }
}
