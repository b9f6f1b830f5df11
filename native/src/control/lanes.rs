//! `lanes.set`: more or fewer packet threads while packets flow, and how long they look for work before they sleep.
//!
//! A new lane gets a queue of every TAP and a socket of every port; the kernel spreads flows over what there is. A lane that
//! ends gives back its own; its counts are kept.

use super::engine::Engine;
use super::error::RpcError;
use super::protocol::{Empty, Hello, LanesSet};
use crate::counters::NetworkCounters;
use crate::io::netns::Netns;
use crate::io::tap;
use crate::lane::{self, Device, MAX_SPIN_US};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Most lanes; beyond the number of CPUs they only get in each other's way, and a TAP has queues for so many.
pub const MAX_LANES: u32 = 16;

impl Engine {
    pub(super) fn lanes_set(&mut self, request: LanesSet) -> Result<Hello, RpcError> {
        let lanes = request.lanes.unwrap_or(self.lanes.len() as u32);
        if !(1..=MAX_LANES).contains(&lanes) {
            return Err(RpcError::new("EINVAL", format!("{lanes} lanes: 1 to {MAX_LANES} are possible")));
        }
        let spin_us = request.spin_us.unwrap_or(self.shared.spin_us.load(Relaxed));
        if spin_us > MAX_SPIN_US {
            return Err(RpcError::new("EINVAL", format!("spin {spin_us} us: 0 to {MAX_SPIN_US} are possible")));
        }
        self.shared.spin_us.store(spin_us, Relaxed);
        let wanted = lanes as usize;
        while self.lanes.len() > wanted {
            self.remove_lane();
        }
        while self.lanes.len() < wanted {
            if let Err(error) = self.add_lane() {
                // What it got before the failure goes again.
                self.remove_lane();
                return Err(error);
            }
        }
        self.log.info("lanes set", json!({ "lanes": wanted, "spin_us": spin_us }));
        self.hello(Empty {})
    }

    fn add_lane(&mut self) -> Result<(), RpcError> {
        let lane = lane::start(self.lanes.len(), self.shared.clone())?;
        let sockets = self.underlay.add_lane(&lane, self.offloads.udp_gro.active());
        self.lanes.push(lane);
        sockets?;
        let Some(lane) = self.lanes.last() else { return Ok(()) };
        for (name, held) in self.networks.iter_mut().filter(|(_, held)| !held.lost) {
            let netns = Netns::open(held.spec.netns.as_deref())?;
            let framing = held.master.network.framing;
            let queues = tap::open_queues(name, framing, &netns, held.queues.first().map_or(1, Vec::len))?;
            let counters = Arc::new(NetworkCounters::default());
            held.queues.push(queues.clone());
            held.counters.push(Arc::clone(&counters));
            let Some(pool) = self.underlay.pool(&held.pool) else { continue };
            let offloads = self.offloads.taps(held.tap);
            lane.add_device(Device {
                slot: held.master.network.slot,
                framing,
                queues,
                offloads,
                pool,
                answers: held.answers.clone(),
                counters,
            });
        }
        Ok(())
    }

    fn remove_lane(&mut self) {
        let Some(lane) = self.lanes.pop() else { return };
        let number = self.lanes.len();
        self.underlay.remove_lane(number, &lane);
        for held in self.networks.values_mut() {
            lane.remove_device(held.master.network.slot);
            held.queues.truncate(number);
            for counters in held.counters.drain(number.min(held.counters.len())..) {
                held.retired.absorb(&counters);
            }
        }
        let counters = Arc::clone(&lane.counters);
        drop(lane);
        self.retired.absorb(&counters);
    }
}
