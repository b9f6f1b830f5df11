//! `network.*`: made, changed, deleted.

use super::caches::Caches;
use super::engine::Engine;
use super::error::RpcError;
use super::limits::Limits;
use super::master::Master;
use super::network::{self, Held, Listen};
use super::protocol::*;
use crate::counters::NetworkCounters;
use crate::io::error::SysError;
use crate::io::netlink::{LinkMonitor, NeighbourMonitor, Netlink};
use crate::io::netns::Netns;
use crate::io::pool::PoolSpec;
use crate::io::raw::RawSocket;
use crate::lane::Device;
use crate::tables::{NO_VNI, Neighbours, Network, Sharded};
use crate::wire::{Framing, Mac};
use serde_json::json;
use std::sync::Arc;

impl Engine {
    pub(super) fn network_list(&mut self, _: Empty) -> Result<Vec<NetworkState>, RpcError> {
        Ok(self.networks.values().map(Held::state).collect())
    }

    pub(super) fn network_create(&mut self, spec: NetworkSpec) -> Result<NetworkState, RpcError> {
        let plan = network::plan(&spec)?;
        if self.networks.contains_key(&spec.name) {
            return Err(RpcError::new("EEXIST", format!("network {} exists", spec.name)));
        }
        let framing = plan.listen.framing;
        let vni = if framing == Framing::Bare { NO_VNI } else { spec.vni };
        let twin = self.networks.values().find(|held| held.master.network.port == plan.port && held.master.network.vni == vni);
        if let Some(twin) = twin {
            let (name, port) = (&twin.spec.name, spec.port);
            let message = match framing {
                Framing::Ethernet => {
                    format!("network {name} has id {} on port {port} already; choose another id or dstport", spec.vni)
                }
                Framing::Bare => {
                    format!("layer-3 network {name} has port {port} already, and can share it with no other: choose another")
                }
            };
            return Err(RpcError::new("EEXIST", message));
        }
        let netns = Netns::open(spec.netns.as_deref())?;
        let netlink = Netlink::open(&netns)?;
        self.underlay.open_sockets(&self.lanes, &plan.listen, self.offloads.udp_gro.active())?;
        let opened = match &plan.group {
            Some(group) => self.underlay.join(&self.lanes, group, self.offloads.udp_gro.active()),
            None => Ok(()),
        };
        let opened = opened.and_then(|()| self.underlay.open_pool(&plan.pool, self.offloads.udp_segment.active()));
        let pool = match opened {
            Ok(pool) => pool,
            Err(error) => {
                // Leaving a group that was not joined does nothing.
                self.close_underlay(&plan.listen, plan.group.as_ref(), None);
                return Err(error);
            }
        };
        // The monitor comes after our own changes, of which it need not tell; what happened in between shows in the last read.
        let opened = network::open_tap(&spec, &plan, &netns, &netlink, self.lanes.len()).and_then(|tap| {
            let answers = match framing {
                Framing::Bare => Some(Arc::new(RawSocket::open(&netns)?)),
                Framing::Ethernet => None,
            };
            let monitors = (LinkMonitor::open(&netns)?, NeighbourMonitor::open(&netns)?);
            let link = netlink.link_by_index(tap.index)?.ok_or_else(|| SysError::new("RTM_GETLINK", &spec.name, libc::ENODEV))?;
            Ok((tap, answers, monitors, link))
        });
        let (tap, answers, (monitor, neigh_monitor), link) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.close_underlay(&plan.listen, plan.group.as_ref(), Some(&plan.pool));
                return Err(error.into());
            }
        };
        let snapshot = self.shared.snapshot.load();
        let slot = snapshot.networks.iter().position(Option::is_none).unwrap_or(snapshot.networks.len());
        drop(snapshot);
        let network = Network {
            slot,
            vni,
            port: plan.port,
            framing,
            tunnel_address: spec.tunnel_address,
            local: spec.local,
            mac: link.mac.unwrap_or_default(),
            mtu: link.mtu,
            underlay_mtu: plan.underlay_mtu,
            proxy: spec.proxy,
            learning: spec.learning,
            peersonly: spec.peersonly,
            options: plan.options,
            fdb: Sharded::default(),
            neighbours: Neighbours::default(),
            kernel_neighbours: Sharded::default(),
            sends_as: Sharded::default(),
            peers: Sharded::default(),
        };
        let mut master = Master::new(network, Limits::new(&spec));
        if let Some(ip) = spec.remote.or(spec.group) {
            let to = Destination { ip, port: None, vni: None, via: None };
            master.change_fdb(EntryVerb::Add, Mac::ZERO, Some(to), Some(EntryState::Permanent), None, self.now())?;
        }
        let counters: Vec<_> = self.lanes.iter().map(|_| Arc::new(NetworkCounters::default())).collect();
        let name = spec.name.clone();
        let held = Held {
            spec,
            master,
            netlink,
            monitor,
            neigh_monitor,
            ifindex: link.index,
            up: link.up,
            lost: false,
            dev_lost: false,
            listen: plan.listen,
            group: plan.group,
            pool: plan.pool,
            caches: Caches::default(),
            answers: answers.clone(),
            tap: tap.offloads,
            queues: tap.queues.clone(),
            counters: counters.clone(),
            retired: NetworkCounters::default(),
        };
        let state = held.state();
        self.networks.insert(name.clone(), held);
        self.publish(&name);
        self.read_host_neighbours(&name);
        for ((lane, queues), counters) in self.lanes.iter().zip(tap.queues).zip(counters) {
            lane.add_device(Device {
                slot,
                framing,
                queues,
                offloads: self.offloads.taps(tap.offloads),
                pool: Arc::clone(&pool),
                answers: answers.clone(),
                counters,
            });
        }
        self.apply_tap_offloads(&name)?;
        self.changed(&name, "created");
        self.log.info("network created", json!({ "network": name, "state": state }));
        if let Some(error) = tap.unsteered {
            let message = "one queue for each lane: this kernel cannot steer flows to more, so small flows wait behind bulk ones";
            self.log.warn(message, json!({ "network": name, "error": error.to_string() }));
        }
        Ok(state)
    }

    pub(super) fn close_underlay(&mut self, listen: &Listen, group: Option<&Listen>, pool: Option<&PoolSpec>) {
        self.underlay.close_sockets(&self.lanes, listen);
        if let Some(group) = group {
            self.underlay.leave(&self.lanes, group);
        }
        if let Some(pool) = pool {
            self.underlay.close_pool(pool);
        }
    }

    /// Takes a network's devices from the lanes and forgets it; the TAP itself stays.
    pub(super) fn release(&mut self, name: &str) -> Option<Held> {
        let held = self.networks.remove(name)?;
        self.unpublish(&held.master.network);
        for lane in &self.lanes {
            lane.remove_device(held.master.network.slot);
        }
        self.close_underlay(&held.listen, held.group.as_ref(), Some(&held.pool));
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
}
