//! What requests have changed in one network's tables, for the notifications `fdb` and `neigh`. Bounded: a whole table that is replaced
//! is told in part, and how much was left out is counted.

use super::master::{FdbValue, Source};
use super::protocol::{FdbNotification, NeighbourNotification};
use crate::wire::Mac;
use ipnet::IpNet;
use serde_json::Value;

/// Changes remembered between two looks.
const MOST: usize = 1_000;

enum Notice {
    Fdb(FdbNotification),
    Neighbour(NeighbourNotification),
}

/// Changes in their order.
#[derive(Default)]
pub struct Journal {
    notices: Vec<Notice>,
    lost: u64,
}

impl Journal {
    fn push(&mut self, notice: impl FnOnce() -> Notice) {
        if self.notices.len() < MOST {
            self.notices.push(notice());
        } else {
            self.lost += 1;
        }
    }

    pub(super) fn fdb(&mut self, source: Source, mac: Mac, value: &FdbValue, was_there: bool) {
        self.push(|| entry(source, mac, value, if was_there { "changed" } else { "new" }));
    }

    pub(super) fn fdb_gone(&mut self, source: Source, mac: Mac, value: &FdbValue) {
        self.push(|| entry(source, mac, value, "deleted"));
    }

    /// A neighbour became `what`.
    pub fn neighbour(&mut self, source: &str, what: &str, prefix: IpNet, lladdr: Mac) {
        let (network, what, source) = (String::new(), what.to_owned(), source.to_owned());
        self.push(|| Notice::Neighbour(NeighbourNotification { network, what, prefix, lladdr, source }));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.notices.len()
    }

    /// Forgets all but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.notices.truncate(len);
    }

    /// Method and parameters of each, and how many were left out.
    pub fn take(&mut self, network: &str) -> (Vec<(&'static str, Value)>, u64) {
        let network = || network.to_owned();
        let told = std::mem::take(&mut self.notices).into_iter().filter_map(|notice| match notice {
            Notice::Fdb(notice) => Some(("fdb", serde_json::to_value(FdbNotification { network: network(), ..notice }).ok()?)),
            Notice::Neighbour(notice) => {
                Some(("neigh", serde_json::to_value(NeighbourNotification { network: network(), ..notice }).ok()?))
            }
        });
        (told.collect(), std::mem::take(&mut self.lost))
    }
}

fn entry(source: Source, mac: Mac, value: &FdbValue, what: &str) -> Notice {
    Notice::Fdb(FdbNotification {
        network: String::new(),
        what: what.to_owned(),
        mac,
        destinations: value.destinations.clone(),
        state: value.state,
        source: source.name().to_owned(),
        router: value.router.then_some(true),
    })
}
