//! The control thread's state: networks with their devices and tables, and what is asked of them.
//!
//! Every change ends in one published snapshot. Nothing here touches a packet.

use super::error::RpcError;
use super::events::Events;
use super::network::Held;
use super::offloads::Offloads;
use super::protocol::*;
use super::underlay::Underlay;
use crate::counters::LaneCounters;
use crate::io::error::SysError;
use crate::io::event;
use crate::io::netlink::{LinkMonitor, Netlink};
use crate::io::netns::Netns;
use crate::io::snmp::Losses;
use crate::lane::{self, Report, Shared};
use crate::log::Log;
use crate::tables::{Network, Snapshot};
use arc_swap::ArcSwap;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

/// Reports of lanes waiting to be looked at; more are counted and left out.
const REPORTS: usize = 4_096;

/// What `shutdown` asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// TAPs stay, with their addresses and routes.
    KeepTaps,
    /// TAPs go.
    DeleteTaps,
}

/// Everything that the dataplane holds.
pub struct Engine {
    pub(super) lanes: Vec<lane::Handle>,
    pub(super) networks: BTreeMap<String, Held>,
    pub(super) events: Events,
    pub(super) underlay: Underlay,
    /// Why datagrams were lost before a lane saw them.
    pub(super) losses: Losses,
    /// Tells of the interfaces of the underlay.
    pub(super) underlay_monitor: LinkMonitor,
    pub(super) offloads: Offloads,
    /// What lanes that ended had counted.
    pub(super) retired: LaneCounters,
    pub(super) shared: Shared,
    pub(super) reports: Receiver<Report>,
    pub(super) last_scan: u32,
    /// Faults already logged, so that one cause does not fill the log; forgotten every minute.
    pub(super) faults: HashMap<(&'static str, i32), u64>,
    pub(super) log: Log,
    /// Set by `shutdown`.
    pub ending: Option<Ending>,
}

impl Engine {
    /// Starts the lanes and tries what the kernel can do.
    pub fn new(lanes: usize, log: Log) -> Result<Engine, SysError> {
        let (sender, reports) = sync_channel(REPORTS);
        let shared = Shared {
            snapshot: Arc::new(ArcSwap::from_pointee(Snapshot::default())),
            reports: sender,
            waker: Arc::new(event::Waker::new()?),
            started: Instant::now(),
            spin_us: Arc::new(AtomicU32::new(lane::SPIN_US)),
        };
        let mut handles = Vec::new();
        for number in 0..lanes.max(1) {
            handles.push(lane::start(number, shared.clone())?);
        }
        let mut engine = Engine {
            lanes: handles,
            networks: BTreeMap::new(),
            events: Events::default(),
            underlay: Underlay::default(),
            losses: Losses::open()?,
            underlay_monitor: LinkMonitor::open(&Netns::open(None)?)?,
            offloads: Offloads::probe()?,
            retired: LaneCounters::default(),
            shared,
            reports,
            last_scan: 0,
            faults: HashMap::new(),
            log,
            ending: None,
        };
        let fields = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "lanes": engine.lanes.len(),
            "capabilities": engine.offloads.capabilities(),
        });
        engine.log.info("dataplane started", fields);
        Ok(engine)
    }

    /// Seconds since the start; the clock of ages.
    pub(super) fn now(&self) -> u32 {
        u32::try_from(self.shared.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Readable when [`Engine::take_reports`] has something to do.
    pub fn reports_fd(&self) -> RawFd {
        self.shared.waker.fd()
    }

    /// Readable when [`Engine::take_link_events`], [`Engine::take_neighbour_events`] or [`Engine::take_underlay_events`] has something to
    /// do.
    pub fn monitor_fds(&self) -> impl Iterator<Item = RawFd> {
        let taps = self.networks.values();
        let taps = taps.flat_map(|held| [held.monitor.fd().as_raw_fd(), held.neigh_monitor.as_fd().as_raw_fd()]);
        std::iter::once(self.underlay_monitor.fd().as_raw_fd()).chain(taps)
    }

    /// Notification lines for every subscriber.
    pub fn take_events(&mut self) -> Vec<Vec<u8>> {
        self.events.take()
    }

    pub(super) fn held(&mut self, name: &str) -> Result<&mut Held, RpcError> {
        let known = || self.networks.keys().cloned().collect::<Vec<_>>().join(", ");
        if !self.networks.contains_key(name) {
            let known = Some(known()).filter(|names| !names.is_empty()).unwrap_or_else(|| "none".into());
            return Err(RpcError::new("ENODEV", format!("no network '{name}' here; held: {known}")));
        }
        self.networks.get_mut(name).ok_or_else(|| RpcError::new("ENODEV", format!("no network '{name}' here")))
    }

    /// Publishes one network's tables.
    pub(super) fn publish(&mut self, name: &str) {
        let Some(held) = self.networks.get_mut(name) else { return };
        held.caches.stale |= std::mem::take(&mut held.master.neighbours_changed);
        let (notices, lost) = held.master.journal.take(name);
        self.events.suppressed += lost;
        notices.iter().for_each(|(method, params)| self.events.push_change(method, params));
        let network = &held.master.network;
        let mut snapshot = Snapshot::clone(&self.shared.snapshot.load());
        if snapshot.networks.len() <= network.slot {
            snapshot.networks.resize(network.slot + 1, None);
        }
        if let Some(place) = snapshot.networks.get_mut(network.slot) {
            *place = Some(Arc::new(network.clone()));
        }
        snapshot.vnis.insert((network.port, network.vni), network.slot);
        self.shared.snapshot.store(Arc::new(snapshot));
    }

    pub(super) fn unpublish(&mut self, network: &Network) {
        let mut snapshot = Snapshot::clone(&self.shared.snapshot.load());
        if let Some(place) = snapshot.networks.get_mut(network.slot) {
            *place = None;
        }
        snapshot.vnis.remove(&(network.port, network.vni));
        self.shared.snapshot.store(Arc::new(snapshot));
    }

    pub(super) fn changed(&mut self, network: &str, what: &str) {
        self.events.push("changed", &ChangedEvent { network: network.to_owned(), what: what.to_owned() });
    }

    // Requests.

    pub(super) fn hello(&mut self, _: Empty) -> Result<Hello, RpcError> {
        Ok(Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            uptime: u64::from(self.now()),
            lanes: self.lanes.len() as u32,
            spin_us: self.shared.spin_us.load(Relaxed),
            capabilities: self.offloads.capabilities(),
            networks: self.networks.keys().cloned().collect(),
        })
    }

    pub(super) fn tables_replace(&mut self, request: TablesReplace) -> Result<TablesChanged, RpcError> {
        let (now, name) = (self.now(), request.network.clone());
        self.find_interfaces(&name, request.fdb.iter().flat_map(|entry| &entry.destinations))?;
        let changed = self.held(&name)?.master.replace(request, now)?;
        self.publish(&name);
        Ok(changed)
    }

    pub(super) fn tables_patch(&mut self, request: TablesPatch) -> Result<TablesChanged, RpcError> {
        let (now, name) = (self.now(), request.network.clone());
        self.find_interfaces(&name, request.fdb_set.iter().flat_map(|entry| &entry.destinations))?;
        let changed = self.held(&name)?.master.patch(request, now)?;
        self.publish(&name);
        Ok(changed)
    }

    pub(super) fn tables_dump(&mut self, request: NetworkName) -> Result<TablesDump, RpcError> {
        let now = self.now();
        Ok(self.held(&request.network)?.master.dump(now))
    }

    pub(super) fn fdb_change(&mut self, request: FdbChange) -> Result<Empty, RpcError> {
        let now = self.now();
        self.find_interfaces(&request.network, request.destination.iter())?;
        let master = &mut self.held(&request.network)?.master;
        master.change_fdb(request.verb, request.mac, request.destination, request.state, request.router, now)?;
        self.publish(&request.network);
        self.changed(&request.network, "fdb");
        Ok(Empty {})
    }

    pub(super) fn fdb_flush(&mut self, request: FdbFlush) -> Result<FdbFlushed, RpcError> {
        let now = self.now();
        let flushed = self.held(&request.network)?.master.flush(&request, now);
        self.publish(&request.network);
        self.changed(&request.network, "fdb");
        Ok(flushed)
    }

    /// Looks up the underlay interfaces that destinations name (`via`).
    fn find_interfaces<'a>(
        &mut self,
        network: &str,
        destinations: impl Iterator<Item = &'a Destination>,
    ) -> Result<(), RpcError> {
        let held = self.held(network)?;
        let mut netlink = None;
        for name in destinations.filter_map(|to| to.via.as_ref()) {
            let netlink = match &netlink {
                Some(netlink) => netlink,
                None => netlink.insert(Netlink::open(&Netns::open(None)?)?),
            };
            let link = netlink.link_by_name(name)?;
            let link =
                link.ok_or_else(|| RpcError::new("ENODEV", format!("via {name}: no such interface on the underlay side")))?;
            held.master.interfaces.insert(name.clone(), link.index);
        }
        Ok(())
    }

    pub(super) fn neigh_change(&mut self, request: NeighChange) -> Result<Empty, RpcError> {
        self.held(&request.network)?.master.change_neighbour(request.verb, request.prefix, request.lladdr)?;
        self.publish(&request.network);
        self.changed(&request.network, "neigh");
        Ok(Empty {})
    }

    pub(super) fn events_subscribe(&mut self, _: Empty) -> Result<Empty, RpcError> {
        Ok(Empty {})
    }

    pub(super) fn shutdown(&mut self, request: Shutdown) -> Result<Empty, RpcError> {
        self.ending = Some(if request.delete_taps { Ending::DeleteTaps } else { Ending::KeepTaps });
        Ok(Empty {})
    }

    /// Lets go of everything before the process ends.
    pub fn end(&mut self) {
        let names: Vec<String> = self.networks.keys().cloned().collect();
        for name in names {
            let Some(held) = self.release(&name) else { continue };
            if self.ending == Some(Ending::DeleteTaps) && !held.lost {
                let _ = held.netlink.del_link(held.ifindex);
            }
        }
        self.log.info("dataplane ends", json!({ "taps_deleted": self.ending == Some(Ending::DeleteTaps) }));
    }
}
