//! The neighbour table: single addresses and whole subnets, longest prefix first.
//!
//! A lease says where a whole subnet lives, so one entry answers for every container in it before the first one starts.

use super::Sharded;
use crate::wire::Mac;
use ipnet::IpNet;
use std::net::IpAddr;

/// (prefix) -> MAC, with longest-prefix match.
#[derive(Clone)]
pub struct Neighbours {
    entries: Sharded<IpNet, Mac>,
    /// How many entries have each prefix length; index = length.
    v4_lengths: [u32; 33],
    v6_lengths: [u32; 129],
}

impl Default for Neighbours {
    fn default() -> Self {
        Neighbours { entries: Sharded::default(), v4_lengths: [0; 33], v6_lengths: [0; 129] }
    }
}

impl Neighbours {
    fn count(&mut self, prefix: &IpNet) -> Option<&mut u32> {
        let length = usize::from(prefix.prefix_len());
        match prefix {
            IpNet::V4(_) => self.v4_lengths.get_mut(length),
            IpNet::V6(_) => self.v6_lengths.get_mut(length),
        }
    }

    /// Sets who answers for a prefix. Host bits are cut.
    pub fn insert(&mut self, prefix: IpNet, lladdr: Mac) {
        let prefix = prefix.trunc();
        if self.entries.insert(prefix, lladdr).is_none()
            && let Some(count) = self.count(&prefix)
        {
            *count += 1;
        }
    }

    /// Removes a prefix.
    pub fn remove(&mut self, prefix: &IpNet) {
        let prefix = prefix.trunc();
        if self.entries.remove(&prefix).is_some()
            && let Some(count) = self.count(&prefix)
        {
            *count -= 1;
        }
    }

    /// Who answers for an address: one hash lookup for each prefix length in use.
    pub fn lookup(&self, address: IpAddr) -> Option<Mac> {
        let lengths: &[u32] = match address {
            IpAddr::V4(_) => &self.v4_lengths,
            IpAddr::V6(_) => &self.v6_lengths,
        };
        lengths.iter().enumerate().rev().filter(|(_, count)| **count > 0).find_map(|(length, _)| {
            let prefix = IpNet::new(address, u8::try_from(length).ok()?).ok()?.trunc();
            self.entries.get(&prefix).copied()
        })
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_answers() {
        let mac = |last| Mac([2, 0, 0, 0, 0, last]);
        let mut table = Neighbours::default();
        table.insert("10.246.0.0/16".parse().unwrap(), mac(1));
        table.insert("10.246.13.7/24".parse().unwrap(), mac(2));
        table.insert("10.246.13.5/32".parse().unwrap(), mac(3));
        table.insert("fd00:246::/64".parse().unwrap(), mac(4));
        let ask = |table: &Neighbours, ip: &str| table.lookup(ip.parse().unwrap());
        assert_eq!(ask(&table, "10.246.13.5"), Some(mac(3)));
        assert_eq!(ask(&table, "10.246.13.6"), Some(mac(2)));
        assert_eq!(ask(&table, "10.246.14.6"), Some(mac(1)));
        assert_eq!(ask(&table, "10.247.0.1"), None);
        assert_eq!(ask(&table, "fd00:246::9"), Some(mac(4)));
        assert_eq!(ask(&table, "::ffff:10.246.13.5"), None);
        table.remove(&"10.246.13.0/24".parse().unwrap());
        table.remove(&"10.246.13.0/24".parse().unwrap());
        assert_eq!(ask(&table, "10.246.13.6"), Some(mac(1)));
        assert_eq!(table.len(), 3);
    }
}
