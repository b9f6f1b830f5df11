//! The calls that send, and their control messages.

use crate::io::errqueue::{self, PathError};
use crate::io::event::{PollFd, poll};
use crate::wire::outer::Outer;
use std::mem::size_of;
use std::net::IpAddr;

/// Room for the control messages of one message: UDP_SEGMENT (u16), the traffic class and the hop limit (ints), and the
/// interface with the source address (`in6_pktinfo`).
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Control([u8; 112]); // CMSG_SPACE(2) + 2 * CMSG_SPACE(4) + CMSG_SPACE(20)

impl Control {
    /// Without a message.
    pub const EMPTY: Control = Control([0; 112]);
}

/// What is asked of the kernel; tests put a script in its place.
pub trait Kernel {
    /// `sendmmsg`, never waiting: how many of the messages were taken (at least one), or the errno of the first.
    ///
    /// # Safety
    /// Everything that the headers point to must live through the call, with the lengths that they say.
    unsafe fn send(&self, fd: i32, messages: &mut [libc::mmsghdr]) -> Result<usize, i32>;

    /// Waits a little for room in a socket's buffer.
    fn wait_for_room(&self, fd: i32);

    /// Empties a socket's error queue; how many errors came from the network.
    fn drain(&self, fd: i32, seen: &mut dyn FnMut(PathError)) -> usize;
}

/// The real one.
pub struct Linux;

impl Kernel for Linux {
    unsafe fn send(&self, fd: i32, messages: &mut [libc::mmsghdr]) -> Result<usize, i32> {
        let (first, count) = (messages.as_mut_ptr(), messages.len() as libc::c_uint);
        // SAFETY: the slice holds `count` headers; what they point to is the caller's promise.
        let sent = unsafe { libc::sendmmsg(fd, first, count, libc::MSG_DONTWAIT as _) };
        match usize::try_from(sent) {
            Ok(sent @ 1..) => Ok(sent),
            _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        }
    }

    fn wait_for_room(&self, fd: i32) {
        let _ = poll(&mut [PollFd { fd, events: libc::POLLOUT, revents: 0 }], 2);
    }

    fn drain(&self, fd: i32, seen: &mut dyn FnMut(PathError)) -> usize {
        errqueue::drain(fd, seen)
    }
}

/// Appends UDP_SEGMENT, traffic class, hop limit and interface where they are needed, and sets the length to exactly what was written.
pub fn write_control(
    header: &mut libc::msghdr,
    control: &mut Control,
    segment: Option<u32>,
    outer: Outer,
    v6: bool,
    local: Option<IpAddr>,
) {
    let mut used = 0;
    let mut append = |level: libc::c_int, kind: libc::c_int, data: &[u8]| {
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
        let (space, len) = unsafe { (libc::CMSG_SPACE(data.len() as u32), libc::CMSG_LEN(data.len() as u32)) };
        let prefix = libc::cmsghdr { cmsg_len: len as _, cmsg_level: level, cmsg_type: kind };
        let Some(room) = control.0.get_mut(used..used + space as usize) else { return };
        // SAFETY: `room` is CMSG_SPACE(data) bytes and starts at a multiple of 8 in an 8-aligned buffer.
        unsafe { room.as_mut_ptr().cast::<libc::cmsghdr>().write(prefix) };
        for (to, from) in room.iter_mut().skip(size_of::<libc::cmsghdr>()).zip(data) {
            *to = *from;
        }
        used += space as usize;
    };
    if let Some(segment) = segment {
        append(libc::SOL_UDP, libc::UDP_SEGMENT, &(segment as u16).to_ne_bytes());
    }
    if outer.tos != 0 {
        let (level, kind) = if v6 { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) } else { (libc::IPPROTO_IP, libc::IP_TOS) };
        append(level, kind, &libc::c_int::from(outer.tos).to_ne_bytes());
    }
    if outer.ttl != 0 {
        let (level, kind) = if v6 { (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) } else { (libc::IPPROTO_IP, libc::IP_TTL) };
        append(level, kind, &libc::c_int::from(outer.ttl).to_ne_bytes());
    }
    if outer.via != 0 {
        // With the interface comes the source address, which replaces the socket's: it is said again.
        match local {
            Some(IpAddr::V6(address)) => {
                append(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[&address.octets()[..], &outer.via.to_ne_bytes()].concat());
            }
            None if v6 => append(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[&[0; 16][..], &outer.via.to_ne_bytes()].concat()),
            local => {
                let source = if let Some(IpAddr::V4(address)) = local { address.octets() } else { [0; 4] };
                append(libc::IPPROTO_IP, libc::IP_PKTINFO, &[outer.via.to_ne_bytes(), source, [0; 4]].concat());
            }
        }
    }
    if used > 0 {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = used as _;
    }
}
