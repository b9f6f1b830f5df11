//! Explicit congestion notification through the tunnel (RFC 6040): marks are copied outwards, and inwards where the inner packet
//! can carry them. Untagged IPv4 and IPv6 only, as the kernel's device does; everything else is left as it is.

use super::{checksum, ethernet};
use crate::drops::DropReason;

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const CE: u8 = 3;

/// The ECN bits of the packet in a frame, VLAN tags looked through; 0 for anything but IP.
fn inner(frame: &[u8], ethertype: u16, network_offset: usize) -> u8 {
    match (ethertype, frame.get(network_offset), frame.get(network_offset + 1)) {
        (ethernet::IPV4, _, Some(tos)) => tos & 3,
        (ethernet::IPV6, _, Some(class)) => (class >> 4) & 3,
        _ => NOT_ECT,
    }
}

/// What the outer header says for a frame (RFC 6040 section 4.1, normal mode, CE sent as ECT(0) as Linux does).
pub fn encapsulate(frame: &[u8], ethernet: &ethernet::Ethernet) -> u8 {
    match inner(frame, ethernet.ethertype, ethernet.network_offset) {
        CE => 2,
        ecn => ecn,
    }
}

/// Carries the outer mark over to the frame (RFC 6040 section 4.2); the IPv4 header checksum stays right.
pub fn decapsulate(frame: &mut [u8], ethernet: &ethernet::Ethernet, outer: u8) -> Result<(), DropReason> {
    if outer == NOT_ECT || ethernet.tagged || !matches!(ethernet.ethertype, ethernet::IPV4 | ethernet::IPV6) {
        return Ok(());
    }
    let at = ethernet.network_offset;
    let ecn = match (inner(frame, ethernet.ethertype, at), outer) {
        (NOT_ECT, CE) => return Err(DropReason::RxEcn),
        (NOT_ECT | CE | ECT_1, ECT_1 | 2) => return Ok(()),
        (CE, _) => return Ok(()),
        (_, mark) => mark,
    };
    if ethernet.ethertype == ethernet::IPV6 {
        if let Some(byte) = frame.get_mut(at + 1) {
            *byte = (*byte & !0x30) | ecn << 4;
        }
        return Ok(());
    }
    if let Some([version, tos, .., high, low]) = frame.get_mut(at..at + 12) {
        let old = u16::from_be_bytes([*version, *tos]);
        *tos = (*tos & !3) | ecn;
        let check = checksum::update16(u16::from_be_bytes([*high, *low]), old, u16::from_be_bytes([*version, *tos]));
        [*high, *low] = check.to_be_bytes();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ip;

    fn ipv4(ecn: u8) -> Vec<u8> {
        let mut frame = vec![0u8; 34];
        frame[12] = 0x08;
        frame[14..26].copy_from_slice(&[0x45, 0xb8 | ecn, 0, 20, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0]);
        ip::v4_write_checksum(&mut frame[14..34]);
        frame
    }

    #[test]
    fn the_outer_header_carries_the_inner_mark_and_never_ce() {
        for (inner, outer) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            let frame = ipv4(inner);
            assert_eq!(encapsulate(&frame, &ethernet::parse(&frame).unwrap()), outer);
        }
    }

    #[test]
    fn decapsulation_follows_the_table_of_rfc_6040() {
        // Rows: inner; columns: outer Not-ECT, ECT(1), ECT(0), CE; None = drop. Measured on Linux 6.18.
        let table = [
            (0, [Some(0), Some(0), Some(0), None]),
            (1, [Some(1), Some(1), Some(1), Some(3)]),
            (2, [Some(2), Some(1), Some(2), Some(3)]),
            (3, [Some(3), Some(3), Some(3), Some(3)]),
        ];
        for (inner, row) in table {
            for (outer, want) in [0, 1, 2, 3].into_iter().zip(row) {
                let mut v4 = ipv4(inner);
                let ethernet = ethernet::parse(&v4).unwrap();
                let got = decapsulate(&mut v4, &ethernet, outer).ok().map(|()| v4[15]);
                assert_eq!(got, want.map(|ecn| 0xb8 | ecn), "IPv4 {inner} in {outer}");
                assert!(ip::v4_checksum_ok(&v4[14..34]), "IPv4 {inner} in {outer}");
                let mut v6 = vec![0u8; 54];
                (v6[12], v6[13], v6[14], v6[15]) = (0x86, 0xdd, 0x6b, 0x8f | inner << 4);
                let ethernet = ethernet::parse(&v6).unwrap();
                let got = decapsulate(&mut v6, &ethernet, outer).ok().map(|()| v6[15]);
                assert_eq!(got, want.map(|ecn| 0x8f | ecn << 4), "IPv6 {inner} in {outer}");
            }
        }
    }

    #[test]
    fn short_and_other_frames_are_left_alone() {
        for len in 14..34 {
            let mut frame = ipv4(2);
            frame.truncate(len);
            let ethernet = ethernet::parse(&frame).unwrap();
            assert!(decapsulate(&mut frame, &ethernet, 1).is_ok());
        }
        let mut arp = vec![0u8; 42];
        (arp[12], arp[13]) = (8, 6);
        let (before, ethernet) = (arp.clone(), ethernet::parse(&arp).unwrap());
        assert!(decapsulate(&mut arp, &ethernet, 3).is_ok());
        assert_eq!(arp, before);
    }
}
