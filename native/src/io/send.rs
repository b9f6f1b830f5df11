//! Sending: datagrams of one turn, grouped into trains, sent with as few calls as there are source ports in use.
//!
//! A *datagram* is `[VXLAN header][frame]`, in one or two pieces. Consecutive datagrams of one flow's socket, peer, size and outer
//! header become a *train*: one message with UDP_SEGMENT, whose last datagram may be shorter. Pieces are offsets into the
//! caller's two buffers (borrowed until [`SendBatch::flush`] returns), so nothing is copied before the kernel does.

mod flush;
mod kernel;

use super::errqueue::PathError;
use super::pool::SendPool;
use super::udp::SockAddr;
use crate::counters::LaneCounters;
use crate::drops::DropReason;
use crate::tables::{Peer, Target};
use crate::wire::outer::Outer;
use flush::Way;
use kernel::{Control, Linux};
use std::net::SocketAddr;
use std::sync::Arc;

/// Linux before 6.9 takes 64 segments; beyond about 44 of full size a datagram train is at 64 KiB anyway.
const MAX_TRAIN: u32 = 64;
/// Largest UDP payload: 65535 less UDP and, for IPv4, IP header.
const MAX_BYTES_V4: u32 = 65_507;
const MAX_BYTES_V6: u32 = 65_527;
const NONE: u32 = u32::MAX;

/// Which of the caller's buffers a piece lies in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Buffer {
    /// What the TAP was read into.
    Frames,
    /// Headers built for segments and for other VNIs.
    Headers,
}

/// A run of bytes in one of the caller's buffers.
#[derive(Clone, Copy)]
pub struct Piece {
    /// Which buffer.
    pub buffer: Buffer,
    /// Where it starts.
    pub at: u32,
    /// Its length in bytes.
    pub len: u32,
}

struct Link {
    piece: Piece,
    /// First piece of a datagram.
    first: bool,
    next: u32,
}

struct Message {
    socket: usize,
    address: SocketAddr,
    native: SockAddr,
    outer: Outer,
    /// Bytes of each datagram but the last.
    segment: u32,
    datagrams: u32,
    bytes: u32,
    /// A shorter datagram ended the train.
    closed: bool,
    head: u32,
    tail: u32,
    pieces: u32,
    peer: Arc<Peer>,
}

/// What became of the batch, for the network's counters.
#[derive(Default)]
pub struct Sent {
    /// Datagrams handed to the kernel.
    pub packets: u64,
    /// Their inner IP packets' bytes.
    pub bytes: u64,
}

/// An error worth an event or a log line: (what was tried, errno).
pub type SendFault = (&'static str, i32);

/// Collects a turn's datagrams; kept and reused.
#[derive(Default)]
pub struct SendBatch {
    links: Vec<Link>,
    messages: Vec<Message>,
    /// By socket: the message that the next datagram may join.
    open: Vec<u32>,
    order: Vec<u32>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    controls: Vec<Control>,
}

// SAFETY: the raw pointers in `iovecs` and `headers` are written and used within one `flush` only; between calls they are dead.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// True when there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Messages collected so far.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Adds one datagram. `max_segment` is the longest datagram that may travel in a train (trains are never fragmented).
    pub fn push(&mut self, pool: &SendPool, socket: usize, target: &Target, outer: Outer, datagram: &[Piece], max_segment: u32) {
        let len: u32 = datagram.iter().map(|piece| piece.len).sum();
        if self.open.len() < pool.len() {
            self.open.resize(pool.len(), NONE);
        }
        let outer = Outer { via: target.via, ..outer };
        let Some(open) = self.open.get_mut(socket) else { return };
        let limit = if pool.v6 { MAX_BYTES_V6 } else { MAX_BYTES_V4 };
        let joins = self.messages.get(*open as usize).is_some_and(|train| {
            !train.closed
                && train.address == target.address
                && train.outer == outer
                && len <= train.segment
                && train.segment <= max_segment
                && train.datagrams < MAX_TRAIN
                && train.bytes + len <= limit
        });
        if !joins || !pool.segments() {
            *open = self.messages.len() as u32;
            self.messages.push(Message {
                socket,
                address: target.address,
                native: SockAddr::new(target.address),
                outer,
                segment: len,
                datagrams: 0,
                bytes: 0,
                closed: false,
                head: NONE,
                tail: NONE,
                pieces: 0,
                peer: Arc::clone(&target.peer),
            });
        }
        let Some(message) = self.messages.get_mut(*open as usize) else { return };
        message.datagrams += 1;
        message.bytes += len;
        message.closed = len < message.segment;
        for (index, piece) in datagram.iter().enumerate() {
            let here = self.links.len() as u32;
            self.links.push(Link { piece: *piece, first: index == 0, next: NONE });
            match self.links.get_mut(message.tail as usize) {
                Some(tail) => tail.next = here,
                None => message.head = here,
            }
            message.tail = here;
            message.pieces += 1;
        }
    }

    /// Sends everything and forgets it. `errors` is told of ICMP errors that the pool's sockets had queued. `dropped` is told of each
    /// message that died: reason and datagrams. Returns what was sent and the first error that an operator should see.
    pub fn flush(
        &mut self,
        pool: &SendPool,
        frames: &[u8],
        headers: &[u8],
        counters: &LaneCounters,
        errors: &mut dyn FnMut(PathError),
        dropped: impl FnMut(DropReason, u64),
    ) -> (Sent, Option<SendFault>) {
        self.flush_to(Way { kernel: &Linux, pool, errors }, [frames, headers], counters, dropped)
    }
}

#[cfg(test)]
mod tests;
