//! Sockets to send from, one for each source port (a layer-3 network has one port, that of its receiving sockets, and sends from the first of
//! these), shared by all lanes (sends on one UDP socket do not wait for each other).
//!
//! Linux sets the UDP source port by the socket a datagram leaves from, so entropy for equal-cost paths and receive queues needs
//! many bound sockets; a flow always leaves from the same one. Nothing is ever read from them: a filter drops what arrives.
//! IPv4's DF bit also is the socket's (there is no control message for it), so a pool whose datagrams differ in it has two
//! sockets on each port.
//!
//! Unconnected sockets without IP_RECVERR do not surface one peer's ICMP errors in a send to another (net/ipv4/udp.c,
//! `__udp4_lib_err`). A pool that sends what may not be fragmented has to hear of path MTUs, so its sockets have that option, and
//! a send that fails is tried again after the error queue was emptied. Of two sockets on one port the kernel tells one, not
//! always the one that sent: the control thread empties all queues once a second.

use super::error::SysError;
use super::errqueue::{self, PathError};
use super::udp::{BUFFER, Endpoint, ReceiveSocket, bind, set, socket};
use crate::wire::Framing;
use crate::wire::outer::Df;
use std::ffi::c_int;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Sockets in a pool. 200 flows over 64 ports leave none empty and fill both of two paths within a few percent.
pub const POOL: usize = 64;
/// RFC 7348 section 5 recommends the dynamic range for source ports. First, and one past the last.
const DYNAMIC: (u32, u32) = (49_152, 65_536);
/// Step through a range from one port to the next; prime, so that a range that it does not divide is gone through whole.
const STRIDE: u32 = 251;

/// Bytes of a queue of ICMP errors, of which each takes about 1 KiB; the next one that does not fit is as good.
const ERROR_ROOM: c_int = 16 << 10;

/// What the sockets of a pool have in common; networks that want the same share a pool.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PoolSpec {
    /// Where they are bound.
    pub endpoint: Endpoint,
    /// Source ports: first, and one past the last. Absent = the dynamic range.
    pub ports: Option<(u16, u16)>,
    /// Datagrams have a UDP checksum.
    pub checksum: bool,
    /// Which datagrams may not be fragmented.
    pub df: Df,
    /// What the datagrams carry: with bare packets they leave from the one port of `ports`, where they are received, too.
    pub framing: Framing,
}

impl PoolSpec {
    /// The default for an endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        PoolSpec { endpoint, ports: None, checksum: true, df: Df::Unset, framing: Framing::Ethernet }
    }
}

/// The sockets.
pub struct SendPool {
    /// One for each source port; with `df inherit` once more each, for datagrams that may not be fragmented.
    sockets: Vec<OwnedFd>,
    /// The source ports.
    ports: Vec<u16>,
    /// IPv6 underlay.
    pub v6: bool,
    /// Source address, if the sockets are bound to one.
    pub local: Option<IpAddr>,
    /// ICMP errors are queued.
    errors: bool,
    /// What the datagrams carry.
    pub framing: Framing,
    /// Trains are possible at all: the kernel refuses UDP_SEGMENT without checksums (EINVAL).
    trains: bool,
    /// One call may carry a train.
    segmentation: AtomicBool,
}

impl SendPool {
    /// Binds up to [`POOL`] sockets to source ports of the range, skipping those in use. `segmentation`: trains may be sent. `ours`:
    /// source ports of other pools here, which are shared where the range has too few others.
    pub fn open(spec: &PoolSpec, segmentation: bool, ours: &[u16]) -> Result<Self, SysError> {
        let (first, end) = spec.ports.map_or(DYNAMIC, |(min, max)| (u32::from(min), u32::from(max)));
        let count = end.saturating_sub(first);
        let stride = if count.is_multiple_of(STRIDE) { 1 } else { STRIDE };
        let start = std::process::id() % count.max(1);
        let ports = || (0..count).filter_map(|step| u16::try_from(first + (start + step * stride) % count).ok());
        let (mut sockets, mut numbers) = (Vec::with_capacity(POOL), Vec::with_capacity(POOL));
        // Alone first, so that nobody else's port is shared by accident.
        for (port, shared) in ports().map(|port| (port, false)).chain(ports().map(|port| (port, true))) {
            if sockets.len() == POOL.min(count as usize) {
                break;
            }
            if shared && (numbers.contains(&port) || !ours.contains(&port)) {
                continue;
            }
            match bound(spec, port, shared) {
                Ok(socket) => {
                    sockets.push(socket);
                    numbers.push(port);
                }
                Err(error) if error.errno == libc::EADDRINUSE => {}
                Err(error) => return Err(error),
            }
        }
        if sockets.is_empty() {
            let range = format!("UDP source ports {first}-{}", end.saturating_sub(1));
            return Err(
                SysError::new("bind", range, libc::EADDRINUSE).with_detail("every port of the range is taken: widen srcport")
            );
        }
        for socket in &sockets {
            configure(socket.as_raw_fd(), spec, spec.df == Df::Set)?;
        }
        if spec.df == Df::Inherit {
            for port in &numbers {
                let socket = bound(spec, *port, true)?;
                configure(socket.as_raw_fd(), spec, true)?;
                sockets.push(socket);
            }
        }
        let trains = spec.checksum;
        let segmentation = AtomicBool::new(segmentation && trains);
        Ok(SendPool {
            sockets,
            ports: numbers,
            v6: spec.endpoint.v6,
            local: spec.endpoint.local,
            errors: spec.df != Df::Unset,
            framing: spec.framing,
            trains,
            segmentation,
        })
    }

    /// Sends from where `receiving` receives. No filter, and no error queue: what arrives there is read.
    pub fn beside(receiving: &ReceiveSocket, spec: &PoolSpec, segmentation: bool) -> Result<Self, SysError> {
        let socket = receiving.duplicate()?;
        configure_route(socket.as_raw_fd(), spec, false)?;
        Ok(SendPool {
            sockets: vec![socket],
            ports: vec![receiving.port.port],
            v6: spec.endpoint.v6,
            local: spec.endpoint.local,
            errors: false,
            framing: spec.framing,
            trains: true,
            segmentation: AtomicBool::new(segmentation),
        })
    }

    /// How many sockets there are.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Never: `open` fails without a socket.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// The source ports.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The socket that a flow's datagrams leave from. `df`: this one may not be fragmented.
    pub fn choose(&self, hash: u32, df: bool) -> usize {
        let ports = self.ports.len();
        let port = ((u64::from(hash) * ports as u64) >> 32) as usize;
        if df && self.sockets.len() > ports { port + ports } else { port }
    }

    pub(super) fn fd(&self, index: usize) -> RawFd {
        self.sockets.get(index).map_or(-1, AsRawFd::as_raw_fd)
    }

    /// True where a failed send may be the consequence of an ICMP error about another one.
    pub(super) fn has_errors(&self) -> bool {
        self.errors
    }

    /// Empties the error queues.
    pub fn drain_errors(&self, seen: &mut dyn FnMut(PathError)) {
        if self.errors {
            self.sockets.iter().for_each(|socket| _ = errqueue::drain(socket.as_raw_fd(), seen));
        }
    }

    /// True while trains may be sent.
    pub fn segments(&self) -> bool {
        self.segmentation.load(Relaxed)
    }

    /// Lets trains be sent, or not: by the switch, and by a lane that met an EIO.
    pub fn set_segments(&self, on: bool) {
        self.segmentation.store(on && self.trains, Relaxed);
    }
}

/// A socket on a source port. `shared`: another one of ours has it. Every one lets others in once it is bound: only those that ask for it
/// get in.
fn bound(spec: &PoolSpec, port: u16, shared: bool) -> Result<OwnedFd, SysError> {
    let socket = socket(spec.endpoint.v6)?;
    let share = || {
        set::<c_int>(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, &1)
            .map_err(|errno| SysError::new("SO_REUSEPORT", format!("UDP source port {port}"), errno))
    };
    if shared {
        share()?;
    }
    bind(&socket, spec.endpoint.address(port))?;
    share()?;
    Ok(socket)
}

/// What is for a group leaves there, and does not come back to this host (`setup_udp_tunnel_sock` says the same).
fn multicast_interface(fd: RawFd, v6: bool, index: u32) -> Result<(), c_int> {
    if v6 {
        set::<c_int>(fd, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, &0)?;
        return set(fd, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &index);
    }
    let any = libc::in_addr { s_addr: 0 };
    let request = libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex: index as c_int };
    set::<c_int>(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, &0)?;
    set(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)
}

/// How its datagrams leave.
fn configure_route(fd: RawFd, spec: &PoolSpec, df: bool) -> Result<(), SysError> {
    let v6 = spec.endpoint.v6;
    let named = |call: &'static str| move |errno| SysError::new(call, "sending socket", errno);
    let level = if v6 { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    // The default (WANT) would set DF; the outer packet of `df unset` may be fragmented. PROBE sets DF without asking the route's
    // path MTU, which anybody's ICMP message may lower: the peers' own is kept here.
    // OMIT leaves DF clear as DONT does, but lets errors be queued. IPv6 has it the other way round.
    let (option, discover) = match (v6, df) {
        (false, false) if spec.df == Df::Inherit => (libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
        (false, false) => (libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
        (false, true) => (libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        (true, false) => (libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
        (true, true) => (libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    set(fd, level, option, &discover).map_err(named("IP_MTU_DISCOVER"))?;
    if v6 {
        const IPV6_AUTOFLOWLABEL: c_int = 70;
        const IPV6_FLOWINFO_SEND: c_int = 33;
        set::<c_int>(fd, level, IPV6_AUTOFLOWLABEL, &0).map_err(named("IPV6_AUTOFLOWLABEL"))?;
        // The label is that of the destination's address, 0 where none was asked for.
        set::<c_int>(fd, level, IPV6_FLOWINFO_SEND, &1).map_err(named("IPV6_FLOWINFO_SEND"))?;
        if df {
            set::<c_int>(fd, level, libc::IPV6_DONTFRAG, &1).map_err(named("IPV6_DONTFRAG"))?;
        }
    }
    if !spec.checksum {
        const UDP_NO_CHECK6_TX: c_int = 101;
        match v6 {
            true => set::<c_int>(fd, libc::SOL_UDP, UDP_NO_CHECK6_TX, &1).map_err(named("UDP_NO_CHECK6_TX"))?,
            false => set::<c_int>(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, &1).map_err(named("SO_NO_CHECK"))?,
        }
    }
    if let Some(index) = spec.endpoint.ifindex {
        let option = if v6 { libc::IPV6_UNICAST_IF } else { libc::IP_UNICAST_IF };
        set(fd, level, option, &index.to_be()).map_err(named("IP_UNICAST_IF"))?;
        multicast_interface(fd, v6, index).map_err(named("IP_MULTICAST_IF"))?;
    }
    if set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &BUFFER).is_err() {
        set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &BUFFER).map_err(named("SO_SNDBUF"))?;
    }
    Ok(())
}

fn configure(fd: RawFd, spec: &PoolSpec, df: bool) -> Result<(), SysError> {
    let v6 = spec.endpoint.v6;
    let named = |call: &'static str| move |errno| SysError::new(call, "sending socket", errno);
    let level = if v6 { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    configure_route(fd, spec, df)?;
    if spec.df != Df::Unset {
        let option = if v6 { libc::IPV6_RECVERR } else { libc::IP_RECVERR };
        set::<c_int>(fd, level, option, &1).map_err(named("IP_RECVERR"))?;
    }
    // The filter below drops what arrives, so there is room for a few errors or for nothing.
    let room: c_int = if spec.df != Df::Unset { ERROR_ROOM } else { 0 };
    set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &room).map_err(named("SO_RCVBUF"))?;
    let mut drop_all = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 }; // BPF_RET | BPF_K, 0
    let program = libc::sock_fprog { len: 1, filter: &mut drop_all };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program).map_err(named("SO_ATTACH_FILTER"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::{FromRawFd, IntoRawFd};

    fn spec(ports: (u16, u16), df: Df) -> PoolSpec {
        let endpoint = Endpoint { v6: false, local: Some([127, 0, 0, 1].into()), ifindex: None };
        PoolSpec { ports: Some(ports), df, ..PoolSpec::new(endpoint) }
    }

    fn ports(pool: SendPool) -> Vec<u16> {
        let local = |fd: OwnedFd| {
            // SAFETY: the descriptor is owned and is a UDP socket.
            let socket = unsafe { UdpSocket::from_raw_fd(fd.into_raw_fd()) };
            socket.local_addr().unwrap().port()
        };
        pool.sockets.into_iter().map(local).collect()
    }

    #[test]
    fn a_range_smaller_than_the_pool_is_used_whole_and_its_end_is_exclusive() {
        let mut held = ports(SendPool::open(&spec((23_450, 23_453), Df::Unset), true, &[]).unwrap());
        held.sort();
        assert_eq!(held, [23_450, 23_451, 23_452]);
        let mut whole = ports(SendPool::open(&spec((24_000, 24_251), Df::Unset), true, &[]).unwrap());
        whole.sort();
        whole.dedup();
        assert_eq!(whole.len(), POOL, "a range that the stride divides");
        assert!(whole.iter().all(|port| (24_000..24_251).contains(port)));
    }

    #[test]
    fn a_range_that_is_taken_is_refused() {
        let held = SendPool::open(&spec((23_460, 23_461), Df::Unset), true, &[]).unwrap();
        let refused = SendPool::open(&spec((23_460, 23_461), Df::Set), true, &[]).err().unwrap();
        assert_eq!(refused.errno, libc::EADDRINUSE);
        assert!(refused.to_string().contains("23460-23460"), "{refused}");
        let shared = SendPool::open(&spec((23_460, 23_461), Df::Set), true, held.ports()).unwrap();
        assert_eq!(shared.ports(), held.ports(), "but not to ourselves");
    }

    #[test]
    fn inherited_df_has_two_sockets_on_each_port_and_keeps_others_away() {
        let pool = SendPool::open(&spec((23_470, 23_472), Df::Inherit), true, &[]).unwrap();
        assert_eq!((pool.len(), pool.ports.len()), (4, 2));
        for hash in [0, u32::MAX / 3, u32::MAX] {
            assert_eq!(pool.choose(hash, true), pool.choose(hash, false) + 2);
        }
        assert!(SendPool::open(&spec((23_470, 23_472), Df::Inherit), true, &[]).is_err());
        let held = ports(pool);
        assert_eq!(held[..2], held[2..]);
        let pool = SendPool::open(&spec((23_470, 23_472), Df::Set), true, &[]).unwrap();
        assert_eq!(pool.choose(u32::MAX, true), pool.choose(u32::MAX, false));
    }

    #[test]
    fn bare_packets_leave_from_the_socket_that_receives() {
        let endpoint = Endpoint { v6: false, local: Some([127, 0, 0, 1].into()), ifindex: None };
        let receiving = ReceiveSocket::open(&endpoint, 23_490, true, false).unwrap().of(Framing::Bare);
        let pool_spec = PoolSpec { framing: Framing::Bare, ..spec((23_490, 23_491), Df::Unset) };
        let pool = SendPool::beside(&receiving, &pool_spec, true).unwrap();
        assert!(pool.segments());
        assert_eq!((pool.len(), pool.choose(u32::MAX, false)), (1, 0));
        drop(receiving);
        assert_eq!(ports(pool), [23_490]);
    }

    #[test]
    fn without_checksums_there_are_no_trains() {
        let pool = SendPool::open(&PoolSpec { checksum: false, ..spec((23_480, 23_482), Df::Unset) }, true, &[]).unwrap();
        pool.set_segments(true);
        assert!(!pool.segments());
    }
}
