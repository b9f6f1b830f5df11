//! Link notifications of one namespace: what changed without our doing, and what we changed ourselves.

use super::super::error::SysError;
use super::super::netns::Netns;
use super::codec;
use super::link;
use super::socket::{Received, Socket};
use crate::wire::Mac;
use std::os::fd::{AsFd, BorrowedFd};

/// A link as a notification describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkEventRaw {
    /// Interface index: what stays when the name changes.
    pub index: u32,
    /// Name, the new one after a renaming.
    pub name: String,
    /// MAC; absent where the link is not Ethernet.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The link is gone from this namespace: deleted, or moved to another one.
    pub deleted: bool,
}

/// What `read_events` found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LinkEvents {
    /// In the order in which they happened.
    pub events: Vec<LinkEventRaw>,
    /// The kernel threw notifications away because nobody read them in time: read the links anew.
    pub overrun: bool,
}

/// Room for about 700 notifications of 1.5 KiB: a host that starts a few hundred containers at once.
const RECEIVE_BUFFER: i32 = 1 << 20;
/// Most datagrams taken in one call, so that a flood of changes cannot hold the caller; the descriptor stays readable.
const BATCH: usize = 256;

/// A subscription to the links of one namespace; never blocks.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: Socket,
    /// Something was thrown away, and the queue has not been empty since: until then more may be, without another word (af_netlink.c,
    /// `netlink_overrun`).
    overrun: bool,
}

impl LinkMonitor {
    /// Subscribes. What happens from here on is told; read the links after this, not before, to miss nothing.
    pub fn open(netns: &Netns) -> Result<LinkMonitor, SysError> {
        let socket = netns.run(|| Socket::subscribed(libc::RTMGRP_LINK as u32, libc::SOCK_NONBLOCK))?;
        socket.set_receive_buffer(RECEIVE_BUFFER);
        Ok(LinkMonitor { socket, overrun: false })
    }

    /// Readable when there is something for `read_events`; to be polled level-triggered.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd().as_fd()
    }

    /// What has happened since the last call; nothing, if nothing has. An overrun is told once all that was still there has been.
    pub fn read_events(&mut self) -> Result<LinkEvents, SysError> {
        let mut found = LinkEvents::default();
        for _ in 0..BATCH {
            match self.socket.receive(0) {
                Ok(Received::Datagram(datagram)) => found.events.extend(codec::messages(datagram).filter_map(|m| event(&m))),
                Ok(Received::Overrun) => self.overrun = true,
                Ok(Received::Nothing) => {
                    found.overrun = std::mem::take(&mut self.overrun);
                    break;
                }
                Err(error) => return Err(SysError::from_io("recvfrom", "link notifications", &error)),
            }
        }
        Ok(found)
    }
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

fn event(message: &codec::Message<'_>) -> Option<LinkEventRaw> {
    let link = link::parse(message)?;
    let deleted = message.kind == libc::RTM_DELLINK;
    Some(LinkEventRaw { index: link.index, name: link.name, mac: link.mac, mtu: link.mtu, up: link.up, deleted })
}
