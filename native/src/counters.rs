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

macro_rules! counters {
    ($(#[$meta:meta])* pub struct $name:ident { $($field:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Default)]
        pub struct $name {
            $(pub $field: Counter,)+
            /// Frames that died, by reason.
            pub drops: Drops,
        }

        impl $name {
            /// Adds what another one, whose writer has ended, had counted.
            pub fn absorb(&self, other: &Self) {
                $(self.$field.add(other.$field.get());)+
                for reason in DropReason::ALL {
                    self.drops.add(*reason, other.drops.get(*reason));
                }
            }
        }
    };
}

counters! {
/// What one lane counts about one network.
#[expect(missing_docs, reason = "the protocol's NetworkStats documents each")]
pub struct NetworkCounters {
    rx_packets,
    rx_bytes,
    tx_packets,
    tx_bytes,
    arp_replies,
    nd_replies,
    partial_checksums,
    whole_superframes,
    too_big_replies,
    refusals,
}
}

counters! {
/// What one lane counts about itself. Its drops are of frames that died before a network was known; `reports_lost` are learning
/// and miss reports that did not fit the queue to the control thread.
#[expect(missing_docs, reason = "the protocol's LaneStats documents each")]
pub struct LaneCounters {
    rx_packets,
    rx_bytes,
    tx_packets,
    tx_bytes,
    tap_reads,
    tap_writes,
    udp_receives,
    udp_sends,
    udp_messages_received,
    udp_messages_sent,
    turns,
    busy_us,
    spin_us,
    longest_turn_us,
    reports_lost,
}
}
