//! Out: TAP -> proxy -> FDB -> VXLAN header -> UDP.

use super::limit::{self, Answers};
use super::{Context, Device, Report, bare, proxy};
use crate::drops::DropReason;
use crate::io::errqueue::PathError;
use crate::io::send::{Buffer, Piece, SendBatch};
use crate::io::tap::TapQueue;
use crate::offload::segment::{self, Segment};
use crate::tables::{FdbTargets, Network, Snapshot, Target, TooBig};
use crate::wire::ethernet::Ethernet;
use crate::wire::outer::Outer;
use crate::wire::virtio::{self, VirtioHeader};
use crate::wire::{Framing, Mac, ethernet, flow, ip, vxlan};
use std::net::IpAddr;

/// Frames or superframes taken from a TAP in one turn.
pub const FRAMES: usize = 64;
/// Bytes after which the queues that are ready have had their turn, together.
const QUANTUM: usize = 512 * 1024;
/// Messages after which a turn ends: a flood to 1,000 VTEPs would make 64,000 of 64 frames, and the lane would do nothing else for
/// hundreds of milliseconds.
const MESSAGES: usize = 1024;
/// Room for one superframe (64 KiB and its headers) with its virtio header.
const ROOM: usize = virtio::LEN + 65_536 + 64;
/// What is read in one turn lies here, packed: small frames share few pages.
const ARENA: usize = QUANTUM + ROOM;

/// Buffers of the outward direction; kept and reused.
pub struct Out {
    pub(super) arena: Vec<u8>,
    pub(super) headers: Vec<u8>,
    pub(super) segments: Vec<Segment>,
    pub(super) batch: SendBatch,
    pub(super) answers: Answers,
    /// The last turn took one frame.
    alone: bool,
}

impl Default for Out {
    fn default() -> Self {
        Out {
            arena: vec![0; ARENA],
            headers: Vec::with_capacity(64 * 1024),
            segments: Vec::with_capacity(64),
            batch: SendBatch::default(),
            answers: Answers::default(),
            alone: false,
        }
    }
}

/// Takes what a queue of the TAP has, at most one turn's worth.
///
/// `queues` of this lane are ready: they share its bytes.
pub fn serve(context: &mut Context, device: &Device, queue: &TapQueue, out: &mut Out, queues: usize) {
    let Some(network) = context.snapshot.network(device.slot).cloned() else { return discard(queue, out) };
    let share = QUANTUM / queues.max(1);
    let mut used = 0;
    let mut taken = 0;
    for _ in 0..FRAMES {
        let Some(room) = out.arena.get_mut(used..used + ROOM).filter(|_| used < share) else { break };
        let length = match queue.read(room) {
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
        let queued = match network.framing {
            Framing::Ethernet => encapsulate(context, device, &network, out, used, length),
            Framing::Bare => bare::encapsulate(context, device, &network, out, used, length),
        };
        if let Err(reason) = queued {
            device.counters.drops.add(reason, 1);
        }
        used += length.next_multiple_of(8);
        taken += 1;
        // A single frame last time means that this one is likely alone, too: it leaves before the next look at the queue.
        if taken == 1 && out.alone {
            send(context, device, out);
        }
        if out.batch.len() >= MESSAGES {
            break;
        }
    }
    out.alone = taken == 1;
    send(context, device, out);
}

/// The network is gone from the tables but this lane was not told yet.
fn discard(queue: &TapQueue, out: &mut Out) {
    let Some(room) = out.arena.get_mut(..ROOM) else { return };
    for _ in (0..FRAMES).take_while(|_| queue.read(room).is_ok()) {}
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
    if network.proxy && !ethernet.tagged {
        match proxy::answer(context, device, network, frame, &ethernet) {
            Ok(false) => {}
            Ok(true) => return Ok(()),
            Err(reason) if network.options.proxy_flood && proxy::is_unanswered(reason) => {}
            Err(reason) => return Err(reason),
        }
    }
    if is_own_tunnel(network, frame, &ethernet) {
        return Err(DropReason::TxRecursion);
    }
    let destination = match network.options.rsc {
        true => shortcut(context, device, network, frame, &ethernet).unwrap_or(ethernet.destination),
        false => ethernet.destination,
    };
    let Some(entry) = network.targets(destination) else {
        if network.options.l2miss && !destination.is_multicast() {
            context.report(Report::MissMac { slot: device.slot, mac: destination });
        }
        return Err(DropReason::TxNoDestination);
    };
    let outer = network.options.outer.outer(frame, &ethernet);
    let socket = device.pool.choose(flow::hash(frame), outer.df);
    let facts = Facts { network, device, entry, socket, outer, ethernet };
    if virtio.is_gso() {
        return queue_superframe(context, &facts, out, at + virtio::LEN, length - virtio::LEN, &virtio);
    }
    if virtio.needs_csum() {
        segment::complete_checksum(frame, &virtio)?;
    }
    queue_frame(context, &facts, out, at + virtio::LEN, length - virtio::LEN);
    Ok(())
}

/// What is known of one frame when it is queued.
struct Facts<'a> {
    network: &'a Network,
    device: &'a Device,
    entry: &'a FdbTargets,
    socket: usize,
    outer: Outer,
    ethernet: Ethernet,
}

impl Facts<'_> {
    /// The longest datagram to a target, if what is longer dies.
    fn limit(&self, context: &Context, target: &Target) -> Option<u32> {
        self.outer.df.then(|| limit::max_datagram(self.network, &target.peer, context.now))
    }

    fn drop(&self, reason: DropReason, frames: usize) {
        self.device.counters.drops.add(reason, frames as u64);
    }
}

/// Queues a plain frame of `length` bytes at `at`, once for each destination.
fn queue_frame(context: &Context, facts: &Facts<'_>, out: &mut Out, at: usize, length: usize) {
    let max_segment = max_datagram(facts.network);
    let datagram = (length + vxlan::HEADER_LEN) as u32;
    // The first destination's VXLAN header goes over the tail of the virtio header, right in front of the frame.
    let in_place = facts.entry.targets.first().map(|target| target.header).unwrap_or_default();
    let header_at = at - vxlan::HEADER_LEN;
    if let Some(place) = out.arena.get_mut(header_at..at) {
        place.copy_from_slice(&in_place);
    }
    let mut narrowest: Option<u32> = None;
    for target in &facts.entry.targets {
        if target.address.ip().is_unspecified() {
            facts.drop(DropReason::TxDestinationUnspecified, 1);
        } else if let Some(limit) = facts.limit(context, target).filter(|limit| datagram > *limit) {
            facts.drop(DropReason::TxTooBig, 1);
            narrowest = Some(narrowest.map_or(limit, |held| held.min(limit)));
        } else if target.header == in_place {
            let whole = Piece { buffer: Buffer::Frames, at: header_at as u32, len: datagram };
            out.batch.push(&facts.device.pool, facts.socket, target, facts.outer, &[whole], max_segment);
        } else {
            let header = Piece { buffer: Buffer::Headers, at: out.headers.len() as u32, len: vxlan::HEADER_LEN as u32 };
            out.headers.extend_from_slice(&target.header);
            let frame = Piece { buffer: Buffer::Frames, at: at as u32, len: length as u32 };
            out.batch.push(&facts.device.pool, facts.socket, target, facts.outer, &[header, frame], max_segment);
        }
    }
    if let Some(limit) = narrowest {
        let frame = out.arena.get(at..at + length).unwrap_or_default();
        out.answers.tell(context, facts.device, frame, &facts.ethernet, limit);
    }
}

/// Route short-circuit: a packet for a router's MAC goes to the neighbour that it is for at once, from the router's MAC, as if it had
/// been there (TTL untouched, as in the kernel's `route_shortcircuit`). The MAC that the frame is for now.
fn shortcut(context: &mut Context, device: &Device, network: &Network, frame: &mut [u8], ethernet: &Ethernet) -> Option<Mac> {
    let router = ethernet.destination;
    if ethernet.tagged || router.is_multicast() || !network.fdb.get(&router).is_some_and(|entry| entry.router) {
        return None;
    }
    let packet = frame.get(ethernet.network_offset..)?;
    let ip = ip::Ip::parse(ethernet.ethertype, packet)?;
    let addresses = ip.addresses(packet);
    let to = if addresses.len() == 8 { v4(addresses, 4) } else { v6(addresses, 16) };
    let lladdr = proxy::known(context, device, network, to?).filter(|lladdr| *lladdr != router)?;
    frame.get_mut(..6)?.copy_from_slice(&lladdr.0);
    frame.get_mut(6..12)?.copy_from_slice(&router.0);
    Some(lladdr)
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
pub(super) fn max_datagram(network: &Network) -> u32 {
    network.underlay_mtu.saturating_sub(limit::headers(network))
}

/// Queues the segments of a superframe of `length` bytes at `at`, once for each destination.
fn queue_superframe(
    context: &Context,
    facts: &Facts<'_>,
    out: &mut Out,
    at: usize,
    length: usize,
    virtio: &VirtioHeader,
) -> Result<(), DropReason> {
    let frame = out.arena.get(at..at + length).unwrap_or_default();
    let mut header = None;
    let mut narrowest: Option<u32> = None;
    for target in &facts.entry.targets {
        if target.address.ip().is_unspecified() {
            facts.drop(DropReason::TxDestinationUnspecified, 1);
            continue;
        }
        if header != Some(target.header) {
            header = Some(target.header);
            out.segments.clear();
            segment::segment(&target.header, frame, virtio, &mut out.headers, &mut out.segments)?;
        }
        // The first segment is as long as any.
        let longest = out.segments.first().map_or(0, Segment::len);
        if let Some(limit) = facts.limit(context, target).filter(|limit| longest > *limit) {
            facts.drop(DropReason::TxTooBig, out.segments.len());
            narrowest = Some(narrowest.map_or(limit, |held| held.min(limit)));
            continue;
        }
        for part in &out.segments {
            let header = Piece { buffer: Buffer::Headers, at: part.header.0, len: part.header.1 - part.header.0 };
            let payload = Piece { buffer: Buffer::Frames, at: at as u32 + part.payload.0, len: part.payload.1 - part.payload.0 };
            let datagram = [header, payload];
            out.batch.push(&facts.device.pool, facts.socket, target, facts.outer, &datagram, max_datagram(facts.network));
        }
    }
    if let (Some(limit), Some(first)) = (narrowest, out.segments.first()) {
        let header = out.headers.get(first.header.0 as usize + vxlan::HEADER_LEN..first.header.1 as usize).unwrap_or_default();
        let payload = frame.get(first.payload.0 as usize..first.payload.1 as usize).unwrap_or_default();
        out.answers.tell(context, facts.device, &[header, payload].concat(), &facts.ethernet, limit);
    }
    Ok(())
}

/// An ICMP error about something that was sent may lower a path MTU.
pub fn path_error(snapshot: &Snapshot, error: &PathError, now: u32) {
    let proven = error.local || error.header.is_some();
    if let Some(mtu) = error.mtu.filter(|_| proven) {
        snapshot.too_big(&TooBig { to: error.to, header: error.header, mtu }, now);
    }
}

pub(super) fn send(context: &mut Context, device: &Device, out: &mut Out) {
    if !out.batch.is_empty() {
        let counters = std::sync::Arc::clone(&context.counters);
        let (sent, fault) = out.batch.flush(
            &device.pool,
            &out.arena,
            &out.headers,
            &counters,
            &mut |error| path_error(&context.snapshot, &error, context.now),
            |reason, datagrams| device.counters.drops.add(reason, datagrams),
        );
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
