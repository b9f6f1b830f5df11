//! Receiving: what one socket has, at most a batch of it, into memory that is kept and reused.

use super::error::SysError;
use super::udp::{ReceiveSocket, SockAddr};
use std::ffi::c_int;
use std::mem::{size_of, zeroed};
use std::net::IpAddr;

/// One datagram, or one train of equal datagrams, in the arena of a [`ReceiveBatch`].
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// Where it starts.
    pub at: usize,
    /// Its length in bytes.
    pub len: usize,
    /// Who sent it.
    pub source: IpAddr,
    /// Length of each segment if the kernel merged several.
    pub segment: Option<usize>,
    /// ECN bits of the outer header.
    pub ecn: u8,
    /// It did not fit the slot.
    pub truncated: bool,
}

/// Room for one 64 KiB datagram: what a kernel peer on a veth sends, and what UDP_GRO merges to.
const SLOT: usize = 65_536;
/// Bytes after which a socket has had its turn.
const QUANTUM: usize = 128 * 1024;
/// Datagrams taken with one call.
const SLOTS: usize = 32;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 96]);

/// What a lane receives into; kept and reused, so that few pages stay warm.
pub struct ReceiveBatch {
    /// The bytes; datagrams point into it.
    pub arena: Vec<u8>,
    datagrams: Vec<Datagram>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    /// Datagrams taken next time: fewer while they are large.
    take: usize,
}

// SAFETY: the raw pointers in `iovecs` and `headers` are written and used within one `receive` only; between calls they are dead.
unsafe impl Send for ReceiveBatch {}

impl Default for ReceiveBatch {
    fn default() -> Self {
        // SAFETY: these C structures are plain data for which zero is valid.
        let (name, iovec, header) = unsafe { (zeroed(), zeroed(), zeroed()) };
        ReceiveBatch {
            arena: vec![0; SLOT * SLOTS],
            datagrams: Vec::with_capacity(SLOTS),
            names: vec![name; SLOTS],
            controls: vec![Control([0; 96]); SLOTS],
            iovecs: vec![iovec; SLOTS],
            headers: vec![header; SLOTS],
            take: SLOTS,
        }
    }
}

impl ReceiveBatch {
    /// Receives what is there, at most one batch; `Ok(0)` when nothing is.
    pub fn receive(&mut self, socket: &ReceiveSocket) -> Result<usize, SysError> {
        self.datagrams.clear();
        for (index, slot) in self.arena.chunks_exact_mut(SLOT).enumerate() {
            let (Some(name), Some(control), Some(iovec), Some(header)) = (
                self.names.get_mut(index),
                self.controls.get_mut(index),
                self.iovecs.get_mut(index),
                self.headers.get_mut(index),
            ) else {
                break;
            };
            *iovec = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            header.msg_len = 0;
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
            header.msg_hdr.msg_flags = 0;
        }
        // SAFETY: every header points to a name, a control buffer, an iovec and through it to a slot that live in `self` and are
        // not otherwise used during the call; their sizes are given as they are.
        let count = unsafe {
            libc::recvmmsg(
                socket.fd(),
                self.headers.as_mut_ptr(),
                self.take as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            let error = SysError::last("recvmmsg", format!("UDP port {}", socket.port.port));
            let nothing = [libc::EAGAIN, libc::EINTR, libc::ECONNREFUSED];
            return if nothing.contains(&error.errno) { Ok(0) } else { Err(error) };
        }
        let count = usize::try_from(count).unwrap_or(0);
        for (index, (header, name)) in self.headers.iter().zip(&self.names).take(count).enumerate() {
            let (segment, ecn) = read_control(&header.msg_hdr);
            self.datagrams.push(Datagram {
                at: index * SLOT,
                len: (header.msg_len as usize).min(SLOT),
                source: SockAddr::read(name).ip(),
                segment,
                ecn,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        let bytes: usize = self.datagrams.iter().map(|datagram| datagram.len).sum();
        self.take = if bytes > QUANTUM { (self.take / 2).max(2) } else { (self.take * 2).min(SLOTS) };
        Ok(count)
    }

    /// What the last call brought, in order, and the bytes.
    pub fn parts(&mut self) -> (&mut Vec<u8>, &[Datagram]) {
        (&mut self.arena, &self.datagrams)
    }
}

/// UDP_GRO's segment length (an int, not the u16 of UDP_SEGMENT) and the ECN bits; other messages are passed over.
fn read_control(header: &libc::msghdr) -> (Option<usize>, u8) {
    let (mut segment, mut ecn) = (None, 0);
    // SAFETY: the kernel wrote well-formed control messages of msg_controllen bytes into the buffer; the macros stay inside it.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = message.as_ref() {
            let data = libc::CMSG_DATA(message);
            let len = control.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
            match (control.cmsg_level, control.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) if len >= size_of::<c_int>() => {
                    segment = usize::try_from(data.cast::<c_int>().read_unaligned()).ok().filter(|len| *len > 0);
                }
                (libc::IPPROTO_IP, libc::IP_TOS) if len >= 1 => ecn = data.read() & 3,
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if len >= size_of::<c_int>() => {
                    ecn = (data.cast::<c_int>().read_unaligned() & 3) as u8;
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    (segment, ecn)
}
