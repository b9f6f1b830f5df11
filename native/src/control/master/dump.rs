//! `tables.dump`: everything that is held, in use or not.

use super::Master;
use crate::control::protocol::{FdbDump, NeighbourDump, TablesDump};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

impl Master {
    /// `tables.dump`
    pub fn dump(&self, now: u32) -> TablesDump {
        let mut fdb: Vec<FdbDump> = self
            .fdb
            .iter()
            .flat_map(|(mac, layers)| {
                layers.0.iter().enumerate().map(|(position, (source, value))| {
                    let used = self.network.fdb.get(mac).filter(|entry| position == 0 && entry.dynamic);
                    FdbDump {
                        mac: *mac,
                        destinations: value.destinations.clone(),
                        state: value.state,
                        source: source.name().to_owned(),
                        router: value.router.then_some(true),
                        used: used.map(|entry| now.saturating_sub(entry.used.load(Relaxed))),
                        active: position == 0,
                    }
                })
            })
            .collect();
        fdb.sort_by_key(|entry| (entry.mac, !entry.active));
        let mut neighbours: Vec<NeighbourDump> = self
            .neighbours
            .iter()
            .flat_map(|(prefix, layers)| {
                layers.0.iter().enumerate().map(|(position, (source, lladdr))| NeighbourDump {
                    prefix: *prefix,
                    lladdr: *lladdr,
                    source: source.name().to_owned(),
                    active: position == 0,
                })
            })
            .collect();
        neighbours.extend(self.network.kernel_neighbours.iter().map(|(address, lladdr)| NeighbourDump {
            prefix: IpNet::from(*address),
            lladdr: *lladdr,
            source: "kernel".to_owned(),
            active: self.network.neighbours.lookup(*address).is_none(),
        }));
        neighbours.sort_by_key(|entry| (entry.prefix, !entry.active));
        let peers = self.extra_peers.iter().filter(|(_, peers)| !peers.is_empty()).map(|(source, peers)| {
            let mut peers: Vec<IpAddr> = peers.iter().copied().collect();
            peers.sort();
            (source.name().to_owned(), peers)
        });
        TablesDump { revisions: self.revisions(), fdb, neighbours, peers: peers.collect() }
    }
}
