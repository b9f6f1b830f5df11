//! What an operator changes: the verbs of `bridge fdb` and `ip neigh`, with an error where the kernel says nothing and does nothing.

use super::checks::{Growth, MAX_DESTINATIONS, is_list};
use super::layers::Source;
use super::{Changes, FdbValue, Master};
use crate::control::error::RpcError;
use crate::control::protocol::{Destination, EntryState, EntryVerb, FdbFlush, FdbFlushed};
use crate::wire::Mac;
use ipnet::IpNet;
use std::net::IpAddr;

impl Master {
    /// `fdb.change`: the verbs of `bridge fdb`, with an error where the kernel's device says nothing and does nothing.
    pub fn change_fdb(
        &mut self,
        verb: EntryVerb,
        mac: Mac,
        to: Option<Destination>,
        state: Option<EntryState>,
        router: Option<bool>,
        now: u32,
    ) -> Result<(), RpcError> {
        let held = self.fdb.get(&mac).and_then(|layers| layers.get(Source::Hand)).cloned();
        if verb == EntryVerb::Del {
            return self.delete_fdb(mac, to, held, now);
        }
        let to = to.ok_or_else(|| RpcError::new("EINVAL", format!("no destination for {mac}: say dst VTEP")))?;
        self.check_destination(&to)?;
        let state = state.unwrap_or(EntryState::Static);
        let mut value = FdbValue { destinations: vec![to.clone()], state, router: router == Some(true) };
        match (verb, held) {
            (EntryVerb::Add, Some(_)) => {
                return Err(RpcError::new("EEXIST", format!("{mac} has an entry: use replace, or append for the flood list")));
            }
            (EntryVerb::Append, Some(_)) if !is_list(mac) => {
                return Err(RpcError::new("EOPNOTSUPP", format!("{mac} is a unicast MAC and has a destination: use replace")));
            }
            (EntryVerb::Append, Some(held)) => {
                if held.destinations.iter().any(|held| self.is_same(held, &to)) {
                    return Err(RpcError::new("EEXIST", format!("{} is a destination of {mac} already", to.ip)));
                }
                if held.destinations.len() >= MAX_DESTINATIONS {
                    return Err(RpcError::new("ENOSPC", format!("{mac} has {MAX_DESTINATIONS} destinations")));
                }
                value = FdbValue {
                    destinations: [held.destinations, vec![to]].concat(),
                    state: held.state,
                    router: router.unwrap_or(held.router),
                };
            }
            (EntryVerb::Replace, _) if is_list(mac) => {
                return Err(RpcError::new(
                    "EOPNOTSUPP",
                    format!("{mac} is no unicast MAC: its destinations are changed by append and del"),
                ));
            }
            _ => {}
        }
        if !self.fdb.contains_key(&mac) {
            self.check_room(Growth { new: 1, gone: 0 }, Growth::default())?;
        }
        self.set_mac(Source::Hand, mac, value, now, &mut Changes::default());
        Ok(())
    }

    fn delete_fdb(&mut self, mac: Mac, to: Option<Destination>, held: Option<FdbValue>, now: u32) -> Result<(), RpcError> {
        let learned = self.fdb.get(&mac).is_some_and(|layers| layers.get(Source::Learned).is_some());
        let Some(mut held) = held else {
            if learned && self.remove_mac(Source::Learned, mac, now, &mut Changes::default()) {
                return Ok(());
            }
            let why = if self.fdb.contains_key(&mac) {
                "comes from the datastore: it goes when its lease goes"
            } else {
                "has no entry"
            };
            return Err(RpcError::new("ENOENT", format!("{mac} {why}")));
        };
        if let Some(to) = to {
            let before = held.destinations.len();
            let same = |held: &Destination| {
                held.ip == to.ip
                    && to.port.is_none_or(|port| self.port_of(held) == port)
                    && to.vni.is_none_or(|vni| self.vni_of(held) == vni)
                    && (to.via.is_none() || held.via == to.via)
            };
            held.destinations.retain(|held| !same(held));
            if held.destinations.len() == before {
                return Err(RpcError::new("ENOENT", format!("{} is no destination of {mac}", to.ip)));
            }
            if !held.destinations.is_empty() {
                self.set_mac(Source::Hand, mac, held, now, &mut Changes::default());
                return Ok(());
            }
        }
        self.remove_mac(Source::Hand, mac, now, &mut Changes::default());
        Ok(())
    }

    /// `fdb.flush`
    pub fn flush(&mut self, request: &FdbFlush, now: u32) -> FdbFlushed {
        let (port, vni) = (self.network.port.port, self.network.vni);
        let matches = |to: &Destination| {
            request.dst.is_none_or(|dst| to.ip == dst)
                && request.port.is_none_or(|wanted| to.port.unwrap_or(port) == wanted)
                && request.vni.is_none_or(|wanted| to.vni.unwrap_or(vni) == wanted)
                && (request.via.is_none() || to.via == request.via)
        };
        let concerns = |value: &FdbValue| {
            request.state.is_none_or(|state| value.state == state)
                && request.router.is_none_or(|router| value.router == router)
                && value.destinations.iter().any(matches)
        };
        let all = self.fdb.iter().flat_map(|(mac, layers)| layers.0.iter().map(|(source, value)| (*mac, *source, value)));
        let found: Vec<(Mac, Source, FdbValue)> =
            all.filter(|(.., value)| concerns(value)).map(|(mac, source, value)| (mac, source, value.clone())).collect();
        let mut flushed = FdbFlushed { removed: 0, reduced: 0, kept: 0 };
        for (mac, source, mut value) in found {
            value.destinations.retain(|to| !matches(to));
            if !matches!(source, Source::Hand | Source::Learned) {
                flushed.kept += 1;
            } else if value.destinations.is_empty() {
                self.remove_mac(source, mac, now, &mut Changes::default());
                flushed.removed += 1;
            } else {
                self.set_mac(source, mac, value, now, &mut Changes::default());
                flushed.reduced += 1;
            }
        }
        flushed
    }

    /// `neigh.change`: the verbs of `ip neigh`.
    pub fn change_neighbour(&mut self, verb: EntryVerb, prefix: IpNet, lladdr: Option<Mac>) -> Result<(), RpcError> {
        let prefix = prefix.trunc();
        let held = self.neighbours.get(&prefix).is_some_and(|layers| layers.get(Source::Hand).is_some());
        if verb == EntryVerb::Del {
            if self.remove_prefix(Source::Hand, prefix, &mut Changes::default()) {
                return Ok(());
            }
            let why = if self.neighbours.contains_key(&prefix) {
                "comes from the datastore: it goes when its lease goes"
            } else {
                "has no entry"
            };
            return Err(RpcError::new("ENOENT", format!("{prefix} {why}")));
        }
        let lladdr = lladdr.ok_or_else(|| RpcError::new("EINVAL", format!("no MAC for {prefix}: say lladdr MAC")))?;
        if lladdr.is_zero() || lladdr.is_multicast() {
            return Err(RpcError::new("EINVAL", format!("{lladdr} cannot be a neighbour's MAC")));
        }
        match verb {
            EntryVerb::Append => return Err(RpcError::new("EOPNOTSUPP", "a neighbour has one MAC: use replace")),
            EntryVerb::Add if held => return Err(RpcError::new("EEXIST", format!("{prefix} has an entry: use replace"))),
            _ => {}
        }
        self.check_room(Growth::default(), Growth { new: 1, gone: 0 })?;
        self.set_prefix(Source::Hand, prefix, lladdr, &mut Changes::default());
        Ok(())
    }

    /// Puts one default destination in place of another in the flood list, whose others stay: one that is in the list already is not
    /// doubled.
    pub fn change_default(&mut self, old: Option<IpAddr>, new: Option<IpAddr>, now: u32) -> Result<(), RpcError> {
        let to = |ip| Destination { ip, port: None, vni: None, via: None };
        if let Some(ip) = new {
            match self.change_fdb(EntryVerb::Append, Mac::ZERO, Some(to(ip)), Some(EntryState::Permanent), None, now) {
                Err(error) if error.data.name != "EEXIST" => return Err(error),
                _ => {}
            }
        }
        if let Some(ip) = old {
            match self.change_fdb(EntryVerb::Del, Mac::ZERO, Some(to(ip)), None, None, now) {
                Err(error) if error.data.name != "ENOENT" => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
