//! rtnetlink (rtnetlink(7)): links, addresses and routes of one network namespace, read and changed with blocking requests.
//!
//! A request is one datagram; the kernel works it off inside sendto(2), so the answer is there when the call returns and the
//! receive timeout is only a guard. Parsing takes the attributes that are asked for and passes over all others, known or not:
//! a new kernel's or an odd driver's attribute cannot make a link unreadable. That is why the few messages used here are read
//! and built directly and not through a library that models every attribute.
//!
//! `codec` (pure bytes) - `link`, `address`, `route` (one message kind each: parse and build) - `socket` (ask, acknowledge, dump)
//! - `monitor` (notifications).

mod address;
mod codec;
mod link;
mod monitor;
mod neigh;
mod neigh_monitor;
mod route;
mod socket;

pub use address::Address;
pub use link::{Link, LinkSettings, TunInfo};
pub use monitor::{LinkEventRaw, LinkEvents, LinkMonitor};
pub use neigh::CachedNeighbour;
pub use neigh_monitor::{NeighbourEvent, NeighbourEvents, NeighbourMonitor};
pub use route::{Blackhole, Route, RouteMatch, RouteSpec};

use super::error::SysError;
use super::netns::Netns;
use crate::wire::Mac;
use ipnet::IpNet;
use socket::Socket;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A connection to rtnetlink of one namespace; usable from any thread, one request at a time.
#[derive(Debug)]
pub struct Netlink {
    socket: Mutex<Socket>,
}

impl Netlink {
    /// Opens a socket in `netns`; it stays there whichever thread uses it.
    pub fn open(netns: &Netns) -> Result<Netlink, SysError> {
        Ok(Netlink { socket: Mutex::new(netns.run(Socket::open)?) })
    }

    /// The link of that name (or alternative name, as `ip link` takes); `None` if there is none.
    pub fn link_by_name(&self, name: &str) -> Result<Option<Link>, SysError> {
        let Some(request) = link::get_by_name(name) else { return Ok(None) };
        none_if_absent(self.socket().get(request, name, link::parse))
    }

    /// The link of that index; `None` if there is none.
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>, SysError> {
        none_if_absent(self.socket().get(link::get_by_index(index), &format!("link {index}"), link::parse))
    }

    /// Every link, ordered by index.
    pub fn links(&self) -> Result<Vec<Link>, SysError> {
        let mut links = self.socket().dump(link::get_all(), "links", link::parse)?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Every address of every link, IPv4 and IPv6.
    pub fn addresses(&self) -> Result<Vec<Address>, SysError> {
        self.socket().dump(address::get_all(), "addresses", address::parse)
    }

    /// The routes of the main table, IPv4 and IPv6, that are unicast or blackholes; a multipath route gives one for each of its hops.
    pub fn routes(&self) -> Result<Vec<Route>, SysError> {
        let mut routes = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let found = self.socket().dump(route::get_all(family), "routes", |message| route::parse_main(family, message))?;
            routes.extend(found.into_iter().flatten());
        }
        Ok(routes)
    }

    /// What the kernel would do with a packet to `to` (leaving through link `oif`, if given), as `ip route get`. ENETUNREACH and the
    /// like are errors, for IPv6 too, where the kernel answers with an `unreachable` route.
    pub fn route_get(&self, to: IpAddr, oif: Option<u32>) -> Result<Route, SysError> {
        let object = format!("{to}");
        let found = self.socket().get(route::get_to(to, oif), &object, route::parse_one)?;
        route::refuse_unreachable(found, &object)
    }

    /// Changes a link with one message; nothing to change sends none. The kernel works off its parts in the order MAC, MTU, up or
    /// down, queue length, GSO size, and does not undo the earlier ones when a later one fails.
    pub fn set_link(&self, index: u32, settings: &LinkSettings) -> Result<(), SysError> {
        match link::set(index, settings) {
            Some(request) => self.socket().change(request, &format!("link {index} ({settings})")),
            None => Ok(()),
        }
    }

    /// Deletes a link. ENODEV if there is none of that index.
    pub fn del_link(&self, index: u32) -> Result<(), SysError> {
        self.socket().change(link::del(index), &format!("link {index}"))
    }

    /// Puts an address on a link. EEXIST if it is there; for IPv6 also if it is there with another prefix length.
    pub fn add_address(&self, index: u32, address: IpNet) -> Result<(), SysError> {
        self.socket().change(address::add(index, address), &format!("{address} on link {index}"))
    }

    /// Takes an address off a link. EADDRNOTAVAIL if it is not there.
    pub fn del_address(&self, index: u32, address: IpNet) -> Result<(), SysError> {
        self.socket().change(address::del(index, address), &format!("{address} on link {index}"))
    }

    /// Puts a route in the main table in place of the one with the same destination and metric, through whatever link that one went.
    /// IPv6 refuses (EINVAL) an `onlink` gateway that a route through another link covers, even if it is the route to be replaced.
    pub fn replace_route(&self, route: &RouteSpec) -> Result<(), SysError> {
        self.socket().change(route::replace(route), &route.to_string())
    }

    /// Takes the first route that matches out of the main table. ESRCH if none does.
    pub fn del_route(&self, route: &RouteMatch) -> Result<(), SysError> {
        self.socket().change(route::del(route), &route.to_string())
    }

    /// Puts a blackhole in the main table, in place of the route with the same destination and metric.
    pub fn replace_blackhole(&self, route: &Blackhole) -> Result<(), SysError> {
        self.socket().change(route::replace_blackhole(route), &route.to_string())
    }

    /// Takes a blackhole out of the main table. ESRCH if it is not there.
    pub fn del_blackhole(&self, route: &Blackhole) -> Result<(), SysError> {
        self.socket().change(route::del_blackhole(route), &route.to_string())
    }

    /// The host's neighbour cache of a link, IPv4 and IPv6.
    pub fn neighbours(&self, index: u32) -> Result<Vec<CachedNeighbour>, SysError> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            found.extend(self.socket().dump(neigh::get_all(family, index), "neighbours", neigh::parse)?);
        }
        found.retain(|entry| entry.index == index);
        Ok(found)
    }

    /// Makes a cache entry as if `lladdr` had just answered.
    pub fn answer_neighbour(&self, index: u32, address: IpAddr, lladdr: Mac) -> Result<(), SysError> {
        self.socket().change(neigh::answer(index, address, lladdr), &format!("neighbour {address} on link {index}"))
    }

    /// Removes a cache entry. ENOENT if there is none.
    pub fn del_neighbour(&self, index: u32, address: IpAddr) -> Result<(), SysError> {
        self.socket().change(neigh::del(index, address), &format!("neighbour {address} on link {index}"))
    }

    fn socket(&self) -> MutexGuard<'_, Socket> {
        // A thread that panicked left at most unread answers behind, and those are told apart by their sequence number.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn none_if_absent<T>(result: Result<T, SysError>) -> Result<Option<T>, SysError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.errno == libc::ENODEV => Ok(None),
        Err(error) => Err(error),
    }
}
