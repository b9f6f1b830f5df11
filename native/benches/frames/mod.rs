//! Frames for the micro-benchmarks: TCP over IPv4 with timestamps, as a bulk transfer makes them.

use vtepd_dataplane::wire::checksum::{fold, pseudo_header_v4, sum};
use vtepd_dataplane::wire::virtio::{GSO_TCPV4, NEEDS_CSUM, VirtioHeader};

/// Where the IPv4 header begins.
const NETWORK: usize = 14;
/// Where the TCP header begins.
const TRANSPORT: usize = NETWORK + 20;
/// Ethernet, IPv4, TCP with its twelve bytes of timestamps.
pub const HEADERS: usize = TRANSPORT + 32;
/// Payload of a segment at the overlay's MTU of 1450.
pub const SEGMENT: usize = 1450 - 20 - 32;
/// Segments of the largest superframe that one send takes (`gso_max_size` 61000).
#[allow(dead_code, reason = "each benchmark includes this file and uses its part")]
pub const SEGMENTS: usize = 61_000 / SEGMENT;

/// A frame of the flow `flow` with `payload` bytes, from sequence number `sequence` on; the TCP checksum is left at the folded
/// pseudo header if `partial`, as a host's stack leaves it to its device, and complete otherwise.
pub fn tcp4(flow: u8, sequence: u32, id: u16, payload: usize, partial: bool) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let (source, destination) = ([10, 246, 30, 2], [10, 246, 13, 2]);
    frame.extend([0x45, 0]);
    frame.extend(((20 + 32 + payload) as u16).to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend([0x40, 0, 64, 6, 0, 0]);
    frame.extend(source);
    frame.extend(destination);
    let check = !fold(sum(&frame[NETWORK..TRANSPORT], 0));
    frame[NETWORK + 10..NETWORK + 12].copy_from_slice(&check.to_be_bytes());
    frame.extend([0x80, flow, 0x14, 0x51]);
    frame.extend(sequence.to_be_bytes());
    frame.extend([0, 0, 0x20, 0, 0x80, 0x10, 1, 0xf4, 0, 0, 0, 0]);
    frame.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    frame.extend((0..payload).map(|at| (at * 31) as u8));
    let pseudo = pseudo_header_v4(source.into(), destination.into(), 6, 32 + payload);
    let check = if partial { fold(pseudo) } else { !fold(sum(&frame[TRANSPORT..], pseudo)) };
    frame[TRANSPORT + 16..TRANSPORT + 18].copy_from_slice(&check.to_be_bytes());
    frame
}

/// The virtio header of a superframe.
#[allow(dead_code, reason = "each benchmark includes this file and uses its part")]
pub fn superframe() -> VirtioHeader {
    VirtioHeader {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: HEADERS as u16,
        gso_size: SEGMENT as u16,
        csum_start: TRANSPORT as u16,
        csum_offset: 16,
    }
}
