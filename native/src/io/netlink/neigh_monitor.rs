//! Neighbour notifications of one namespace: what `ip neigh` and the kernel's own resolution change.

use super::super::error::SysError;
use super::super::netns::Netns;
use super::codec::{self, Message};
use super::neigh;
use super::socket::{Received, Socket};
use crate::wire::Mac;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// An entry of a neighbour cache after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourEvent {
    /// Index of the link.
    pub index: u32,
    /// The neighbour.
    pub address: IpAddr,
    /// Its MAC while the entry is in a connected state (permanent, noarp, reachable), which is what a proxy answers from.
    pub lladdr: Option<Mac>,
}

/// What `read_events` found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NeighbourEvents {
    /// In the order in which they happened.
    pub events: Vec<NeighbourEvent>,
    /// Entries that somebody added with `bridge fdb ... self`: the link's index and the MAC. On a TAP they are its own address list, and a
    /// `dst` is passed over in silence (net/core/rtnetlink.c, `ndo_dflt_fdb_add`).
    pub bridge_entries: Vec<(u32, Mac)>,
    /// The kernel threw notifications away because nobody read them in time: read the caches anew.
    pub overrun: bool,
}

/// Room for a few thousand notifications of about 100 bytes, which cost the kernel 768 each.
const RECEIVE_BUFFER: i32 = 1 << 20;
/// Most datagrams taken in one call, so that a flood of changes cannot hold the caller; the descriptor stays readable.
const BATCH: usize = 256;

/// A subscription to the neighbour caches of one namespace; never blocks.
#[derive(Debug)]
pub struct NeighbourMonitor {
    socket: Socket,
    /// Something was thrown away, and the queue has not been empty since: until then more may be, without another word (af_netlink.c,
    /// `netlink_overrun`).
    overrun: bool,
}

impl NeighbourMonitor {
    /// Subscribes. What happens from here on is told; read the caches after this, not before, to miss nothing.
    pub fn open(netns: &Netns) -> Result<NeighbourMonitor, SysError> {
        let socket = netns.run(|| Socket::subscribed(libc::RTMGRP_NEIGH as u32, libc::SOCK_NONBLOCK))?;
        socket.set_receive_buffer(RECEIVE_BUFFER);
        Ok(NeighbourMonitor { socket, overrun: false })
    }

    /// What has happened since the last call; nothing, if nothing has. An overrun is told once all that was still there has been.
    pub fn read_events(&mut self) -> Result<NeighbourEvents, SysError> {
        let mut found = NeighbourEvents::default();
        for _ in 0..BATCH {
            match self.socket.receive(0) {
                Ok(Received::Datagram(datagram)) => {
                    for message in codec::messages(datagram) {
                        found.events.extend(event(&message));
                        found.bridge_entries.extend(bridge_entry(&message));
                    }
                }
                Ok(Received::Overrun) => self.overrun = true,
                Ok(Received::Nothing) => {
                    found.overrun = std::mem::take(&mut self.overrun);
                    break;
                }
                Err(error) => return Err(SysError::from_io("recvfrom", "neighbour notifications", &error)),
            }
        }
        Ok(found)
    }
}

impl AsFd for NeighbourMonitor {
    /// Readable when there is something for `read_events`; to be polled level-triggered.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd().as_fd()
    }
}

/// Bridges tell of their forwarding tables in the same group, with a family of their own.
fn event(message: &Message<'_>) -> Option<NeighbourEvent> {
    let family = i32::from(codec::u8_at(message.payload, 0)?);
    if family != libc::AF_INET && family != libc::AF_INET6 {
        return None;
    }
    let gone = message.kind == libc::RTM_DELNEIGH;
    let entry = neigh::parse(&Message { kind: if gone { libc::RTM_NEWNEIGH } else { message.kind }, ..*message })?;
    let lladdr = entry.lladdr.filter(|_| !gone && entry.is_connected());
    Some(NeighbourEvent { index: entry.index, address: entry.address, lladdr })
}

/// What was added to a link's own list by hand; a bridge's table, of which the link is a port, is another (`NTF_MASTER`, or no flag).
fn bridge_entry(message: &Message<'_>) -> Option<(u32, Mac)> {
    const NTF_SELF: u8 = 0x02;
    let is_added = message.kind == libc::RTM_NEWNEIGH && codec::u8_at(message.payload, 0)? == libc::AF_BRIDGE as u8;
    if !is_added || codec::u8_at(message.payload, 10)? & NTF_SELF == 0 {
        return None;
    }
    Some((codec::u32_at(message.payload, 4)?, neigh::lladdr(message)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn an_entry_counts_while_it_is_connected() {
        let told = |family: u8, kind: u16, state: u8| {
            #[rustfmt::skip]
            let bytes = [
                family, 0, 0, 0, 7, 0, 0, 0, state, 0, 0, 1,
                8, 0, 1, 0, 10, 246, 13, 5,
                10, 0, 2, 0, 2, 0, 0, 0, 0, 9, 0, 0,
            ];
            event(&Message { kind, flags: 0, sequence: 0, payload: &bytes }).map(|event| (event.index, event.lladdr.is_some()))
        };
        for (state, connected) in
            [(0x80, true), (0x40, true), (0x02, true), (0x04, false), (0x08, false), (0x10, false), (0x20, false)]
        {
            assert_eq!(told(2, libc::RTM_NEWNEIGH, state), Some((7, connected)), "state {state:#x}");
            assert_eq!(told(2, libc::RTM_DELNEIGH, state), Some((7, false)));
        }
        assert_eq!(told(7, libc::RTM_NEWNEIGH, 0x80), None, "a bridge's forwarding table");
        assert_eq!(told(2, libc::RTM_NEWLINK, 0x80), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn an_entry_of_bridge_fdb_counts_where_it_was_added_to_the_link_itself() {
        let told = |family: u8, kind: u16, flags: u8| {
            let bytes = [family, 0, 0, 0, 7, 0, 0, 0, 0x80, 0, flags, 0, 10, 0, 2, 0, 2, 0, 0, 0, 0, 9, 0, 0];
            bridge_entry(&Message { kind, flags: 0, sequence: 0, payload: &bytes })
        };
        assert_eq!(told(7, libc::RTM_NEWNEIGH, 0x02), Some((7, Mac([2, 0, 0, 0, 0, 9]))));
        assert_eq!(told(7, libc::RTM_NEWNEIGH, 0x04), None, "a bridge's table");
        assert_eq!(told(7, libc::RTM_NEWNEIGH, 0), None, "learned by a bridge");
        assert_eq!(told(7, libc::RTM_DELNEIGH, 0x02), None);
        assert_eq!(told(2, libc::RTM_NEWNEIGH, 0x02), None);
    }
}
