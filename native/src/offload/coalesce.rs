//! Joins the segments of one flow that arrived in one batch into a superframe: one write to the TAP, one pass through the
//! host's stack, instead of dozens ("inner GRO", x2.5 on the receive path).
//!
//! Frames lie in an arena that the caller owns; what is kept between [`Coalescer::push`] and [`Coalescer::flush`] is offsets.
//! Payload is never copied: a superframe is the first frame, its header patched, and the payload ranges of the others.
//! Nothing outlives a flush, so nothing waits for more to come.
//!
//! - *item*: what becomes one write; items leave in the order in which their first frames came.
//! - *chain*: an item of TCP or UDP that may have grown. A chain that never grew leaves as the bytes that came.
//! - *open*: may still grow. A chain is *sealed* by whatever would have to stay behind it.

mod chain;
#[cfg(test)]
mod tests;

use self::chain::{Chain, is_intact, is_pure_ack, joinable};
use super::layers::{Inside, Layers, look_as};
use crate::wire::virtio::VirtioHeader;
use crate::wire::{Framing, be32};

/// How many flows may be open at once; with more, the oldest is sealed. Bounds the scan for a flow.
const OPEN_MAX: usize = 64;

/// What a flush calls for each write: the arena, the virtio header to put in front, the ranges of the arena to gather, and how
/// many segments they are worth.
pub type Emit<'a> = dyn FnMut(&mut [u8], &VirtioHeader, &[(usize, usize)], usize) + 'a;

/// Joins the segments of a batch, for one TAP. Reused from batch to batch, so that its memory is too.
#[derive(Debug)]
pub struct Coalescer {
    framing: Framing,
    max_segments: usize,
    udp: bool,
    items: Vec<Item>,
    /// All chains' further payloads, linked.
    pieces: Vec<Piece>,
    /// Open chains, the last used one at the end: traffic comes in runs of one flow, so that it is looked at first.
    open: Vec<Open>,
    gather: Vec<(usize, usize)>,
}

/// One write to come.
#[derive(Clone, Copy, Debug)]
struct Item {
    at: usize,
    len: usize,
    virtio: VirtioHeader,
    chain: Option<Chain>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    range: (usize, usize),
    next: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// Both ports, so that most other flows are told apart without a look at their frames.
    ports: u32,
    item: usize,
}

/// What became of an attempt to join.
enum Joined {
    /// The chain may grow further.
    Open,
    /// It may not.
    Full,
    /// Not the continuation; may begin a chain of its own.
    Different,
    /// The continuation, but with a wrong checksum: passes as it is, so that the host counts it.
    Corrupt,
}

impl Coalescer {
    /// Superframes of at most `max_segments` segments (the kernel refuses UDP ones of more than 64 on some versions, 128 on newer
    /// ones); `udp` says whether UDP is joined too, which needs a TAP whose kernel knows `UDP_L4`.
    pub fn new(max_segments: usize, udp: bool) -> Self {
        Coalescer {
            framing: Framing::Ethernet,
            max_segments,
            udp,
            items: Vec::new(),
            pieces: Vec::new(),
            open: Vec::new(),
            gather: Vec::new(),
        }
    }

    /// The same for a device of this kind.
    pub fn of(self, framing: Framing) -> Self {
        Coalescer { framing, ..self }
    }

    /// Takes the frame `arena[at..at + len]`, with what [`super::received::classify`] said of it. Neither the frame nor its
    /// place may change before the flush. A range outside of the arena is ignored.
    pub fn push(&mut self, arena: &mut [u8], at: usize, len: usize, virtio: VirtioHeader) {
        let Some(frame) = at.checked_add(len).and_then(|end| arena.get(at..end)) else { return };
        let verbatim = Item { at, len, virtio, chain: None };
        match look_as(self.framing, frame) {
            Inside::Foreign => self.items.push(verbatim),
            Inside::Opaque => {
                self.open.clear();
                self.items.push(verbatim);
            }
            Inside::Transport(layers) => self.push_transport(arena, frame, layers, verbatim),
        }
    }

    fn push_transport(&mut self, arena: &[u8], frame: &[u8], layers: Layers, item: Item) {
        let ports = be32(frame, layers.transport);
        let found = self.find(arena, frame, &layers, ports);
        let default = item.virtio == VirtioHeader::default();
        if !default || !joinable(frame, &layers, self.udp) {
            // A pure acknowledgement may be overtaken by data (the kernel lets it be, too); anything else may not.
            if !is_pure_ack(frame, &layers) {
                self.seal(found);
            }
            return self.items.push(item);
        }
        if let Some(position) = found {
            match self.join(arena, frame, &layers, item.at, position) {
                Joined::Full => return self.seal(found),
                Joined::Open => return self.touch(position),
                Joined::Corrupt => {
                    self.seal(found);
                    return self.items.push(item);
                }
                Joined::Different => self.seal(found),
            }
        }
        let chain = Chain::new(frame, layers);
        if chain.is_open(self.max_segments) {
            if self.open.len() >= OPEN_MAX {
                self.open.remove(0);
            }
            self.open.push(Open { ports, item: self.items.len() });
        }
        self.items.push(Item { chain: Some(chain), ..item });
    }

    /// Where in `open` the frame's flow is: same addresses, ports and protocol.
    fn find(&self, arena: &[u8], frame: &[u8], layers: &Layers, ports: u32) -> Option<usize> {
        self.open.iter().rposition(|open| {
            let same = |item: &Item, chain: &Chain| {
                chain.layers.ip.family == layers.ip.family
                    && chain.layers.ip.protocol == layers.ip.protocol
                    && chain.layers.addresses(item.frame(arena)) == layers.addresses(frame)
            };
            open.ports == ports
                && self.items.get(open.item).is_some_and(|item| item.chain.as_ref().is_some_and(|chain| same(item, chain)))
        })
    }

    fn seal(&mut self, position: Option<usize>) {
        if let Some(position) = position.filter(|position| *position < self.open.len()) {
            self.open.remove(position);
        }
    }

    /// Makes an open chain the first one that is looked at.
    fn touch(&mut self, position: usize) {
        if position + 1 < self.open.len() {
            let open = self.open.remove(position);
            self.open.push(open);
        }
    }

    fn join(&mut self, arena: &[u8], frame: &[u8], layers: &Layers, at: usize, position: usize) -> Joined {
        let open = self.open.get(position).map(|open| open.item);
        let Some(item) = open.and_then(|item| self.items.get_mut(item)) else { return Joined::Different };
        let first = item.frame(arena);
        let Some(chain) = &mut item.chain else { return Joined::Different };
        if !chain.continues(first, frame, layers) || !chain.verify(first) {
            return Joined::Different;
        }
        if !is_intact(frame, layers) {
            return Joined::Corrupt;
        }
        let piece = self.pieces.len();
        self.pieces.push(Piece { range: (at + layers.payload, at + layers.end), next: None });
        match chain.last_piece.and_then(|last| self.pieces.get_mut(last)) {
            Some(last) => last.next = Some(piece),
            None => chain.first_piece = Some(piece),
        }
        chain.last_piece = Some(piece);
        chain.add(frame, layers);
        if chain.is_open(self.max_segments) { Joined::Open } else { Joined::Full }
    }

    /// Calls `emit` once per write, in order. Patches the first frame of each superframe in place. Afterwards everything is
    /// forgotten.
    pub fn flush(&mut self, arena: &mut [u8], emit: &mut Emit<'_>) {
        for item in &self.items {
            self.gather.clear();
            let Some(chain) = item.chain.filter(|chain| chain.segments > 1) else {
                self.gather.push((item.at, item.at + item.len));
                emit(arena, &item.virtio, &self.gather, 1);
                continue;
            };
            self.gather.push((item.at, item.at + chain.layers.end));
            let mut next = chain.first_piece;
            while let Some(piece) = next.and_then(|piece| self.pieces.get(piece)) {
                self.gather.push(piece.range);
                next = piece.next;
            }
            let virtio = chain.finish(arena.get_mut(item.at..item.at + item.len).unwrap_or(&mut []));
            emit(arena, &virtio, &self.gather, chain.segments);
        }
        self.items.clear();
        self.pieces.clear();
        self.open.clear();
    }
}

impl Item {
    fn frame<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        arena.get(self.at..self.at + self.len).unwrap_or(&[])
    }
}
