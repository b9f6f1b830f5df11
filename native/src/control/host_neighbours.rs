//! Neighbours that somebody set on a TAP with `ip neigh`: the proxy answers from them too, as the kernel's vxlan device does.

use super::engine::Engine;
use super::network::Held;
use super::protocol::LinkEvent;
use crate::wire::Mac;
use serde_json::json;
use std::collections::HashMap;
use std::net::IpAddr;

/// The tables answer for the address: what the kernel has in its cache is then most likely an echo of that answer, and is
/// not asked anyway.
fn is_ours(held: &Held, address: IpAddr) -> bool {
    held.master.network.neighbours.lookup(address).is_some()
}

/// Brings the copy in line with the caches of the TAP as they are now; true if that is news.
fn read_all(held: &mut Held) -> bool {
    let Ok(entries) = held.netlink.neighbours(held.ifindex) else { return false };
    let connected = entries.iter().filter(|entry| entry.is_connected() && !is_ours(held, entry.address));
    let cache: HashMap<_, _> = connected.filter_map(|entry| Some((entry.address, entry.lladdr?))).collect();
    held.master.replace_kernel_neighbours(&cache)
}

impl Engine {
    /// Reads what was there before the network was made.
    pub(super) fn read_host_neighbours(&mut self, name: &str) {
        if self.networks.get_mut(name).is_some_and(read_all) {
            self.publish(name);
        }
    }

    /// Looks at what happened to the neighbour caches of the TAPs.
    pub fn take_neighbour_events(&mut self) {
        let names: Vec<String> = self.networks.keys().cloned().collect();
        for name in names {
            let Some(held) = self.networks.get_mut(&name) else { continue };
            let Ok(seen) = held.neigh_monitor.read_events() else { continue };
            let mut news = false;
            for event in seen.events.iter().filter(|event| event.index == held.ifindex) {
                let lladdr = event.lladdr.filter(|_| !is_ours(held, event.address));
                news |= held.master.set_kernel_neighbour(event.address, lladdr);
            }
            news |= seen.overrun && read_all(held);
            let added = seen.bridge_entries.iter().find(|(index, _)| *index == held.ifindex);
            let added = added.map(|(index, mac)| (*index, *mac));
            if news {
                self.publish(&name);
            }
            if let Some((index, mac)) = added {
                self.tell_bridge_entry(&name, index, mac);
            }
        }
    }

    /// Somebody took the TAP for a vxlan device. Told once a minute: what it is said of, nobody needs again and again.
    fn tell_bridge_entry(&mut self, network: &str, index: u32, mac: Mac) {
        let count = self.faults.entry(("bridge fdb", index as i32)).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        let event = LinkEvent { network: network.to_owned(), what: "bridge-fdb".to_owned(), value: mac.to_string() };
        self.log.warn(
            "`bridge fdb add` on the TAP sends nothing anywhere, a `dst` is passed over: use `vtepd fdb add MAC dst VTEP dev NAME`",
            json!({ "network": network, "mac": mac }),
        );
        self.events.push("link", &event);
    }
}
