//! One VTEP: its counters, shared by every table entry that names it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// A tunnel endpoint of one network. Written by lanes once a datagram or train, read by the control thread.
pub struct Peer {
    /// Underlay address.
    pub ip: IpAddr,
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    /// Seconds on the dataplane's clock plus one; 0 = never.
    heard: AtomicU32,
}

impl Peer {
    /// A peer of which nothing has been heard.
    pub fn new(ip: IpAddr) -> Self {
        let zero = || AtomicU64::new(0);
        Peer { ip, rx_packets: zero(), rx_bytes: zero(), tx_packets: zero(), tx_bytes: zero(), heard: AtomicU32::new(0) }
    }

    /// Counts frames delivered from it; `now` in seconds.
    pub fn received(&self, packets: u64, bytes: u64, now: u32) {
        self.rx_packets.fetch_add(packets, Relaxed);
        self.rx_bytes.fetch_add(bytes, Relaxed);
        self.heard.store(now.saturating_add(1), Relaxed);
    }

    /// Counts frames handed to the underlay for it.
    pub fn sent(&self, packets: u64, bytes: u64) {
        self.tx_packets.fetch_add(packets, Relaxed);
        self.tx_bytes.fetch_add(bytes, Relaxed);
    }

    /// (packets, bytes) delivered from it.
    pub fn rx(&self) -> (u64, u64) {
        (self.rx_packets.load(Relaxed), self.rx_bytes.load(Relaxed))
    }

    /// (packets, bytes) handed to the underlay for it.
    pub fn tx(&self) -> (u64, u64) {
        (self.tx_packets.load(Relaxed), self.tx_bytes.load(Relaxed))
    }

    /// When it was last heard, in seconds on the dataplane's clock.
    pub fn last_heard(&self) -> Option<u32> {
        self.heard.load(Relaxed).checked_sub(1)
    }
}
