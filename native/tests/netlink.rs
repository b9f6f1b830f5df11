//! rtnetlink against the real kernel: every test has namespaces of its own, and `ip` is the second opinion. Needs root and iproute2.

use serde_json::Value;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use vtepd_dataplane::control::protocol::{HostOperation, ROUTE_PROTOCOL};
use vtepd_dataplane::io::error::SysError;
use vtepd_dataplane::io::host;
use vtepd_dataplane::io::netlink::{Link, LinkEventRaw, LinkMonitor, LinkSettings, Netlink, RouteMatch, RouteSpec, TunInfo};
use vtepd_dataplane::io::netns::Netns;

/// A network namespace that goes when it is dropped, even in a panic.
struct Namespace(String);

impl Namespace {
    fn new() -> Namespace {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("vtepd-nl-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(&["netns", "add", &name]);
        let namespace = Namespace(name);
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip` inside; the words are parted by blanks.
    fn ip(&self, words: &str) -> String {
        let mut arguments = vec!["-n", &self.0];
        arguments.extend(words.split_whitespace());
        run(&arguments)
    }

    /// Makes a link that is up and has carrier: one end of a veth pair.
    fn wire(&self, name: &str) {
        self.ip(&format!("link add {name} type veth peer name {name}-peer"));
        self.ip(&format!("link set {name} up"));
        self.ip(&format!("link set {name}-peer up"));
    }

    /// As `ip`, with JSON output.
    fn ip_json(&self, words: &str) -> Vec<Value> {
        let Ok(Value::Array(list)) = serde_json::from_str(&self.ip(&format!("-j -d -N {words}"))) else {
            panic!("'ip {words}' gives no JSON list")
        };
        list.into_iter().filter(|item| item.as_object().is_some_and(|object| !object.is_empty())).collect()
    }

    fn netns(&self) -> Netns {
        Netns::open(Some(&self.0)).unwrap()
    }

    fn netlink(&self) -> Netlink {
        Netlink::open(&self.netns()).unwrap()
    }

    fn link(&self, name: &str) -> Link {
        self.netlink().link_by_name(name).unwrap().unwrap_or_else(|| panic!("there is no {name}"))
    }

    fn change(&self, operation: HostOperation) -> Result<(), String> {
        let mut errors = host::change(Some(&self.0), &[operation]).errors;
        assert_eq!(errors.len(), 1);
        errors.remove(0).map_or(Ok(()), |error| Err(error.message))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {errors}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Only root may make namespaces.
fn skip() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("SKIP: needs root to make network namespaces");
    }
    !root
}

/// Attaches a queue to a TAP of the namespace, which is made if it is not there.
fn attach(netns: &Netns, name: &str, flags: i32) -> File {
    let open = || {
        let file = File::options().read(true).write(true).open("/dev/net/tun");
        let file = file.map_err(|error| SysError::from_io("open", "/dev/net/tun", &error))?;
        // SAFETY: an ifreq is numbers and one pointer that TUNSETIFF does not look at; all zero is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
        match unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } {
            0 => Ok(file),
            _ => Err(SysError::last("TUNSETIFF", name)),
        }
    };
    netns.run(open).unwrap()
}

/// Waits for what follows a close: another test's child process may hold the descriptor too, between its fork and its exec.
fn eventually(promise: &str, kept: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !kept() {
        assert!(Instant::now() < deadline, "{promise}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn has_flag(link: &Value, flag: &str) -> bool {
    link["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == flag))
}

#[test]
fn links_are_read_as_ip_reads_them() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.ip("link add br0 type bridge");
    ns.wire("eth0");
    ns.ip("link set eth0 mtu 1400 txqueuelen 77 address 02:00:5e:10:00:01 master br0");
    ns.ip("link add veth0 type veth peer name veth1");
    ns.ip("link set veth0 up"); // its peer is down: no carrier
    ns.ip("tuntap add mode tap name tap0 multi_queue vnet_hdr");
    ns.ip("tuntap add mode tun name tun0");
    let links = ns.netlink().links().unwrap();
    let expected = ns.ip_json("link show");
    assert_eq!(links.len(), expected.len());
    for (link, ip) in links.iter().zip(&expected) {
        let name = &link.name;
        assert_eq!(Some(u64::from(link.index)), ip["ifindex"].as_u64(), "{name}");
        assert_eq!(Some(name), ip["ifname"].as_str().map(str::to_owned).as_ref(), "{name}");
        assert_eq!(Some(u64::from(link.mtu)), ip["mtu"].as_u64(), "{name}");
        assert_eq!(link.kind, text_of(&ip["linkinfo"]["info_kind"]), "{name}");
        assert_eq!(u64::from(link.txqlen), ip["txqlen"].as_u64().unwrap_or(0), "{name}");
        assert_eq!(Some(u64::from(link.gso_max_size)), ip["gso_max_size"].as_u64(), "{name}");
        assert_eq!(link.up, has_flag(ip, "UP"), "{name}");
        let mac =
            if ["ether", "1", "[1]"].iter().any(|ether| ip["link_type"] == *ether) { text_of(&ip["address"]) } else { None };
        assert_eq!(link.mac.map(|mac| mac.to_string()), mac, "{name}");
        let master = link.master.and_then(|index| links.iter().find(|l| l.index == index)).map(|l| l.name.clone());
        assert_eq!(master, text_of(&ip["master"]), "{name}");
        assert_eq!(link.tun.is_some(), link.kind.as_deref() == Some("tun"), "{name}");
        let alone = ns.netlink().link_by_name(name).unwrap();
        assert_eq!(alone.as_ref(), Some(link), "by name");
        assert_eq!(ns.netlink().link_by_index(link.index).unwrap(), alone, "by index");
    }
    assert!(ns.link("eth0").carrier && !ns.link("veth0").carrier && !ns.link("tap0").carrier);
    ns.ip("link set veth1 up");
    assert!(ns.link("veth0").carrier);
    assert_eq!(ns.netlink().link_by_name("absent0").unwrap(), None);
    assert_eq!(ns.netlink().link_by_index(9999).unwrap(), None);
    assert_eq!(ns.netlink().link_by_name("").unwrap(), None);
}

#[test]
fn a_link_is_found_by_its_alternative_name() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.wire("eth0");
    ns.ip("link property add dev eth0 altname a-name-longer-than-fifteen");
    ns.ip("link property add dev eth0 altname short");
    for name in ["a-name-longer-than-fifteen", "short"] {
        assert_eq!(ns.link(name).name, "eth0");
    }
    assert_eq!(ns.netlink().link_by_name("another-name-longer-than-fifteen").unwrap(), None);
}

#[test]
fn what_a_tap_is_and_how_many_queues_hold_it_can_be_read() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.ip("tuntap add mode tap name tap0 multi_queue vnet_hdr");
    ns.ip("tuntap add mode tun name tun0");
    let idle = TunInfo {
        tap: true,
        persist: true,
        multi_queue: true,
        vnet_hdr: true,
        num_queues: Some(0),
        num_disabled_queues: Some(0),
    };
    assert_eq!(ns.link("tap0").tun, Some(idle));
    let queues: Vec<File> = (0..2)
        .map(|_| attach(&ns.netns(), "tap0", libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE))
        .collect();
    assert_eq!(ns.link("tap0").tun, Some(TunInfo { num_queues: Some(2), ..idle }));
    assert!(ns.link("tap0").carrier);
    drop(queues);
    eventually("a persistent TAP loses its carrier with the last queue", || {
        ns.link("tap0").tun == Some(idle) && !ns.link("tap0").carrier
    });

    let tun = TunInfo { persist: true, ..TunInfo::default() };
    assert_eq!(ns.link("tun0").tun, Some(tun));
    let queue = attach(&ns.netns(), "tap1", libc::IFF_TAP | libc::IFF_NO_PI);
    assert_eq!(ns.link("tap1").tun, Some(TunInfo { tap: true, ..TunInfo::default() }));
    drop(queue);
    eventually("a TAP that is not persistent goes with its last queue", || ns.netlink().link_by_name("tap1").unwrap().is_none());
}

#[test]
fn all_settings_of_a_link_are_made_in_one_go_and_read_back() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.ip("tuntap add mode tap name tap0 multi_queue vnet_hdr");
    let netlink = ns.netlink();
    let index = ns.link("tap0").index;
    let settings = LinkSettings {
        mac: Some("16:8d:1e:23:70:cf".parse().unwrap()),
        mtu: Some(1450),
        up: Some(true),
        txqlen: Some(500),
        gso_max_size: Some(32768),
    };
    netlink.set_link(index, &settings).unwrap();
    let link = ns.link("tap0");
    let now = LinkSettings {
        mac: link.mac,
        mtu: Some(link.mtu),
        up: Some(link.up),
        txqlen: Some(link.txqlen),
        gso_max_size: Some(link.gso_max_size),
    };
    assert_eq!(now, settings);

    // Each alone changes nothing else; the MAC of a TAP may change while it is up.
    let mac = "16:8d:1e:23:70:d0".parse().unwrap();
    netlink.set_link(index, &LinkSettings { mac: Some(mac), ..LinkSettings::default() }).unwrap();
    assert_eq!(ns.link("tap0"), Link { mac: Some(mac), ..link.clone() });
    netlink.set_link(index, &LinkSettings::default()).unwrap();
    netlink.set_link(index, &LinkSettings { up: Some(false), ..LinkSettings::default() }).unwrap();
    assert_eq!(ns.link("tap0"), Link { mac: Some(mac), up: false, ..link });
}

#[test]
fn a_refused_setting_says_why_in_the_kernels_words() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.wire("eth0");
    let netlink = ns.netlink();
    let index = ns.link("eth0").index;
    let error = netlink.set_link(index, &LinkSettings { mtu: Some(4_000_000_000), ..LinkSettings::default() }).unwrap_err();
    assert_eq!(error.errno, libc::EINVAL);
    assert!(error.to_string().starts_with(&format!("RTM_NEWLINK on link {index} (mtu 4000000000): EINVAL")), "{error}");
    assert!(error.detail.as_deref().is_some_and(|detail| detail.contains("mtu")), "{error}");
    let error = netlink.set_link(9999, &LinkSettings { up: Some(true), ..LinkSettings::default() }).unwrap_err();
    assert_eq!(error.errno, libc::ENODEV, "{error}");
    assert_eq!(netlink.del_link(9999).unwrap_err().errno, libc::ENODEV);
    netlink.del_link(index).unwrap();
    assert_eq!(netlink.link_by_name("eth0").unwrap(), None);
}

#[test]
fn addresses_are_put_on_taken_off_and_read_as_ip_reads_them() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.wire("eth0");
    let netlink = ns.netlink();
    let index = ns.link("eth0").index;
    for address in ["10.246.13.0/32", "192.0.2.7/24", "2001:db8::7/64"] {
        let address = address.parse().unwrap();
        netlink.add_address(index, address).unwrap();
        assert_eq!(netlink.add_address(index, address).unwrap_err().errno, libc::EEXIST);
    }
    ns.ip("addr add 192.0.2.8/24 dev eth0"); // secondary
    ns.ip("addr add 192.0.2.129 peer 192.0.2.130/32 dev eth0");
    ns.ip("addr add 2001:db8::8/64 dev eth0 valid_lft 1000 preferred_lft 0");
    let mut found: Vec<_> = netlink.addresses().unwrap().into_iter().filter(|address| address.index == index).collect();
    found.sort_by_key(|address| address.address);
    let scopes = |code: u8| match code {
        0 => "0".to_owned(),
        other => other.to_string(),
    };
    let mut expected = Vec::new();
    for address in ns.ip_json("addr show dev eth0")[0]["addr_info"].as_array().unwrap() {
        let text = format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"]);
        let never = address["valid_life_time"].as_u64() == Some(u64::from(u32::MAX));
        let deprecated = address["deprecated"] == true;
        expected.push((text.parse::<ipnet::IpNet>().unwrap(), address["scope"].as_str().unwrap().to_owned(), never, deprecated));
    }
    expected.sort();
    let found: Vec<_> = found.iter().map(|a| (a.address, scopes(a.scope), a.is_permanent(), a.is_deprecated())).collect();
    assert_eq!(found, expected);
    assert!(found.iter().any(|a| a.0.to_string() == "192.0.2.129/32"), "the own address, not the peer's");
    assert!(found.iter().any(|a| !a.2 && a.3));

    for address in ["10.246.13.0/32", "2001:db8::7/64"] {
        let address = address.parse().unwrap();
        netlink.del_address(index, address).unwrap();
        assert_eq!(netlink.del_address(index, address).unwrap_err().errno, libc::EADDRNOTAVAIL);
    }
    assert_eq!(netlink.add_address(9999, "192.0.2.1/32".parse().unwrap()).unwrap_err().errno, libc::ENODEV);
}

/// A route in words that `ip` and we share.
type RouteWords = (String, Option<String>, Option<String>, bool, Option<String>, u64, u64);

fn routes_of_ip(ns: &Namespace) -> Vec<RouteWords> {
    let mut found = Vec::new();
    for (family, default) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        let full = if family == "-4" { "/32" } else { "/128" };
        for route in ns.ip_json(&format!("{family} route show table 254")) {
            if route["type"] != "1" && route["type"] != "unicast" {
                continue;
            }
            let destination = match route["dst"].as_str().unwrap() {
                "default" => default.to_owned(),
                text if text.contains('/') => text.to_owned(),
                text => format!("{text}{full}"),
            };
            let shared = (text_of(&route["prefsrc"]), route["metric"].as_u64().unwrap_or(0));
            let protocol = route["protocol"].as_str().unwrap().parse().unwrap();
            let hops = route["nexthops"].as_array().cloned().unwrap_or_else(|| vec![route.clone()]);
            for hop in hops {
                let via = text_of(&hop["gateway"]).or_else(|| text_of(&hop["via"]["host"]));
                let onlink = hop["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "onlink"));
                found.push((destination.clone(), via, text_of(&hop["dev"]), onlink, shared.0.clone(), shared.1, protocol));
            }
        }
    }
    found.sort();
    found
}

fn routes_of_host(ns: &Namespace) -> Vec<RouteWords> {
    let facts = host::read(Some(&ns.0)).unwrap();
    let words = facts.routes.into_iter().map(|route| {
        (
            route.destination.to_string(),
            route.via.map(|via| via.to_string()),
            route.dev,
            route.onlink,
            route.source.map(|source| source.to_string()),
            u64::from(route.metric),
            u64::from(route.protocol),
        )
    });
    let mut words: Vec<_> = words.collect();
    words.sort();
    words
}

#[test]
fn routes_are_read_as_ip_reads_them() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    for name in ["eth0", "eth1"] {
        ns.wire(name);
    }
    ns.ip("addr add 192.0.2.7/24 dev eth0");
    ns.ip("addr add 198.51.100.7/24 dev eth1");
    ns.ip("addr add 2001:db8::7/64 dev eth0 nodad");
    ns.ip("route add default via 192.0.2.1 metric 100 proto dhcp");
    ns.ip("route add 10.0.0.0/8 via 192.0.2.2 src 192.0.2.7 mtu 1400");
    ns.ip("route add 10.1.0.0/16 nexthop via 192.0.2.3 dev eth0 nexthop via 203.0.113.1 dev eth1 onlink");
    ns.ip("route add 10.2.0.0/16 via inet6 2001:db8::1 dev eth0");
    ns.ip("route add 10.246.13.0/24 via 10.246.13.0 dev eth1 onlink proto 86");
    ns.ip("route add 10.3.0.1 dev eth0 scope link");
    ns.ip("-6 route add default via 2001:db8::1 metric 5");
    ns.ip("-6 route add 2001:db8:1::/48 nexthop via 2001:db8::2 nexthop via 2001:db8::3");
    // What is not unicast, not in the main table or does not leave the host is not shown.
    ns.ip("route add blackhole 10.4.0.0/16");
    ns.ip("route add 10.5.0.0/16 via 192.0.2.2 table 100");
    ns.ip("route add 10.6.0.0/16 dev lo scope host");
    ns.ip("-6 route add unreachable 2001:db8:2::/48");
    ns.ip("-6 route add 2001:db8:3::/48 via 2001:db8::1 table 100");
    let expected: Vec<_> = routes_of_ip(&ns).into_iter().filter(|route| route.0 != "10.6.0.0/16").collect();
    assert_eq!(routes_of_host(&ns), expected);
    assert!(expected.len() >= 12, "{expected:?}");
    let mtu = ns.netlink().routes().unwrap().into_iter().find(|r| r.destination.to_string() == "10.0.0.0/8").unwrap().mtu;
    assert_eq!(mtu, Some(1400));
}

#[test]
fn a_route_is_replaced_by_destination_and_metric_and_deleted_by_what_is_named() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    for name in ["eth0", "eth1"] {
        ns.wire(name);
    }
    ns.ip("addr add 2001:db8::7/64 dev eth0 nodad");
    let (zero, one) = (ns.link("eth0").index, ns.link("eth1").index);
    let netlink = ns.netlink();
    for (destination, via) in [("10.246.13.0/24", "10.246.13.0"), ("2001:db8:13::/64", "2001:db8:99::")] {
        let destination = destination.parse().unwrap();
        let via: Option<IpAddr> = Some(via.parse().unwrap());
        let route = RouteSpec { oif: zero, destination, via, onlink: true, source: None, metric: None, protocol: 86 };
        let held = || -> Vec<_> {
            let mut held: Vec<_> = netlink.routes().unwrap().into_iter().filter(|r| r.destination == destination).collect();
            held.sort_by_key(|r| r.metric);
            held.into_iter().map(|r| (r.oif, r.via, r.onlink, r.metric, r.protocol)).collect()
        };
        let default_metric = if destination.addr().is_ipv4() { 0 } else { 1024 };
        netlink.replace_route(&route).unwrap();
        netlink.replace_route(&route).unwrap();
        assert_eq!(held(), [(Some(zero), via, true, default_metric, 86)]);
        netlink.replace_route(&RouteSpec { oif: one, ..route }).unwrap();
        assert_eq!(held(), [(Some(one), via, true, default_metric, 86)], "the other link's takes its place");
        netlink.replace_route(&RouteSpec { metric: Some(2000), ..route }).unwrap();
        assert_eq!(held().len(), 2, "another metric is another route");

        let any = RouteMatch { oif: zero, destination, via: None, metric: None };
        let wrong = Some("192.0.2.99".parse().unwrap()).filter(|_| destination.addr().is_ipv4());
        let wrong = wrong.or(Some("2001:db8:13::99".parse().unwrap()));
        for absent in [RouteMatch { via: wrong, ..any }, RouteMatch { metric: Some(7), ..any }] {
            assert_eq!(netlink.del_route(&absent).unwrap_err().errno, libc::ESRCH, "{absent}");
        }
        netlink.del_route(&any).unwrap();
        assert_eq!(netlink.del_route(&any).unwrap_err().errno, libc::ESRCH);
        netlink.del_route(&RouteMatch { oif: one, via, metric: Some(default_metric), ..any }).unwrap();
        assert_eq!(held(), []);
    }
    // Without a gateway, with a source, with a gateway of the other family.
    ns.ip("addr add 192.0.2.7/32 dev eth0");
    let plain = RouteSpec {
        oif: zero,
        destination: "10.1.0.0/16".parse().unwrap(),
        via: None,
        onlink: true,
        source: Some("192.0.2.7".parse().unwrap()),
        metric: Some(3),
        protocol: 86,
    };
    netlink.replace_route(&plain).unwrap();
    netlink.replace_route(&RouteSpec { destination: "2001:db8:1::/48".parse().unwrap(), source: None, ..plain }).unwrap();
    let other_family = Some("2001:db8::9".parse().unwrap());
    netlink.replace_route(&RouteSpec { destination: "10.2.0.0/16".parse().unwrap(), via: other_family, ..plain }).unwrap();
    assert_eq!(routes_of_host(&ns), routes_of_ip(&ns));
    let delete = RouteMatch { oif: zero, destination: "10.2.0.0/16".parse().unwrap(), via: other_family, metric: Some(3) };
    netlink.del_route(&delete).unwrap();
    assert_eq!(netlink.del_route(&delete).unwrap_err().errno, libc::ESRCH);
}

#[test]
fn route_get_names_the_way_the_link_and_the_source() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.wire("eth0");
    ns.ip("addr add 192.0.2.7/24 dev eth0");
    ns.ip("addr add 2001:db8::7/64 dev eth0 nodad");
    ns.ip("route add default via 192.0.2.1");
    ns.ip("-6 route add default via 2001:db8::1");
    ns.ip("-6 route add unreachable 2001:db8:2::/48");
    ns.ip("route add prohibit 10.9.0.0/16");
    let ask = |to: &str| host::route_get(to.parse().unwrap(), Some(&ns.0)).unwrap();
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    for (to, via, source) in [
        ("198.51.100.1", ip("192.0.2.1"), ip("192.0.2.7")),
        ("192.0.2.8", None, ip("192.0.2.7")),
        ("2001:db8:1::1", ip("2001:db8::1"), ip("2001:db8::7")),
        ("2001:db8::8", None, ip("2001:db8::7")),
    ] {
        let route = ask(to);
        assert_eq!((route.via, route.source, route.dev.as_deref()), (via, source, Some("eth0")), "{to}");
        assert_eq!(route.destination.addr(), to.parse::<IpAddr>().unwrap());
    }
    assert_eq!(ask("192.0.2.7").dev.as_deref(), Some("lo"), "an own address");
    assert_eq!(host::route_get("10.9.0.1".parse().unwrap(), Some(&ns.0)).unwrap_err().errno, libc::EACCES);
    let error = host::route_get("2001:db8:2::1".parse().unwrap(), Some(&ns.0)).unwrap_err();
    assert!(matches!(error.errno, libc::EHOSTUNREACH | libc::ENETUNREACH), "{error}");

    let empty = Namespace::new();
    for to in ["198.51.100.1", "2001:db8::1"] {
        let error = host::route_get(to.parse().unwrap(), Some(&empty.0)).unwrap_err();
        assert_eq!(error.errno, libc::ENETUNREACH, "{error}");
        assert!(error.to_string().contains(to), "{error}");
    }
    // Through a link that the table would not choose.
    ns.wire("eth1");
    let one = ns.link("eth1").index;
    assert_eq!(ns.netlink().route_get("198.51.100.1".parse().unwrap(), Some(one)).unwrap().oif, Some(one));
}

#[test]
fn a_socket_stays_in_its_namespace_and_the_thread_in_its_own() {
    if skip() {
        return;
    }
    let inode = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = inode();
    let ns = Namespace::new();
    ns.ip("link add only-there type bridge");
    let netns = ns.netns();
    assert!(!netns.is_own());
    assert_ne!(netns, Netns::open(None).unwrap());
    assert_eq!(netns, Netns::open(Some(&format!("/run/netns/{}", ns.0))).unwrap());
    let netlink = Netlink::open(&netns).unwrap();
    let inside = netns.run(|| Ok(inode())).unwrap();
    assert_ne!(inside, before);
    assert_eq!(inside.to_string_lossy(), format!("net:[{}]", netns.id().inode));
    assert_eq!(inode(), before);
    let error = netns.run(|| Err::<(), _>(SysError::new("x", "y", libc::EBUSY))).unwrap_err();
    assert_eq!(error.errno, libc::EBUSY, "the error of the work comes through");
    // The name goes, the namespace lives on while the socket does; any thread may use it, several too.
    drop(ns);
    assert!(Netns::open(netns.label()).is_err());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert!(netlink.link_by_name("only-there").unwrap().is_some());
                    assert_eq!(netlink.links().unwrap().len(), 2);
                }
            });
        }
    });
}

#[test]
fn a_name_of_the_own_namespace_is_the_own_namespace() {
    if skip() {
        return;
    }
    assert!(Netns::open(Some(&format!("/proc/{}/ns/net", std::process::id()))).unwrap().is_own());
    let error = Netns::open(Some("vtepd-nl-absent")).unwrap_err();
    assert_eq!(error.to_string(), "open on network namespace /run/netns/vtepd-nl-absent: ENOENT (No such file or directory)");
}

/// Reads until `enough` is satisfied with all that came.
fn events_until(monitor: &mut LinkMonitor, enough: impl Fn(&[LinkEventRaw]) -> bool) -> Vec<LinkEventRaw> {
    let mut events = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !enough(&events) {
        assert!(Instant::now() < deadline, "not enough: {events:#?}");
        let mut poll = libc::pollfd { fd: monitor.fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, borrowed for the call.
        unsafe { libc::poll(&raw mut poll, 1, 200) };
        let found = monitor.read_events().unwrap();
        assert!(!found.overrun);
        events.extend(found.events);
    }
    events
}

#[test]
fn what_happens_to_links_is_told() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    let elsewhere = Namespace::new();
    let mut monitor = LinkMonitor::open(&ns.netns()).unwrap();
    assert_eq!(monitor.read_events().unwrap(), Default::default(), "nothing has happened, and nothing blocks");
    elsewhere.ip("link add not-ours type bridge");
    ns.ip("tuntap add mode tap name tap0");
    let index = ns.link("tap0").index;
    let mac = "16:8d:1e:23:70:cf".parse().unwrap();
    let settings = LinkSettings { mac: Some(mac), mtu: Some(1450), up: Some(true), ..LinkSettings::default() };
    ns.netlink().set_link(index, &settings).unwrap();
    let events = events_until(&mut monitor, |events| {
        events.last().is_some_and(|event| event.up && event.mtu == 1450 && event.mac == Some(mac))
    });
    assert!(events.iter().all(|event| event.index == index && event.name == "tap0" && !event.deleted), "{events:#?}");

    ns.ip("link set tap0 down");
    ns.ip("link set tap0 name tap1");
    events_until(&mut monitor, |events| events.iter().any(|event| event.name == "tap1" && event.index == index && !event.up));

    // A link that leaves a bridge is told by RTM_DELLINK too.
    ns.ip("link add br0 type bridge");
    ns.ip("link set tap1 master br0");
    ns.ip("link set tap1 nomaster");
    ns.ip("link set tap1 up");
    let events = events_until(&mut monitor, |events| events.last().is_some_and(|event| event.name == "tap1" && event.up));
    assert!(events.iter().all(|event| !event.deleted), "{events:#?}");

    ns.ip("link del tap1");
    let events = events_until(&mut monitor, |events| events.iter().any(|event| event.deleted));
    assert!(events.iter().all(|event| !event.deleted || event.index == index), "{events:#?}");
    ns.wire("moved0");
    let moved = ns.link("moved0").index;
    ns.ip(&format!("link set moved0 netns {}", elsewhere.0));
    events_until(&mut monitor, |events| events.iter().any(|event| event.deleted && event.index == moved));
}

#[test]
fn notifications_that_nobody_read_in_time_are_told_as_an_overrun() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.wire("eth0");
    let index = ns.link("eth0").index;
    let netlink = ns.netlink();
    let mut monitor = LinkMonitor::open(&ns.netns()).unwrap();
    for round in 0..5000 {
        let settings = LinkSettings { mtu: Some(1400 + round % 2), ..LinkSettings::default() };
        netlink.set_link(index, &settings).unwrap();
    }
    let mut overruns = 0;
    let mut events = 0;
    loop {
        let found = monitor.read_events().unwrap();
        if found == Default::default() {
            break;
        }
        overruns += u32::from(found.overrun);
        events += found.events.len();
    }
    assert_eq!(overruns, 1, "{events} events");
    assert!(events > 100, "what was queued before is still read: {events}");
    netlink.set_link(index, &LinkSettings { mtu: Some(1300), ..LinkSettings::default() }).unwrap();
    events_until(&mut monitor, |events| events.last().is_some_and(|event| event.mtu == 1300));
}

#[test]
fn a_dump_of_many_datagrams_under_change_misses_nothing_that_stays() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    let mut batch = String::new();
    for number in 0..100 {
        batch += &format!("link add stay{number} type bridge\n");
    }
    batch += "link set stay0 up\n";
    for number in 0..3000 {
        batch += &format!("route add 10.{}.{}.0/24 dev stay0\n", number / 256, number % 256);
    }
    let file = std::env::temp_dir().join(format!("{}.batch", ns.0));
    std::fs::write(&file, batch).unwrap();
    ns.ip(&format!("-b {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(ns.netlink().routes().unwrap().iter().filter(|r| r.destination.addr().is_ipv4()).count(), 3000);

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let changer = ns.netlink();
            let settings = [1400, 1401].map(|mtu| LinkSettings { mtu: Some(mtu), ..LinkSettings::default() });
            let index = ns.link("stay50").index;
            while !done.load(Ordering::Relaxed) {
                // A link that comes and goes is what marks a dump as interrupted.
                ns.ip("link add comes type bridge");
                changer.set_link(index, &settings[0]).unwrap();
                ns.ip("link del comes");
            }
        });
        let netlink = ns.netlink();
        let mut busy = 0;
        for _ in 0..100 {
            match netlink.links() {
                Ok(links) => {
                    assert_eq!(links.iter().filter(|link| link.name.starts_with("stay")).count(), 100);
                    let mut indexes: Vec<u32> = links.iter().map(|link| link.index).collect();
                    indexes.dedup();
                    assert_eq!(indexes.len(), links.len(), "a link is there twice");
                }
                Err(error) => {
                    assert_eq!(error.errno, libc::EAGAIN, "{error}");
                    busy += 1;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(busy < 50, "{busy} of 100 reads gave up");
    });
}

fn address_add(dev: &str, address: &str) -> HostOperation {
    HostOperation::AddressAdd { dev: dev.to_owned(), address: address.parse().unwrap() }
}

fn address_del(dev: &str, address: &str) -> HostOperation {
    HostOperation::AddressDel { dev: dev.to_owned(), address: address.parse().unwrap() }
}

fn route_replace(dev: &str, destination: &str, via: Option<&str>, onlink: bool) -> HostOperation {
    let (destination, via) = (destination.parse().unwrap(), via.map(|via| via.parse().unwrap()));
    HostOperation::RouteReplace { dev: dev.to_owned(), destination, via, onlink, metric: None }
}

fn route_del(dev: &str, destination: &str) -> HostOperation {
    HostOperation::RouteDel { dev: dev.to_owned(), destination: destination.parse().unwrap(), via: None, metric: None }
}

#[test]
fn a_change_that_is_made_already_succeeds() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.ip("tuntap add mode tap name flannel.3 multi_queue vnet_hdr");
    let make = [
        HostOperation::LinkSet { dev: "flannel.3".to_owned(), up: true },
        address_add("flannel.3", "10.246.3.0/32"),
        address_add("flannel.3", "2001:db8::3/64"),
        route_replace("flannel.3", "10.246.13.0/24", Some("10.246.13.0"), true),
        route_replace("flannel.3", "2001:db8:13::/64", Some("2001:db8:13::"), true),
        route_replace("flannel.3", "10.246.0.0/16", None, false),
    ];
    let unmake = [
        route_del("flannel.3", "10.246.13.0/24"),
        route_del("flannel.3", "2001:db8:13::/64"),
        address_del("flannel.3", "10.246.3.0/32"),
        address_del("flannel.3", "2001:db8::3/64"),
        HostOperation::LinkSet { dev: "flannel.3".to_owned(), up: false },
    ];
    for _ in 0..2 {
        assert_eq!(host::change(Some(&ns.0), &make).errors, vec![None; make.len()]);
        let facts = host::read(Some(&ns.0)).unwrap();
        let link = facts.links.iter().find(|link| link.name == "flannel.3").unwrap();
        assert!(link.up);
        assert_eq!(link.kind.as_deref(), Some("tun"));
        let address = link.addresses.iter().find(|a| a.address.to_string() == "10.246.3.0/32").unwrap();
        assert!(address.permanent && address.scope == "global" && !address.deprecated && !address.temporary);
        let ours: Vec<_> = facts.routes.iter().filter(|route| route.protocol == ROUTE_PROTOCOL).collect();
        assert_eq!(ours.len(), 3);
        assert!(ours.iter().all(|route| route.dev.as_deref() == Some("flannel.3") && route.onlink == route.via.is_some()));
    }
    for _ in 0..2 {
        assert_eq!(host::change(Some(&ns.0), &unmake).errors, vec![None; unmake.len()]);
    }
    let gone = [HostOperation::LinkDel { dev: "flannel.3".to_owned() }, route_del("flannel.3", "10.246.0.0/16")];
    for _ in 0..2 {
        assert_eq!(host::change(Some(&ns.0), &gone).errors, vec![None; 2]);
        assert_eq!(host::change(Some(&ns.0), &unmake[..4]).errors, vec![None; 4]);
    }
    let facts = host::read(Some(&ns.0)).unwrap();
    assert!(facts.links.iter().all(|link| link.name == "lo"));
    assert!(facts.routes.is_empty());
}

#[test]
fn each_change_has_an_outcome_of_its_own_that_says_what_to_do() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.ip("link add eth0 type bridge");
    let down = ns.change(route_replace("eth0", "10.246.13.0/24", Some("10.246.13.0"), true)).unwrap_err();
    let said = "RTM_NEWROUTE on 10.246.13.0/24 via 10.246.13.0 dev eth0 onlink: ENETDOWN (Network is down): ";
    assert!(down.starts_with(said) && down.ends_with("; set eth0 up first"), "{down}");
    ns.ip("link set eth0 up");
    ns.ip("addr add 2001:db8::7/128 dev eth0 nodad");
    ns.wire("eth1");
    ns.ip("-6 route add 2001:db8:14::/64 dev eth1");
    let operations = [
        address_add("absent0", "192.0.2.1/32"),
        address_add("eth0", "192.0.2.1/32"),
        route_replace("eth0", "10.246.13.0/24", Some("10.246.13.0"), false),
        route_replace("eth0", "10.246.13.5/24", None, false),
        address_add("eth0", "2001:db8::7/64"),
        route_replace("eth0", "2001:db8:13::/64", Some("2001:db8:99::1"), false),
        route_replace("eth0", "2001:db8:14::/64", Some("2001:db8:14::"), true),
        HostOperation::LinkSet { dev: "absent0".to_owned(), up: true },
    ];
    let errors = host::change(Some(&ns.0), &operations).errors;
    let expected = [
        Some(("ENODEV", "create it first")),
        None,
        Some(("ENETUNREACH", "or set onlink")),
        Some(("EINVAL", "10.246.13.0/24 is meant?")),
        Some(("EEXIST", "another prefix length")),
        Some(("EHOSTUNREACH", "or set onlink")),
        Some(("EINVAL", "through another link")),
        Some(("ENODEV", "there is no link of this name in network namespace vtepd-nl-")),
    ];
    for (error, expected) in errors.iter().zip(expected) {
        match (error, expected) {
            (None, None) => {}
            (Some(error), Some((name, says))) => {
                assert_eq!(error.name, name, "{}", error.message);
                assert!(error.message.contains(says), "{}", error.message);
                assert!(error.message.contains(name), "{}", error.message);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(errors.len(), expected.len());
    let errors = host::change(Some("vtepd-nl-absent"), &operations[..2]).errors;
    assert!(errors.iter().all(|error| error.as_ref().is_some_and(|error| error.name == "ENOENT")), "{errors:?}");

    let own = ns.change(route_replace("eth0", "10.246.13.0/24", Some("192.0.2.1"), true)).unwrap_err();
    assert!(own.contains("EINVAL") && own.contains("an own address cannot be a gateway"), "{own}");

    host::set_sysctl(Some(&ns.0), "net/ipv6/conf/eth0/disable_ipv6", "1").unwrap();
    let off = ns.change(address_add("eth0", "2001:db8::9/64")).unwrap_err();
    assert!(off.contains("disable_ipv6"), "{off}");
}

#[test]
fn the_underlay_mtu_is_that_of_the_link_or_of_the_holder_of_the_address() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.wire("eth0");
    ns.wire("eth1");
    ns.ip("link set eth0 mtu 9000");
    ns.ip("link set eth1 mtu 1400");
    ns.ip("addr add 192.0.2.7/24 dev eth0");
    ns.ip("addr add 2001:db8::7/64 dev eth0");
    let local = |text: &str| Some(text.parse().unwrap());
    let name = Some(ns.0.as_str());
    assert_eq!(host::underlay_mtu(name, Some("eth1"), None), Some(1400));
    assert_eq!(host::underlay_mtu(name, Some("eth1"), local("192.0.2.7")), Some(1400), "the name wins");
    assert_eq!(host::underlay_mtu(name, None, local("192.0.2.7")), Some(9000));
    assert_eq!(host::underlay_mtu(name, None, local("2001:db8::7")), Some(9000));
    assert_eq!(host::underlay_mtu(name, None, local("192.0.2.8")), None);
    assert_eq!(host::underlay_mtu(name, Some("absent0"), None), None);
    assert_eq!(host::underlay_mtu(name, None, None), None);
}

#[test]
fn a_setting_is_written_in_the_namespace_and_nowhere_else() {
    if skip() {
        return;
    }
    let ns = Namespace::new();
    ns.ip("link add flannel.3 type bridge");
    let path = "net/ipv6/conf/flannel.3/accept_ra";
    let read = |netns: &Netns| {
        netns
            .run(|| std::fs::read_to_string(format!("/proc/sys/{path}")).map_err(|error| SysError::from_io("read", path, &error)))
    };
    host::set_sysctl(Some(&ns.0), path, "0").unwrap();
    assert_eq!(read(&ns.netns()).unwrap().trim(), "0");
    host::set_sysctl(Some(&ns.0), path, "2").unwrap();
    assert_eq!(read(&ns.netns()).unwrap().trim(), "2");
    let elsewhere = Namespace::new();
    assert_eq!(host::set_sysctl(Some(&elsewhere.0), path, "0").unwrap_err().errno, libc::ENOENT);
    assert_eq!(host::set_sysctl(Some(&ns.0), path, "many").unwrap_err().errno, libc::EINVAL);
    for bad in ["kernel/hostname", "net/../kernel/hostname", "/etc/passwd", "net/ipv4/../../kernel/hostname", ""] {
        assert_eq!(host::set_sysctl(Some(&ns.0), bad, "0").unwrap_err().errno, libc::EINVAL, "{bad}");
    }
}
