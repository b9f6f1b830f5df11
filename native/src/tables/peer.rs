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
    /// Largest IP packet that the way to it carries; 0 = not known to be less than the interface's.
    path_mtu: AtomicU32,
    /// Seconds on the dataplane's clock until which that is believed.
    path_mtu_until: AtomicU32,
}

/// How long a lowered path MTU is believed, as the kernel's `mtu_expires`.
const PATH_MTU_SECONDS: u32 = 600;

impl Peer {
    /// A peer of which nothing has been heard.
    pub fn new(ip: IpAddr) -> Self {
        let zero = || AtomicU64::new(0);
        Peer {
            ip,
            rx_packets: zero(),
            rx_bytes: zero(),
            tx_packets: zero(),
            tx_bytes: zero(),
            heard: AtomicU32::new(0),
            path_mtu: AtomicU32::new(0),
            path_mtu_until: AtomicU32::new(0),
        }
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

    /// The way to it carries no more than this. A larger value than the one held changes nothing.
    pub fn lower_path_mtu(&self, mtu: u32, now: u32) {
        if self.path_mtu(now).is_none_or(|held| mtu <= held) {
            self.path_mtu.store(mtu, Relaxed);
            self.path_mtu_until.store(now.saturating_add(PATH_MTU_SECONDS), Relaxed);
        }
    }

    /// The largest IP packet that the way to it carries, where that is known to be less than the interface's.
    pub fn path_mtu(&self, now: u32) -> Option<u32> {
        match self.path_mtu.load(Relaxed) {
            0 => None,
            mtu => (now < self.path_mtu_until.load(Relaxed)).then_some(mtu),
        }
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
