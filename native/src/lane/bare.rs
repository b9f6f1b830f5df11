//! Layer-3 networks: bare IPv4 packets between a TUN and UDP, as flannel's `udp` backend sends them.
//!
//! Out: TUN -> peer of the subnet -> TTL -> UDP. In: UDP -> peer -> TTL -> coalesce -> TUN. Turns, batches, superframes and trains are those
//! of VXLAN; every segment of a superframe is the payload of a datagram of its own. Such a network is a hop: it takes one from the TTL
//! at each end, and tells senders of what it does not carry. The outer header is the plain one, for flannel's proxy looks at none
//! of its fields: an ECN mark that the tunnel asked for would be lost there (RFC 6040 §4.1, compatibility mode).

use super::encap::{self, Out};
use super::{Context, Device, Port, decap};
use crate::drops::DropReason;
use crate::io::receive::{Datagram, ReceiveBatch};
use crate::io::send::{Buffer, Piece};
use crate::io::udp::ReceiveSocket;
use crate::offload::segment;
use crate::tables::{FdbTargets, NO_VNI, Network, Peer, Target};
use crate::wire::icmp::Refusal;
use crate::wire::ip::{self, Ip};
use crate::wire::outer::Outer;
use crate::wire::virtio::{self, VirtioHeader};
use crate::wire::{Framing, ethernet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The only socket: datagrams leave from the port on which they are received.
const SOCKET: usize = 0;

/// Queues the datagrams of the `length` bytes (virtio header and packet) at `at`, or says why the packet died.
pub fn encapsulate(
    context: &Context,
    device: &Device,
    network: &Network,
    out: &mut Out,
    at: usize,
    length: usize,
) -> Result<(), DropReason> {
    let bytes = out.arena.get_mut(at..at + length).unwrap_or_default();
    let virtio = VirtioHeader::from_bytes(bytes).ok_or(DropReason::TxRunt)?;
    let packet = bytes.get_mut(virtio::LEN..).filter(|packet| packet.len() >= ip::V4_LEN).ok_or(DropReason::TxRunt)?;
    let ip = whole(packet).ok_or(DropReason::TxNotIpv4)?;
    let packet = packet.get_mut(..ip.length).unwrap_or_default();
    let Some(target) = address(packet, DESTINATION).and_then(|to| network.carrier(to)).and_then(first) else {
        if let Some(answer) = out.answers.refusal(Refusal::NetUnreachable, packet, network, context.now) {
            tell(device, answer);
        }
        return Err(DropReason::TxNoSubnet);
    };
    if !ip::v4_decrement_ttl(packet) {
        if let Some(answer) = out.answers.refusal(Refusal::TimeExceeded, packet, network, context.now) {
            tell(device, answer);
        }
        return Err(DropReason::TxTtlExpired);
    }
    let at = (at + virtio::LEN) as u32;
    let max_segment = encap::max_datagram(network);
    if !virtio.is_gso() {
        segment::complete_checksum_as(Framing::Bare, packet, &virtio)?;
        let whole = Piece { buffer: Buffer::Frames, at, len: packet.len() as u32 };
        out.batch.push(&device.pool, SOCKET, target, Outer::default(), &[whole], max_segment);
        return Ok(());
    }
    out.segments.clear();
    segment::segment_as(Framing::Bare, packet, &virtio, &mut out.headers, &mut out.segments)?;
    for part in &out.segments {
        let header = Piece { buffer: Buffer::Headers, at: part.header.0, len: part.header.1 - part.header.0 };
        let payload = Piece { buffer: Buffer::Frames, at: at + part.payload.0, len: part.payload.1 - part.payload.0 };
        out.batch.push(&device.pool, SOCKET, target, Outer::default(), &[header, payload], max_segment);
    }
    Ok(())
}

/// Sends an answer to the sender, who is on this side.
fn tell(device: &Device, answer: &[u8]) {
    let to = address(answer, DESTINATION).unwrap_or(Ipv4Addr::UNSPECIFIED);
    if device.answers.as_ref().is_some_and(|socket| socket.send(answer, to).is_ok()) {
        device.counters.refusals.add(1);
    }
}

/// Takes one batch from a socket and hands it to the TUN.
pub fn serve(context: &mut Context, socket: &ReceiveSocket, batch: &mut ReceiveBatch, ports: &mut [Option<Port>], out: &mut Out) {
    if !decap::take(context, socket, batch) {
        return;
    }
    let (arena, datagrams) = batch.parts();
    let network = context.snapshot.by_vni(socket.port, NO_VNI).cloned();
    let port = network.as_ref().and_then(|network| ports.get_mut(network.slot)).and_then(Option::as_mut);
    let (Some(network), Some(port)) = (network, port) else {
        // Made or deleted at this moment.
        return context.counters.drops.add(DropReason::RxUnknownVni, datagrams.len() as u64);
    };
    let mut sender: Option<Sender> = None;
    for datagram in datagrams {
        if datagram.truncated {
            context.counters.drops.add(DropReason::RxTruncated, 1);
            continue;
        }
        let sender = match &mut sender {
            Some(sender) if sender.source == datagram.source => sender,
            other => {
                count(other.take(), context.now);
                other.insert(Sender::find(&network, datagram.source))
            }
        };
        receive(context, &network, port, arena, datagram, sender, out);
    }
    count(sender, context.now);
    if std::mem::take(&mut port.pending) {
        decap::deliver(context, arena, port);
    }
    encap::send(context, &port.device, out);
}

/// Who sent the last datagram.
struct Sender {
    source: IpAddr,
    peer: Option<Arc<Peer>>,
    packets: u64,
    bytes: u64,
}

impl Sender {
    fn find(network: &Network, source: IpAddr) -> Sender {
        Sender { source, peer: network.peers.get(&source).cloned(), packets: 0, bytes: 0 }
    }
}

fn count(sender: Option<Sender>, now: u32) {
    if let Some(Sender { peer: Some(peer), packets: packets @ 1.., bytes, .. }) = sender {
        peer.received(packets, bytes, now);
    }
}

/// Splits a train and gives what is to be delivered to the coalescer.
fn receive(
    context: &Context,
    network: &Network,
    port: &mut Port,
    arena: &mut [u8],
    datagram: &Datagram,
    sender: &mut Sender,
    out: &mut Out,
) {
    let step = datagram.segment.filter(|segment| *segment < datagram.len).unwrap_or(datagram.len).max(1);
    let mut start = 0;
    loop {
        let at = datagram.at + start;
        let packet = arena.get_mut(at..at + step.min(datagram.len - start)).unwrap_or_default();
        let admitted = match network.peersonly && sender.peer.is_none() {
            true => Err(DropReason::RxNotPeer),
            false => admit(packet),
        };
        match admitted {
            Ok(length) => {
                sender.packets += 1;
                sender.bytes += length as u64;
                port.coalescer.push(arena, at, length, VirtioHeader::default());
                port.pending = true;
            }
            Err(reason) => {
                if reason == DropReason::RxTtlExpired {
                    tell_back(context, &port.device, network, packet, out);
                }
                port.device.counters.drops.add(reason, 1);
            }
        }
        start += step;
        if start >= datagram.len {
            break;
        }
    }
}

/// The bytes of the packet to deliver, its TTL decremented.
fn admit(packet: &mut [u8]) -> Result<usize, DropReason> {
    if packet.len() < ip::V4_LEN {
        return Err(DropReason::RxShort);
    }
    let ip = Ip::parse(ethernet::IPV4, packet).ok_or(DropReason::RxNotIpv4)?;
    if ip.length > packet.len() {
        return Err(DropReason::RxInnerTruncated);
    }
    if ip::v4_decrement_ttl(packet) { Ok(ip.length) } else { Err(DropReason::RxTtlExpired) }
}

/// Queues "time exceeded" for a sender on the other side.
fn tell_back(context: &Context, device: &Device, network: &Network, packet: &[u8], out: &mut Out) {
    let Some(target) = address(packet, SOURCE).and_then(|from| network.carrier(from)).and_then(first) else { return };
    let Some(answer) = out.answers.refusal(Refusal::TimeExceeded, packet, network, context.now) else { return };
    let piece = Piece { buffer: Buffer::Headers, at: out.headers.len() as u32, len: answer.len() as u32 };
    out.headers.extend_from_slice(answer);
    out.batch.push(&device.pool, SOCKET, target, Outer::default(), &[piece], encap::max_datagram(network));
    device.counters.refusals.add(1);
}

fn whole(packet: &[u8]) -> Option<Ip> {
    Ip::parse(ethernet::IPV4, packet).filter(|ip| ip.length <= packet.len())
}

/// Where an IPv4 header has its addresses.
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

fn address(packet: &[u8], at: usize) -> Option<Ipv4Addr> {
    packet.get(at..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

fn first(entry: &Arc<FdbTargets>) -> Option<&Target> {
    entry.targets.first()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACKET: [u8; 28] =
        [0x45, 0, 0, 28, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 10, 246, 13, 2, 10, 246, 30, 2, 0x1f, 0x40, 0x1f, 0x41, 0, 8, 0, 0];

    fn with(change: impl FnOnce(&mut Vec<u8>)) -> Result<usize, DropReason> {
        let mut packet = PACKET.to_vec();
        change(&mut packet);
        admit(&mut packet)
    }

    #[test]
    fn a_packet_is_delivered_to_its_own_length_with_one_less_to_live() {
        let mut packet = [&PACKET[..], &[7; 9]].concat();
        ip::v4_write_checksum(&mut packet[..20]);
        assert_eq!(admit(&mut packet), Ok(28));
        assert_eq!(packet[8], 63);
        assert!(ip::v4_checksum_ok(&packet[..20]));
        assert_eq!(with(|packet| packet[8] = 2), Ok(28));
    }

    #[test]
    fn what_is_no_whole_ipv4_packet_is_named() {
        assert_eq!(admit(&mut []), Err(DropReason::RxShort));
        assert_eq!(with(|packet| packet.truncate(19)), Err(DropReason::RxShort));
        assert_eq!(with(|packet| packet[0] = 0x65), Err(DropReason::RxNotIpv4), "IPv6");
        assert_eq!(with(|packet| packet[0] = 0x08), Err(DropReason::RxNotIpv4), "VXLAN");
        assert_eq!(with(|packet| packet[0] = 0x44), Err(DropReason::RxNotIpv4), "a header of 16 bytes");
        assert_eq!(with(|packet| packet[3] = 19), Err(DropReason::RxNotIpv4), "shorter than its header");
        assert_eq!(with(|packet| packet[3] = 29), Err(DropReason::RxInnerTruncated));
        assert_eq!(with(|packet| packet[8] = 1), Err(DropReason::RxTtlExpired));
        assert_eq!(with(|packet| packet[8] = 0), Err(DropReason::RxTtlExpired), "and not 255, as flannel's proxy makes of it");
    }

    proptest! {
        #[test]
        fn never_panics(mut packet: Vec<u8>, first in prop_oneof![Just(0x45u8), any::<u8>()]) {
            if let Some(byte) = packet.first_mut() { *byte = first; }
            if let Ok(length) = admit(&mut packet) {
                prop_assert!(length <= packet.len());
            }
        }
    }
}
