//! `stats`: what the lanes counted, summed up.

use super::engine::Engine;
use super::error::RpcError;
use super::network::Held;
use super::protocol::{Empty, LaneStats, NetworkStats, PeerStats, Stats, Traffic};
use crate::counters::{Counter, Drops, NetworkCounters};
use crate::drops::DropReason;
use std::collections::BTreeMap;

fn traffic((packets, bytes): (u64, u64)) -> Traffic {
    Traffic { packets, bytes }
}

fn drops<'a>(all: impl Iterator<Item = &'a Drops> + Clone) -> BTreeMap<String, u64> {
    let count = |reason: &DropReason| all.clone().map(|drops| drops.get(*reason)).sum::<u64>();
    DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), count(reason))).filter(|(_, count)| *count > 0).collect()
}

fn network_stats(held: &Held) -> NetworkStats {
    let all = held.counters.iter().map(AsRef::as_ref).chain(std::iter::once(&held.retired));
    let sum = |pick: fn(&NetworkCounters) -> &Counter| all.clone().map(|counters| pick(counters).get()).sum::<u64>();
    NetworkStats {
        network: held.spec.name.clone(),
        vni: held.spec.vni,
        rx: traffic((sum(|c| &c.rx_packets), sum(|c| &c.rx_bytes))),
        tx: traffic((sum(|c| &c.tx_packets), sum(|c| &c.tx_bytes))),
        arp_replies: sum(|c| &c.arp_replies),
        nd_replies: sum(|c| &c.nd_replies),
        partial_checksums: sum(|c| &c.partial_checksums),
        whole_superframes: sum(|c| &c.whole_superframes),
        too_big_replies: Some(sum(|c| &c.too_big_replies)).filter(|count| *count > 0),
        refusals: Some(sum(|c| &c.refusals)).filter(|count| *count > 0),
        learning_refused: Some(held.master.refused).filter(|count| *count > 0),
        tap_queue_overflows: held.netlink.link_by_index(held.ifindex).ok().flatten().map_or(0, |link| link.tx_dropped),
        drops: drops(all.clone().map(|counters| &counters.drops)),
        fdb_entries: held.master.fdb_len() as u32,
        neighbour_entries: held.master.neighbours_len() as u32,
    }
}

impl Engine {
    pub(super) fn stats(&mut self, _: Empty) -> Result<Stats, RpcError> {
        let now = self.now();
        self.losses.look(self.underlay.losses());
        let lanes = self.lanes.iter().enumerate().map(|(number, lane)| {
            let c = &lane.counters;
            LaneStats {
                lane: number as u32,
                rx: traffic((c.rx_packets.get(), c.rx_bytes.get())),
                tx: traffic((c.tx_packets.get(), c.tx_bytes.get())),
                tap_reads: c.tap_reads.get(),
                tap_writes: c.tap_writes.get(),
                udp_receives: c.udp_receives.get(),
                udp_sends: c.udp_sends.get(),
                udp_messages_received: c.udp_messages_received.get(),
                udp_messages_sent: c.udp_messages_sent.get(),
                turns: c.turns.get(),
                busy_us: c.busy_us.get(),
                spin_us: c.spin_us.get(),
                longest_turn_us: c.longest_turn_us.get(),
            }
        });
        let mut peers: Vec<PeerStats> = Vec::new();
        for (name, held) in &self.networks {
            peers.extend(held.master.network.peers.iter().map(|(ip, peer)| PeerStats {
                network: name.clone(),
                ip: *ip,
                rx: traffic(peer.rx()),
                tx: traffic(peer.tx()),
                last_heard: peer.last_heard().map(|heard| now.saturating_sub(heard)),
                path_mtu: peer.path_mtu(now),
            }));
        }
        peers.sort_by(|a, b| (&a.network, a.ip).cmp(&(&b.network, b.ip)));
        let all = self.lanes.iter().map(|lane| lane.counters.as_ref()).chain(std::iter::once(&self.retired));
        Ok(Stats {
            uptime: u64::from(now),
            networks: self.networks.values().map(network_stats).collect(),
            lanes: lanes.collect(),
            peers,
            drops: drops(all.clone().map(|counters| &counters.drops)),
            socket_overflows: self.losses.ours.overflows,
            bad_checksums: Some(self.losses.ours.checksums).filter(|count| *count > 0),
            events_suppressed: self.events.suppressed + all.map(|counters| counters.reports_lost.get()).sum::<u64>(),
        })
    }
}
