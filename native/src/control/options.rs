//! What a specification's options mean, or why they cannot work.

use super::error::RpcError;
use super::network::{Listen, invalid};
use super::protocol::{NetworkSpec, OuterDf, OuterField, OuterWord};
use crate::io::pool::PoolSpec;
use crate::io::udp::Endpoint;
use crate::tables::Options;
use crate::wire::Framing;
use crate::wire::outer::{Df, Policy, Tos, Ttl};
use crate::wire::vxlan;

/// What the network's datagrams carry, or which of VXLAN's options a layer-3 network was given.
pub fn framing(spec: &NetworkSpec, v6: bool) -> Result<Framing, RpcError> {
    if spec.layer3 != Some(true) {
        return match spec.tunnel_address {
            Some(address) => Err(invalid(format!("tunnel_address {address} is a layer-3 network's: it needs layer3"))),
            None => Ok(Framing::Ethernet),
        };
    }
    if v6 {
        return Err(invalid("a layer-3 network has an IPv4 underlay".into()));
    }
    macro_rules! given { ($($field:ident)+) => { [$((stringify!($field), spec.$field.is_some())),+] } }
    let optional = given! {
        remote mac group ttl tos df flowlabel srcport udpcsum udp6zerocsumtx udp6zerocsumrx reserved_bits gbp l2miss l3miss rsc proxy_flood
    };
    let switches = [("vni", spec.vni != 0), ("proxy", spec.proxy), ("learning", spec.learning)];
    match optional.into_iter().chain(switches).find(|(_, given)| *given) {
        Some((name, _)) => Err(invalid(format!("{name} is VXLAN's: a layer-3 network has none"))),
        None => Ok(Framing::Bare),
    }
}

/// Where the network receives.
pub fn listen(spec: &NetworkSpec, v6: bool) -> Result<Listen, RpcError> {
    if spec.udp6zerocsumrx.is_some() && !v6 {
        return Err(invalid(
            "udp6zerocsumrx is about an IPv6 underlay, and this one is IPv4, where zero checksums are always taken".into(),
        ));
    }
    let endpoint = Endpoint { v6, local: spec.local, ifindex: None };
    let framing = framing(spec, v6)?;
    Ok(Listen { endpoint, port: spec.port, zero_checksums: spec.udp6zerocsumrx == Some(true), framing })
}

/// Where what is for the network's multicast group arrives.
pub fn group(spec: &NetworkSpec, listen: &Listen, ifindex: Option<u32>) -> Result<Option<Listen>, RpcError> {
    let Some(group) = spec.group else { return Ok(None) };
    if !group.is_multicast() {
        return Err(invalid(format!("group {group} is no multicast address: say remote")));
    }
    if let Some(remote) = spec.remote {
        return Err(invalid(format!(
            "group {group} and remote {remote} are both the default destination: say one, and append the other"
        )));
    }
    if ifindex.is_none() {
        return Err(invalid(format!("group {group} needs dev: the interface on which it is joined")));
    }
    let endpoint = Endpoint { v6: group.is_ipv6(), local: Some(group), ifindex };
    Ok(Some(Listen { endpoint, ..listen.clone() }))
}

/// Where the network sends from.
pub fn pool(spec: &NetworkSpec, endpoint: Endpoint) -> Result<PoolSpec, RpcError> {
    if spec.udpcsum.is_some() && endpoint.v6 {
        return Err(invalid("udpcsum is about an IPv4 underlay; over IPv6 say udp6zerocsumtx".into()));
    }
    if spec.udp6zerocsumtx.is_some() && !endpoint.v6 {
        return Err(invalid("udp6zerocsumtx is about an IPv6 underlay; over IPv4 say noudpcsum".into()));
    }
    let checksum = spec.udpcsum.unwrap_or(true) && spec.udp6zerocsumtx != Some(true);
    let framing = framing(spec, endpoint.v6)?;
    let ports = match framing {
        Framing::Ethernet => ports(spec)?,
        // Port 65535 ends beyond the numbers: only the first counts.
        Framing::Bare => Some((spec.port, spec.port.saturating_add(1))),
    };
    Ok(PoolSpec { endpoint, ports, checksum, df: df(spec), framing })
}

fn ports(spec: &NetworkSpec) -> Result<Option<(u16, u16)>, RpcError> {
    let Some(range) = spec.srcport else { return Ok(None) };
    let (min, max) = (range.min, range.max);
    if min == 0 || min >= max {
        // The kernel falls back to its own range here and says nothing.
        return Err(invalid(format!(
            "srcport {min} {max}: the first port must be at least 1 and below the second, which is exclusive"
        )));
    }
    if (min..max).contains(&spec.port) && max - min == 1 {
        return Err(invalid(format!("srcport {min} {max} is the dstport alone, which is received on")));
    }
    Ok(Some((min, max)))
}

fn df(spec: &NetworkSpec) -> Df {
    match spec.df {
        None | Some(OuterDf::Unset) => Df::Unset,
        Some(OuterDf::Set) => Df::Set,
        Some(OuterDf::Inherit) => Df::Inherit,
    }
}

/// What the lanes do.
pub fn options(spec: &NetworkSpec, v6: bool) -> Result<Options, RpcError> {
    let ttl = match spec.ttl {
        None | Some(OuterField::Word(OuterWord::Auto)) => Ttl::Auto,
        Some(OuterField::Number(0)) => {
            return Err(invalid("ttl 0 would not leave this host: say 1 to 255, inherit, or leave it out for auto".into()));
        }
        Some(OuterField::Number(ttl)) => Ttl::Fixed(ttl),
        Some(OuterField::Word(OuterWord::Inherit)) => Ttl::Inherit,
    };
    let tos = match spec.tos {
        None | Some(OuterField::Word(OuterWord::Auto)) => Tos::Fixed(0),
        Some(OuterField::Number(tos)) => Tos::Fixed(tos),
        Some(OuterField::Word(OuterWord::Inherit)) => Tos::Inherit,
    };
    let flowlabel = spec.flowlabel.unwrap_or(0);
    if flowlabel != 0 && !v6 {
        return Err(invalid(format!("flowlabel {flowlabel} needs an IPv6 underlay: IPv4 has none")));
    }
    if flowlabel >= 1 << 20 {
        return Err(invalid(format!("flowlabel {flowlabel} does not fit its 20 bits")));
    }
    if spec.proxy_flood == Some(true) && !spec.proxy {
        return Err(invalid("proxy_flood says what becomes of what the proxy cannot answer: it needs proxy".into()));
    }
    let l2miss = spec.l2miss.unwrap_or(spec.owner != "hand");
    Ok(Options {
        outer: Policy { ttl, tos, df: df(spec) },
        flowlabel,
        accept_bits: accept_bits(spec)?,
        l2miss,
        l3miss: spec.l3miss.unwrap_or(l2miss),
        rsc: spec.rsc == Some(true),
        proxy_flood: spec.proxy_flood == Some(true),
    })
}

fn accept_bits(spec: &NetworkSpec) -> Result<u64, RpcError> {
    let gbp = if spec.gbp == Some(true) { vxlan::GBP } else { 0 };
    let Some(text) = &spec.reserved_bits else { return Ok(gbp) };
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let bits =
        parsed.map_err(|_| invalid(format!("reserved_bits '{text}' is no 64-bit number: 0x8000000000000000, for example")))?;
    if bits & vxlan::USED != 0 {
        return Err(invalid(format!("reserved_bits {text} contains the I flag or the VNI (0x{:016x})", vxlan::USED)));
    }
    Ok(bits | gbp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(extra: Value) -> NetworkSpec {
        let mut spec = json!({ "name": "vx0", "vni": 1, "owner": "hand", "port": 4789, "proxy": false, "learning": true,
            "peersonly": false, "ageing": 300, "maxaddress": 0 });
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    fn all(extra: Value, v6: bool) -> Result<(Listen, PoolSpec, Options), RpcError> {
        let spec = spec(extra);
        Ok((listen(&spec, v6)?, pool(&spec, Endpoint { v6, local: None, ifindex: None })?, options(&spec, v6)?))
    }

    fn refused(extra: Value, v6: bool) -> String {
        let error = all(extra.clone(), v6).err().unwrap_or_else(|| panic!("{extra} was taken"));
        assert_eq!(error.data.name, "EINVAL");
        error.data.message
    }

    #[test]
    fn nothing_asked_for_is_the_default_of_all_and_nothing_travels_back() {
        let (listen, pool, options) = all(json!({}), false).unwrap();
        assert_eq!((listen.zero_checksums, pool), (false, PoolSpec::new(Endpoint { v6: false, local: None, ifindex: None })));
        assert_eq!(options, Options::default());
        let back = serde_json::to_value(spec(json!({}))).unwrap();
        assert!(back.get("ttl").is_none() && back.get("srcport").is_none(), "{back}");
    }

    #[test]
    fn the_words_of_ip_link_are_understood() {
        let (_, pool, options) =
            all(json!({ "ttl": 9, "tos": "inherit", "df": "inherit", "srcport": { "min": 5000, "max": 5002 } }), false).unwrap();
        assert_eq!(options.outer, Policy { ttl: Ttl::Fixed(9), tos: Tos::Inherit, df: Df::Inherit });
        assert_eq!((pool.ports, pool.checksum, pool.df), (Some((5000, 5002)), true, Df::Inherit));
        let (_, pool, options) = all(json!({ "ttl": "inherit", "tos": 19, "df": "set", "udpcsum": false }), false).unwrap();
        assert_eq!(options.outer, Policy { ttl: Ttl::Inherit, tos: Tos::Fixed(19), df: Df::Set });
        assert!(!pool.checksum);
        let (listen, pool, options) =
            all(json!({ "flowlabel": 7, "udp6zerocsumtx": true, "udp6zerocsumrx": true }), true).unwrap();
        assert_eq!((listen.zero_checksums, pool.checksum, options.flowlabel), (true, false, 7));
        let with_group = spec(json!({ "group": "239.1.1.1" }));
        let joined = group(&with_group, &super::listen(&with_group, false).unwrap(), Some(3)).unwrap().unwrap();
        assert_eq!((joined.port, joined.endpoint.local, joined.endpoint.ifindex), (4789, Some([239, 1, 1, 1].into()), Some(3)));
        let more = json!({ "reserved_bits": "0x00000000000000ff", "gbp": true, "rsc": true, "proxy": true, "proxy_flood": true });
        let (.., options) = all(more, false).unwrap();
        assert_eq!((options.accept_bits, options.rsc, options.proxy_flood), (0x80ff_ffff_0000_00ff, true, true));
        let misses = |extra| all(extra, false).map(|(.., options)| (options.l2miss, options.l3miss)).unwrap();
        assert_eq!(misses(json!({})), (false, false), "as with ip link");
        assert_eq!(misses(json!({ "owner": "etcd" })), (true, true));
        assert_eq!(misses(json!({ "owner": "etcd", "l3miss": false })), (true, false));
        assert_eq!(misses(json!({ "l2miss": true, "l3miss": false })), (true, false));
    }

    #[test]
    fn a_layer_3_network_sends_from_the_port_on_which_it_receives() {
        let layer3 = json!({ "vni": 0, "learning": false, "layer3": true, "tunnel_address": "10.246.30.0", "port": 8285 });
        let (listen, pool, options) = all(layer3, false).unwrap();
        assert_eq!((listen.framing, pool.framing), (Framing::Bare, Framing::Bare));
        assert_eq!((listen.port, pool.ports, pool.df, options.outer), (8285, Some((8285, 8286)), Df::Unset, Policy::default()));
        for (field, value) in
            [("ttl", json!(9)), ("df", json!("set")), ("proxy", json!(true)), ("vni", json!(1)), ("gbp", json!(true))]
        {
            let mut spec = json!({ "vni": 0, "learning": false, "layer3": true });
            spec[field] = value;
            assert!(refused(spec, false).contains(&format!("{field} is VXLAN's")), "{field}");
        }
        assert!(refused(json!({ "vni": 0, "learning": false, "layer3": true }), true).contains("IPv4 underlay"));
        assert!(refused(json!({ "tunnel_address": "10.246.30.0" }), false).contains("needs layer3"));
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        assert!(refused(json!({ "ttl": 0 }), false).contains("ttl 0"));
        assert!(refused(json!({ "flowlabel": 1 }), false).contains("IPv6 underlay"));
        assert!(refused(json!({ "flowlabel": 1 << 20 }), true).contains("20 bits"));
        assert!(refused(json!({ "srcport": { "min": 5000, "max": 5000 } }), false).contains("exclusive"));
        assert!(refused(json!({ "srcport": { "min": 0, "max": 5000 } }), false).contains("at least 1"));
        assert!(refused(json!({ "srcport": { "min": 4789, "max": 4790 } }), false).contains("dstport alone"));
        assert!(refused(json!({ "reserved_bits": "0xg" }), false).contains("64-bit"));
        assert!(refused(json!({ "reserved_bits": "0x0800000000000000" }), false).contains("I flag"));
        assert!(refused(json!({ "reserved_bits": "256" }), false).contains("VNI"));
        for (extra, dev, words) in [
            (json!({ "group": "10.0.0.1" }), Some(2), "no multicast address"),
            (json!({ "group": "239.1.1.1", "remote": "10.0.0.1" }), Some(2), "both the default destination"),
            (json!({ "group": "239.1.1.1" }), None, "needs dev"),
        ] {
            let spec = spec(extra);
            let error = group(&spec, &listen(&spec, false).unwrap(), dev).unwrap_err();
            assert!(error.data.message.contains(words), "{}", error.data.message);
        }
        assert!(refused(json!({ "proxy_flood": true }), false).contains("needs proxy"));
        assert!(refused(json!({ "udpcsum": false }), true).contains("udp6zerocsumtx"));
        assert!(refused(json!({ "udp6zerocsumtx": true }), false).contains("noudpcsum"));
        assert!(refused(json!({ "udp6zerocsumrx": true }), false).contains("IPv4"));
    }
}
