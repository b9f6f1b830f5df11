//! Out: TAP -> proxy -> FDB -> VXLAN header -> UDP.

use super::{Context, Device, Report, tap_error};
use crate::drops::DropReason;
use crate::io::send::{Buffer, Piece, SendBatch};
use crate::offload::segment::{self, Segment};
use crate::tables::{FdbTargets, Network};
use crate::wire::ethernet::Ethernet;
use crate::wire::virtio::{self, VirtioHeader};
use crate::wire::{arp, ecn, ethernet, flow, ip, nd, vxlan};
use std::io::IoSlice;
use std::net::IpAddr;

/// Frames or superframes taken from a TAP in one turn.
pub const FRAMES: usize = 64;
/// What is read in one turn lies here, packed: small frames share few pages, large ones end the turn early.
const ARENA: usize = 512 * 1024;
/// Room for one superframe (64 KiB and its headers) with its virtio header.
const ROOM: usize = virtio::LEN + 65_536 + 64;

/// Buffers of the outward direction; kept and reused.
pub struct Out {
    arena: Vec<u8>,
    headers: Vec<u8>,
    segments: Vec<Segment>,
    batch: SendBatch,
}

impl Default for Out {
    fn default() -> Self {
        Out {
            arena: vec![0; ARENA],
            headers: Vec::with_capacity(64 * 1024),
            segments: Vec::with_capacity(64),
            batch: SendBatch::default(),
        }
    }
}

/// Takes what the TAP has, at most one turn's worth; true if there was something.
pub fn serve(context: &mut Context, device: &Device, out: &mut Out) -> bool {
    let Some(network) = context.snapshot.network(device.slot).cloned() else { return discard(device, out) };
    let mut used = 0;
    for _ in 0..FRAMES {
        let Some(room) = out.arena.get_mut(used..used + ROOM) else { break };
        let length = match device.queue.read(room) {
            Ok(length) => length,
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                if !matches!(errno, libc::EAGAIN | libc::EINTR) {
                    context.report(Report::Fault { slot: Some(device.slot), call: "read", errno });
                }
                break;
            }
        };
        context.counters.tap_reads.add(1);
        if let Err(reason) = encapsulate(context, device, &network, out, used, length) {
            device.counters.drops.add(reason, 1);
        }
        used += length.next_multiple_of(8);
    }
    send(context, device, out);
    used > 0
}

/// The network is gone from the tables but this lane was not told yet.
fn discard(device: &Device, out: &mut Out) -> bool {
    (0..FRAMES).take_while(|_| out.arena.get_mut(..ROOM).is_some_and(|room| device.queue.read(room).is_ok())).count() > 0
}

/// Queues the datagrams of the `length` bytes (virtio header and frame) at `at`, or answers, or says why the frame died.
fn encapsulate(
    context: &mut Context,
    device: &Device,
    network: &Network,
    out: &mut Out,
    at: usize,
    length: usize,
) -> Result<(), DropReason> {
    let bytes = out.arena.get_mut(at..at + length).unwrap_or_default();
    let virtio = VirtioHeader::from_bytes(bytes).ok_or(DropReason::TxRunt)?;
    let frame = bytes.get_mut(virtio::LEN..).unwrap_or_default();
    let ethernet = ethernet::parse(frame).ok_or(DropReason::TxRunt)?;
    if network.proxy && !ethernet.tagged && answer(context, device, network, frame, &ethernet)? {
        return Ok(());
    }
    if is_own_tunnel(network, frame, &ethernet) {
        return Err(DropReason::TxRecursion);
    }
    let Some(entry) = network.targets(ethernet.destination) else {
        if !ethernet.destination.is_multicast() {
            context.report(Report::MissMac { slot: device.slot, mac: ethernet.destination });
        }
        return Err(DropReason::TxNoDestination);
    };
    let socket = device.pool.choose(flow::hash(frame));
    let ecn = ecn::encapsulate(frame, &ethernet);
    if virtio.is_gso() {
        return queue_superframe(network, device, out, at + virtio::LEN, length - virtio::LEN, &virtio, entry, socket, ecn);
    }
    if virtio.needs_csum() {
        segment::complete_checksum(frame, &virtio)?;
    }
    let length = frame.len() as u32;
    let frame_at = (at + virtio::LEN) as u32;
    let max_segment = max_datagram(network);
    // The first destination's VXLAN header goes over the tail of the virtio header, right in front of the frame.
    let in_place = entry.targets.first().map(|target| target.header).unwrap_or_default();
    let header_at = at + virtio::LEN - vxlan::HEADER_LEN;
    if let Some(place) = out.arena.get_mut(header_at..header_at + vxlan::HEADER_LEN) {
        place.copy_from_slice(&in_place);
    }
    for target in &entry.targets {
        if target.address.ip().is_unspecified() {
            device.counters.drops.add(DropReason::TxDestinationUnspecified, 1);
        } else if target.header == in_place {
            let whole = Piece { buffer: Buffer::Frames, at: header_at as u32, len: length + vxlan::HEADER_LEN as u32 };
            out.batch.push(&device.pool, socket, target, ecn, &[whole], max_segment);
        } else {
            let header = Piece { buffer: Buffer::Headers, at: out.headers.len() as u32, len: vxlan::HEADER_LEN as u32 };
            out.headers.extend_from_slice(&target.header);
            let frame = Piece { buffer: Buffer::Frames, at: frame_at, len: length };
            out.batch.push(&device.pool, socket, target, ecn, &[header, frame], max_segment);
        }
    }
    Ok(())
}

/// True for a packet that this endpoint sent: from its own underlay address to the VXLAN port of a known VTEP. Encapsulated again
/// it would come back once more, larger each time.
fn is_own_tunnel(network: &Network, frame: &[u8], ethernet: &Ethernet) -> bool {
    let Some(local) = network.local else { return false };
    let packet = frame.get(ethernet.network_offset..).unwrap_or_default();
    let Some(ip) = ip::Ip::parse(ethernet.ethertype, packet).filter(|ip| ip.protocol == ip::UDP && !ip.is_extended()) else {
        return false;
    };
    let port = packet.get(ip.header_len + 2..).and_then(<[u8]>::first_chunk::<2>);
    if port != Some(&network.port.port.to_be_bytes()) {
        return false;
    }
    let (source, destination) = match ip.addresses(packet) {
        bytes if bytes.len() == 8 => (v4(bytes, 0), v4(bytes, 4)),
        bytes => (v6(bytes, 0), v6(bytes, 16)),
    };
    source == Some(local) && destination.is_some_and(|to| network.peers.get(&to).is_some())
}

fn v4(bytes: &[u8], at: usize) -> Option<IpAddr> {
    bytes.get(at..)?.first_chunk::<4>().map(|octets| IpAddr::from(*octets))
}

fn v6(bytes: &[u8], at: usize) -> Option<IpAddr> {
    bytes.get(at..)?.first_chunk::<16>().map(|octets| IpAddr::from(*octets))
}

/// The longest datagram (UDP payload) that leaves in one piece: UDP_SEGMENT never fragments.
fn max_datagram(network: &Network) -> u32 {
    network.underlay_mtu.saturating_sub(if network.port.v6 { 48 } else { 28 })
}

#[expect(clippy::too_many_arguments, reason = "the facts of one frame, computed once by the caller")]
fn queue_superframe(
    network: &Network,
    device: &Device,
    out: &mut Out,
    at: usize,
    length: usize,
    virtio: &VirtioHeader,
    entry: &FdbTargets,
    socket: usize,
    ecn: u8,
) -> Result<(), DropReason> {
    let frame = out.arena.get(at..at + length).unwrap_or_default();
    let mut header = None;
    for target in &entry.targets {
        if target.address.ip().is_unspecified() {
            device.counters.drops.add(DropReason::TxDestinationUnspecified, 1);
            continue;
        }
        if header != Some(target.header) {
            header = Some(target.header);
            out.segments.clear();
            segment::segment(&target.header, frame, virtio, &mut out.headers, &mut out.segments)?;
        }
        for part in &out.segments {
            let header = Piece { buffer: Buffer::Headers, at: part.header.0, len: part.header.1 - part.header.0 };
            let payload = Piece { buffer: Buffer::Frames, at: at as u32 + part.payload.0, len: part.payload.1 - part.payload.0 };
            out.batch.push(&device.pool, socket, target, ecn, &[header, payload], max_datagram(network));
        }
    }
    Ok(())
}

/// The ARP and ND proxy. True when the frame was consumed by an answer.
fn answer(
    context: &mut Context,
    device: &Device,
    network: &Network,
    frame: &[u8],
    ethernet: &Ethernet,
) -> Result<bool, DropReason> {
    match ethernet.ethertype {
        ethernet::ARP => {
            let request = match arp::parse(frame) {
                arp::Arp::Request(request) => request,
                arp::Arp::Swallow => return Err(DropReason::TxArpSwallowed),
                arp::Arp::Malformed => return Err(DropReason::TxArpMalformed),
            };
            let lladdr = known(context, device, network, request.target.into()).ok_or(DropReason::TxArpUnanswered)?;
            device.counters.arp_replies.add(1);
            reply(context, device, &arp::reply(&request, lladdr))
        }
        ethernet::IPV6 => {
            let solicitation = match nd::parse(frame) {
                nd::Nd::Solicitation(solicitation) => solicitation,
                nd::Nd::Malformed => return Err(DropReason::TxNdMalformed),
                nd::Nd::Other => return Ok(false),
            };
            let lladdr = known(context, device, network, solicitation.target.into()).ok_or(DropReason::TxNdUnanswered)?;
            device.counters.nd_replies.add(1);
            reply(context, device, &nd::advertisement(&solicitation, lladdr, false))
        }
        _ => Ok(false),
    }
}

fn known(context: &mut Context, device: &Device, network: &Network, ip: IpAddr) -> Option<crate::wire::Mac> {
    let lladdr = network.neighbours.lookup(ip);
    if lladdr.is_none() {
        context.report(Report::MissIp { slot: device.slot, ip });
    }
    lladdr
}

fn reply(context: &Context, device: &Device, frame: &[u8]) -> Result<bool, DropReason> {
    context.counters.tap_writes.add(1);
    let header = VirtioHeader::default().to_bytes();
    match device.queue.write(&[IoSlice::new(&header), IoSlice::new(frame)]) {
        Ok(_) => Ok(true),
        Err(error) => Err(tap_error(error.raw_os_error().unwrap_or(0))),
    }
}

fn send(context: &mut Context, device: &Device, out: &mut Out) {
    if !out.batch.is_empty() {
        let counters = std::sync::Arc::clone(&context.counters);
        let (sent, fault) = out.batch.flush(&device.pool, &out.arena, &out.headers, &counters, |reason, datagrams| {
            device.counters.drops.add(reason, datagrams);
        });
        device.counters.tx_packets.add(sent.packets);
        device.counters.tx_bytes.add(sent.bytes);
        counters.tx_packets.add(sent.packets);
        counters.tx_bytes.add(sent.bytes);
        if let Some((call, errno)) = fault {
            context.report(Report::Fault { slot: Some(device.slot), call, errno });
        }
    }
    out.headers.clear();
}
