//! Counters that a lane writes and the control thread reads.
//!
//! Each counter has one writer, so an update is a plain load and store (no locked instruction); readers see whole values.

use crate::drops::{COUNT, DropReason};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One number with one writer.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; to be called by the one writer only.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Keeps the larger; to be called by the one writer only.
    pub fn raise_to(&self, value: u64) {
        if value > self.0.load(Relaxed) {
            self.0.store(value, Relaxed);
        }
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Why frames died, counted.
pub struct Drops([Counter; COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Drops(std::array::from_fn(|_| Counter::default()))
    }
}

impl Drops {
    /// Counts frames that died.
    pub fn add(&self, reason: DropReason, frames: u64) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.add(frames);
        }
    }

    /// How many died of it.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).map_or(0, Counter::get)
    }
}

/// What one lane counts about one network.
#[derive(Default)]
#[expect(missing_docs, reason = "the protocol's NetworkStats documents each")]
pub struct NetworkCounters {
    pub rx_packets: Counter,
    pub rx_bytes: Counter,
    pub tx_packets: Counter,
    pub tx_bytes: Counter,
    pub arp_replies: Counter,
    pub nd_replies: Counter,
    pub partial_checksums: Counter,
    pub whole_superframes: Counter,
    pub drops: Drops,
}

/// What one lane counts about itself.
#[derive(Default)]
#[expect(missing_docs, reason = "the protocol's LaneStats documents each")]
pub struct LaneCounters {
    pub rx_packets: Counter,
    pub rx_bytes: Counter,
    pub tx_packets: Counter,
    pub tx_bytes: Counter,
    pub tap_reads: Counter,
    pub tap_writes: Counter,
    pub udp_receives: Counter,
    pub udp_sends: Counter,
    pub udp_messages_received: Counter,
    pub udp_messages_sent: Counter,
    pub sleeps: Counter,
    pub busy_us: Counter,
    pub longest_turn_us: Counter,
    /// Frames that died before a network was known.
    pub drops: Drops,
    /// Learning and miss reports that did not fit the queue to the control thread.
    pub reports_lost: Counter,
}
