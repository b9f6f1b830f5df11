//! A batch on its way to the kernel: one call for each socket, and for what is refused another try, or a name and its end.

use super::kernel::{Control, Kernel, write_control};
use super::{Buffer, Link, Message, NONE, Piece, SendBatch, SendFault, Sent};
use crate::counters::LaneCounters;
use crate::drops::DropReason;
use crate::io::errqueue::PathError;
use crate::io::pool::SendPool;
use std::mem::zeroed;
use std::sync::Arc;

/// Messages handed over with one call (UIO_MAXIOV is 1024).
const MAX_MESSAGES: usize = 256;

/// Told of each message what became of it.
type Outcome<'a> = dyn FnMut(Result<(), (DropReason, Option<SendFault>)>, &Message) + 'a;

/// Most times that one message is tried again because an ICMP error about another one failed it.
const MAX_RETRIES: usize = 8;

/// Where a batch goes, and who is told of ICMP errors that its sockets had queued.
pub(super) struct Way<'a> {
    pub(super) kernel: &'a dyn Kernel,
    pub(super) pool: &'a SendPool,
    pub(super) errors: &'a mut dyn FnMut(PathError),
}

impl Way<'_> {
    /// Sends. An ICMP error that was waiting at the socket fails the send that comes next, whomever that is for: it is taken from the
    /// queue and the send tried again.
    ///
    /// # Safety
    /// As [`Kernel::send`].
    unsafe fn send(&mut self, fd: i32, messages: &mut [libc::mmsghdr]) -> Result<usize, i32> {
        for _ in 0..MAX_RETRIES {
            // SAFETY: the caller's promise.
            match unsafe { self.kernel.send(fd, messages) } {
                Err(errno) if self.pool.has_errors() && !is_passing(errno) && self.kernel.drain(fd, self.errors) > 0 => {}
                result => return result,
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.kernel.send(fd, messages) }
    }
}

impl SendBatch {
    pub(super) fn flush_to(
        &mut self,
        mut way: Way<'_>,
        buffers: [&[u8]; 2],
        counters: &LaneCounters,
        mut dropped: impl FnMut(DropReason, u64),
    ) -> (Sent, Option<SendFault>) {
        let (mut sent, mut fault) = (Sent::default(), None);
        let tunnel_len = way.pool.framing.tunnel_len() as u64;
        self.order.clear();
        self.order.extend(0..self.messages.len() as u32);
        let messages = &self.messages;
        // Stable by construction: the index is part of the key, so a flow keeps its order.
        self.order.sort_unstable_by_key(|index| (messages.get(*index as usize).map_or(0, |message| message.socket), *index));
        let order = std::mem::take(&mut self.order);
        let mut rest = order.as_slice();
        while let Some(first) = rest.first().and_then(|index| self.messages.get(*index as usize)) {
            let socket = first.socket;
            let same = rest
                .iter()
                .take(MAX_MESSAGES)
                .take_while(|index| self.messages.get(**index as usize).is_some_and(|m| m.socket == socket));
            let (group, others) = rest.split_at(same.count());
            rest = others;
            self.send_group(&mut way, socket, group, buffers, counters, &mut |outcome, message| match outcome {
                Ok(()) => {
                    let overhead = u64::from(message.datagrams) * tunnel_len;
                    let bytes = u64::from(message.bytes).saturating_sub(overhead);
                    sent.packets += u64::from(message.datagrams);
                    sent.bytes += bytes;
                    message.peer.sent(u64::from(message.datagrams), bytes);
                }
                Err((reason, error)) => {
                    dropped(reason, u64::from(message.datagrams));
                    fault = fault.or(error);
                }
            });
        }
        self.order = order;
        self.links.clear();
        self.messages.clear();
        self.open.fill(NONE);
        (sent, fault)
    }

    fn pieces(links: &[Link], head: u32) -> impl Iterator<Item = &Link> {
        std::iter::successors(links.get(head as usize), |link| links.get(link.next as usize))
    }

    fn send_group(
        &mut self,
        way: &mut Way<'_>,
        socket: usize,
        group: &[u32],
        buffers: [&[u8]; 2],
        counters: &LaneCounters,
        outcome: &mut Outcome<'_>,
    ) {
        self.iovecs.clear();
        self.headers.clear();
        self.controls.clear();
        // First all iovecs and control buffers, then the headers that point to them: no vector grows under a pointer.
        for message in group.iter().filter_map(|index| self.messages.get(*index as usize)) {
            for link in Self::pieces(&self.links, message.head) {
                self.iovecs.push(to_iovec(link.piece, buffers));
            }
            self.controls.push(Control::EMPTY);
        }
        let mut iovec = self.iovecs.as_mut_ptr();
        for (message, control) in group.iter().filter_map(|index| self.messages.get(*index as usize)).zip(&mut self.controls) {
            // SAFETY: msghdr is plain data for which zero is valid.
            let mut header: libc::msghdr = unsafe { zeroed() };
            header.msg_name = message.native.as_ptr().cast_mut().cast();
            header.msg_namelen = message.native.len;
            header.msg_iov = iovec;
            header.msg_iovlen = message.pieces as _;
            // The kernel leaves a partial checksum on a single short datagram that carries the segment message (fixed in 6.11).
            let segment = (message.datagrams > 1).then_some(message.segment);
            write_control(&mut header, control, segment, message.outer, way.pool.v6, way.pool.local);
            // SAFETY: `iovecs` holds exactly the sum of all `pieces`, so this stays within it or one past its end.
            iovec = unsafe { iovec.add(message.pieces as usize) };
            self.headers.push(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
        }
        let fd = way.pool.fd(socket);
        let (mut next, mut waits) = (0, 0);
        while next < self.headers.len() {
            let Some(pending) = self.headers.get_mut(next..) else { return };
            counters.udp_sends.add(1);
            // SAFETY: each header points to an address, iovecs and a control buffer that live in `self`, and through the iovecs to
            // `buffers`, all of which outlive the call; lengths are as built above.
            let errno = match unsafe { way.send(fd, pending) } {
                Ok(count) => {
                    counters.udp_messages_sent.add(count as u64);
                    for message in group.iter().skip(next).take(count).filter_map(|index| self.messages.get(*index as usize)) {
                        outcome(Ok(()), message);
                    }
                    next += count;
                    waits = 0;
                    continue;
                }
                Err(errno) => errno,
            };
            match errno {
                libc::EINTR => continue,
                // Room comes back when the interface has taken something; a lane that waits here makes the TAP's queue hold the
                // sender back, which is better than to throw away.
                libc::EAGAIN | libc::ENOBUFS if waits < 5 => {
                    waits += 1;
                    way.kernel.wait_for_room(fd);
                    continue;
                }
                _ => {}
            }
            if let Some(message) = group.get(next).and_then(|index| self.messages.get(*index as usize)) {
                if message.datagrams > 1 && matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE) {
                    if errno == libc::EIO {
                        // No checksum offload on the way out (before Linux 6.11): trains cannot be sent at all.
                        way.pool.set_segments(false);
                    }
                    Self::send_singly(way, &self.links, message, fd, buffers, outcome);
                    if errno != libc::EMSGSIZE {
                        outcome(Err((DropReason::TxSocketError, Some(("UDP_SEGMENT", errno)))), &empty(message));
                    }
                } else {
                    outcome(Err(reason(errno)), message);
                }
            }
            next += 1;
            waits = 0;
        }
    }

    /// The datagrams of a refused train, each on its own: then the kernel may fragment them.
    fn send_singly(
        way: &mut Way<'_>,
        links: &[Link],
        message: &Message,
        fd: i32,
        buffers: [&[u8]; 2],
        outcome: &mut Outcome<'_>,
    ) {
        let mut datagram: Vec<Piece> = Vec::with_capacity(2);
        let mut send = |pieces: &mut Vec<Piece>| {
            if pieces.is_empty() {
                return;
            }
            let mut iovecs: Vec<libc::iovec> = pieces.iter().map(|piece| to_iovec(*piece, buffers)).collect();
            let mut control = Control::EMPTY;
            // SAFETY: msghdr is plain data for which zero is valid.
            let mut header: libc::msghdr = unsafe { zeroed() };
            header.msg_name = message.native.as_ptr().cast_mut().cast();
            header.msg_namelen = message.native.len;
            header.msg_iov = iovecs.as_mut_ptr();
            header.msg_iovlen = iovecs.len() as _;
            write_control(&mut header, &mut control, None, message.outer, way.pool.v6, way.pool.local);
            let mut header = [libc::mmsghdr { msg_hdr: header, msg_len: 0 }];
            // SAFETY: all that the header points to lives until the call returns.
            let result = unsafe { way.send(fd, &mut header) };
            let bytes = pieces.iter().map(|piece| piece.len).sum();
            let single = Message { datagrams: 1, bytes, ..empty(message) };
            outcome(result.map(|_| ()).map_err(reason), &single);
            pieces.clear();
        };
        for link in Self::pieces(links, message.head) {
            if link.first {
                send(&mut datagram);
            }
            datagram.push(link.piece);
        }
        send(&mut datagram);
    }
}

/// True for what is no error about a packet.
fn is_passing(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::ENOBUFS | libc::EINTR)
}

/// A message to the same peer without datagrams.
fn empty(message: &Message) -> Message {
    Message {
        socket: message.socket,
        address: message.address,
        native: message.native,
        outer: message.outer,
        segment: message.segment,
        datagrams: 0,
        bytes: 0,
        closed: true,
        head: NONE,
        tail: NONE,
        pieces: 0,
        peer: Arc::clone(&message.peer),
    }
}

fn to_iovec(piece: Piece, [frames, headers]: [&[u8]; 2]) -> libc::iovec {
    let buffer = if piece.buffer == Buffer::Frames { frames } else { headers };
    let bytes = buffer.get(piece.at as usize..(piece.at + piece.len) as usize).unwrap_or_default();
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

fn reason(errno: i32) -> (DropReason, Option<SendFault>) {
    match errno {
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL => {
            (DropReason::TxUnroutable, Some(("sendmmsg", errno)))
        }
        libc::EMSGSIZE => (DropReason::TxTooBig, None),
        libc::EAGAIN | libc::ENOBUFS => (DropReason::TxQueueFull, None),
        _ => (DropReason::TxSocketError, Some(("sendmmsg", errno))),
    }
}
