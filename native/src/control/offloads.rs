//! `offloads.*`: what is tried at start, switched by an operator, and given up after the kernel refused it.

use super::engine::Engine;
use super::error::RpcError;
use super::protocol::{Capabilities, Empty, OffloadEvent, OffloadSet, OffloadState};
use crate::io::error::SysError;
use crate::io::tap::{self, TapOffloads};
use crate::io::udp;
use serde_json::json;

/// One offload.
pub struct Switch {
    name: &'static str,
    supported: bool,
    enabled: bool,
    /// Why it was given up while running.
    failed: Option<String>,
}

impl Switch {
    fn new(name: &'static str, supported: bool) -> Self {
        Switch { name, supported, enabled: true, failed: None }
    }

    /// True when it is to be used.
    pub fn active(&self) -> bool {
        self.supported && self.enabled && self.failed.is_none()
    }

    fn state(&self) -> OffloadState {
        let reason = match (&self.failed, self.supported, self.enabled) {
            (_, false, _) => "the kernel refused it when it was tried".to_owned(),
            (_, _, false) => "switched off".to_owned(),
            (Some(failure), ..) => format!("given up after {failure}; switch it on again to retry"),
            _ => String::new(),
        };
        OffloadState {
            offload: self.name.to_owned(),
            supported: self.supported,
            enabled: self.enabled,
            active: self.active(),
            reason,
        }
    }
}

/// All four.
pub struct Offloads {
    /// TCP superframes at the TAP.
    pub tap_tso: Switch,
    /// UDP superframes at the TAP.
    pub tap_uso: Switch,
    /// Trains on the way out.
    pub udp_segment: Switch,
    /// Trains on the way in.
    pub udp_gro: Switch,
}

impl Offloads {
    /// Tries each.
    pub fn probe() -> Result<Offloads, SysError> {
        let taps = tap::probe()?;
        let (segment, gro) = udp::probe();
        Ok(Offloads {
            tap_tso: Switch::new("tap_tso", taps.tso),
            tap_uso: Switch::new("tap_uso", taps.uso),
            udp_segment: Switch::new("udp_segment", segment),
            udp_gro: Switch::new("udp_gro", gro),
        })
    }

    /// What may be used of what one TAP can.
    pub fn taps(&self, can: TapOffloads) -> TapOffloads {
        can.and(TapOffloads { tso: self.tap_tso.active(), uso: self.tap_uso.active() })
    }

    /// What the kernel took when it was tried.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            tap_tso: self.tap_tso.supported,
            tap_uso: self.tap_uso.supported,
            udp_segment: self.udp_segment.supported,
            udp_gro: self.udp_gro.supported,
        }
    }

    fn all(&mut self) -> [&mut Switch; 4] {
        [&mut self.tap_tso, &mut self.tap_uso, &mut self.udp_segment, &mut self.udp_gro]
    }

    fn states(&mut self) -> Vec<OffloadState> {
        self.all().iter().map(|switch| switch.state()).collect()
    }
}

impl Engine {
    pub(super) fn offloads_show(&mut self, _: Empty) -> Result<Vec<OffloadState>, RpcError> {
        Ok(self.offloads.states())
    }

    pub(super) fn offloads_set(&mut self, request: OffloadSet) -> Result<Vec<OffloadState>, RpcError> {
        let mut switches = self.offloads.all();
        let Some(switch) = switches.iter_mut().find(|switch| switch.name == request.offload) else {
            let known = switches.map(|switch| switch.name).join(", ");
            return Err(RpcError::new("EINVAL", format!("no offload '{}'; there are {known}", request.offload)));
        };
        if request.enabled && !switch.supported {
            return Err(RpcError::new("EOPNOTSUPP", format!("this kernel refused {} when it was tried", request.offload)));
        }
        switch.enabled = request.enabled;
        switch.failed = None;
        self.log.info("offload switched", json!({ "offload": request.offload, "enabled": request.enabled }));
        self.apply_offloads()?;
        Ok(self.offloads.states())
    }

    /// A lane met an error that shows that an offload does not work here.
    pub(super) fn offload_failed(&mut self, name: &str, error: &str) {
        if let Some(switch) = self.offloads.all().into_iter().find(|switch| switch.name == name) {
            switch.failed = Some(error.to_owned());
        }
        self.events.push("offload-disabled", &OffloadEvent { offload: name.to_owned(), reason: error.to_owned() });
        if let Err(error) = self.apply_offloads() {
            self.log
                .warn("an offload could not be switched off everywhere", json!({ "offload": name, "error": error.data.message }));
        }
    }

    fn apply_offloads(&mut self) -> Result<(), RpcError> {
        self.underlay.set_segments(self.offloads.udp_segment.active());
        if self.offloads.udp_gro.supported {
            self.underlay.set_gro(self.offloads.udp_gro.active())?;
        }
        let names: Vec<String> = self.networks.keys().cloned().collect();
        names.iter().try_for_each(|name| self.apply_tap_offloads(name))
    }

    /// Tells a TAP what to hand over, and the lanes what it takes.
    pub(super) fn apply_tap_offloads(&mut self, name: &str) -> Result<(), RpcError> {
        let Some(held) = self.networks.get(name).filter(|held| !held.lost) else { return Ok(()) };
        let offloads = self.offloads.taps(held.tap);
        if let Some(queue) = held.queues.first().and_then(|queues| queues.first()) {
            queue.set_offloads(offloads, name)?;
        }
        let slot = held.master.network.slot;
        self.lanes.iter().for_each(|lane| lane.set_offloads(slot, offloads));
        Ok(())
    }
}
