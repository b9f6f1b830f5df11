//! `host.*`: passed on to netlink.

use super::engine::Engine;
use super::error::RpcError;
use super::protocol::{HostChange, HostChanged, HostFacts, HostRead, RouteFacts, RouteGet};
use crate::io::host;

impl Engine {
    pub(super) fn host_read(&mut self, request: HostRead) -> Result<HostFacts, RpcError> {
        Ok(host::read(request.netns.as_deref())?)
    }

    pub(super) fn host_route_get(&mut self, request: RouteGet) -> Result<RouteFacts, RpcError> {
        Ok(host::route_get(request.to, request.netns.as_deref())?)
    }

    pub(super) fn host_change(&mut self, request: HostChange) -> Result<HostChanged, RpcError> {
        Ok(host::change(request.netns.as_deref(), &request.operations))
    }
}
