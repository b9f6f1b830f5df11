//! A raw socket: sends IPv4 packets as if this host's kernel had made them.
//!
//! An ICMP error from the tunnel's own address cannot be written to the TUN: the kernel takes a packet that comes in with one of its own
//! addresses as source for a martian (`fib_validate_source`), and `accept_local`, which lets it in, would let peers' forgeries in, too.

use super::error::SysError;
use super::netns::Netns;
use super::udp::SockAddr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Sends only: the kernel gives nothing to a socket of `IPPROTO_RAW`.
pub struct RawSocket(OwnedFd);

impl RawSocket {
    /// Opens one in a namespace; needs CAP_NET_RAW.
    pub fn open(netns: &Netns) -> Result<Self, SysError> {
        netns.run(|| {
            let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: takes no pointers.
            let fd = unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_RAW) };
            if fd < 0 {
                return Err(SysError::last("socket", "raw IPv4, for ICMP errors (CAP_NET_RAW)"));
            }
            // SAFETY: just created, owned by nobody else.
            Ok(RawSocket(unsafe { OwnedFd::from_raw_fd(fd) }))
        })
    }

    /// Sends a packet with its header; never blocks.
    pub fn send(&self, packet: &[u8], to: Ipv4Addr) -> io::Result<()> {
        let address = SockAddr::new(SocketAddr::from((to, 0)));
        // SAFETY: packet and address live through the call, their lengths are right.
        let sent =
            unsafe { libc::sendto(self.0.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, address.as_ptr(), address.len) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
