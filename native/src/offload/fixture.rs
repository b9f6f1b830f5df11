//! Frames for tests, and a checker that shares no code with what it checks.

use crate::wire::virtio::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VirtioHeader};
use proptest::prelude::*;

/// A TCP or UDP packet in an Ethernet frame; `build` makes the bytes.
#[derive(Clone, Debug)]
pub struct Packet {
    pub v6: bool,
    pub udp: bool,
    pub tags: usize,
    /// Last byte of the source address, last byte of the source port.
    pub flow: u8,
    pub tos: u8,
    pub ttl: u8,
    pub id: u16,
    pub df: bool,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    /// A multiple of four bytes.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

pub fn tcp4(payload: &[u8]) -> Packet {
    Packet {
        v6: false,
        udp: false,
        tags: 0,
        flow: 1,
        tos: 0,
        ttl: 64,
        id: 0x0100,
        df: true,
        sequence: 0x0000_1000,
        acknowledgement: 0x0000_2000,
        flags: 0x10,
        window: 500,
        options: vec![],
        payload: payload.to_vec(),
    }
}

pub fn tcp6(payload: &[u8]) -> Packet {
    Packet { v6: true, ..tcp4(payload) }
}

pub fn udp4(payload: &[u8]) -> Packet {
    Packet { udp: true, ..tcp4(payload) }
}

pub fn udp6(payload: &[u8]) -> Packet {
    Packet { v6: true, ..udp4(payload) }
}

/// Any of them, with payload and everything else at random.
pub fn any_packet(payload: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Packet> {
    let kind = (any::<bool>(), any::<bool>(), 0usize..3, any::<u8>());
    let ip = (any::<u8>(), 1u8.., any::<u16>(), any::<bool>());
    let tcp = (
        any::<u32>(),
        any::<u32>(),
        any::<u16>(),
        (0usize..=10).prop_flat_map(|n| proptest::collection::vec(any::<u8>(), n * 4)),
    );
    (kind, ip, tcp, payload).prop_map(
        |((v6, udp, tags, flow), (tos, ttl, id, df), (sequence, acknowledgement, window, options), payload)| Packet {
            v6,
            udp,
            tags,
            flow,
            tos,
            ttl,
            id,
            df,
            sequence,
            acknowledgement,
            flags: 0x10,
            window,
            options,
            payload,
        },
    )
}

impl Packet {
    pub fn network(&self) -> usize {
        14 + 4 * self.tags
    }

    pub fn transport(&self) -> usize {
        self.network() + if self.v6 { 40 } else { 20 }
    }

    pub fn headers(&self) -> usize {
        self.transport() + if self.udp { 8 } else { 20 + self.options.len() }
    }

    fn addresses(&self) -> Vec<u8> {
        match self.v6 {
            false => vec![10, 1, 0, self.flow, 10, 2, 0, 2],
            true => {
                let mut both = vec![0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.flow];
                both.extend([0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
                both
            }
        }
    }

    /// The frame, all checksums complete.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        (0..self.tags).for_each(|tag| frame.extend([0x81, 0, 0, 5 + tag as u8]));
        let l4_len = (self.headers() - self.transport() + self.payload.len()) as u16;
        let protocol = if self.udp { 17 } else { 6 };
        if self.v6 {
            frame.extend([0x86, 0xdd, 0x60 | self.tos >> 4, self.tos << 4, 0x12, 0x34]);
            frame.extend(l4_len.to_be_bytes());
            frame.extend([protocol, self.ttl]);
            frame.extend(self.addresses());
        } else {
            frame.extend([0x08, 0x00, 0x45, self.tos]);
            frame.extend((20 + l4_len).to_be_bytes());
            frame.extend(self.id.to_be_bytes());
            frame.extend([if self.df { 0x40 } else { 0 }, 0, self.ttl, protocol, 0, 0]);
            frame.extend(self.addresses());
            let check = !naive_fold(&frame[self.network()..]);
            let at = self.network() + 10;
            frame[at..at + 2].copy_from_slice(&check.to_be_bytes());
        }
        frame.extend([0x80, self.flow, 0x14, 0x51]);
        if self.udp {
            frame.extend(l4_len.to_be_bytes());
            frame.extend([0, 0]);
        } else {
            frame.extend(self.sequence.to_be_bytes());
            frame.extend(self.acknowledgement.to_be_bytes());
            frame.extend([((5 + self.options.len() / 4) << 4) as u8, self.flags]);
            frame.extend(self.window.to_be_bytes());
            frame.extend([0, 0, 0, 0]);
            frame.extend(&self.options);
        }
        frame.extend(&self.payload);
        let mut covered = self.pseudo_header(l4_len);
        covered.extend(&frame[self.transport()..]);
        let mut check = !naive_fold(&covered);
        if self.udp && check == 0 {
            check = 0xffff;
        }
        self.put_check(&mut frame, check);
        frame
    }

    /// The frame as the kernel's stack hands it to a device with checksum offload.
    pub fn build_partial(&self) -> Vec<u8> {
        let mut frame = self.build();
        let partial = naive_fold(&self.pseudo_header((frame.len() - self.transport()) as u16));
        self.put_check(&mut frame, partial);
        frame
    }

    /// The virtio header of a superframe of segments of `size`.
    pub fn gso(&self, size: u16) -> VirtioHeader {
        let gso_type = match (self.udp, self.v6) {
            (true, _) => GSO_UDP_L4,
            (false, false) => GSO_TCPV4,
            (false, true) => GSO_TCPV6,
        };
        VirtioHeader { gso_type, gso_size: size, hdr_len: self.headers() as u16, ..self.needs_csum() }
    }

    /// The virtio header of a plain frame with partial checksum.
    pub fn needs_csum(&self) -> VirtioHeader {
        let csum_offset = if self.udp { 6 } else { 16 };
        VirtioHeader { flags: NEEDS_CSUM, csum_start: self.transport() as u16, csum_offset, ..Default::default() }
    }

    fn put_check(&self, frame: &mut [u8], check: u16) {
        let at = self.transport() + if self.udp { 6 } else { 16 };
        frame[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }

    fn pseudo_header(&self, l4_len: u16) -> Vec<u8> {
        let mut bytes = self.addresses();
        bytes.extend([0, if self.udp { 17 } else { 6 }]);
        bytes.extend(l4_len.to_be_bytes());
        bytes
    }
}

/// RFC 1071, word by word.
pub fn naive_fold(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Panics unless lengths and checksums of a TCP or UDP frame are all right.
pub fn assert_sound(frame: &[u8]) {
    let mut at = 12;
    while frame[at..at + 2] == [0x81, 0] {
        at += 4;
    }
    let ethertype = &frame[at..at + 2];
    let packet = &frame[at + 2..];
    let (addresses, protocol, l4) = if ethertype == [0x08, 0] {
        assert_eq!(usize::from(packet[2]) << 8 | usize::from(packet[3]), packet.len(), "IPv4 total length");
        assert_eq!(naive_fold(&packet[..20]), 0xffff, "IPv4 header checksum");
        (&packet[12..20], packet[9], &packet[20..])
    } else {
        assert_eq!(ethertype, [0x86, 0xdd]);
        assert_eq!(usize::from(packet[4]) << 8 | usize::from(packet[5]), packet.len() - 40, "IPv6 payload length");
        (&packet[8..40], packet[6], &packet[40..])
    };
    let mut covered = addresses.to_vec();
    covered.extend([0, protocol, (l4.len() >> 8) as u8, l4.len() as u8]);
    covered.extend(l4);
    assert_eq!(naive_fold(&covered), 0xffff, "L4 checksum");
    if protocol == 17 {
        assert_eq!(usize::from(l4[4]) << 8 | usize::from(l4[5]), l4.len(), "UDP length");
        assert_ne!(l4[6..8], [0, 0], "UDP checksum absent");
    }
}
