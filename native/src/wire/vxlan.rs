//! The VXLAN header of RFC 7348 §5, strict: `08 000000 VNI 00`, and nothing else.

use crate::drops::DropReason;

/// Flags 1 + reserved 3 + VNI 3 + reserved 1.
pub const HEADER_LEN: usize = 8;

/// The I flag: the VNI is valid.
const FLAG_VNI: u8 = 0x08;

/// The header of a frame on the network `vni` (24 bits; higher ones are cut).
pub const fn header(vni: u32) -> [u8; HEADER_LEN] {
    let [_, a, b, c] = vni.to_be_bytes();
    [FLAG_VNI, 0, 0, 0, a, b, c, 0]
}

/// The VNI of a datagram.
///
/// RFC 7348 says to ignore reserved bits; the Linux device drops what has one set (they mean GBP or GPE, which change what
/// follows), and so do we. A clear I flag is told apart because it is not VXLAN at all.
pub fn parse(datagram: &[u8]) -> Result<u32, DropReason> {
    let &[flags, r1, r2, r3, a, b, c, r4, ..] = datagram else {
        return Err(DropReason::RxShort);
    };
    if flags & FLAG_VNI == 0 {
        return Err(DropReason::RxNoVni);
    }
    if flags != FLAG_VNI || (r1 | r2 | r3 | r4) != 0 {
        return Err(DropReason::RxReservedBits);
    }
    Ok(u32::from_be_bytes([0, a, b, c]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_is_the_flag_and_the_vni() {
        assert_eq!(header(1), [8, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(header(0xab_cdef), [8, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
        assert_eq!(header(0xff00_0001), header(1), "a VNI has 24 bits");
    }

    #[test]
    fn each_malformation_has_its_name() {
        assert_eq!(parse(&[]), Err(DropReason::RxShort));
        assert_eq!(parse(&[8, 0, 0, 0, 0, 0, 1]), Err(DropReason::RxShort));
        assert_eq!(parse(&[0, 0, 0, 0, 0, 0, 1, 0]), Err(DropReason::RxNoVni));
        assert_eq!(parse(&[0xf7, 1, 1, 1, 0, 0, 1, 1]), Err(DropReason::RxNoVni), "the I flag is looked at first");
    }

    #[test]
    fn every_single_reserved_bit_is_refused() {
        for bit in (0..64).filter(|bit| *bit != 3 + 56 && !(8..32).contains(bit)) {
            let bytes = (u64::from_be_bytes(header(42)) ^ (1 << bit)).to_be_bytes();
            assert_eq!(parse(&bytes), Err(DropReason::RxReservedBits), "bit {bit}: {bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(vni in 0u32..1 << 24, tail: Vec<u8>) {
            let mut datagram = header(vni).to_vec();
            datagram.extend(tail);
            prop_assert_eq!(parse(&datagram), Ok(vni));
        }
    }
}
