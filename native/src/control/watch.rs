//! What happens without being asked: reports of the lanes, the clock, links that somebody else changes.

use super::engine::Engine;
use super::events::Missed;
use super::master::Learning;
use super::protocol::{FdbEvent, LinkEvent};
use crate::io::error::errno_name;
use crate::io::netlink::LinkEventRaw;
use crate::lane::{self, Report};
use serde_json::json;

/// Reports looked at before other work gets its turn.
const REPORTS_AT_ONCE: usize = 1_024;
/// As the kernel's device: dynamic entries are looked through every 10 s.
const AGEING_SCAN: u32 = 10;

impl Engine {
    fn name_of(&self, slot: usize) -> Option<String> {
        self.networks.iter().find(|(_, held)| held.master.network.slot == slot).map(|(name, _)| name.clone())
    }

    /// Looks at what the lanes reported.
    pub fn take_reports(&mut self) {
        self.shared.waker.clear();
        let mut touched: Vec<String> = Vec::new();
        for _ in 0..REPORTS_AT_ONCE {
            let Ok(report) = self.reports.try_recv() else {
                touched.iter().for_each(|name| self.publish(name));
                return;
            };
            match report {
                Report::Seen { slot, mac, ip } => {
                    let now = self.now();
                    let Some(name) = self.name_of(slot) else { continue };
                    let Some(held) = self.networks.get_mut(&name) else { continue };
                    let event = |from| FdbEvent { network: name.clone(), mac, ip, from };
                    match held.master.learn(mac, ip, now) {
                        Learning::Learned => self.events.push("learned", &event(None)),
                        Learning::Moved(from) => self.events.push("moved", &event(Some(from))),
                        Learning::Held(at) => {
                            let held = FdbEvent { network: name.clone(), mac, ip: at, from: Some(ip) };
                            self.events.push("held", &held);
                            self.log.warn("a MAC moved too often and is held", json!(held));
                            continue;
                        }
                        Learning::Unchanged | Learning::Full => continue,
                    }
                    if !touched.contains(&name) {
                        touched.push(name);
                    }
                }
                Report::MissMac { slot, mac } => {
                    if let Some(name) = self.name_of(slot) {
                        self.events.miss(&name, Missed::Mac(mac));
                    }
                }
                Report::MissIp { slot, ip } => {
                    if let Some(name) = self.name_of(slot) {
                        self.events.miss(&name, Missed::Ip(ip));
                    }
                }
                Report::Fault { slot, call, errno } => self.fault(slot, call, errno),
            }
        }
        touched.iter().for_each(|name| self.publish(name));
        self.shared.waker.wake();
    }

    fn fault(&mut self, slot: Option<usize>, call: &'static str, errno: i32) {
        let network = slot.and_then(|slot| self.name_of(slot));
        let count = self.faults.entry((call, errno)).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        self.log.warn(
            "a system call on the packet path failed",
            json!({ "network": network, "call": call, "error": errno_name(errno) }),
        );
        let offload = match (call, errno) {
            ("UDP_SEGMENT", libc::EIO) => "udp_segment",
            ("write TCP superframe", _) => "tap_tso",
            ("write UDP superframe", _) => "tap_uso",
            _ => return,
        };
        self.offload_failed(offload, errno_name(errno));
    }

    /// A second has passed.
    pub fn tick(&mut self) {
        self.events.tick();
        let now = self.now();
        let snapshot = self.shared.snapshot.load();
        self.underlay.drain_errors(&mut |error| lane::path_error(&snapshot, &error, now));
        drop(snapshot);
        self.losses.look(self.underlay.losses());
        self.follow_lost_devices();
        if now.is_multiple_of(60) {
            self.faults.clear();
        }
        if now < self.last_scan + AGEING_SCAN {
            return;
        }
        self.last_scan = now;
        self.networks.values_mut().for_each(|held| held.master.forget_moves(now));
        let names: Vec<String> =
            self.networks.iter().filter(|(_, held)| held.spec.ageing > 0).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(held) = self.networks.get_mut(&name) else { continue };
            let gone = held.master.age(held.spec.ageing, now);
            for (mac, ip) in &gone {
                self.events.push("aged", &FdbEvent { network: name.clone(), mac: *mac, ip: *ip, from: None });
            }
            if !gone.is_empty() {
                self.publish(&name);
            }
        }
    }

    /// Looks at what happened to the TAPs without our doing.
    pub fn take_link_events(&mut self) {
        let names: Vec<String> = self.networks.keys().cloned().collect();
        for name in names {
            for event in self.seen_of(&name) {
                self.link_event(&name, &event);
            }
        }
    }

    /// Reads what our own change of a TAP has brought about. The kernel tells of it before it answers, and what it told on the way is of
    /// the past: only the last word can be somebody else's.
    pub(super) fn settle_link(&mut self, name: &str) {
        if let Some(event) = self.seen_of(name).pop() {
            self.link_event(name, &event);
        }
    }

    fn seen_of(&mut self, name: &str) -> Vec<LinkEventRaw> {
        let Some(held) = self.networks.get_mut(name) else { return Vec::new() };
        let Ok(seen) = held.monitor.read_events() else { return Vec::new() };
        let mut events = seen.events;
        events.retain(|event| event.index == held.ifindex);
        if seen.overrun
            && let Ok(link) = held.netlink.link_by_index(held.ifindex)
        {
            // Events were lost: the current state stands for them.
            events.push(link.map_or_else(
                || LinkEventRaw { index: held.ifindex, name: name.to_owned(), mac: None, mtu: 0, up: false, deleted: true },
                |link| LinkEventRaw {
                    index: link.index,
                    name: link.name,
                    mac: link.mac,
                    mtu: link.mtu,
                    up: link.up,
                    deleted: false,
                },
            ));
        }
        events
    }

    fn link_event(&mut self, name: &str, event: &LinkEventRaw) {
        let Some(held) = self.networks.get_mut(name).filter(|held| held.ifindex == event.index && !held.lost) else { return };
        let network = &mut held.master.network;
        let mut facts: Vec<(&str, String)> = Vec::new();
        if event.deleted {
            held.lost = true;
            facts.push(("deleted", String::new()));
        } else {
            if event.name != name {
                facts.push(("renamed", event.name.clone()));
            }
            if let Some(mac) = event.mac.filter(|mac| *mac != network.mac) {
                network.mac = mac;
                facts.push(("mac", mac.to_string()));
            }
            if event.mtu != network.mtu {
                network.mtu = event.mtu;
                facts.push(("mtu", event.mtu.to_string()));
            }
            if event.up != held.up {
                held.up = event.up;
                facts.push((if event.up { "up" } else { "down" }, String::new()));
            }
        }
        if facts.is_empty() {
            return;
        }
        let slot = network.slot;
        if held.lost {
            self.lanes.iter().for_each(|lane| lane.remove_device(slot));
        }
        self.publish(name);
        for (what, value) in facts {
            self.log.warn("the TAP was changed from outside", json!({ "network": name, "what": what, "value": value }));
            self.events.push("link", &LinkEvent { network: name.to_owned(), what: what.to_owned(), value });
        }
    }
}
