//! A socket's error queue (`IP_RECVERR`, ip(7)): ICMP errors about what it sent, each with the start of the packet that it quotes.

use super::udp::SockAddr;
use std::ffi::c_int;
use std::mem::{size_of, zeroed};
use std::net::SocketAddr;

/// Errors taken in one call; more stay for the next.
const BATCH: usize = 32;
/// `struct sock_extended_err` of linux/errqueue.h: errno (4), origin, type, code, padding, info (4), data (4).
const EXTENDED: usize = 16;
const LOCAL: u8 = 1;
const ICMP: u8 = 2;
const ICMP6: u8 = 3;

/// What one error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathError {
    /// Where the packet that it is about was for.
    pub to: SocketAddr,
    /// The VXLAN header that it quotes; absent where less is quoted, and in an error of this host's own.
    pub header: Option<[u8; 8]>,
    /// The largest IP packet that gets through, in an error that says so.
    pub mtu: Option<u32>,
    /// It comes from this host's kernel: the packet did not fit the interface.
    pub local: bool,
}

/// Takes what the queue holds; how many errors came from the network. Taking them also clears the socket's pending error, which would
/// fail the next send, whomever it is for.
pub fn drain(fd: c_int, seen: &mut dyn FnMut(PathError)) -> usize {
    let mut remote = 0;
    for _ in 0..BATCH {
        let Some(error) = receive(fd) else { break };
        remote += usize::from(!error.local);
        seen(error);
    }
    remote
}

fn receive(fd: c_int) -> Option<PathError> {
    // SAFETY: socket addresses and msghdr are plain data for which zero is valid.
    let (mut name, mut header): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    let mut data = [0u8; 8];
    #[repr(C, align(8))]
    struct Control([u8; 512]);
    let mut control = Control([0; 512]);
    let mut iovec = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    header.msg_name = std::ptr::from_mut(&mut name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = &mut iovec;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: all that the header points to lives through the call, with the lengths that it says.
    let length = unsafe { libc::recvmsg(fd, &mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).ok()?;
    let (mut origin, mut errno, mut info) = (0, 0, 0);
    // SAFETY: the kernel wrote well-formed control messages of msg_controllen bytes into the buffer; the macros stay inside it, and
    // EXTENDED bytes are read only where the message has them.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&header);
        while let Some(found) = message.as_ref() {
            let is_error = matches!(
                (found.cmsg_level, found.cmsg_type),
                (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            );
            if is_error && found.cmsg_len >= libc::CMSG_LEN(EXTENDED as u32) as usize {
                let bytes = libc::CMSG_DATA(message).cast::<[u8; EXTENDED]>().read_unaligned();
                let word = |at: usize| bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk));
                (errno, origin, info) = (word(0).unwrap_or(0), bytes[4], word(8).unwrap_or(0));
            }
            message = libc::CMSG_NXTHDR(&header, message);
        }
    }
    let too_big = errno == libc::EMSGSIZE as u32 && matches!(origin, LOCAL | ICMP | ICMP6);
    Some(PathError {
        to: SockAddr::read(&name),
        header: (length == data.len() && origin != LOCAL).then_some(data),
        mtu: too_big.then_some(info),
        local: origin == LOCAL,
    })
}
