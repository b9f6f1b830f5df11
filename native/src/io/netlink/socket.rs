//! A NETLINK_ROUTE socket: asks, waits for the acknowledgement, collects dumps.

use super::super::error::SysError;
use super::codec::{self, Message, Request, attributes_after, i32_at, messages};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The kernel cuts dumps to 32 KiB a datagram (netlink_dump); one link is far below it as long as virtual functions are not asked for.
const BUFFER: usize = 64 << 10;
/// Answers are there when sendto(2) returns; this only guards against a kernel that does not keep to it.
const PATIENCE_SECONDS: libc::time_t = 5;
/// How often a dump that a change came between is begun anew.
const DUMP_ATTEMPTS: u32 = 10;
/// Most datagrams thrown away after a failure; only there to make the loop end.
const DRAIN_MAX: u32 = 10_000;
/// Attribute of an acknowledgement that holds a sentence (`enum nlmsgerr_attrs`).
const NLMSGERR_ATTR_MSG: u16 = 1;
/// An acknowledgement without the request's payload is `int error` and the request's header.
const CAPPED_ACK: usize = 4 + codec::HEADER;

/// The socket and its receive buffer.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    buffer: Box<[u8]>,
    sequence: u32,
}

/// What one receive gave.
pub enum Received<'a> {
    /// A datagram of the kernel.
    Datagram(&'a [u8]),
    /// Nothing is there.
    Nothing,
    /// The kernel threw notifications away since the last receive.
    Overrun,
}

impl Socket {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> Result<Socket, SysError> {
        Socket::subscribed(0, 0)
    }

    /// As `open`, with a mask of multicast groups (`RTMGRP_*`) and more `SOCK_*` flags.
    pub fn subscribed(groups: u32, flags: i32) -> Result<Socket, SysError> {
        // SAFETY: takes no memory; the result is checked.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags, libc::NETLINK_ROUTE) };
        if raw < 0 {
            return Err(SysError::last("socket", "NETLINK_ROUTE"));
        }
        // SAFETY: `raw` was just opened and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let patience = libc::timeval { tv_sec: PATIENCE_SECONDS, tv_usec: 0 };
        set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &patience)
            .map_err(|error| SysError::from_io("SO_RCVTIMEO", "NETLINK_ROUTE", &error))?;
        // Both only make failures easier to read (Linux >= 4.12); the numbers come without them.
        let _ = set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &1i32);
        let _ = set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1i32);
        let address = kernel_address(groups);
        // SAFETY: `address` is a whole sockaddr_nl and the length is its size.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_nl>() as u32) };
        if bound != 0 {
            return Err(SysError::last("bind", "NETLINK_ROUTE"));
        }
        Ok(Socket { fd, buffer: vec![0; BUFFER].into_boxed_slice(), sequence: 0 })
    }

    /// The descriptor, for polling.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Makes room for notifications that nobody reads yet.
    pub fn set_receive_buffer(&self, bytes: i32) {
        // The FORCE form goes past net.core.rmem_max and needs CAP_NET_ADMIN. With less room there are overruns, which are told.
        if set_option(&self.fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes).is_err() {
            let _ = set_option(&self.fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes);
        }
    }

    /// Asks for a change and waits until the kernel says that it is made, or why not.
    pub fn change(&mut self, request: Request, object: &str) -> Result<(), SysError> {
        let call = call_name(request.kind());
        let sequence = self.send(&request.with_flags(libc::NLM_F_ACK), object)?;
        self.answers(sequence, call, object, |message| match message.kind {
            codec::ERROR => acknowledged(message, call, object).map(Some),
            _ => Ok(None),
        })
    }

    /// Asks for one thing. `parse` gives `None` for a message that it cannot read.
    pub fn get<T>(&mut self, request: Request, object: &str, parse: impl Fn(&Message<'_>) -> Option<T>) -> Result<T, SysError> {
        let call = call_name(request.kind());
        let sequence = self.send(&request, object)?;
        self.answers(sequence, call, object, |message| {
            if message.kind == codec::ERROR {
                acknowledged(message, call, object)?;
            }
            parse(message).map(Some).ok_or_else(|| unreadable(call, object))
        })
    }

    /// Asks for all things of a kind, anew as long as changes come between. Messages that `parse` gives `None` for are left out.
    pub fn dump<T>(
        &mut self,
        request: Request,
        object: &str,
        parse: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, SysError> {
        let call = call_name(request.kind());
        let request = request.with_flags(libc::NLM_F_DUMP);
        until_whole(call, object, || {
            let mut dump = Dump { found: Vec::new(), interrupted: false };
            let sequence = self.send(&request, object)?;
            self.answers(sequence, call, object, |message| {
                dump.interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match message.kind {
                    codec::DONE | codec::ERROR => acknowledged(message, call, object).map(Some),
                    _ => {
                        dump.found.extend(parse(message));
                        Ok(None)
                    }
                }
            })?;
            Ok(dump)
        })
    }

    /// Takes one datagram; waits for it unless the socket is non-blocking.
    pub fn receive(&mut self, flags: i32) -> io::Result<Received<'_>> {
        loop {
            let mut sender = kernel_address(0);
            let mut sender_size = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer` and `sender_size` bytes into `sender`; both are
            // borrowed mutably for the call. MSG_TRUNC makes it return the true length.
            let length = unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    libc::MSG_TRUNC | flags,
                    (&raw mut sender).cast(),
                    &raw mut sender_size,
                )
            };
            let Ok(length) = usize::try_from(length) else {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EAGAIN) => return Ok(Received::Nothing),
                    Some(libc::ENOBUFS) => return Ok(Received::Overrun),
                    _ => return Err(error),
                }
            };
            if sender.nl_pid != 0 {
                continue; // Any process may send here; only the kernel is port 0.
            }
            return self.buffer.get(..length).map(Received::Datagram).ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
    }

    fn send(&mut self, request: &Request, object: &str) -> Result<u32, SysError> {
        self.sequence = self.sequence.wrapping_add(1).max(1); // 0 is what notifications have
        let bytes = request.stamped(self.sequence);
        let kernel = kernel_address(0);
        loop {
            // SAFETY: `bytes` and `kernel` are valid for the lengths given.
            let sent = unsafe {
                libc::sendto(
                    self.fd.as_raw_fd(),
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    0,
                    (&raw const kernel).cast(),
                    size_of::<libc::sockaddr_nl>() as u32,
                )
            };
            if sent >= 0 {
                return Ok(self.sequence);
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINTR) {
                return Err(SysError::from_io(call_name(request.kind()), object, &error));
            }
        }
    }

    /// Gives `take` every message that answers `sequence`, until it returns a value or an error. Answers to an earlier request that
    /// was given up are passed over.
    fn answers<T>(
        &mut self,
        sequence: u32,
        call: &str,
        object: &str,
        mut take: impl FnMut(&Message<'_>) -> Result<Option<T>, SysError>,
    ) -> Result<T, SysError> {
        loop {
            let failure = match self.receive(0) {
                Ok(Received::Datagram(datagram)) => {
                    for message in messages(datagram).filter(|message| message.sequence == sequence) {
                        if let Some(value) = take(&message)? {
                            return Ok(value);
                        }
                    }
                    continue;
                }
                Ok(Received::Nothing) => SysError::new(call, object, libc::ETIMEDOUT)
                    .with_detail(format!("the kernel did not answer for {PATIENCE_SECONDS} seconds")),
                Ok(Received::Overrun) => SysError::new(call, object, libc::ENOBUFS),
                Err(error) => SysError::from_io(call, object, &error),
            };
            self.drain();
            return Err(failure);
        }
    }

    /// Takes the rest of an answer that was given up: the kernel refuses the next dump while one is unfinished.
    fn drain(&mut self) {
        for _ in 0..DRAIN_MAX {
            if let Ok(Received::Nothing) = self.receive(libc::MSG_DONTWAIT) {
                return;
            }
        }
    }
}

/// One try at a dump.
struct Dump<T> {
    found: Vec<T>,
    /// Something changed between two datagrams of it, so a thing may be missing or be there twice.
    interrupted: bool,
}

fn until_whole<T>(call: &str, object: &str, mut dump: impl FnMut() -> Result<Dump<T>, SysError>) -> Result<Vec<T>, SysError> {
    for _ in 0..DUMP_ATTEMPTS {
        let Dump { found, interrupted } = dump()?;
        if !interrupted {
            return Ok(found);
        }
    }
    Err(SysError::new(call, object, libc::EAGAIN)
        .with_detail(format!("changed while being read, {DUMP_ATTEMPTS} times in a row; try again")))
}

/// Reads `NLMSG_ERROR` (0 = done as asked) and the end of a dump.
fn acknowledged(message: &Message<'_>, call: &str, object: &str) -> Result<(), SysError> {
    match i32_at(message.payload, 0) {
        Some(0) => Ok(()),
        Some(error) => {
            let failure = SysError::new(call, object, error.saturating_neg());
            Err(match kernel_sentence(message) {
                Some(sentence) => failure.with_detail(sentence),
                None => failure,
            })
        }
        None => Err(unreadable(call, object)),
    }
}

fn kernel_sentence(message: &Message<'_>) -> Option<String> {
    if message.flags & libc::NLM_F_ACK_TLVS as u16 == 0 {
        return None;
    }
    let header = if message.kind == codec::DONE {
        4
    } else if message.flags & libc::NLM_F_CAPPED as u16 != 0 {
        CAPPED_ACK
    } else {
        // The whole request comes back before the attributes.
        codec::u32_at(message.payload, 4)?.checked_add(4 + 3)? as usize & !3
    };
    attributes_after(message.payload, header).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG).map(|(_, value)| codec::text(value))
}

fn unreadable(call: &str, object: &str) -> SysError {
    SysError::new(call, object, libc::EBADMSG).with_detail("the kernel's answer is not as rtnetlink(7) says")
}

fn kernel_address(groups: u32) -> libc::sockaddr_nl {
    // SAFETY: sockaddr_nl is numbers only; all zero is a valid value (port 0: the kernel, or "choose one" when binding).
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    address
}

fn set_option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is borrowed for the call and its size is given.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), size_of::<T>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn call_name(kind: u16) -> &'static str {
    match kind {
        libc::RTM_NEWLINK => "RTM_NEWLINK",
        libc::RTM_DELLINK => "RTM_DELLINK",
        libc::RTM_GETLINK => "RTM_GETLINK",
        libc::RTM_SETLINK => "RTM_SETLINK",
        libc::RTM_NEWADDR => "RTM_NEWADDR",
        libc::RTM_DELADDR => "RTM_DELADDR",
        libc::RTM_GETADDR => "RTM_GETADDR",
        libc::RTM_NEWROUTE => "RTM_NEWROUTE",
        libc::RTM_DELROUTE => "RTM_DELROUTE",
        libc::RTM_GETROUTE => "RTM_GETROUTE",
        _ => "rtnetlink",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledgement(kind: u16, flags: i32, payload: &[u8]) -> String {
        let message = Message { kind, flags: flags as u16, sequence: 1, payload };
        acknowledged(&message, "RTM_NEWROUTE", "x").map_or_else(|error| error.to_string(), |()| "done".to_owned())
    }

    #[test]
    fn an_acknowledgement_carries_the_number_and_the_kernels_sentence() {
        const TLVS: i32 = libc::NLM_F_ACK_TLVS;
        let sentence = [&[9, 0, 1, 0][..], b"why!\0\0\0\0"].concat();
        let failed = (-libc::EINVAL).to_ne_bytes();
        let request = Request::new(24, 0, &[7; 12]).stamped(1);
        let said = "RTM_NEWROUTE on x: EINVAL (Invalid argument): why!";

        assert_eq!(acknowledgement(codec::ERROR, 0, &[0; 20]), "done");
        assert_eq!(acknowledgement(codec::ERROR, 0, &failed), "RTM_NEWROUTE on x: EINVAL (Invalid argument)");
        let capped = [&failed[..], &request[..codec::HEADER], &sentence].concat();
        assert_eq!(acknowledgement(codec::ERROR, libc::NLM_F_CAPPED | TLVS, &capped), said);
        let whole = [&failed[..], &request, &sentence].concat();
        assert_eq!(acknowledgement(codec::ERROR, TLVS, &whole), said);
        let end_of_dump = [&failed[..], &sentence].concat();
        assert_eq!(acknowledgement(codec::DONE, TLVS, &end_of_dump), said);
    }

    #[test]
    fn a_dump_that_a_change_came_between_is_begun_anew() {
        let mut tries = 0;
        let found = until_whole("RTM_GETLINK", "links", || {
            tries += 1;
            Ok(Dump { found: vec![tries], interrupted: tries < 3 })
        });
        assert_eq!(found, Ok(vec![3]));
        let restless = until_whole::<u32>("RTM_GETLINK", "links", || Ok(Dump { found: Vec::new(), interrupted: true }));
        assert_eq!(restless.map_err(|error| error.errno), Err(libc::EAGAIN));
    }

    /// The loopback link is there for everybody; reading needs no privilege.
    fn link(index: u32) -> Request {
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        Request::new(libc::RTM_GETLINK, 0, &header)
    }

    fn index(message: &Message<'_>) -> Option<u32> {
        codec::u32_at(message.payload, 4)
    }

    #[test]
    fn an_answer_that_nobody_read_is_not_taken_for_the_next_one() {
        let mut socket = Socket::open().unwrap();
        socket.send(&link(999_999), "left").unwrap();
        socket.send(&link(0).with_flags(libc::NLM_F_DUMP), "left").unwrap();
        assert_eq!(socket.get(link(1), "lo", index), Ok(1));
    }

    #[test]
    fn a_dump_that_was_given_up_does_not_block_the_next() {
        let mut socket = Socket::open().unwrap();
        socket.send(&link(0).with_flags(libc::NLM_F_DUMP), "left").unwrap();
        socket.drain();
        assert!(socket.dump(link(0), "links", index).unwrap().contains(&1));
    }

    #[test]
    fn an_acknowledgement_that_is_cut_short_is_an_error_and_not_a_success() {
        assert!(acknowledgement(codec::ERROR, 0, &[0; 3]).contains("EBADMSG"));
        assert!(acknowledgement(codec::ERROR, libc::NLM_F_ACK_TLVS, &[255; 4]).contains("EPERM"));
        assert!(acknowledgement(codec::ERROR, libc::NLM_F_ACK_TLVS, &[255; 8]).contains("EPERM"));
        assert!(acknowledgement(codec::ERROR, 0, &i32::MIN.to_ne_bytes()).contains("EUNKNOWN"));
    }
}
