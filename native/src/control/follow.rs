//! Underlay interfaces that are deleted and made again (`dev`, `via`): sockets are bound to the index of an interface, and the kernel
//! forgets its groups with it. Whoever makes an interface of that name again is taken for the one that was meant.

use super::engine::Engine;
use super::error::RpcError;
use super::network;
use super::protocol::LinkEvent;
use crate::io::netlink::{LinkSettings, Netlink};
use crate::io::netns::Netns;
use serde_json::json;
use std::collections::BTreeSet;

impl Engine {
    /// Looks at what happened to the interfaces of the underlay.
    pub fn take_underlay_events(&mut self) {
        let Ok(seen) = self.underlay_monitor.read_events() else { return };
        let mut gone: BTreeSet<String> = BTreeSet::new();
        let mut there: BTreeSet<String> = BTreeSet::new();
        for event in seen.events {
            let names = if event.deleted { &mut gone } else { &mut there };
            names.insert(event.name);
        }
        if seen.overrun {
            // Events were lost: anything may have happened to any of them.
            let all = self.networks.values().flat_map(|held| held.spec.dev.iter().chain(held.master.interfaces.keys()));
            there.extend(all.cloned());
        }
        let names: Vec<String> = self.networks.keys().cloned().collect();
        for name in names {
            self.follow_via(&name, &there);
            let Some(held) = self.networks.get_mut(&name) else { continue };
            let Some(dev) = held.spec.dev.clone() else { continue };
            if gone.contains(&dev) && !held.dev_lost {
                held.dev_lost = true;
                let found = json!({ "network": name, "dev": dev });
                self.log.warn("the underlay interface is gone; it is taken into use again when it is back", found);
                self.events
                    .push("link", &LinkEvent { network: name.clone(), what: "dev-deleted".to_owned(), value: dev.clone() });
            }
            if there.contains(&dev) {
                self.follow_dev(&name, &dev);
            }
        }
    }

    /// Tries again what did not succeed: an interface is there before its address is.
    pub(super) fn follow_lost_devices(&mut self) {
        let lost = self.networks.iter().filter(|(_, held)| held.dev_lost);
        let lost: Vec<(String, String)> = lost.filter_map(|(name, held)| Some((name.clone(), held.spec.dev.clone()?))).collect();
        for (name, dev) in lost {
            self.follow_dev(&name, &dev);
        }
    }

    fn follow_dev(&mut self, name: &str, dev: &str) {
        let Some(held) = self.networks.get_mut(name) else { return };
        let found = Netns::open(None).and_then(|netns| Netlink::open(&netns)?.link_by_name(dev));
        let Ok(Some(link)) = found else { return };
        let same = held.pool.endpoint.ifindex == Some(link.index) && !held.dev_lost;
        if same && held.master.network.underlay_mtu == link.mtu {
            return;
        }
        match self.take_into_use(name) {
            Ok(()) if same => {}
            Ok(()) => {
                self.log.info("the underlay interface is back and in use", json!({ "network": name, "dev": dev }));
                let event = LinkEvent { network: name.to_owned(), what: "dev-back".to_owned(), value: dev.to_owned() };
                self.events.push("link", &event);
            }
            Err(error) => {
                if let Some(held) = self.networks.get_mut(name) {
                    held.dev_lost = true;
                }
                let count = self.faults.entry(("underlay interface", link.index as i32)).or_default();
                *count += 1;
                if *count == 1 {
                    let found = json!({ "network": name, "dev": dev, "error": error.data.message });
                    self.log.warn("the underlay interface cannot be used yet; trying again every second", found);
                }
            }
        }
    }

    /// Opens anew what depends on the interface's index. A network whose `local` is not there yet is refused.
    fn take_into_use(&mut self, name: &str) -> Result<(), RpcError> {
        let held = self.held(name)?;
        let spec = held.spec.clone();
        let plan = network::plan_for(&spec, Some(held.master.network.port.v6))?;
        let pool = self.open_new(name, &plan)?;
        if let Some(group) = &plan.group
            && let Err(error) = self.underlay.rejoin(group)
        {
            self.close_unused(name, &plan);
            return Err(error.into());
        }
        self.commit(name, &LinkSettings::default(), spec, plan, pool)?;
        self.held(name)?.dev_lost = false;
        Ok(())
    }

    /// Brings the indices of interfaces that destinations name up to date.
    fn follow_via(&mut self, name: &str, there: &BTreeSet<String>) {
        let now = self.now();
        let Some(held) = self.networks.get_mut(name) else { return };
        let mut moved = false;
        for (via, index) in held.master.interfaces.iter_mut().filter(|(via, _)| there.contains(*via)) {
            let found = Netns::open(None).and_then(|netns| Netlink::open(&netns)?.link_by_name(via));
            if let Ok(Some(link)) = found
                && link.index != *index
            {
                *index = link.index;
                moved = true;
            }
        }
        if moved {
            held.master.republish(now);
            self.publish(name);
        }
    }
}
