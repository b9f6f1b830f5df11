//! The host's own neighbour caches: `RTM_NEWNEIGH` parsed, requests built (linux/neighbour.h).

use super::codec::{self, Message, Request, attributes_after, family_of, u16_at, u32_at};
use crate::wire::Mac;
use std::net::IpAddr;

/// `struct ndmsg`: family (1), pad (3), index (4), state (2), flags (1), type (1).
const HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_REACHABLE: u16 = 0x02;
const NUD_FAILED: u16 = 0x20;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

/// An entry of a neighbour cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedNeighbour {
    /// Index of the link.
    pub index: u32,
    /// Who was asked for.
    pub address: IpAddr,
    /// What was answered; absent while nobody has.
    pub lladdr: Option<Mac>,
    state: u16,
}

impl CachedNeighbour {
    /// The kernel asked and takes the answer from whoever gives it: neither somebody's own entry nor one without resolution
    /// (multicast).
    pub fn is_resolved_by_asking(&self) -> bool {
        self.state & (NUD_PERMANENT | NUD_NOARP) == 0
    }

    /// In a state in which packets are sent without doubt (`NUD_CONNECTED`).
    pub fn is_connected(&self) -> bool {
        self.state & (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE) != 0
    }

    /// Packets may be waiting for an answer.
    pub fn is_unanswered(&self) -> bool {
        self.lladdr.is_none() && self.state & (NUD_INCOMPLETE | NUD_FAILED) != 0
    }
}

/// Reads `RTM_NEWNEIGH`.
pub fn parse(message: &Message<'_>) -> Option<CachedNeighbour> {
    if message.kind != libc::RTM_NEWNEIGH {
        return None;
    }
    let (mut address, mut lladdr) = (None, None);
    for (kind, value) in attributes_after(message.payload, HEADER) {
        match kind {
            NDA_DST => address = codec::ip(value),
            NDA_LLADDR => lladdr = value.first_chunk::<6>().copied().map(Mac),
            _ => {}
        }
    }
    let index = u32_at(message.payload, 4)?;
    Some(CachedNeighbour { index, address: address?, lladdr, state: u16_at(message.payload, 8)? })
}

/// The MAC in a message about an entry of any table.
pub fn lladdr(message: &Message<'_>) -> Option<Mac> {
    let found = attributes_after(message.payload, HEADER).find(|(kind, _)| *kind == NDA_LLADDR);
    found.and_then(|(_, value)| value.first_chunk::<6>().copied()).map(Mac)
}

/// Asks for the caches of a family; since Linux 4.5 only for those of the link.
pub fn get_all(family: i32, index: u32) -> Request {
    const NDA_IFINDEX: u16 = 8;
    let mut header = [0; HEADER];
    header[0] = family as u8;
    Request::new(libc::RTM_GETNEIGH, 0, &header).with_u32(NDA_IFINDEX, index)
}

/// Asks for an entry to be as if `lladdr` had just answered: packets that wait for it leave.
pub fn answer(index: u32, address: IpAddr, lladdr: Mac) -> Request {
    build(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, index, address, NUD_REACHABLE).with(NDA_LLADDR, &lladdr.0)
}

/// Asks for the end of an entry.
pub fn del(index: u32, address: IpAddr) -> Request {
    build(libc::RTM_DELNEIGH, 0, index, address, 0)
}

fn build(kind: u16, flags: i32, index: u32, address: IpAddr, state: u16) -> Request {
    let mut header = [0; HEADER];
    header[0] = family_of(address);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    Request::new(kind, flags, &header).with_ip(NDA_DST, address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn an_entry_is_read_from_its_bytes() {
        #[rustfmt::skip]
        let bytes = [
            2, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 1,               // AF_INET, link 7, REACHABLE, unicast
            8, 0, 1, 0, 10, 246, 13, 0,                       // NDA_DST
            10, 0, 2, 0, 0x16, 0x8d, 0x1e, 0x23, 0x70, 0xcf, 0, 0, // NDA_LLADDR
        ];
        let message = |bytes| Message { kind: libc::RTM_NEWNEIGH, flags: 0, sequence: 1, payload: bytes };
        let entry = parse(&message(&bytes)).unwrap();
        assert_eq!((entry.index, entry.address.to_string()), (7, "10.246.13.0".to_owned()));
        assert_eq!(entry.lladdr, Some(Mac([0x16, 0x8d, 0x1e, 0x23, 0x70, 0xcf])));
        assert!(entry.is_resolved_by_asking() && !entry.is_unanswered());
        for end in 0..bytes.len() {
            let _ = parse(&message(&bytes[..end]));
        }
    }

    #[test]
    fn permanent_entries_and_multicast_are_nobodys_business() {
        let with = |state| CachedNeighbour { index: 1, address: [10, 0, 0, 1].into(), lladdr: None, state };
        assert!(!with(NUD_PERMANENT).is_resolved_by_asking() && !with(NUD_NOARP).is_resolved_by_asking());
        assert!(with(NUD_INCOMPLETE).is_unanswered() && with(NUD_FAILED).is_unanswered() && !with(NUD_REACHABLE).is_unanswered());
    }
}
