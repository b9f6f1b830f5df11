//! The control thread's state: networks with their devices and tables, and what is asked of them.
//!
//! Every change ends in one published snapshot. Nothing here touches a packet.

use super::error::RpcError;
use super::events::{Events, Missed};
use super::master::{Learning, Master};
use super::network::{self, Held, Listen};
use super::protocol::*;
use crate::counters::NetworkCounters;
use crate::io::error::{SysError, errno_name};
use crate::io::netlink::{LinkEventRaw, LinkMonitor, LinkSettings, Netlink};
use crate::io::netns::Netns;
use crate::io::udp::{self, Endpoint, ReceiveSocket, SendPool};
use crate::io::{event, tap};
use crate::lane::{self, Device, Report, Shared};
use crate::log::Log;
use crate::tables::{Neighbours, Network, Sharded, Snapshot};
use arc_swap::ArcSwap;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

/// Reports of lanes waiting to be looked at; more are counted and left out.
const REPORTS: usize = 4_096;
/// Reports looked at before other work gets its turn.
const REPORTS_AT_ONCE: usize = 1_024;
/// As the kernel's device: dynamic entries are looked through every 10 s.
const AGEING_SCAN: u32 = 10;

struct Sockets {
    by_lane: Vec<Arc<ReceiveSocket>>,
    users: usize,
}

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
    sockets: BTreeMap<Listen, Sockets>,
    pools: BTreeMap<Endpoint, (Arc<SendPool>, usize)>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    reports: Receiver<Report>,
    reports_waker: Arc<event::Waker>,
    capabilities: Capabilities,
    started: Instant,
    last_scan: u32,
    /// Faults already logged, so that one cause does not fill the log; forgotten every minute.
    faults: HashMap<(&'static str, i32), u64>,
    log: Log,
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
        };
        let handles = (0..lanes.max(1)).map(|number| lane::start(number, shared.clone())).collect::<Result<_, _>>()?;
        let taps = tap::probe()?;
        let (udp_segment, udp_gro) = udp::probe();
        let capabilities = Capabilities { tap_tso: taps.tso, tap_uso: taps.uso, udp_segment, udp_gro };
        let mut engine = Engine {
            lanes: handles,
            networks: BTreeMap::new(),
            events: Events::default(),
            sockets: BTreeMap::new(),
            pools: BTreeMap::new(),
            snapshot: shared.snapshot,
            reports,
            reports_waker: shared.waker,
            capabilities,
            started: shared.started,
            last_scan: 0,
            faults: HashMap::new(),
            log,
            ending: None,
        };
        let fields =
            json!({ "version": env!("CARGO_PKG_VERSION"), "lanes": engine.lanes.len(), "capabilities": engine.capabilities });
        engine.log.info("dataplane started", fields);
        Ok(engine)
    }

    /// Seconds since the start; the clock of ages.
    pub(super) fn now(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Readable when [`Engine::take_reports`] has something to do.
    pub fn reports_fd(&self) -> RawFd {
        self.reports_waker.fd()
    }

    /// Readable when [`Engine::take_link_events`] has something to do.
    pub fn monitor_fds(&self) -> impl Iterator<Item = RawFd> {
        self.networks.values().map(|held| held.monitor.fd().as_raw_fd())
    }

    /// Notification lines for every subscriber.
    pub fn take_events(&mut self) -> Vec<Vec<u8>> {
        self.events.take()
    }

    pub(super) fn socket_overflows(&self) -> u64 {
        self.sockets.values().flat_map(|sockets| &sockets.by_lane).map(|socket| socket.overflows()).sum()
    }

    fn held(&mut self, name: &str) -> Result<&mut Held, RpcError> {
        let known = || self.networks.keys().cloned().collect::<Vec<_>>().join(", ");
        if !self.networks.contains_key(name) {
            let known = Some(known()).filter(|names| !names.is_empty()).unwrap_or_else(|| "none".into());
            return Err(RpcError::new("ENODEV", format!("no network '{name}' here; held: {known}")));
        }
        self.networks.get_mut(name).ok_or_else(|| RpcError::new("ENODEV", format!("no network '{name}' here")))
    }

    /// Publishes one network's tables.
    fn publish(&mut self, name: &str) {
        let Some(held) = self.networks.get(name) else { return };
        let network = &held.master.network;
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        if snapshot.networks.len() <= network.slot {
            snapshot.networks.resize(network.slot + 1, None);
        }
        if let Some(place) = snapshot.networks.get_mut(network.slot) {
            *place = Some(Arc::new(network.clone()));
        }
        snapshot.vnis.insert((network.port, network.vni), network.slot);
        self.snapshot.store(Arc::new(snapshot));
    }

    fn unpublish(&mut self, network: &Network) {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        if let Some(place) = snapshot.networks.get_mut(network.slot) {
            *place = None;
        }
        snapshot.vnis.remove(&(network.port, network.vni));
        self.snapshot.store(Arc::new(snapshot));
    }

    fn changed(&mut self, network: &str, what: &str) {
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
            capabilities: self.capabilities.clone(),
            networks: self.networks.keys().cloned().collect(),
        })
    }

    pub(super) fn network_list(&mut self, _: Empty) -> Result<Vec<NetworkState>, RpcError> {
        Ok(self.networks.values().map(Held::state).collect())
    }

    pub(super) fn network_create(&mut self, spec: NetworkSpec) -> Result<NetworkState, RpcError> {
        let plan = network::plan(&spec)?;
        if self.networks.contains_key(&spec.name) {
            return Err(RpcError::new("EEXIST", format!("network {} exists", spec.name)));
        }
        let twin = self.networks.values().find(|held| held.master.network.port == plan.port && held.spec.vni == spec.vni);
        if let Some(twin) = twin {
            let message = format!(
                "network {} has id {} on port {} already; choose another id or dstport",
                twin.spec.name, spec.vni, spec.port
            );
            return Err(RpcError::new("EEXIST", message));
        }
        let netns = Netns::open(spec.netns.as_deref())?;
        let netlink = Netlink::open(&netns)?;
        self.open_sockets(&plan.listen)?;
        let pool = match self.open_pool(&plan.endpoint) {
            Ok(pool) => pool,
            Err(error) => {
                self.close_sockets(&plan.listen);
                return Err(error);
            }
        };
        // The monitor comes after our own changes, of which it need not tell; what happened in between shows in the last read.
        let opened = network::open_tap(&spec, &plan, &netns, &netlink, self.lanes.len()).and_then(|tap| {
            let monitor = LinkMonitor::open(&netns)?;
            let link = netlink.link_by_index(tap.index)?.ok_or_else(|| SysError::new("RTM_GETLINK", &spec.name, libc::ENODEV))?;
            Ok((tap, monitor, link))
        });
        let (tap, monitor, link) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.close_sockets(&plan.listen);
                self.close_pool(&plan.endpoint);
                return Err(error.into());
            }
        };
        let snapshot = self.snapshot.load();
        let slot = snapshot.networks.iter().position(Option::is_none).unwrap_or(snapshot.networks.len());
        drop(snapshot);
        let network = Network {
            slot,
            vni: spec.vni,
            port: plan.port,
            mac: link.mac.unwrap_or_default(),
            mtu: link.mtu,
            underlay_mtu: plan.underlay_mtu,
            proxy: spec.proxy,
            learning: spec.learning,
            peersonly: spec.peersonly,
            fdb: Sharded::default(),
            neighbours: Neighbours::default(),
            peers: Sharded::default(),
        };
        let mut master = Master::new(network, spec.maxaddress);
        if let Some(ip) = spec.remote {
            let to = Destination { ip, port: None, vni: None };
            master.change_fdb(EntryVerb::Add, crate::wire::Mac::ZERO, Some(to), Some(EntryState::Permanent), self.now())?;
        }
        let counters: Vec<_> = self.lanes.iter().map(|_| Arc::new(NetworkCounters::default())).collect();
        let name = spec.name.clone();
        let held = Held {
            spec,
            master,
            netlink,
            monitor,
            ifindex: link.index,
            up: link.up,
            lost: false,
            listen: plan.listen,
            endpoint: plan.endpoint,
            counters: counters.clone(),
        };
        let state = held.state();
        self.networks.insert(name.clone(), held);
        self.publish(&name);
        for ((lane, queue), counters) in self.lanes.iter().zip(tap.queues).zip(counters) {
            lane.add_device(Device { slot, queue, offloads: tap.offloads, pool: Arc::clone(&pool), counters });
        }
        self.changed(&name, "created");
        self.log.info("network created", json!({ "network": name, "state": state }));
        Ok(state)
    }

    fn open_sockets(&mut self, listen: &Listen) -> Result<(), RpcError> {
        if let Some(sockets) = self.sockets.get_mut(listen) {
            sockets.users += 1;
            return Ok(());
        }
        let family_and_port = |held: &Listen| (held.endpoint.v6, held.port);
        // Beside a socket of our own on the same port the check would find ourselves.
        if !self.sockets.keys().any(|held| family_and_port(held) == family_and_port(listen)) {
            udp::check_port_free(&listen.endpoint, listen.port).map_err(|error| match error.errno {
                libc::EADDRINUSE => RpcError::new(
                    "EADDRINUSE",
                    format!(
                        "UDP port {} is in use by another socket (see ss -lunp; a kernel vxlan device shows none: ip -d link show type vxlan); stop it or choose another dstport",
                        listen.port
                    ),
                ),
                libc::EADDRNOTAVAIL => RpcError::new("EADDRNOTAVAIL", format!("{error}: the local address is on no interface of this host")),
                _ => error.into(),
            })?;
        }
        let by_lane = self
            .lanes
            .iter()
            .map(|_| ReceiveSocket::open(&listen.endpoint, listen.port).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        for (lane, socket) in self.lanes.iter().zip(&by_lane) {
            lane.add_socket(Arc::clone(socket));
        }
        self.sockets.insert(listen.clone(), Sockets { by_lane, users: 1 });
        Ok(())
    }

    fn close_sockets(&mut self, listen: &Listen) {
        let Some(sockets) = self.sockets.get_mut(listen) else { return };
        sockets.users -= 1;
        if sockets.users > 0 {
            return;
        }
        if let Some(sockets) = self.sockets.remove(listen) {
            for (lane, socket) in self.lanes.iter().zip(&sockets.by_lane) {
                lane.remove_socket(socket);
            }
        }
    }

    fn open_pool(&mut self, endpoint: &Endpoint) -> Result<Arc<SendPool>, RpcError> {
        if let Some((pool, users)) = self.pools.get_mut(endpoint) {
            *users += 1;
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(SendPool::open(endpoint)?);
        self.pools.insert(endpoint.clone(), (Arc::clone(&pool), 1));
        Ok(pool)
    }

    fn close_pool(&mut self, endpoint: &Endpoint) {
        if let Some((_, users)) = self.pools.get_mut(endpoint) {
            *users -= 1;
            if *users == 0 {
                self.pools.remove(endpoint);
            }
        }
    }

    /// Takes a network's devices from the lanes and forgets it; the TAP itself stays.
    fn release(&mut self, name: &str) -> Option<Held> {
        let held = self.networks.remove(name)?;
        self.unpublish(&held.master.network);
        for lane in &self.lanes {
            lane.remove_device(held.master.network.slot);
        }
        self.close_sockets(&held.listen);
        self.close_pool(&held.endpoint);
        Some(held)
    }

    pub(super) fn network_delete(&mut self, request: NetworkName) -> Result<Empty, RpcError> {
        self.held(&request.network)?;
        if let Some(held) = self.release(&request.network)
            && !held.lost
        {
            match held.netlink.del_link(held.ifindex) {
                Err(error) if error.errno != libc::ENODEV => return Err(error.into()),
                _ => {}
            }
        }
        self.changed(&request.network, "deleted");
        self.log.info("network deleted", json!({ "network": request.network }));
        Ok(Empty {})
    }

    pub(super) fn network_update(&mut self, request: NetworkUpdate) -> Result<NetworkState, RpcError> {
        let held = self.held(&request.network)?;
        if held.lost {
            return Err(RpcError::new(
                "ENODEV",
                format!("the TAP {} was deleted by somebody: delete the network and create it again", request.network),
            ));
        }
        if let Some(mac) = request.mac.filter(|mac| mac.is_multicast() || mac.is_zero()) {
            return Err(RpcError::new("EINVAL", format!("{mac} cannot be a device's MAC address")));
        }
        let mtu = request.mtu.map(network::check_mtu).transpose()?;
        held.netlink.set_link(held.ifindex, &LinkSettings { mac: request.mac, mtu, up: request.up, ..Default::default() })?;
        let network = &mut held.master.network;
        network.mac = request.mac.unwrap_or(network.mac);
        network.mtu = mtu.unwrap_or(network.mtu);
        held.up = request.up.unwrap_or(held.up);
        let switches = [
            (request.learning, &mut network.learning, &mut held.spec.learning),
            (request.proxy, &mut network.proxy, &mut held.spec.proxy),
            (request.peersonly, &mut network.peersonly, &mut held.spec.peersonly),
        ];
        for (wanted, used, asked) in switches {
            if let Some(wanted) = wanted {
                (*used, *asked) = (wanted, wanted);
            }
        }
        held.spec.mac = request.mac.or(held.spec.mac);
        held.spec.mtu = mtu.or(held.spec.mtu);
        let state = held.state();
        self.publish(&request.network);
        Ok(state)
    }

    pub(super) fn tables_replace(&mut self, request: TablesReplace) -> Result<TablesChanged, RpcError> {
        let (now, name) = (self.now(), request.network.clone());
        let changed = self.held(&name)?.master.replace(request, now)?;
        self.publish(&name);
        Ok(changed)
    }

    pub(super) fn tables_patch(&mut self, request: TablesPatch) -> Result<TablesChanged, RpcError> {
        let (now, name) = (self.now(), request.network.clone());
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
        let master = &mut self.held(&request.network)?.master;
        master.change_fdb(request.verb, request.mac, request.destination, request.state, now)?;
        self.publish(&request.network);
        self.changed(&request.network, "fdb");
        Ok(Empty {})
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

    // What happens without being asked.

    fn name_of(&self, slot: usize) -> Option<String> {
        self.networks.iter().find(|(_, held)| held.master.network.slot == slot).map(|(name, _)| name.clone())
    }

    /// Looks at what the lanes reported.
    pub fn take_reports(&mut self) {
        self.reports_waker.clear();
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
        self.reports_waker.wake();
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
        if call == "UDP_SEGMENT" && errno == libc::EIO {
            self.capabilities.udp_segment = false;
            self.events
                .push("offload-disabled", &OffloadEvent { offload: "udp_segment".into(), reason: errno_name(errno).into() });
        }
    }

    /// A second has passed.
    pub fn tick(&mut self) {
        self.events.tick();
        let now = self.now();
        if now.is_multiple_of(60) {
            self.faults.clear();
        }
        if now < self.last_scan + AGEING_SCAN {
            return;
        }
        self.last_scan = now;
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
            let Some(held) = self.networks.get_mut(&name) else { continue };
            let Ok(seen) = held.monitor.read_events() else { continue };
            let mut events = seen.events;
            if seen.overrun
                && let Ok(link) = held.netlink.link_by_index(held.ifindex)
            {
                // Events were lost: the current state stands for them.
                events.push(link.map_or_else(
                    || LinkEventRaw { index: held.ifindex, name: name.clone(), mac: None, mtu: 0, up: false, deleted: true },
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
            for event in events {
                self.link_event(&name, &event);
            }
        }
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
