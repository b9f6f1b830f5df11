//! Sockets of the underlay, shared by networks: those that receive by address and port, those that send by address and interface.

use super::error::RpcError;
use super::network::Listen;
use crate::io::error::SysError;
use crate::io::errqueue::PathError;
use crate::io::pool::{PoolSpec, SendPool};
use crate::io::udp::{self, ReceiveSocket};
use crate::lane;
use crate::wire::Framing;
use std::collections::BTreeMap;
use std::sync::Arc;

struct Sockets {
    by_lane: Vec<Arc<ReceiveSocket>>,
    users: usize,
}

struct Pool {
    pool: Arc<SendPool>,
    users: usize,
}

/// Everything that is open towards the underlay.
#[derive(Default)]
pub struct Underlay {
    sockets: BTreeMap<Listen, Sockets>,
    /// One socket a multicast group, at the first lane.
    groups: BTreeMap<Listen, Sockets>,
    pools: BTreeMap<PoolSpec, Pool>,
    /// Losses of sockets that are closed.
    losses: u64,
}

impl Underlay {
    /// Receives there, one socket a lane, or counts one more user of those that do.
    pub fn open_sockets(&mut self, lanes: &[lane::Handle], listen: &Listen, gro: bool) -> Result<(), RpcError> {
        if let Some(sockets) = self.sockets.get_mut(listen) {
            sockets.users += 1;
            return Ok(());
        }
        let same_place = |held: &Listen| (&held.endpoint, held.port) == (&listen.endpoint, listen.port);
        if self.sockets.keys().any(same_place) {
            let message = format!(
                "another network receives on port {} with the other udp6zerocsumrx, or of the other layer: choose another dstport",
                listen.port
            );
            return Err(RpcError::new("EADDRINUSE", message));
        }
        let family_and_port = |held: &Listen| (held.endpoint.v6, held.port);
        // Beside a socket of our own on the same port the check would find ourselves.
        if !self.sockets.keys().any(|held| family_and_port(held) == family_and_port(listen)) {
            udp::check_port_free(&listen.endpoint, listen.port).map_err(|error| match error.errno {
                libc::EADDRINUSE => RpcError::new("EADDRINUSE", busy_port(listen.port)),
                libc::EADDRNOTAVAIL => {
                    RpcError::new("EADDRNOTAVAIL", format!("{error}: the local address is on no interface of this host"))
                }
                _ => error.into(),
            })?;
        }
        let by_lane = (0..lanes.len()).map(|lane| open(listen, gro, lane)).collect::<Result<Vec<_>, _>>()?;
        for (lane, socket) in lanes.iter().zip(&by_lane) {
            lane.add_socket(Arc::clone(socket));
        }
        self.sockets.insert(listen.clone(), Sockets { by_lane, users: 1 });
        Ok(())
    }

    /// One user less; the last one closes them.
    pub fn close_sockets(&mut self, lanes: &[lane::Handle], listen: &Listen) {
        let Some(sockets) = self.sockets.get_mut(listen) else { return };
        sockets.users -= 1;
        if sockets.users > 0 {
            return;
        }
        if let Some(sockets) = self.sockets.remove(listen) {
            for (lane, socket) in lanes.iter().zip(&sockets.by_lane) {
                lane.remove_socket(socket);
                self.losses += socket.losses();
            }
        }
    }

    /// Receives what is for a group, or counts one more user. Multicast is delivered to every socket of a port that is a member, so there
    /// is one for all lanes.
    pub fn join(&mut self, lanes: &[lane::Handle], group: &Listen, gro: bool) -> Result<(), RpcError> {
        if let Some(sockets) = self.groups.get_mut(group) {
            sockets.users += 1;
            return Ok(());
        }
        let socket = ReceiveSocket::open(&group.endpoint, group.port, gro, group.zero_checksums)?;
        socket.join(&group.endpoint)?;
        let socket = Arc::new(socket);
        if let Some(lane) = lanes.first() {
            lane.add_socket(Arc::clone(&socket));
        }
        self.groups.insert(group.clone(), Sockets { by_lane: vec![socket], users: 1 });
        Ok(())
    }

    /// Becomes a member again, where the kernel forgot it with the interface.
    pub fn rejoin(&self, group: &Listen) -> Result<(), SysError> {
        let sockets = self.groups.get(group).map_or(&[][..], |sockets| &sockets.by_lane);
        sockets.iter().try_for_each(|socket| match socket.join(&group.endpoint) {
            Err(error) if error.errno != libc::EADDRINUSE => Err(error),
            _ => Ok(()),
        })
    }

    /// One user less; the last one leaves the group.
    pub fn leave(&mut self, lanes: &[lane::Handle], group: &Listen) {
        let Some(sockets) = self.groups.get_mut(group) else { return };
        sockets.users -= 1;
        if sockets.users == 0
            && let Some(sockets) = self.groups.remove(group)
        {
            for (lane, socket) in lanes.iter().zip(&sockets.by_lane) {
                lane.remove_socket(socket);
                self.losses += socket.losses();
            }
        }
    }

    /// Sockets for one more lane, the next in number.
    pub fn add_lane(&mut self, lane: &lane::Handle, gro: bool) -> Result<(), SysError> {
        for (listen, sockets) in &mut self.sockets {
            let socket = open(listen, gro, sockets.by_lane.len())?;
            lane.add_socket(Arc::clone(&socket));
            sockets.by_lane.push(socket);
        }
        Ok(())
    }

    /// Closes what the lane of this number, the last one, receives on.
    pub fn remove_lane(&mut self, number: usize, lane: &lane::Handle) {
        for sockets in self.sockets.values_mut() {
            for socket in sockets.by_lane.drain(number.min(sockets.by_lane.len())..) {
                lane.remove_socket(&socket);
                self.losses += socket.losses();
            }
        }
    }

    /// Sends from there, or counts one more user.
    pub fn open_pool(&mut self, spec: &PoolSpec, segmentation: bool) -> Result<Arc<SendPool>, RpcError> {
        if let Some(pool) = self.pools.get_mut(spec) {
            pool.users += 1;
            return Ok(Arc::clone(&pool.pool));
        }
        let ours: Vec<u16> = self.pools.values().flat_map(|pool| pool.pool.ports()).copied().collect();
        let pool = Arc::new(match spec.framing {
            Framing::Ethernet => SendPool::open(spec, segmentation, &ours)?,
            Framing::Bare => SendPool::beside(self.receiving_for(spec)?, spec, segmentation)?,
        });
        self.pools.insert(spec.clone(), Pool { pool: Arc::clone(&pool), users: 1 });
        Ok(pool)
    }

    /// The first lane's socket, which there is always, where a layer-3 network receives.
    fn receiving_for(&self, spec: &PoolSpec) -> Result<&ReceiveSocket, RpcError> {
        let is_its = |listen: &Listen| {
            listen.framing == spec.framing
                && listen.endpoint.local == spec.endpoint.local
                && spec.ports.is_some_and(|(port, _)| port == listen.port)
        };
        let sockets = self.sockets.iter().find(|(listen, _)| is_its(listen)).and_then(|(_, sockets)| sockets.by_lane.first());
        Ok(sockets.ok_or_else(|| RpcError::new("EADDRNOTAVAIL", "nothing receives on the port to send from".to_owned()))?)
    }

    /// A pool that is in use.
    pub fn pool(&self, spec: &PoolSpec) -> Option<Arc<SendPool>> {
        self.pools.get(spec).map(|pool| Arc::clone(&pool.pool))
    }

    /// One user less; the last one closes it.
    pub fn close_pool(&mut self, spec: &PoolSpec) {
        if let Some(pool) = self.pools.get_mut(spec) {
            pool.users -= 1;
            if pool.users == 0 {
                self.pools.remove(spec);
            }
        }
    }

    /// Tells of ICMP errors that wait at sockets nobody has sent from since.
    pub fn drain_errors(&self, seen: &mut dyn FnMut(PathError)) {
        self.pools.values().for_each(|pool| pool.pool.drain_errors(seen));
    }

    fn receiving(&self) -> impl Iterator<Item = &Arc<ReceiveSocket>> {
        self.sockets.values().chain(self.groups.values()).flat_map(|sockets| &sockets.by_lane)
    }

    /// Switches trains on the way in.
    pub fn set_gro(&self, on: bool) -> Result<(), SysError> {
        self.receiving().try_for_each(|socket| socket.set_gro(on))
    }

    /// Switches trains on the way out.
    pub fn set_segments(&self, on: bool) {
        self.pools.values().for_each(|pool| pool.pool.set_segments(on));
    }

    /// Datagrams for our sockets that the kernel threw away, whatever the cause.
    pub fn losses(&self) -> u64 {
        self.losses + self.receiving().map(|socket| socket.losses()).sum::<u64>()
    }
}

/// A socket for the lane of this number.
fn open(listen: &Listen, gro: bool, lane: usize) -> Result<Arc<ReceiveSocket>, SysError> {
    let socket = ReceiveSocket::open(&listen.endpoint, listen.port, gro, listen.zero_checksums)?.of(listen.framing);
    if lane > 0 {
        socket.refuse_broadcasts()?;
    }
    Ok(Arc::new(socket))
}

fn busy_port(port: u16) -> String {
    format!(
        "UDP port {port} is in use by another socket (ss -lunp names its process; a kernel vxlan device has none: \
         ip -d link show type vxlan); stop it or choose another dstport"
    )
}
