//! VXLAN's receiving sockets, one for each lane and port, and what they share with the sending ones (`pool`).

use super::error::SysError;
use crate::tables::PortKey;
use crate::wire::Framing;
use std::ffi::c_int;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Receive and send buffer of each socket: a 10 Gbit/s burst while the lane is descheduled for 5 ms.
pub(super) const BUFFER: c_int = 8 << 20;

/// linux/in6.h; since Linux 4.20.
const IPV6_MULTICAST_ALL: c_int = 29;

/// An address in the kernel's form.
#[derive(Clone, Copy)]
pub struct SockAddr {
    storage: libc::sockaddr_storage,
    pub(super) len: libc::socklen_t,
}

impl SockAddr {
    /// Converts.
    pub fn new(address: SocketAddr) -> Self {
        // SAFETY: all socket address types are plain data for which zero is valid.
        let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
        let len = match address {
            SocketAddr::V4(v4) => {
                let inet = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: sockaddr_storage is at least as large and as aligned as every socket address.
                unsafe { std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in>().write(inet) };
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                let inet6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as above.
                unsafe { std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in6>().write(inet6) };
                size_of::<libc::sockaddr_in6>()
            }
        };
        SockAddr { storage, len: len as libc::socklen_t }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        std::ptr::from_ref(&self.storage).cast()
    }

    /// Reads an address that the kernel wrote; an unknown family gives the unspecified address.
    pub(super) fn read(storage: &libc::sockaddr_storage) -> SocketAddr {
        match c_int::from(storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says which type was written, and the storage is large enough for it.
                let inet = unsafe { std::ptr::from_ref(storage).cast::<libc::sockaddr_in>().read() };
                SocketAddrV4::new(Ipv4Addr::from(inet.sin_addr.s_addr.to_ne_bytes()), u16::from_be(inet.sin_port)).into()
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let inet6 = unsafe { std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>().read() };
                SocketAddrV6::new(Ipv6Addr::from(inet6.sin6_addr.s6_addr), u16::from_be(inet6.sin6_port), 0, inet6.sin6_scope_id)
                    .into()
            }
            _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        }
    }
}

/// Where a socket is bound and what it uses.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    /// IPv6 underlay.
    pub v6: bool,
    /// Address to bind and send from; absent = any.
    pub local: Option<IpAddr>,
    /// Index of the only interface to send by; absent = the route's.
    pub ifindex: Option<u32>,
}

impl Endpoint {
    pub(super) fn address(&self, port: u16) -> SocketAddr {
        let any = if self.v6 { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { IpAddr::from(Ipv4Addr::UNSPECIFIED) };
        match (self.local.unwrap_or(any), self.ifindex) {
            // A group of link-local scope is one on each link.
            (IpAddr::V6(group), Some(index)) if group.is_multicast() => SocketAddrV6::new(group, port, 0, index).into(),
            (address, _) => SocketAddr::new(address, port),
        }
    }
}

pub(super) fn set<T>(fd: RawFd, level: c_int, option: c_int, value: &T) -> Result<(), c_int> {
    // SAFETY: the kernel reads size_of::<T>() bytes from a live value.
    let result =
        unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) }
}

pub(super) fn socket(v6: bool) -> Result<OwnedFd, SysError> {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(SysError::last("socket", if v6 { "IPv6 UDP" } else { "IPv4 UDP" }));
    }
    // SAFETY: just created, owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: c_int = 1;
    if v6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &on).map_err(|errno| SysError::new("IPV6_V6ONLY", "UDP socket", errno))?;
    }
    Ok(socket)
}

pub(super) fn bind(socket: &OwnedFd, address: SocketAddr) -> Result<(), SysError> {
    let native = SockAddr::new(address);
    // SAFETY: the address lives through the call and its length is right.
    match unsafe { libc::bind(socket.as_raw_fd(), native.as_ptr(), native.len) } {
        0 => Ok(()),
        _ => Err(SysError::last("bind", format!("UDP {address}"))),
    }
}

/// Says early and clearly that somebody else (another instance, flanneld's kernel device, another CNI) has the port: the
/// receiving sockets themselves share it among lanes, and so would silently share it with another process of this user.
pub fn check_port_free(endpoint: &Endpoint, port: u16) -> Result<(), SysError> {
    bind(&socket(endpoint.v6)?, endpoint.address(port))
}

/// A socket that receives VXLAN datagrams for one lane.
pub struct ReceiveSocket {
    fd: OwnedFd,
    /// Which networks' VNIs count here.
    pub port: PortKey,
    /// What arrives here.
    pub framing: Framing,
}

impl ReceiveSocket {
    /// Binds. Several lanes' sockets share the port and the kernel spreads flows over them by the outer header. `gro`: trains
    /// may arrive whole. `zero_checksums`: datagrams without checksum are taken over IPv6 too (over IPv4 they always are).
    pub fn open(endpoint: &Endpoint, port: u16, gro: bool, zero_checksums: bool) -> Result<Self, SysError> {
        let socket = socket(endpoint.v6)?;
        let fd = socket.as_raw_fd();
        let on: c_int = 1;
        let named = |call: &'static str| move |errno| SysError::new(call, format!("UDP port {port}"), errno);
        set(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, &on).map_err(named("SO_REUSEPORT"))?;
        // Without CAP_NET_ADMIN the forced size is refused and the allowed one is taken.
        if set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER).is_err() {
            set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &BUFFER).map_err(named("SO_RCVBUF"))?;
        }
        let (level, option) =
            if endpoint.v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS) } else { (libc::IPPROTO_IP, libc::IP_RECVTOS) };
        set(fd, level, option, &on).map_err(named("IP_RECVTOS"))?;
        // Else every lane's socket would get a copy of what is for a group that somebody on this host joined. IPv6 has it since 4.20;
        // before, only such groups are affected.
        let (level, option) = match endpoint.v6 {
            true => (libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL),
            false => (libc::IPPROTO_IP, libc::IP_MULTICAST_ALL),
        };
        let _ = set::<c_int>(fd, level, option, &0);
        if zero_checksums {
            const UDP_NO_CHECK6_RX: c_int = 102;
            set(fd, libc::SOL_UDP, UDP_NO_CHECK6_RX, &on).map_err(named("UDP_NO_CHECK6_RX"))?;
        }
        bind(&socket, endpoint.address(port))?;
        let socket = ReceiveSocket { fd: socket, port: PortKey { v6: endpoint.v6, port }, framing: Framing::Ethernet };
        if gro {
            socket.set_gro(true)?;
        }
        Ok(socket)
    }

    /// The same for datagrams that carry this.
    pub fn of(self, framing: Framing) -> Self {
        ReceiveSocket { framing, ..self }
    }

    /// Another descriptor of the same socket, to send from.
    pub(super) fn duplicate(&self) -> Result<OwnedFd, SysError> {
        self.fd.try_clone().map_err(|error| SysError::from_io("dup", format!("UDP port {}", self.port.port), &error))
    }

    /// Joins a group on an interface, as the endpoint says; what is for the group arrives here and at no other socket.
    pub fn join(&self, endpoint: &Endpoint) -> Result<(), SysError> {
        let index = endpoint.ifindex.unwrap_or(0);
        let joined = match endpoint.local {
            Some(IpAddr::V4(group)) => {
                let request = libc::ip_mreqn {
                    imr_multiaddr: libc::in_addr { s_addr: u32::from_ne_bytes(group.octets()) },
                    imr_address: libc::in_addr { s_addr: 0 },
                    imr_ifindex: index as c_int,
                };
                set(self.fd(), libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request)
            }
            Some(IpAddr::V6(group)) => {
                let ipv6mr_multiaddr = libc::in6_addr { s6_addr: group.octets() };
                let request = libc::ipv6_mreq { ipv6mr_multiaddr, ipv6mr_interface: index };
                set(self.fd(), libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &request)
            }
            None => Ok(()),
        };
        joined.map_err(|errno| SysError::new("IP_ADD_MEMBERSHIP", format!("{:?} on interface {index}", endpoint.local), errno))
    }

    /// Leaves broadcasts to another socket of the port: the kernel gives each of them a copy, however flows are spread over them.
    pub fn refuse_broadcasts(&self) -> Result<(), SysError> {
        const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
        let mut filter = [
            libc::sock_filter { code: 0x30, jt: 0, jf: 0, k: PACKET_TYPE }, // ldb: the packet's type
            libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: 0 },           // PACKET_HOST, for this host alone?
            libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: u32::MAX },    // take it
            libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 },           // leave it
        ];
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        set(self.fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
            .map_err(|errno| SysError::new("SO_ATTACH_FILTER", format!("UDP port {}", self.port.port), errno))
    }

    /// Lets trains arrive whole, or not, while packets flow.
    pub fn set_gro(&self, on: bool) -> Result<(), SysError> {
        set(self.fd(), libc::SOL_UDP, libc::UDP_GRO, &c_int::from(on))
            .map_err(|errno| SysError::new("UDP_GRO", format!("UDP port {}", self.port.port), errno))
    }

    /// For polling.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Datagrams that the kernel threw away: the receive buffer was full, the checksum wrong, or the filter refused them.
    pub fn losses(&self) -> u64 {
        const WORDS: usize = 9; // SK_MEMINFO_VARS
        const DROPS: usize = 8; // SK_MEMINFO_DROPS
        let mut words = [0u32; WORDS];
        let mut len = size_of::<[u32; WORDS]>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes into a live array.
        unsafe { libc::getsockopt(self.fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, words.as_mut_ptr().cast(), &mut len) };
        words.get(DROPS).copied().map_or(0, u64::from)
    }
}

/// Tries whether the kernel knows UDP_SEGMENT and UDP_GRO.
pub fn probe() -> (bool, bool) {
    socket(false).map_or((false, false), |socket| {
        let fd = socket.as_raw_fd();
        (
            set::<c_int>(fd, libc::SOL_UDP, libc::UDP_SEGMENT, &0).is_ok(),
            set::<c_int>(fd, libc::SOL_UDP, libc::UDP_GRO, &1).is_ok(),
        )
    })
}
