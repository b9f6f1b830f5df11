//! `network.update`: what may change while packets flow. Everything that can be refused is tried before anything is changed.

use super::engine::Engine;
use super::error::RpcError;
use super::limits::Limits;
use super::network::{self, Held, Plan, invalid};
use super::options;
use super::protocol::{NetworkSpec, NetworkState, NetworkUpdate};
use crate::io::netlink::LinkSettings;
use crate::io::pool::SendPool;
use std::net::IpAddr;
use std::sync::Arc;

/// The specification after a request.
fn updated(held: &NetworkSpec, request: &NetworkUpdate) -> NetworkSpec {
    let mut spec = held.clone();
    macro_rules! replace { ($($field:ident)+) => { $(if let Some(value) = &request.$field { spec.$field = value.clone(); })+ } }
    macro_rules! override_with { ($($field:ident)+) => { $(spec.$field = request.$field.clone().or(spec.$field);)+ } }
    replace! { learning proxy peersonly ageing maxaddress }
    override_with! { mac mtu dev maxperpeer maxmoves }
    spec.take_options(request);
    let given = |address: IpAddr| Some(address).filter(|address| !address.is_unspecified());
    if let Some(local) = request.local {
        spec.local = given(local);
    }
    if let Some(remote) = request.remote {
        (spec.remote, spec.group) = (given(remote), None);
    }
    if let Some(group) = request.group {
        (spec.group, spec.remote) = (Some(group), request.remote);
    }
    if spec.proxy_flood == Some(true) && request.proxy == Some(false) && request.proxy_flood.is_none() {
        // It means nothing without the proxy, which is to go.
        spec.proxy_flood = None;
    }
    spec
}

/// What follows from the new specification. The underlay is looked at only where something about it changes: an interface that is gone
/// must not keep anybody from setting the MTU.
fn planned(held: &Held, request: &NetworkUpdate, spec: &NetworkSpec) -> Result<Plan, RpcError> {
    let network = &held.master.network;
    let addresses = request.remote.is_some() || request.group.is_some() || request.local.is_some() || request.dev.is_some();
    let checksums = request.udpcsum.is_some() || request.udp6zerocsumtx.is_some();
    if addresses || checksums || request.df.is_some() || request.srcport.is_some() {
        // Without local and remote nothing says which family it is: it stays what it was.
        return network::plan_for(spec, Some(network.port.v6));
    }
    network::check_mac(spec.mac)?;
    options::framing(spec, network.port.v6)?;
    Ok(Plan {
        port: network.port,
        listen: held.listen.clone(),
        group: held.group.clone(),
        pool: held.pool.clone(),
        options: options::options(spec, network.port.v6)?,
        underlay_mtu: network.underlay_mtu,
        mtu: network.mtu,
    })
}

impl Engine {
    pub(super) fn network_update(&mut self, request: NetworkUpdate) -> Result<NetworkState, RpcError> {
        let held = self.held(&request.network)?;
        if held.lost {
            return Err(RpcError::new(
                "ENODEV",
                format!("the TAP {} was deleted by somebody: delete the network and create it again", request.network),
            ));
        }
        let spec = updated(&held.spec, &request);
        let plan = planned(held, &request, &spec)?;
        if plan.port != held.master.network.port {
            return Err(invalid(format!("{} has an underlay of the other family, which cannot change", request.network)));
        }
        let mtu = request.mtu.map(network::check_mtu).transpose()?;
        let pool = self.open_new(&request.network, &plan)?;
        let now = self.now();
        // What somebody else did before is told before.
        self.take_link_events();
        let held = self.held(&request.network)?;
        let settings = LinkSettings { mac: request.mac, mtu, up: request.up, ..Default::default() };
        let (before, after) = (held.spec.remote.or(held.spec.group), spec.remote.or(spec.group));
        let default = if before == after { Ok(()) } else { held.master.change_default(before, after, now) };
        let changed = default.and_then(|()| {
            held.netlink.set_link(held.ifindex, &settings).map_err(|error| {
                if before != after {
                    let _ = held.master.change_default(after, before, now);
                }
                error.into()
            })
        });
        if let Err(error) = changed {
            self.close_unused(&request.network, &plan);
            return Err(error);
        }
        let state = self.commit(&request.network, &settings, spec, plan, pool)?;
        self.settle_link(&request.network);
        self.changed(&request.network, "updated");
        Ok(state)
    }

    /// Opens what the plan needs and the network has not; what was opened is closed again on failure. The new pool, if there is one.
    pub(super) fn open_new(&mut self, name: &str, plan: &Plan) -> Result<Option<Arc<SendPool>>, RpcError> {
        let held = self.held(name)?;
        let (listen, group, pool) = (plan.listen != held.listen, plan.group != held.group, plan.pool != held.pool);
        let (gro, segments) = (self.offloads.udp_gro.active(), self.offloads.udp_segment.active());
        if listen {
            self.underlay.open_sockets(&self.lanes, &plan.listen, gro)?;
        }
        let joined = match &plan.group {
            Some(wanted) if group => self.underlay.join(&self.lanes, wanted, gro),
            _ => Ok(()),
        };
        let opened =
            joined.and_then(|()| match pool {
                true => self.underlay.open_pool(&plan.pool, segments).map(Some).inspect_err(|_| {
                    plan.group.iter().filter(|_| group).for_each(|wanted| self.underlay.leave(&self.lanes, wanted))
                }),
                false => Ok(None),
            });
        if opened.is_err() && listen {
            self.underlay.close_sockets(&self.lanes, &plan.listen);
        }
        opened
    }

    /// Closes what was opened for a plan that cannot be carried out.
    pub(super) fn close_unused(&mut self, name: &str, plan: &Plan) {
        let Some(held) = self.networks.get(name) else { return };
        let (listen, group, pool) = (plan.listen != held.listen, plan.group != held.group, plan.pool != held.pool);
        if listen {
            self.underlay.close_sockets(&self.lanes, &plan.listen);
        }
        plan.group.iter().filter(|_| group).for_each(|wanted| self.underlay.leave(&self.lanes, wanted));
        if pool {
            self.underlay.close_pool(&plan.pool);
        }
    }

    pub(super) fn commit(
        &mut self,
        name: &str,
        settings: &LinkSettings,
        spec: NetworkSpec,
        plan: Plan,
        pool: Option<Arc<SendPool>>,
    ) -> Result<NetworkState, RpcError> {
        let now = self.now();
        let held = self.held(name)?;
        let slot = held.master.network.slot;
        let network = &mut held.master.network;
        network.mac = settings.mac.unwrap_or(network.mac);
        network.mtu = settings.mtu.unwrap_or(network.mtu);
        held.up = settings.up.unwrap_or(held.up);
        (network.learning, network.proxy, network.peersonly) = (spec.learning, spec.proxy, spec.peersonly);
        (network.local, network.underlay_mtu) = (spec.local, plan.underlay_mtu);
        network.tunnel_address = spec.tunnel_address;
        let relabelled = network.options.flowlabel != plan.options.flowlabel;
        network.options = plan.options;
        held.master.limits = Limits::new(&spec);
        if relabelled {
            held.master.republish(now);
        }
        let Held { listen, group, pool: left, .. } = held;
        let listen = std::mem::replace(listen, plan.listen.clone());
        let group = std::mem::replace(group, plan.group.clone());
        let left = std::mem::replace(left, plan.pool.clone());
        held.spec = spec;
        let state = held.state();
        self.publish(name);
        if let Some(pool) = pool {
            self.lanes.iter().for_each(|lane| lane.set_pool(slot, Arc::clone(&pool)));
            self.underlay.close_pool(&left);
        }
        if listen != plan.listen {
            self.underlay.close_sockets(&self.lanes, &listen);
        }
        if let Some(group) = group.filter(|group| Some(group) != plan.group.as_ref()) {
            self.underlay.leave(&self.lanes, &group);
        }
        Ok(state)
    }
}
