//! What is refused, before anything is changed.

use super::Master;
use super::layers::Source;
use crate::control::error::RpcError;
use crate::control::limits::MAX_ENTRIES;
use crate::control::protocol::{Destination, FdbEntry, Neighbour};
use crate::wire::Mac;
use ipnet::IpNet;
use std::collections::HashSet;

/// Most destinations of a flood list.
pub(super) const MAX_DESTINATIONS: usize = 4_096;

/// How many keys of a table come and go with a request.
#[derive(Clone, Copy, Default)]
pub(super) struct Growth {
    pub(super) new: usize,
    pub(super) gone: usize,
}

impl Growth {
    fn exceeds(self, held: usize, limit: usize) -> bool {
        self.new > self.gone && held + self.new - self.gone > limit
    }
}

pub(super) fn is_list(mac: Mac) -> bool {
    mac.is_zero() || mac.is_multicast()
}

impl Master {
    pub(super) fn check_destination(&self, to: &Destination) -> Result<(), RpcError> {
        if to.ip.is_ipv6() != self.network.port.v6 {
            let family = if self.network.port.v6 { "IPv6" } else { "IPv4" };
            return Err(RpcError::new(
                "EAFNOSUPPORT",
                format!("destination {} is not of this network's family, {family}", to.ip),
            ));
        }
        if to.port == Some(0) {
            return Err(RpcError::new("EINVAL", format!("destination {} has port 0", to.ip)));
        }
        if to.vni.is_some_and(|vni| vni >= 1 << 24) {
            return Err(RpcError::new("EINVAL", format!("destination {} has a VNI beyond 24 bits", to.ip)));
        }
        Ok(())
    }

    fn check_entry(&self, entry: &FdbEntry) -> Result<(), RpcError> {
        let count = entry.destinations.len();
        if count == 0 || count > MAX_DESTINATIONS {
            return Err(RpcError::new(
                "EINVAL",
                format!("FDB entry {} has {count} destinations; 1 to {MAX_DESTINATIONS} are possible", entry.mac),
            ));
        }
        if count > 1 && !is_list(entry.mac) {
            return Err(RpcError::new(
                "EINVAL",
                format!("unicast FDB entry {} has {count} destinations; it can have one", entry.mac),
            ));
        }
        entry.destinations.iter().try_for_each(|to| self.check_destination(to))
    }

    /// Room for what comes beside what goes; a table that does not grow has it, whatever the limit has become since.
    pub(super) fn check_room(&self, fdb: Growth, neighbours: Growth) -> Result<(), RpcError> {
        if fdb.exceeds(self.fdb.len(), self.limits.entries) {
            return Err(RpcError::new(
                "ENOSPC",
                format!("the FDB would exceed its {} entries (maxaddress)", self.limits.entries),
            ));
        }
        if neighbours.exceeds(self.neighbours.len(), MAX_ENTRIES) {
            return Err(RpcError::new("ENOSPC", format!("the neighbour table would exceed its {MAX_ENTRIES} entries")));
        }
        Ok(())
    }

    /// Checks what is to be set; `macs` and `prefixes` of the source go.
    pub(super) fn check_all(
        &self,
        source: Source,
        fdb: &[FdbEntry],
        neighbours: &[Neighbour],
        macs: &HashSet<Mac>,
        prefixes: &HashSet<IpNet>,
    ) -> Result<(), RpcError> {
        fdb.iter().try_for_each(|entry| self.check_entry(entry))?;
        let fdb = Growth {
            new: fdb.iter().filter(|entry| !self.fdb.contains_key(&entry.mac)).count(),
            gone: macs.iter().filter(|mac| self.fdb.get(mac).is_some_and(|layers| layers.is_only(source))).count(),
        };
        let alone = |prefix: &&IpNet| self.neighbours.get(prefix).is_some_and(|layers| layers.is_only(source));
        let neighbours = Growth {
            new: neighbours.iter().filter(|entry| !self.neighbours.contains_key(&entry.prefix.trunc())).count(),
            gone: prefixes.iter().filter(alone).count(),
        };
        self.check_room(fdb, neighbours)
    }
}
