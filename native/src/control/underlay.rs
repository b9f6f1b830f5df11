//! Sockets of the underlay, shared by networks: those that receive by address and port, those that send by address and interface.

use super::error::RpcError;
use super::network::Listen;
use crate::io::error::SysError;
use crate::io::udp::{self, Endpoint, ReceiveSocket, SendPool};
use crate::lane;
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
    pools: BTreeMap<Endpoint, Pool>,
    /// Overflows of sockets that are closed.
    overflows: u64,
}

impl Underlay {
    /// Receives there, one socket a lane, or counts one more user of those that do.
    pub fn open_sockets(&mut self, lanes: &[lane::Handle], listen: &Listen, gro: bool) -> Result<(), RpcError> {
        if let Some(sockets) = self.sockets.get_mut(listen) {
            sockets.users += 1;
            return Ok(());
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
        let open = |_| ReceiveSocket::open(&listen.endpoint, listen.port, gro).map(Arc::new);
        let by_lane = lanes.iter().map(open).collect::<Result<Vec<_>, _>>()?;
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
                self.overflows += socket.overflows();
            }
        }
    }

    /// Sockets for one more lane, the next in number.
    pub fn add_lane(&mut self, lane: &lane::Handle, gro: bool) -> Result<(), SysError> {
        for (listen, sockets) in &mut self.sockets {
            let socket = Arc::new(ReceiveSocket::open(&listen.endpoint, listen.port, gro)?);
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
                self.overflows += socket.overflows();
            }
        }
    }

    /// Sends from there, or counts one more user.
    pub fn open_pool(&mut self, endpoint: &Endpoint, segmentation: bool) -> Result<Arc<SendPool>, RpcError> {
        if let Some(pool) = self.pools.get_mut(endpoint) {
            pool.users += 1;
            return Ok(Arc::clone(&pool.pool));
        }
        let pool = Arc::new(SendPool::open(endpoint, segmentation)?);
        self.pools.insert(endpoint.clone(), Pool { pool: Arc::clone(&pool), users: 1 });
        Ok(pool)
    }

    /// The pool of an endpoint that is in use.
    pub fn pool(&self, endpoint: &Endpoint) -> Option<Arc<SendPool>> {
        self.pools.get(endpoint).map(|pool| Arc::clone(&pool.pool))
    }

    /// One user less; the last one closes it.
    pub fn close_pool(&mut self, endpoint: &Endpoint) {
        if let Some(pool) = self.pools.get_mut(endpoint) {
            pool.users -= 1;
            if pool.users == 0 {
                self.pools.remove(endpoint);
            }
        }
    }

    /// Switches trains on the way in.
    pub fn set_gro(&self, on: bool) -> Result<(), SysError> {
        self.sockets.values().flat_map(|sockets| &sockets.by_lane).try_for_each(|socket| socket.set_gro(on))
    }

    /// Switches trains on the way out.
    pub fn set_segments(&self, on: bool) {
        self.pools.values().for_each(|pool| pool.pool.set_segments(on));
    }

    /// Datagrams that the kernel threw away because a receive buffer was full.
    pub fn overflows(&self) -> u64 {
        self.overflows + self.sockets.values().flat_map(|sockets| &sockets.by_lane).map(|socket| socket.overflows()).sum::<u64>()
    }
}

fn busy_port(port: u16) -> String {
    format!(
        "UDP port {port} is in use by another socket (ss -lunp names its process; a kernel vxlan device has none: \
         ip -d link show type vxlan); stop it or choose another dstport"
    )
}
