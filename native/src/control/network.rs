//! One network's devices: its TAP, the sockets it receives on, the pool it sends from.

use super::caches::Caches;
use super::error::RpcError;
use super::master::Master;
use super::options;
use super::protocol::{NetworkSpec, NetworkState};
use crate::counters::NetworkCounters;
use crate::io::error::SysError;
use crate::io::host;
use crate::io::netlink::{LinkMonitor, LinkSettings, NeighbourMonitor, Netlink};
use crate::io::netns::Netns;
use crate::io::pool::PoolSpec;
use crate::io::raw::RawSocket;
use crate::io::tap::{Tap, TapOffloads, TapQueue};
use crate::io::udp::Endpoint;
use crate::tables::{Options, PortKey};
use crate::wire::{Framing, Mac};
use std::sync::Arc;

/// Outer Ethernet is the underlay's business; what a frame grows by inside an IP packet of the underlay.
const OVERHEAD_V4: u32 = 50; // inner Ethernet 14 + VXLAN 8 + UDP 8 + IPv4 20
const OVERHEAD_V6: u32 = 70; // IPv6 40 instead
const OVERHEAD_BARE: u32 = 28; // UDP 8 + IPv4 20
/// Smallest MTU of an Ethernet device (ETH_MIN_MTU) and largest of a TAP.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65_521;

/// A network that is held.
pub struct Held {
    /// As asked for, with later updates.
    pub spec: NetworkSpec,
    /// Its tables.
    pub master: Master,
    /// Where the TAP lives.
    pub netlink: Netlink,
    /// Tells of changes to links there.
    pub monitor: LinkMonitor,
    /// Tells of changes to the neighbour caches there.
    pub neigh_monitor: NeighbourMonitor,
    /// Interface index of the TAP.
    pub ifindex: u32,
    /// Administrative state of the TAP.
    pub up: bool,
    /// The TAP is gone: somebody deleted it.
    pub lost: bool,
    /// The underlay interface is gone, or is back and could not be taken into use yet.
    pub dev_lost: bool,
    /// Where it receives.
    pub listen: Listen,
    /// Where its multicast group is received.
    pub group: Option<Listen>,
    /// Where it sends from.
    pub pool: PoolSpec,
    /// The host's neighbour caches of the TAP.
    pub caches: Caches,
    /// By which a layer-3 network answers senders on this host's side.
    pub answers: Option<Arc<RawSocket>>,
    /// What its TAP can do.
    pub tap: TapOffloads,
    /// Queues by lane.
    pub queues: Vec<Vec<Arc<TapQueue>>>,
    /// Counters by lane.
    pub counters: Vec<Arc<NetworkCounters>>,
    /// What lanes that ended had counted.
    pub retired: NetworkCounters,
}

/// Key of a set of receiving sockets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Listen {
    /// Address, without the interface: that is for sending only.
    pub endpoint: Endpoint,
    /// UDP port.
    pub port: u16,
    /// Datagrams without checksum are taken over IPv6 too.
    pub zero_checksums: bool,
    /// What the datagrams carry.
    pub framing: Framing,
}

/// What follows from a specification alone, or why it cannot work.
pub struct Plan {
    pub port: PortKey,
    pub listen: Listen,
    pub group: Option<Listen>,
    pub pool: PoolSpec,
    pub options: Options,
    pub underlay_mtu: u32,
    pub mtu: u32,
}

pub(super) fn invalid(message: String) -> RpcError {
    RpcError::new("EINVAL", message)
}

/// Checks a specification and works out what it leaves open.
pub fn plan(spec: &NetworkSpec) -> Result<Plan, RpcError> {
    plan_for(spec, None)
}

/// The same for a network whose family is known, in case nothing in the specification says it.
pub fn plan_for(spec: &NetworkSpec, v6: Option<bool>) -> Result<Plan, RpcError> {
    check_name(&spec.name)?;
    if spec.vni >= 1 << 24 {
        return Err(invalid(format!("id {} does not fit the 24 bits of a VNI", spec.vni)));
    }
    if spec.port == 0 {
        return Err(invalid("dstport 0 cannot be listened on".into()));
    }
    let v6 = match (spec.local, spec.remote.or(spec.group)) {
        (Some(local), Some(remote)) if local.is_ipv6() != remote.is_ipv6() => {
            return Err(RpcError::new(
                "EAFNOSUPPORT",
                format!("local {local} and remote or group {remote} are of different families"),
            ));
        }
        (Some(address), _) | (None, Some(address)) => address.is_ipv6(),
        (None, None) => v6.unwrap_or(false),
    };
    if let Some(local) = spec.local.filter(|local| local.is_unspecified() || local.is_multicast()) {
        return Err(invalid(format!("local {local} is no address of this host")));
    }
    if let Some(remote) = spec.remote.filter(|remote| remote.is_multicast()) {
        return Err(invalid(format!("remote {remote} is a multicast group: say group, with dev")));
    }
    check_mac(spec.mac)?;
    let ifindex = match &spec.dev {
        Some(dev) => {
            let link = Netlink::open(&Netns::open(None)?)?.link_by_name(dev)?;
            Some(link.ok_or_else(|| RpcError::new("ENODEV", format!("dev {dev}: no such interface on the underlay side")))?.index)
        }
        None => None,
    };
    let framing = options::framing(spec, v6)?;
    let overhead = match (framing, v6) {
        (Framing::Bare, _) => OVERHEAD_BARE,
        (Framing::Ethernet, false) => OVERHEAD_V4,
        (Framing::Ethernet, true) => OVERHEAD_V6,
    };
    let underlay_mtu = host::underlay_mtu(None, spec.dev.as_deref(), spec.local).unwrap_or(1500);
    let mtu = match spec.mtu {
        Some(mtu) => check_mtu(mtu)?,
        None => underlay_mtu.min(65_535).saturating_sub(overhead).clamp(*MTU_RANGE.start(), *MTU_RANGE.end()),
    };
    let listen = options::listen(spec, v6)?;
    let group = options::group(spec, &listen, ifindex)?;
    let pool = options::pool(spec, Endpoint { v6, local: spec.local, ifindex })?;
    let options = options::options(spec, v6)?;
    Ok(Plan { port: PortKey { v6, port: spec.port }, listen, group, pool, options, underlay_mtu, mtu })
}

/// A name that the kernel would take literally (`%` makes a pattern of it).
fn check_name(name: &str) -> Result<(), RpcError> {
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    if name.is_empty() || name.len() > 15 || !name.chars().all(good) || matches!(name, "." | ".." | "all" | "default") {
        return Err(invalid(format!("'{name}' cannot be a device name: 1 to 15 printable characters without / : %")));
    }
    Ok(())
}

/// A MAC that a device can have.
pub fn check_mac(mac: Option<Mac>) -> Result<(), RpcError> {
    match mac.filter(|mac| mac.is_multicast() || mac.is_zero()) {
        Some(mac) => Err(invalid(format!("{mac} cannot be a device's MAC address"))),
        None => Ok(()),
    }
}

/// An MTU that a TAP can have.
pub fn check_mtu(mtu: u32) -> Result<u32, RpcError> {
    if MTU_RANGE.contains(&mtu) {
        Ok(mtu)
    } else {
        Err(invalid(format!("mtu {mtu} is not within {}..{}", MTU_RANGE.start(), MTU_RANGE.end())))
    }
}

/// Opens the TAP and sets it up as the plan says, up last. A TAP that was made here is removed again on failure.
pub fn open_tap(spec: &NetworkSpec, plan: &Plan, netns: &Netns, netlink: &Netlink, lanes: usize) -> Result<Tap, SysError> {
    let framing = plan.listen.framing;
    let tap = Tap::open(&spec.name, framing, netns, netlink, lanes)?;
    let set_up = || {
        let link = netlink.link_by_index(tap.index)?.ok_or_else(|| SysError::new("RTM_GETLINK", &spec.name, libc::ENODEV))?;
        // The MAC is set even where it is the one that the kernel chose: else systemd-udevd would replace it.
        // On a device that was there already with this MAC it is not, for that empties the host's neighbour caches of it, permanent
        // entries included (NETDEV_CHANGEADDR, `neigh_changeaddr`).
        let mac: Option<Mac> = spec.mac.or(link.mac).filter(|mac| tap.created || link.mac != Some(*mac));
        netlink.set_link(tap.index, &LinkSettings { mac, mtu: Some(plan.mtu), ..Default::default() })?;
        // Nobody advertises routers on an overlay, and whoever does must not change this host (flanneld sets the same). Absent
        // where the kernel has no IPv6.
        let _ = host::set_sysctl(spec.netns.as_deref(), &format!("net/ipv6/conf/{}/accept_ra", spec.name), "0");
        if framing == Framing::Bare {
            // What the host's IPv6 says on every device by itself would only be dropped.
            let _ = host::set_sysctl(spec.netns.as_deref(), &format!("net/ipv6/conf/{}/disable_ipv6", spec.name), "1");
        }
        netlink.set_link(tap.index, &LinkSettings { up: Some(true), ..Default::default() })
    };
    match set_up() {
        Ok(()) => Ok(tap),
        Err(error) => {
            if tap.created {
                let _ = netlink.del_link(tap.index);
            }
            Err(error)
        }
    }
}

impl Held {
    /// As it travels.
    pub fn state(&self) -> NetworkState {
        NetworkState {
            spec: self.spec.clone(),
            ifindex: self.ifindex,
            mac: self.master.network.mac,
            mtu: self.master.network.mtu,
            up: self.up && !self.lost,
            queues: if self.lost { 0 } else { self.queues.iter().map(Vec::len).sum::<usize>() as u32 },
            revisions: self.master.revisions(),
        }
    }
}
