//! In: UDP -> VXLAN header -> peer -> tables -> coalesce -> TAP.

use super::{Context, Device, Port, Report, tap_error};
use crate::drops::DropReason;
use crate::io::receive::{Datagram, ReceiveBatch};
use crate::io::udp::ReceiveSocket;
use crate::offload::received::{self, Received};
use crate::offload::segment::{self, Segment};
use crate::tables::{Network, Peer, PortKey};
use crate::wire::virtio::{self, VirtioHeader};
use crate::wire::{Mac, ecn, ethernet, ip, vxlan};
use std::io::IoSlice;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Pieces of one TAP write: the virtio header, the first frame's headers, and the payloads of at most 64 segments.
const PIECES: usize = 80;

/// Takes one batch from a socket and hands it to the TAPs.
pub fn serve(context: &mut Context, socket: &ReceiveSocket, batch: &mut ReceiveBatch, ports: &mut [Option<Port>]) {
    if !take(context, socket, batch) {
        return;
    }
    let (arena, datagrams) = batch.parts();
    let mut sender: Option<Sender> = None;
    for datagram in datagrams {
        receive(context, socket.port, arena, datagram, ports, &mut sender);
    }
    if let Some(sender) = sender {
        sender.count(context.now);
    }
    for port in ports.iter_mut().flatten().filter(|port| port.pending) {
        port.pending = false;
        deliver(context, arena, port);
    }
}

/// Receives; true if there is something.
pub(super) fn take(context: &mut Context, socket: &ReceiveSocket, batch: &mut ReceiveBatch) -> bool {
    let count = match batch.receive(socket) {
        Ok(count) => count,
        Err(error) => {
            context.report(Report::Fault { slot: None, call: "recvmmsg", errno: error.errno });
            return false;
        }
    };
    if count > 0 {
        context.counters.udp_receives.add(1);
        context.counters.udp_messages_received.add(count as u64);
    }
    count > 0
}

/// Splits a train into its datagrams.
///
/// The kernel's merge length is that of the *inner* segments when a neighbouring kernel handed a whole inner UDP superframe
/// over without segmenting it; splitting by it would shred the frame. Such a datagram is told apart by its first inner IP
/// packet, which is longer than the slice.
fn receive(
    context: &mut Context,
    key: PortKey,
    arena: &mut [u8],
    datagram: &Datagram,
    ports: &mut [Option<Port>],
    sender: &mut Option<Sender>,
) {
    if datagram.truncated {
        context.counters.drops.add(DropReason::RxTruncated, 1);
        return;
    }
    let step = match datagram.segment {
        Some(segment) if segment < datagram.len && first_fits(arena, datagram.at, segment) => segment,
        _ => datagram.len.max(1),
    };
    let whole_segment = datagram.segment.filter(|segment| step > *segment).and_then(|len| u16::try_from(len).ok());
    let mut start = 0;
    loop {
        let len = step.min(datagram.len - start);
        let slice = Slice { at: datagram.at + start, len, source: datagram.source, ecn: datagram.ecn, whole_segment };
        accept(context, key, arena, &slice, ports, sender);
        start += step;
        if start >= datagram.len {
            break;
        }
    }
}

fn first_fits(arena: &[u8], at: usize, segment: usize) -> bool {
    let Some(frame) = arena.get(at + vxlan::HEADER_LEN..at + segment) else { return false };
    let Some(ethernet) = ethernet::parse(frame) else { return false };
    let packet = frame.get(ethernet.network_offset..).unwrap_or_default();
    ip::Ip::parse(ethernet.ethertype, packet).is_none_or(|ip| ip.length <= packet.len())
}

/// One datagram of a train.
struct Slice {
    at: usize,
    len: usize,
    source: IpAddr,
    ecn: u8,
    /// The inner segment length of a UDP superframe that nobody segmented.
    whole_segment: Option<u16>,
}

/// Who sent the last datagram of this turn, to which network: a train's datagrams share the answer, and mostly so does the
/// next train. The snapshot does not change within a turn, so neither does the answer.
struct Sender {
    source: IpAddr,
    header: [u8; vxlan::HEADER_LEN],
    network: Arc<Network>,
    peer: Option<Arc<Peer>>,
    /// The last inner source that policy let pass.
    mac: Option<Mac>,
    packets: u64,
    bytes: u64,
}

impl Sender {
    fn find(context: &Context, key: PortKey, source: IpAddr, datagram: &[u8]) -> Result<Sender, DropReason> {
        let (vni, bits) = vxlan::parse_lenient(datagram)?;
        let network = match context.snapshot.by_vni(key, vni) {
            Some(network) if bits & !network.options.accept_bits == 0 => Arc::clone(network),
            None if bits == 0 => return Err(DropReason::RxUnknownVni),
            _ => return Err(DropReason::RxReservedBits),
        };
        let peer = network.peers.get(&source).cloned();
        let header = datagram.first_chunk().copied().unwrap_or_default();
        Ok(Sender { source, header, network, peer, mac: None, packets: 0, bytes: 0 })
    }

    fn count(&self, now: u32) {
        if let Some(peer) = self.peer.as_ref().filter(|_| self.packets > 0) {
            peer.received(self.packets, self.bytes, now);
        }
    }
}

/// Checks one datagram and gives its frame to its network's coalescer, or counts why it died.
fn accept(
    context: &mut Context,
    key: PortKey,
    arena: &mut [u8],
    slice: &Slice,
    ports: &mut [Option<Port>],
    last: &mut Option<Sender>,
) {
    let datagram = arena.get(slice.at..slice.at + slice.len).unwrap_or_default();
    if !last.as_ref().is_some_and(|last| last.source == slice.source && datagram.starts_with(&last.header)) {
        if let Some(last) = last.take() {
            last.count(context.now);
        }
        match Sender::find(context, key, slice.source, datagram) {
            Ok(sender) => *last = Some(sender),
            Err(reason) => return context.counters.drops.add(reason, 1),
        }
    }
    let Some(sender) = last else { return };
    let Some(port) = ports.get_mut(sender.network.slot).and_then(Option::as_mut) else {
        return context.counters.drops.add(DropReason::RxUnknownVni, 1);
    };
    let at = slice.at + vxlan::HEADER_LEN;
    let frame = arena.get_mut(at..slice.at + slice.len).unwrap_or_default();
    match admit(context, sender, frame, slice) {
        Ok(received) => {
            port.device.counters.partial_checksums.add(u64::from(received.partial_checksum));
            port.device.counters.whole_superframes.add(u64::from(received.whole_superframe));
            port.coalescer.push(arena, at, received.len, received.virtio);
            port.pending = true;
            sender.packets += 1;
            sender.bytes += received.len.saturating_sub(ethernet::HEADER_LEN) as u64;
        }
        Err(reason) => port.device.counters.drops.add(reason, 1),
    }
}

/// The network's policy: who may send, which source MACs, what the outer mark does, what is learned.
fn admit(context: &mut Context, sender: &mut Sender, frame: &mut [u8], slice: &Slice) -> Result<Received, DropReason> {
    let network = &sender.network;
    if network.peersonly && sender.peer.is_none() {
        return Err(DropReason::RxNotPeer);
    }
    let ethernet = ethernet::parse(frame).ok_or(DropReason::RxInnerRunt)?;
    if ethernet.source == network.mac {
        return Err(DropReason::RxSourceMacOwn);
    }
    let received = received::classify_sized(frame, network.mtu, slice.whole_segment)?;
    ecn::decapsulate(frame, &ethernet, slice.ecn)?;
    if network.learning && sender.mac != Some(ethernet.source) {
        learn(context, network, ethernet.source, slice.source)?;
        sender.mac = Some(ethernet.source);
    }
    received::prepare(frame, &received);
    Ok(received)
}

/// Learning, seen from the lane: refresh what agrees, report what is new or moved, refuse what contradicts a fixed entry.
fn learn(context: &mut Context, network: &Network, mac: Mac, source: IpAddr) -> Result<(), DropReason> {
    if mac.is_multicast() || mac.is_zero() {
        return Err(DropReason::RxSourceMacInvalid);
    }
    match network.fdb.get(&mac) {
        Some(entry) if entry.is_at(source) => {
            if entry.used.load(Relaxed) != context.now {
                entry.used.store(context.now, Relaxed);
            }
        }
        Some(entry) if !entry.dynamic => return Err(DropReason::RxSourceMacConflict),
        Some(entry) if entry.held.load(Relaxed) > context.now => return Err(DropReason::RxSourceMacMoves),
        _ => context.report(Report::Seen { slot: network.slot, mac, ip: source }),
    }
    Ok(())
}

/// Writes what the coalescer holds.
pub(super) fn deliver(context: &mut Context, arena: &mut [u8], port: &mut Port) {
    let device = &port.device;
    let link_len = device.framing.link_len();
    let (mut packets, mut bytes, mut fault, mut refused) = (0u64, 0u64, None, None);
    let lane = Arc::clone(&context.counters);
    port.coalescer.flush(arena, &mut |arena, virtio, pieces, segments| {
        lane.tap_writes.add(1);
        let length: usize = pieces.iter().map(|(start, end)| end - start).sum();
        // What came as a superframe is one item of the coalescer, too, and counts as the segments that it is cut into.
        let payload = length.saturating_sub(usize::from(virtio.hdr_len));
        let segments = if virtio.is_gso() { payload.div_ceil(usize::from(virtio.gso_size).max(1)) } else { segments };
        let is_udp = virtio.gso_type & !virtio::GSO_ECN == virtio::GSO_UDP_L4;
        let unsupported = virtio.is_gso() && !if is_udp { device.offloads.uso } else { device.offloads.tso };
        let result = if unsupported { Err(libc::EINVAL) } else { write(device, virtio, pieces, arena) };
        let result = match result {
            Err(libc::EINVAL) if virtio.is_gso() => {
                if !unsupported {
                    refused = Some(if is_udp { "write UDP superframe" } else { "write TCP superframe" });
                }
                write_segments(device, virtio, pieces, arena)
            }
            other => other,
        };
        match result {
            Ok(()) => {
                let headers = usize::from(virtio.hdr_len).saturating_sub(link_len);
                let repeated = if virtio.is_gso() { segments.saturating_sub(1) * headers } else { 0 };
                packets += segments as u64;
                bytes += (length.saturating_sub(link_len) + repeated) as u64;
            }
            Err(errno) => {
                device.counters.drops.add(tap_error(errno), segments as u64);
                if !matches!(errno, libc::EAGAIN | libc::EIO) {
                    fault = fault.or(Some(errno));
                }
            }
        }
    });
    device.counters.rx_packets.add(packets);
    device.counters.rx_bytes.add(bytes);
    lane.rx_packets.add(packets);
    lane.rx_bytes.add(bytes);
    if let Some(call) = refused {
        // Some stable kernels (6.6.44, 6.10.3) refuse superframes that others take: tried, told, and given up.
        context.report(Report::Fault { slot: Some(device.slot), call, errno: libc::EINVAL });
    }
    if let Some(errno) = fault {
        context.report(Report::Fault { slot: Some(device.slot), call: "write", errno });
    }
}

fn write(device: &Device, virtio: &VirtioHeader, pieces: &[(usize, usize)], arena: &[u8]) -> Result<(), i32> {
    let header = virtio.to_bytes();
    let mut slices = [IoSlice::new(&[]); PIECES];
    let mut used = 1;
    if let Some(first) = slices.first_mut() {
        *first = IoSlice::new(&header);
    }
    for (slice, (start, end)) in slices.iter_mut().skip(1).zip(pieces) {
        *slice = IoSlice::new(arena.get(*start..*end).unwrap_or_default());
        used += 1;
    }
    device.write(slices.get(..used).unwrap_or_default())
}

/// For a TAP without the offload that a superframe needs: cuts it here and writes segment by segment.
fn write_segments(device: &Device, virtio: &VirtioHeader, pieces: &[(usize, usize)], arena: &[u8]) -> Result<(), i32> {
    let mut frame = Vec::with_capacity(65_536);
    for (start, end) in pieces {
        frame.extend_from_slice(arena.get(*start..*end).unwrap_or_default());
    }
    let (mut headers, mut segments): (Vec<u8>, Vec<Segment>) = (Vec::new(), Vec::new());
    segment::segment_as(device.framing, &frame, virtio, &mut headers, &mut segments).map_err(|_| libc::EINVAL)?;
    let plain = VirtioHeader::default().to_bytes();
    for part in segments {
        let header = headers.get(part.header.0 as usize..part.header.1 as usize).unwrap_or_default();
        let payload = frame.get(part.payload.0 as usize..part.payload.1 as usize).unwrap_or_default();
        device.write(&[IoSlice::new(&plain), IoSlice::new(header), IoSlice::new(payload)])?;
    }
    Ok(())
}
