//! `struct virtio_net_hdr`: what the kernel says about, and wants to know of, a frame on a TAP opened with `IFF_VNET_HDR`.
//!
//! Ten bytes, and in the byte order of this machine: the TAP is the legacy ("native endian") kind unless `TUNSETVNETLE` is used.

/// Bytes in front of every frame (`TUNSETVNETHDRSZ`'s default).
pub const LEN: usize = 10;

/// Flag: the L4 checksum field holds the folded pseudo-header sum; the rest is still to be added.
pub const NEEDS_CSUM: u8 = 1;
/// Flag: the checksum was verified (tun ignores it on writes).
pub const DATA_VALID: u8 = 2;
/// Flag: `csum_*` hold receive-coalescing facts instead; never valid between host and TAP.
pub const RSC: u8 = 4;

/// Not a superframe.
pub const GSO_NONE: u8 = 0;
/// A TCP over IPv4 superframe.
pub const GSO_TCPV4: u8 = 1;
/// A UDP datagram to be cut into IP fragments; kernels since 4.14 do not make it.
pub const GSO_UDP: u8 = 3;
/// A TCP over IPv6 superframe.
pub const GSO_TCPV6: u8 = 4;
/// A UDP superframe of either family, to be cut into datagrams (Linux 6.2).
pub const GSO_UDP_L4: u8 = 5;
/// Beside one of the TCP kinds: the first segment carries CWR.
pub const GSO_ECN: u8 = 0x80;

/// The header, field by field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioHeader {
    /// [`NEEDS_CSUM`], [`DATA_VALID`], [`RSC`].
    pub flags: u8,
    /// [`GSO_NONE`] or the kind of superframe, perhaps with [`GSO_ECN`].
    pub gso_type: u8,
    /// Ethernet to L4 header inclusive; a hint that forwarded frames have wrong.
    pub hdr_len: u16,
    /// Payload bytes of each segment but the last.
    pub gso_size: u16,
    /// From where the checksum is to be taken.
    pub csum_start: u16,
    /// Where, from `csum_start`, it is to be written.
    pub csum_offset: u16,
}

impl VirtioHeader {
    /// The bytes to write in front of a frame.
    pub const fn to_bytes(&self) -> [u8; LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// Reads the first [`LEN`] bytes; `None` if there are fewer.
    pub const fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let &[flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1, ..] = bytes else {
            return None;
        };
        Some(VirtioHeader {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    /// True for a superframe.
    pub const fn is_gso(&self) -> bool {
        self.gso_type & !GSO_ECN != GSO_NONE
    }

    /// True if the L4 checksum is still to be completed.
    pub const fn needs_csum(&self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_tcp_superframe_as_linux_writes_it() {
        // Host TCP over IPv4, MSS 1410: header 14 + 20 + 20, checksum from byte 34, at 16 of the TCP header.
        let bytes = [1, 1, 54, 0, 0x82, 0x05, 34, 0, 16, 0];
        let header =
            VirtioHeader { flags: NEEDS_CSUM, gso_type: GSO_TCPV4, hdr_len: 54, gso_size: 1410, csum_start: 34, csum_offset: 16 };
        assert_eq!(VirtioHeader::from_bytes(&bytes), Some(header));
        assert_eq!(header.to_bytes(), bytes);
        assert!(header.is_gso());
    }

    #[test]
    fn the_ecn_bit_alone_is_not_a_superframe() {
        assert!(!VirtioHeader { gso_type: GSO_ECN, ..Default::default() }.is_gso());
        assert!(VirtioHeader { gso_type: GSO_ECN | GSO_TCPV6, ..Default::default() }.is_gso());
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(bytes: [u8; LEN], tail: Vec<u8>) {
            let mut longer = bytes.to_vec();
            longer.extend(tail);
            prop_assert_eq!(VirtioHeader::from_bytes(&longer).unwrap().to_bytes(), bytes);
            for short in 0..LEN {
                prop_assert_eq!(VirtioHeader::from_bytes(&bytes[..short]), None);
            }
        }
    }
}
