//! Links: `RTM_NEWLINK` parsed, requests about links built (linux/if_link.h).

use super::codec::{self, Message, Request, attributes, attributes_after, u8_at, u16_at, u32_at, u64_at};
use crate::wire::Mac;
use std::fmt;

/// `struct ifinfomsg`: family (1), pad (1), ARPHRD_* (2), index (4), flags (4), mask of flags to change (4).
const HEADER: usize = 16;

// Attributes inside IFLA_INFO_DATA of a tun or TAP (linux/if_link.h; given since Linux 4.16).
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_VNET_HDR: u16 = 5;
const IFLA_TUN_PERSIST: u16 = 6;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
const IFLA_TUN_NUM_QUEUES: u16 = 8;
const IFLA_TUN_NUM_DISABLED_QUEUES: u16 = 9;

/// Offset of `tx_dropped` in `struct rtnl_link_stats64`: the eighth of its u64.
const TX_DROPPED: usize = 7 * 8;

/// Longest name that a link can be asked for by: IFNAMSIZ less the NUL.
const NAME_MAX: usize = 15;
/// Longest alternative name: ALTIFNAMSIZ less the NUL (Linux >= 5.5).
const ALTERNATIVE_NAME_MAX: usize = 127;

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index, in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `tun` (tun and TAP), `vxlan`, `veth`, ...; absent for hardware and loopback.
    pub kind: Option<String>,
    /// MAC; absent where the link is not Ethernet.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Somebody holds the other end: cable, peer, or a process at the TAP. Told even while the link is down.
    pub carrier: bool,
    /// Frames that the queue of the device holds.
    pub txqlen: u32,
    /// Largest superframe that the stack gives the device; 0 where the kernel does not tell.
    pub gso_max_size: u32,
    /// Frames that the queue of the device had no room for; of a TAP: that its reader was too slow for.
    pub tx_dropped: u64,
    /// Index of the bridge, bond or VRF that it belongs to.
    pub master: Option<u32>,
    /// More about a tun or TAP; absent for other links, and before Linux 4.16.
    pub tun: Option<TunInfo>,
}

/// What the kernel says of a tun or TAP device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TunInfo {
    /// TAP (frames), not tun (packets).
    pub tap: bool,
    /// Stays when the last queue is closed.
    pub persist: bool,
    /// Takes more than one queue.
    pub multi_queue: bool,
    /// Frames carry a virtio header.
    pub vnet_hdr: bool,
    /// Queues attached and enabled; absent unless `multi_queue`: the kernel does not tell (see `carrier`).
    pub num_queues: Option<u32>,
    /// Queues attached but disabled; as `num_queues`.
    pub num_disabled_queues: Option<u32>,
}

/// What to change on a link; absent stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LinkSettings {
    /// MAC. The kernel refuses it on some links (not TAPs) while they are up.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Administrative state.
    pub up: Option<bool>,
    /// Frames that the queue of the device holds.
    pub txqlen: Option<u32>,
    /// Largest superframe that the stack gives the device (Linux >= 4.16; older ones ignore it).
    pub gso_max_size: Option<u32>,
}

impl fmt::Display for LinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.mac.map(|mac| format!("address {mac}")),
            self.mtu.map(|mtu| format!("mtu {mtu}")),
            self.up.map(|up| if up { "up" } else { "down" }.to_owned()),
            self.txqlen.map(|length| format!("txqueuelen {length}")),
            self.gso_max_size.map(|size| format!("gso_max_size {size}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

/// Reads `RTM_NEWLINK` or `RTM_DELLINK`. `None` for those of family AF_BRIDGE: they say that a link joined or left a bridge, and
/// would read as that it came or went.
pub fn parse(message: &Message<'_>) -> Option<Link> {
    if !matches!(message.kind, libc::RTM_NEWLINK | libc::RTM_DELLINK) || u8_at(message.payload, 0)? != libc::AF_UNSPEC as u8 {
        return None;
    }
    let hardware = u16_at(message.payload, 2)?;
    let flags = u32_at(message.payload, 8)?;
    let mut link = Link {
        index: u32_at(message.payload, 4)?,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: flags & libc::IFF_UP as u32 != 0,
        carrier: flags & libc::IFF_LOWER_UP as u32 != 0,
        txqlen: 0,
        gso_max_size: 0,
        tx_dropped: 0,
        master: None,
        tun: None,
    };
    for (kind, value) in attributes_after(message.payload, HEADER) {
        match kind {
            libc::IFLA_IFNAME => link.name = codec::text(value),
            // Loopback and a few others also have six bytes, but no MAC.
            libc::IFLA_ADDRESS if hardware == libc::ARPHRD_ETHER => link.mac = value.try_into().ok().map(Mac),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
            libc::IFLA_TXQLEN => link.txqlen = u32_at(value, 0)?,
            libc::IFLA_GSO_MAX_SIZE => link.gso_max_size = u32_at(value, 0)?,
            libc::IFLA_STATS64 => link.tx_dropped = u64_at(value, TX_DROPPED).unwrap_or(0),
            libc::IFLA_MASTER => link.master = u32_at(value, 0),
            libc::IFLA_CARRIER => link.carrier = u8_at(value, 0)? != 0,
            libc::IFLA_LINKINFO => (link.kind, link.tun) = parse_info(value),
            _ => {}
        }
    }
    Some(link)
}

/// `IFLA_LINKINFO`: the kind, and data whose meaning depends on the kind.
fn parse_info(value: &[u8]) -> (Option<String>, Option<TunInfo>) {
    let find = |wanted| attributes(value).find(|&(kind, _)| kind == wanted).map(|(_, value)| value);
    let kind = find(libc::IFLA_INFO_KIND).map(codec::text);
    let tun = find(libc::IFLA_INFO_DATA).filter(|_| kind.as_deref() == Some("tun")).map(parse_tun);
    (kind, tun)
}

fn parse_tun(value: &[u8]) -> TunInfo {
    let mut tun = TunInfo::default();
    for (kind, value) in attributes(value) {
        let set = u8_at(value, 0).unwrap_or_default() != 0;
        match kind {
            IFLA_TUN_TYPE => tun.tap = u8_at(value, 0).is_some_and(|kind| i32::from(kind) == libc::IFF_TAP),
            IFLA_TUN_VNET_HDR => tun.vnet_hdr = set,
            IFLA_TUN_PERSIST => tun.persist = set,
            IFLA_TUN_MULTI_QUEUE => tun.multi_queue = set,
            IFLA_TUN_NUM_QUEUES => tun.num_queues = u32_at(value, 0),
            IFLA_TUN_NUM_DISABLED_QUEUES => tun.num_disabled_queues = u32_at(value, 0),
            _ => {}
        }
    }
    tun
}

/// Asks for a link by name; `None` for what cannot be a name.
pub fn get_by_name(name: &str) -> Option<Request> {
    if name.is_empty() || name.len() > ALTERNATIVE_NAME_MAX || name.contains('\0') {
        return None;
    }
    let attribute = if name.len() <= NAME_MAX { libc::IFLA_IFNAME } else { libc::IFLA_ALT_IFNAME };
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    Some(without_statistics(Request::new(libc::RTM_GETLINK, 0, &header(0, 0, 0))).with(attribute, &value))
}

/// Asks for a link by index.
pub fn get_by_index(index: u32) -> Request {
    without_statistics(Request::new(libc::RTM_GETLINK, 0, &header(index, 0, 0)))
}

/// Asks for every link.
pub fn get_all() -> Request {
    without_statistics(Request::new(libc::RTM_GETLINK, 0, &header(0, 0, 0)))
}

/// Asks for changes; `None` if there are none.
pub fn set(index: u32, settings: &LinkSettings) -> Option<Request> {
    if *settings == LinkSettings::default() {
        return None;
    }
    let up = libc::IFF_UP as u32;
    let (flags, mask) = match settings.up {
        Some(true) => (up, up),
        Some(false) => (0, up),
        None => (0, 0),
    };
    let mut request = Request::new(libc::RTM_NEWLINK, 0, &header(index, flags, mask));
    if let Some(mac) = settings.mac {
        request = request.with(libc::IFLA_ADDRESS, &mac.0);
    }
    let numbers =
        [(libc::IFLA_MTU, settings.mtu), (libc::IFLA_TXQLEN, settings.txqlen), (libc::IFLA_GSO_MAX_SIZE, settings.gso_max_size)];
    for (kind, value) in numbers {
        if let Some(value) = value {
            request = request.with_u32(kind, value);
        }
    }
    Some(request)
}

/// Asks for the end of a link.
pub fn del(index: u32) -> Request {
    Request::new(libc::RTM_DELLINK, 0, &header(index, 0, 0))
}

fn header(index: u32, flags: u32, mask: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

/// Statistics are the largest part of a link's description and nobody here reads them.
fn without_statistics(request: Request) -> Request {
    request.with_u32(libc::IFLA_EXT_MASK, libc::RTEXT_FILTER_SKIP_STATS as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize((bytes.len() + 3) & !3, 0);
        bytes
    }

    /// A persistent multi-queue TAP `flannel.3` with 2 queues attached and 1 disabled; linux/if_link.h gives the numbers.
    fn tap() -> Vec<u8> {
        let tun = [
            attribute(3, &[2]), // type: TAP
            attribute(4, &[0]), // no packet information
            attribute(5, &[1]), // virtio header
            attribute(6, &[1]), // persistent
            attribute(7, &[1]), // multi-queue
            attribute(8, &2u32.to_ne_bytes()),
            attribute(9, &1u32.to_ne_bytes()),
            attribute(99, b"of a later kernel"),
        ]
        .concat();
        let info = [attribute(1, b"tun\0"), attribute(0x8000 | 2, &tun)].concat();
        let mut bytes = vec![0, 0];
        bytes.extend_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
        bytes.extend_from_slice(&7u32.to_ne_bytes());
        bytes.extend_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let attributes = [
            attribute(3, b"flannel.3\0"),
            attribute(13, &1000u32.to_ne_bytes()),
            attribute(4, &1450u32.to_ne_bytes()),
            attribute(41, &65536u32.to_ne_bytes()),
            attribute(33, &[1]),
            attribute(10, &4u32.to_ne_bytes()),
            attribute(1, &[0x16, 0x8d, 0x1e, 0x23, 0x70, 0xcf]),
            attribute(0x8000 | 18, &info), // nested
        ];
        bytes.extend_from_slice(&attributes.concat());
        bytes
    }

    fn message(payload: &[u8]) -> Message<'_> {
        Message { kind: libc::RTM_NEWLINK, flags: 0, sequence: 1, payload }
    }

    #[test]
    fn a_tap_is_read_with_all_that_the_kernel_says_of_it() {
        let tun = TunInfo {
            tap: true,
            persist: true,
            multi_queue: true,
            vnet_hdr: true,
            num_queues: Some(2),
            num_disabled_queues: Some(1),
        };
        let expected = Link {
            index: 7,
            name: "flannel.3".to_owned(),
            kind: Some("tun".to_owned()),
            mac: Some("16:8d:1e:23:70:cf".parse().unwrap()),
            mtu: 1450,
            up: true,
            carrier: true,
            txqlen: 1000,
            gso_max_size: 65536,
            tx_dropped: 0,
            master: Some(4),
            tun: Some(tun),
        };
        assert_eq!(parse(&message(&tap())), Some(expected));
    }

    #[test]
    fn a_link_that_leaves_a_bridge_is_not_a_link_that_goes() {
        let mut bytes = tap();
        bytes[0] = libc::AF_BRIDGE as u8;
        assert_eq!(parse(&Message { kind: libc::RTM_DELLINK, ..message(&bytes) }), None);
    }

    #[test]
    fn six_zero_bytes_of_loopback_are_no_mac() {
        let mut bytes = tap();
        bytes[2..4].copy_from_slice(&libc::ARPHRD_LOOPBACK.to_ne_bytes());
        assert_eq!(parse(&message(&bytes)).unwrap().mac, None);
    }

    #[test]
    fn what_is_cut_short_is_never_a_panic() {
        let whole = tap();
        for end in 0..whole.len() {
            let _ = parse(&message(&whole[..end]));
        }
        for at in 0..whole.len() {
            for value in [0, 1, 3, 127, 255] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = parse(&message(&bytes));
            }
        }
    }

    #[test]
    fn settings_are_one_message_and_no_settings_are_none() {
        let settings = LinkSettings {
            mac: Some("16:8d:1e:23:70:cf".parse().unwrap()),
            mtu: Some(1450),
            up: Some(true),
            txqlen: Some(500),
            gso_max_size: Some(32768),
        };
        let bytes = set(7, &settings).unwrap().stamped(1);
        let messages: Vec<_> = codec::messages(&bytes).collect();
        assert_eq!(messages.len(), 1);
        assert_eq!(u32_at(messages[0].payload, 8), Some(libc::IFF_UP as u32), "flags");
        assert_eq!(u32_at(messages[0].payload, 12), Some(libc::IFF_UP as u32), "mask");
        let kinds: Vec<u16> = attributes_after(messages[0].payload, HEADER).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [libc::IFLA_ADDRESS, libc::IFLA_MTU, libc::IFLA_TXQLEN, libc::IFLA_GSO_MAX_SIZE]);
        assert_eq!(settings.to_string(), "address 16:8d:1e:23:70:cf mtu 1450 up txqueuelen 500 gso_max_size 32768");
        assert!(set(7, &LinkSettings::default()).is_none());
    }

    #[test]
    fn a_name_that_no_link_can_have_is_not_asked_for() {
        assert!(get_by_name("").is_none());
        assert!(get_by_name("a\0b").is_none());
        assert!(get_by_name(&"x".repeat(128)).is_none());
        assert!(get_by_name("flannel.3").is_some());
    }
}
