//! Routes: `RTM_NEWROUTE` parsed, requests built (linux/rtnetlink.h).

use super::super::error::SysError;
use super::codec::{self, Message, Request, attributes, attributes_after, family_of, u8_at, u16_at, u32_at};
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `struct rtmsg`: family, destination length, source length, TOS, table, protocol, scope, type (1 each), flags (4).
const HEADER: usize = 12;
/// `struct rtnexthop`.
const NEXTHOP_HEADER: usize = 8;
/// Flag of a route and of a hop: the gateway is on the link although no route says so.
const RTNH_F_ONLINK: u32 = 4;
/// A gateway of another family than the destination's.
const RTA_VIA: u16 = 18;
/// Attribute inside RTA_METRICS.
const RTAX_MTU: u16 = 2;

/// A route, or one hop of a multipath route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; `0.0.0.0/0` or `::/0` is the default route.
    pub destination: IpNet,
    /// Gateway; for an IPv4 destination it may be IPv6 (RFC 5549).
    pub via: Option<IpAddr>,
    /// Index of the outgoing link.
    pub oif: Option<u32>,
    /// Gateway is taken as reachable on the link.
    pub onlink: bool,
    /// Preferred source address; in the answer of `route_get` the one that the kernel would use.
    pub source: Option<IpAddr>,
    /// Priority; lower wins. 0 in the answer of `route_get`, which does not tell.
    pub metric: u32,
    /// `RTPROT_*`: who made it.
    pub protocol: u8,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `RTN_*`: 1 unicast, 2 local, 3 broadcast, 5 multicast, ...
    pub kind: u8,
    /// Table number; 254 main, 255 local.
    pub table: u32,
    /// MTU of the route or, in the answer of `route_get`, the path MTU learned for the destination.
    pub mtu: Option<u32>,
}

/// A route to put in the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// Index of the outgoing link.
    pub oif: u32,
    /// Destination, without host bits.
    pub destination: IpNet,
    /// Gateway.
    pub via: Option<IpAddr>,
    /// Take the gateway as reachable on the link; without a gateway it means nothing.
    pub onlink: bool,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Priority; default the kernel's: 0 for IPv4, 1024 for IPv6.
    pub metric: Option<u32>,
    /// `RTPROT_*` to mark it with.
    pub protocol: u8,
}

/// Which route to take out of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteMatch {
    /// Index of the outgoing link.
    pub oif: u32,
    /// Destination, without host bits.
    pub destination: IpNet,
    /// Gateway; absent = any.
    pub via: Option<IpAddr>,
    /// Priority; absent = any (to the kernel 0 is any too).
    pub metric: Option<u32>,
}

/// A route of the main table that throws packets away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blackhole {
    /// Destination, without host bits.
    pub destination: IpNet,
    /// Priority.
    pub metric: u32,
    /// `RTPROT_*` to mark it with.
    pub protocol: u8,
}

impl fmt::Display for Blackhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blackhole {} metric {}", self.destination, self.metric)
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_route(f, self.destination, self.via, self.oif, self.metric)?;
        if self.onlink { f.write_str(" onlink") } else { Ok(()) }
    }
}

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_route(f, self.destination, self.via, self.oif, self.metric)
    }
}

fn write_route(
    f: &mut fmt::Formatter<'_>,
    destination: IpNet,
    via: Option<IpAddr>,
    oif: u32,
    metric: Option<u32>,
) -> fmt::Result {
    write!(f, "{destination}")?;
    if let Some(via) = via {
        write!(f, " via {via}")?;
    }
    write!(f, " through link {oif}")?;
    match metric {
        Some(metric) => write!(f, " metric {metric}"),
        None => Ok(()),
    }
}

/// Reads a route of the main table that is unicast and reaches further than this host, one entry for each hop, or a blackhole.
pub fn parse_main(family: i32, message: &Message<'_>) -> Option<Vec<Route>> {
    // With IPv6 switched off the kernel answers a request for IPv6 routes with those of all families.
    if i32::from(u8_at(message.payload, 0)?) != family || u32_at(message.payload, 8)? & libc::RTM_F_CLONED != 0 {
        return None;
    }
    let routes = parse(message)?;
    let first = routes.first()?;
    let wanted = match first.kind {
        libc::RTN_UNICAST => matches!(first.scope, libc::RT_SCOPE_UNIVERSE | libc::RT_SCOPE_LINK),
        kind => kind == libc::RTN_BLACKHOLE,
    };
    (wanted && first.table == u32::from(libc::RT_TABLE_MAIN)).then_some(routes)
}

/// Reads the answer to a request for one route.
pub fn parse_one(message: &Message<'_>) -> Option<Route> {
    parse(message)?.into_iter().next()
}

/// Turns a route that leads nowhere into the error that a packet would meet.
pub fn refuse_unreachable(route: Route, object: &str) -> Result<Route, SysError> {
    let (errno, word) = match route.kind {
        libc::RTN_UNREACHABLE => (libc::EHOSTUNREACH, "unreachable"),
        libc::RTN_BLACKHOLE => (libc::EINVAL, "blackhole"),
        libc::RTN_PROHIBIT => (libc::EACCES, "prohibit"),
        _ => return Ok(route),
    };
    Err(SysError::new("RTM_GETROUTE", object, errno).with_detail(format!("the kernel has a route of type {word} for it")))
}

fn parse(message: &Message<'_>) -> Option<Vec<Route>> {
    let fixed = message.payload;
    if message.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let any: IpAddr = match i32::from(u8_at(fixed, 0)?) {
        libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None, // MPLS, multicast routing
    };
    let mut route = Route {
        destination: IpNet::new(any, u8_at(fixed, 1)?).ok()?,
        via: None,
        oif: None,
        onlink: u32_at(fixed, 8)? & RTNH_F_ONLINK != 0,
        source: None,
        metric: 0,
        protocol: u8_at(fixed, 5)?,
        scope: u8_at(fixed, 6)?,
        kind: u8_at(fixed, 7)?,
        table: u32::from(u8_at(fixed, 4)?),
        mtu: None,
    };
    let mut hops: &[u8] = &[];
    for (kind, value) in attributes_after(fixed, HEADER) {
        match kind {
            libc::RTA_DST => route.destination = IpNet::new(codec::ip(value)?, u8_at(fixed, 1)?).ok()?,
            libc::RTA_OIF => route.oif = u32_at(value, 0),
            libc::RTA_GATEWAY => route.via = codec::ip(value),
            RTA_VIA => route.via = codec::ip(value.get(2..)?),
            libc::RTA_PREFSRC => route.source = codec::ip(value),
            libc::RTA_PRIORITY => route.metric = u32_at(value, 0)?,
            libc::RTA_TABLE => route.table = u32_at(value, 0)?,
            libc::RTA_METRICS => route.mtu = attributes(value).find(|a| a.0 == RTAX_MTU).and_then(|a| u32_at(a.1, 0)),
            libc::RTA_MULTIPATH => hops = value,
            _ => {}
        }
    }
    if hops.is_empty() {
        return Some(vec![route]);
    }
    Some(multipath(hops).map(|(oif, onlink, via)| Route { oif: Some(oif), onlink, via, ..route.clone() }).collect())
}

/// The hops of `RTA_MULTIPATH`: link, onlink, gateway. `struct rtnexthop`: length (2), flags (1), weight (1), link (4), attributes.
fn multipath(mut rest: &[u8]) -> impl Iterator<Item = (u32, bool, Option<IpAddr>)> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let hop = rest.get(..length)?;
        let (flags, oif) = (u8_at(hop, 2)?, u32_at(hop, 4)?);
        let via = attributes_after(hop, NEXTHOP_HEADER).find_map(|(kind, value)| match kind {
            libc::RTA_GATEWAY => codec::ip(value),
            RTA_VIA => codec::ip(value.get(2..)?),
            _ => None,
        });
        rest = rest.get((length + 3) & !3..).unwrap_or_default();
        Some((oif, u32::from(flags) & RTNH_F_ONLINK != 0, via))
    })
}

/// Asks for every route of a family.
pub fn get_all(family: i32) -> Request {
    Request::new(libc::RTM_GETROUTE, 0, &[family as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// Asks where a packet would go.
pub fn get_to(to: IpAddr, oif: Option<u32>) -> Request {
    let length = if to.is_ipv4() { 32 } else { 128 };
    let request = Request::new(libc::RTM_GETROUTE, 0, &[family_of(to), length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let request = request.with_ip(libc::RTA_DST, to);
    match oif {
        Some(oif) => request.with_u32(libc::RTA_OIF, oif),
        None => request,
    }
}

/// Asks for a route, in place of one with the same destination and metric.
pub fn replace(route: &RouteSpec) -> Request {
    // As ip-route(8): a destination without gateway is on the link itself. IPv6 has no scopes.
    let scope =
        if route.via.is_none() && route.destination.addr().is_ipv4() { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
    // The kernel refuses `onlink` without a gateway.
    let flags = if route.onlink && route.via.is_some() { RTNH_F_ONLINK } else { 0 };
    let header = header(route.destination, route.protocol, scope, libc::RTN_UNICAST, flags);
    let request = Request::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &header);
    let request = with_target(request, route.destination, route.via, route.oif, route.metric);
    match route.source {
        Some(source) => request.with_ip(libc::RTA_PREFSRC, source),
        None => request,
    }
}

/// Asks for the end of a route.
pub fn del(route: &RouteMatch) -> Request {
    // Protocol 0, scope "nowhere" and type 0 match any.
    let header = header(route.destination, 0, libc::RT_SCOPE_NOWHERE, 0, 0);
    with_target(Request::new(libc::RTM_DELROUTE, 0, &header), route.destination, route.via, route.oif, route.metric)
}

/// Asks for a blackhole, in place of a route with the same destination and metric.
pub fn replace_blackhole(route: &Blackhole) -> Request {
    let header = header(route.destination, route.protocol, libc::RT_SCOPE_UNIVERSE, libc::RTN_BLACKHOLE, 0);
    at_priority(Request::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &header), route)
}

/// Asks for the end of a blackhole. IPv6 does not compare types (inet6_rtm_delroute): there it is the metric that tells it from other
/// routes to the same destination.
pub fn del_blackhole(route: &Blackhole) -> Request {
    let header = header(route.destination, route.protocol, libc::RT_SCOPE_NOWHERE, libc::RTN_BLACKHOLE, 0);
    at_priority(Request::new(libc::RTM_DELROUTE, 0, &header), route)
}

fn at_priority(request: Request, route: &Blackhole) -> Request {
    request.with_ip(libc::RTA_DST, route.destination.addr()).with_u32(libc::RTA_PRIORITY, route.metric)
}

fn header(destination: IpNet, protocol: u8, scope: u8, kind: u8, flags: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = family_of(destination.addr());
    bytes[1] = destination.prefix_len();
    bytes[4] = libc::RT_TABLE_MAIN;
    bytes[5] = protocol;
    bytes[6] = scope;
    bytes[7] = kind;
    bytes[8..].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn with_target(request: Request, destination: IpNet, via: Option<IpAddr>, oif: u32, metric: Option<u32>) -> Request {
    let mut request = request.with_ip(libc::RTA_DST, destination.addr()).with_u32(libc::RTA_OIF, oif);
    if let Some(via) = via {
        request = if via.is_ipv4() == destination.addr().is_ipv4() {
            request.with_ip(libc::RTA_GATEWAY, via)
        } else {
            request.with(RTA_VIA, &family_and_address(via))
        };
    }
    match metric {
        Some(metric) => request.with_u32(libc::RTA_PRIORITY, metric),
        None => request,
    }
}

/// `struct rtvia`: the family in 2 bytes, the address.
fn family_and_address(via: IpAddr) -> Vec<u8> {
    let mut value = u16::from(family_of(via)).to_ne_bytes().to_vec();
    match via {
        IpAddr::V4(v4) => value.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => value.extend_from_slice(&v6.octets()),
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &[u8]) -> Message<'_> {
        Message { kind: libc::RTM_NEWROUTE, flags: 0, sequence: 1, payload }
    }

    /// 10.246.13.0/24 via 10.246.13.0 dev 7 metric 5 proto 86 onlink, as the kernel would dump it.
    fn onlink_route() -> Vec<u8> {
        #[rustfmt::skip]
        let bytes = [
            2, 24, 0, 0, 254, 86, 0, 1, 4, 0, 0, 0, // AF_INET, /24, table main, proto 86, universe, unicast, onlink
            8, 0, 15, 0, 254, 0, 0, 0,              // RTA_TABLE
            8, 0, 1, 0, 10, 246, 13, 0,             // RTA_DST
            8, 0, 6, 0, 5, 0, 0, 0,                 // RTA_PRIORITY
            8, 0, 5, 0, 10, 246, 13, 0,             // RTA_GATEWAY
            8, 0, 4, 0, 7, 0, 0, 0,                 // RTA_OIF
        ];
        bytes.to_vec()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_route_is_read_from_its_bytes() {
        let routes = parse_main(libc::AF_INET, &answer(&onlink_route())).unwrap();
        let expected = Route {
            destination: "10.246.13.0/24".parse().unwrap(),
            via: Some("10.246.13.0".parse().unwrap()),
            oif: Some(7),
            onlink: true,
            source: None,
            metric: 5,
            protocol: 86,
            scope: 0,
            kind: 1,
            table: 254,
            mtu: None,
        };
        assert_eq!(routes, [expected]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_request_has_the_bytes_that_the_answer_has() {
        let spec = RouteSpec {
            oif: 7,
            destination: "10.246.13.0/24".parse().unwrap(),
            via: Some("10.246.13.0".parse().unwrap()),
            onlink: true,
            source: None,
            metric: Some(5),
            protocol: 86,
        };
        let bytes = replace(&spec).stamped(1);
        let sent = codec::messages(&bytes).next().unwrap();
        assert_eq!((sent.kind, sent.sequence), (libc::RTM_NEWROUTE, 1));
        assert_eq!(parse(&sent), parse(&answer(&onlink_route())));
        assert_eq!(spec.to_string(), "10.246.13.0/24 via 10.246.13.0 through link 7 metric 5 onlink");
    }

    #[test]
    fn only_routes_of_the_main_table_that_leave_the_host_and_blackholes_count() {
        // Byte 4 is the table (RTA_TABLE follows it, and wins), 6 the scope, 7 the type.
        for (at, value) in [(6, libc::RT_SCOPE_HOST), (7, libc::RTN_LOCAL), (7, libc::RTN_UNREACHABLE), (16, 255)] {
            let mut bytes = onlink_route();
            bytes[at] = value;
            assert_eq!(parse_main(libc::AF_INET, &answer(&bytes)), None, "byte {at} = {value}");
        }
        assert_eq!(parse_main(libc::AF_INET6, &answer(&onlink_route())), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_multipath_route_gives_one_route_for_each_hop() {
        #[rustfmt::skip]
        let bytes = [
            2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0,
            40, 0, 9, 0, // RTA_MULTIPATH
            16, 0, 0, 0, 2, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 1,
            20, 0, 4, 0, 3, 0, 0, 0, 12, 0, 18, 0, 2, 0, 192, 0, 2, 9, 0, 0, // onlink, RTA_VIA
        ];
        let routes = parse_main(libc::AF_INET, &answer(&bytes)).unwrap();
        let hops: Vec<_> = routes.iter().map(|route| (route.oif, route.onlink, route.via.map(|via| via.to_string()))).collect();
        assert_eq!(hops, [(Some(2), false, Some("192.0.2.1".to_owned())), (Some(3), true, None)]);
        assert!(routes.iter().all(|route| route.destination.to_string() == "0.0.0.0/0"));
    }

    #[test]
    fn what_is_cut_short_is_never_a_panic() {
        let whole = onlink_route();
        for end in 0..whole.len() {
            let _ = parse(&answer(&whole[..end]));
        }
        for at in 0..whole.len() {
            for value in [0, 1, 3, 127, 255] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = parse(&answer(&bytes));
            }
        }
    }
}
