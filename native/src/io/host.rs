//! The host as the control protocol sees it: facts read, changes made, each with an outcome that an operator can act on.
//!
//! Everything opens its own netlink socket and closes it again: these calls are rare, and so no state of the host is kept here
//! that could be older than the host.

use super::error::SysError;
use super::netlink::{Address, Blackhole, Link, LinkSettings, Netlink, Route, RouteMatch, RouteSpec};
use super::netns::Netns;
use crate::control::protocol::{
    AddressFacts, BlackholeFacts, HostChanged, HostFacts, HostOperation, LinkFacts, ROUTE_PROTOCOL, RouteFacts, RpcErrorData,
};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Component, Path};

/// Reads links, addresses and routes of a namespace (a name below /run/netns, or a path; default the own).
pub fn read(netns: Option<&str>) -> Result<HostFacts, SysError> {
    let netlink = Netlink::open(&Netns::open(netns)?)?;
    let links = netlink.links()?;
    let mut addresses: HashMap<u32, Vec<AddressFacts>> = HashMap::new();
    for address in netlink.addresses()? {
        addresses.entry(address.index).or_default().push(address_facts(&address));
    }
    let names: HashMap<u32, &str> = links.iter().map(|link| (link.index, link.name.as_str())).collect();
    let name_of = |oif: Option<u32>| oif.and_then(|index| names.get(&index)).map(|&name| name.to_owned());
    let (routes, blackholes): (Vec<_>, Vec<_>) = netlink.routes()?.into_iter().partition(|route| route.kind == libc::RTN_UNICAST);
    let routes = routes.into_iter().map(|route| route_facts(name_of(route.oif), &route)).collect();
    let blackholes = blackholes
        .into_iter()
        .map(|Route { destination, metric, protocol, .. }| BlackholeFacts { destination, metric, protocol })
        .collect();
    let links = links.into_iter().map(|link| {
        let addresses = addresses.remove(&link.index).unwrap_or_default();
        link_facts(link, addresses)
    });
    Ok(HostFacts { links: links.collect(), routes, blackholes })
}

/// What the kernel would do with a packet to `to`.
pub fn route_get(to: IpAddr, netns: Option<&str>) -> Result<RouteFacts, SysError> {
    let netlink = Netlink::open(&Netns::open(netns)?)?;
    let route = netlink.route_get(to, None)?;
    let dev = match route.oif {
        Some(index) => netlink.link_by_index(index)?.map(|link| link.name),
        None => None,
    };
    Ok(route_facts(dev, &route))
}

/// Makes the changes in order, whatever becomes of those before. Deleting what is absent and adding what is there succeed.
pub fn change(netns: Option<&str>, operations: &[HostOperation]) -> HostChanged {
    let netlink = Netns::open(netns).and_then(|netns| Netlink::open(&netns));
    let netlink = match netlink {
        Ok(netlink) => netlink,
        Err(error) => return HostChanged { errors: vec![Some(rpc_error(&error)); operations.len()] },
    };
    let mut changer = Changer { netlink, netns, indexes: HashMap::new() };
    HostChanged { errors: operations.iter().map(|operation| changer.apply(operation).err().map(|e| rpc_error(&e))).collect() }
}

/// MTU of the link `dev`, or of the one that holds the address `local`; `None` where neither is there.
pub fn underlay_mtu(netns: Option<&str>, dev: Option<&str>, local: Option<IpAddr>) -> Option<u32> {
    let netlink = Netlink::open(&Netns::open(netns).ok()?).ok()?;
    if let Some(dev) = dev {
        return Some(netlink.link_by_name(dev).ok()??.mtu);
    }
    let local = local?;
    let holder = netlink.addresses().ok()?.into_iter().find(|held| held.address.addr() == local)?;
    Some(netlink.link_by_index(holder.index).ok()??.mtu)
}

/// Writes a setting below /proc/sys/net of a namespace. `path` has slashes, as link names may have dots:
/// `net/ipv6/conf/flannel.3/accept_ra`.
pub fn set_sysctl(netns: Option<&str>, path: &str, value: &str) -> Result<(), SysError> {
    let object = || format!("/proc/sys/{path}");
    let plain = path.starts_with("net/") && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain {
        let detail = "the path must begin with net/ and not lead upwards";
        return Err(SysError::new("write", object(), libc::EINVAL).with_detail(detail));
    }
    // /proc/sys/net shows the namespace of the thread that opens the file.
    Netns::open(netns)?.run(|| {
        // Opened without O_CREAT: an absent setting is ENOENT and not the EACCES that creating one in procfs gives.
        let file = std::fs::File::options().write(true).open(Path::new("/proc/sys").join(path));
        file.and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(|error| SysError::from_io("write", object(), &error))
    })
}

fn link_facts(link: Link, addresses: Vec<AddressFacts>) -> LinkFacts {
    let Link { index, name, kind, mac, mtu, up, carrier, .. } = link;
    LinkFacts { index, name, kind, mac, mtu, up, carrier, addresses }
}

fn address_facts(address: &Address) -> AddressFacts {
    let scope = match address.scope {
        libc::RT_SCOPE_UNIVERSE => "global".to_owned(),
        libc::RT_SCOPE_LINK => "link".to_owned(),
        libc::RT_SCOPE_HOST => "host".to_owned(),
        other => other.to_string(),
    };
    AddressFacts {
        address: address.address,
        scope,
        permanent: address.is_permanent(),
        deprecated: address.is_deprecated(),
        temporary: address.is_temporary(),
    }
}

fn route_facts(dev: Option<String>, route: &Route) -> RouteFacts {
    let &Route { destination, via, onlink, source, metric, protocol, .. } = route;
    RouteFacts { destination, via, dev, onlink, source, metric, protocol }
}

fn rpc_error(error: &SysError) -> RpcErrorData {
    RpcErrorData { name: error.name().to_owned(), message: error.to_string() }
}

struct Changer<'a> {
    netlink: Netlink,
    netns: Option<&'a str>,
    /// Index by link name: a list of changes is mostly many routes through one link.
    indexes: HashMap<String, u32>,
}

impl Changer<'_> {
    fn apply(&mut self, operation: &HostOperation) -> Result<(), SysError> {
        match operation {
            HostOperation::AddressAdd { dev, address } => {
                let index = self.index(dev)?;
                let added = self.netlink.add_address(index, *address);
                self.unless_there(added, index, *address).map_err(|error| explained(error, format!("{address} dev {dev}"), dev))
            }
            HostOperation::AddressDel { dev, address } => {
                let Some(index) = self.find(dev)? else { return Ok(()) };
                let deleted = unless_absent(self.netlink.del_address(index, *address));
                deleted.map_err(|error| explained(error, format!("{address} dev {dev}"), dev))
            }
            HostOperation::RouteReplace { dev, destination, via, onlink, metric } => {
                let object = route_text(*destination, *via, dev, if *onlink { " onlink" } else { "" });
                let route = RouteSpec {
                    oif: self.index(dev)?,
                    destination: without_host_bits(*destination, "RTM_NEWROUTE", &object)?,
                    via: *via,
                    onlink: *onlink,
                    source: None,
                    metric: *metric,
                    protocol: ROUTE_PROTOCOL,
                };
                self.netlink.replace_route(&route).map_err(|error| gateway_explained(error, object, dev, *via))
            }
            HostOperation::RouteDel { dev, destination, via, metric } => {
                let object = route_text(*destination, *via, dev, "");
                let destination = without_host_bits(*destination, "RTM_DELROUTE", &object)?;
                let Some(oif) = self.find(dev)? else { return Ok(()) };
                let deleted = self.netlink.del_route(&RouteMatch { oif, destination, via: *via, metric: *metric });
                unless_absent(deleted).map_err(|error| explained(error, object, dev))
            }
            HostOperation::BlackholeAdd { destination, metric } => {
                let blackhole = blackhole(*destination, *metric, "RTM_NEWROUTE")?;
                self.netlink.replace_blackhole(&blackhole).map_err(|error| explained(error, blackhole.to_string(), "lo"))
            }
            HostOperation::BlackholeDel { destination, metric } => {
                let blackhole = blackhole(*destination, *metric, "RTM_DELROUTE")?;
                let deleted = unless_absent(self.netlink.del_blackhole(&blackhole));
                deleted.map_err(|error| explained(error, blackhole.to_string(), "lo"))
            }
            HostOperation::LinkDel { dev } => {
                let Some(index) = self.find(dev)? else { return Ok(()) };
                self.indexes.clear();
                unless_absent(self.netlink.del_link(index)).map_err(|error| explained(error, dev.clone(), dev))
            }
            HostOperation::LinkSet { dev, up } => {
                let index = self.index(dev)?;
                let settings = LinkSettings { up: Some(*up), ..LinkSettings::default() };
                self.netlink.set_link(index, &settings).map_err(|error| explained(error, format!("{dev} ({settings})"), dev))
            }
        }
    }

    fn find(&mut self, dev: &str) -> Result<Option<u32>, SysError> {
        if let Some(&index) = self.indexes.get(dev) {
            return Ok(Some(index));
        }
        let Some(link) = self.netlink.link_by_name(dev)? else { return Ok(None) };
        self.indexes.insert(dev.to_owned(), link.index);
        Ok(Some(link.index))
    }

    fn index(&mut self, dev: &str) -> Result<u32, SysError> {
        let netns = self.netns;
        self.find(dev)?.ok_or_else(|| {
            let place = netns.map_or_else(|| "this network namespace".to_owned(), |name| format!("network namespace {name}"));
            let detail = format!("there is no link of this name in {place}; create it first");
            SysError::new("RTM_GETLINK", dev, libc::ENODEV).with_detail(detail)
        })
    }

    /// An address that is there is as good as added. Not so one that is there with another prefix length, for which IPv6 says EEXIST
    /// too (ipv6_add_addr compares only the address).
    fn unless_there(&self, added: Result<(), SysError>, index: u32, address: IpNet) -> Result<(), SysError> {
        match added {
            Err(error) if error.errno == libc::EEXIST => {
                let there = self.netlink.addresses()?.iter().any(|held| held.index == index && held.address == address);
                if there { Ok(()) } else { Err(error) }
            }
            other => other,
        }
    }
}

fn unless_absent(deleted: Result<(), SysError>) -> Result<(), SysError> {
    match deleted {
        Err(error) if matches!(error.errno, libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// The kernel's EINVAL would not say which bits, and IPv6 would cut them off in silence.
fn without_host_bits(destination: IpNet, call: &str, object: &str) -> Result<IpNet, SysError> {
    let network = destination.trunc();
    if network == destination {
        return Ok(network);
    }
    let detail = format!("{destination} has bits beyond its prefix length; {network} is meant?");
    Err(SysError::new(call, object, libc::EINVAL).with_detail(detail))
}

fn blackhole(destination: IpNet, metric: u32, call: &str) -> Result<Blackhole, SysError> {
    let destination = without_host_bits(destination, call, &format!("blackhole {destination}"))?;
    Ok(Blackhole { destination, metric, protocol: ROUTE_PROTOCOL })
}

fn route_text(destination: IpNet, via: Option<IpAddr>, dev: &str, onlink: &str) -> String {
    match via {
        Some(via) => format!("{destination} via {via} dev {dev}{onlink}"),
        None => format!("{destination} dev {dev}"),
    }
}

/// Names the link in place of its number and says what to do, where the number of the error lets one know.
fn explained(error: SysError, object: String, dev: &str) -> SysError {
    let hint = match error.errno {
        libc::EPERM => Some("it needs CAP_NET_ADMIN in the user namespace that owns the network namespace".to_owned()),
        libc::ENODEV => Some(format!("{dev} has gone meanwhile; create it again")),
        libc::ENETDOWN => Some(format!("set {dev} up first")),
        libc::EEXIST => Some("it is there with another prefix length; delete that one first".to_owned()),
        libc::EACCES | libc::EOPNOTSUPP | libc::EAFNOSUPPORT => {
            Some(format!("if this is IPv6, it is switched off: see net/ipv6/conf/{dev}/disable_ipv6, or ipv6.disable=1 at boot"))
        }
        _ => None,
    };
    with_hint(SysError { object, ..error }, hint)
}

/// As `explained`, for a route that was refused because of its gateway.
fn gateway_explained(error: SysError, object: String, dev: &str, via: Option<IpAddr>) -> SysError {
    let hint = match (error.errno, via) {
        (libc::ENETUNREACH | libc::EHOSTUNREACH, Some(_)) => {
            format!("the gateway is in no network of {dev}; give {dev} an address there, or set onlink")
        }
        // fib_check_nh: before the first address there is no table `local`, and every address counts as broadcast.
        (libc::EINVAL, Some(IpAddr::V4(_))) => {
            "an own address cannot be a gateway, and before the namespace has an IPv4 address none can: add that first".to_owned()
        }
        // ip6_route_check_nh_onlink; IPv4 has no such rule.
        (libc::EINVAL, Some(IpAddr::V6(_))) => {
            "an own address cannot be a gateway, nor can one with a route through another link: delete that route first"
                .to_owned()
        }
        _ => return explained(error, object, dev),
    };
    with_hint(SysError { object, ..error }, Some(hint))
}

fn with_hint(error: SysError, hint: Option<String>) -> SysError {
    match (hint, &error.detail) {
        (Some(hint), Some(detail)) => {
            let both = format!("{detail}; {hint}");
            error.with_detail(both)
        }
        (Some(hint), None) => error.with_detail(hint),
        (None, _) => error,
    }
}
