//! Path MTU on the way out: what may not be fragmented and does not fit dies here, and its sender is told.
//!
//! Superframes are judged by the segments that they are cut into. A datagram that may be fragmented is not looked at: the kernel
//! fragments it, or a router does.

use super::proxy::reply;
use super::{Context, Device};
use crate::tables::{Network, Peer};
use crate::wire::ethernet::Ethernet;
use crate::wire::icmp::{self, Refusal};
use crate::wire::vxlan;

/// Answers of one lane in one second at most; a sender needs one, and those who never listen get no more.
const PER_SECOND: u32 = 100;

/// What the answers are built in, and how many there were.
pub struct Answers {
    second: u32,
    count: u32,
    room: [u8; icmp::ROOM],
}

impl Default for Answers {
    fn default() -> Self {
        Answers { second: 0, count: 0, room: [0; icmp::ROOM] }
    }
}

/// The longest datagram (UDP payload) that reaches a peer unfragmented.
pub fn max_datagram(network: &Network, peer: &Peer, now: u32) -> u32 {
    peer.path_mtu(now).unwrap_or(network.underlay_mtu).saturating_sub(headers(network))
}

/// The outer IP and UDP headers.
pub const fn headers(network: &Network) -> u32 {
    if network.port.v6 { 48 } else { 28 }
}

impl Answers {
    fn may_answer(&mut self, now: u32) -> bool {
        if self.second != now {
            (self.second, self.count) = (now, 0);
        }
        self.count < PER_SECOND
    }

    /// The answer to a packet that a layer-3 network does not carry, where there is to be one.
    pub fn refusal(&mut self, refusal: Refusal, packet: &[u8], network: &Network, now: u32) -> Option<&[u8]> {
        let tunnel = network.tunnel_address.filter(|_| self.may_answer(now))?;
        let length = icmp::refuse(refusal, packet, tunnel.octets(), &mut self.room)?;
        self.count += 1;
        self.room.get(..length)
    }

    /// Tells the sender of `frame` that datagrams may not be longer than `max_datagram`, where the rules of ICMP allow it.
    pub fn tell(&mut self, context: &Context, device: &Device, frame: &[u8], ethernet: &Ethernet, max_datagram: u32) {
        let overhead = vxlan::HEADER_LEN + ethernet.network_offset;
        let mtu = max_datagram.saturating_sub(overhead as u32);
        if !self.may_answer(context.now) {
            return;
        }
        let Some(length) = icmp::too_big(frame, ethernet, mtu, &mut self.room) else { return };
        self.count += 1;
        if reply(context, device, self.room.get(..length).unwrap_or_default()).is_ok() {
            device.counters.too_big_replies.add(1);
        }
    }
}
