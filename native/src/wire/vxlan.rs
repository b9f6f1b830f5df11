//! The VXLAN header of RFC 7348 §5, strict: `08 000000 VNI 00`, and nothing else.

use crate::drops::DropReason;

/// Flags 1 + reserved 3 + VNI 3 + reserved 1.
pub const HEADER_LEN: usize = 8;

/// The I flag: the VNI is valid.
const FLAG_VNI: u8 = 0x08;

/// The header as one number: the I flag, the VNI, and what group-based policy uses (draft-smith-vxlan-group-policy: G flag, "don't
/// learn", "policy applied", group).
const I_FLAG: u64 = (FLAG_VNI as u64) << 56;
const VNI: u64 = 0xffff_ff00;
/// See above.
pub const GBP: u64 = 0x80ff_ffff << 32;
/// What no mask of reserved bits may contain.
pub const USED: u64 = I_FLAG | VNI;

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
    match parse_lenient(datagram)? {
        (vni, 0) => Ok(vni),
        _ => Err(DropReason::RxReservedBits),
    }
}

/// The VNI of a datagram, and which bits are set that are neither the I flag nor the VNI's (first byte uppermost): whether those are
/// taken is the network's to say.
pub fn parse_lenient(datagram: &[u8]) -> Result<(u32, u64), DropReason> {
    let header = datagram.first_chunk::<HEADER_LEN>().ok_or(DropReason::RxShort)?;
    let bits = u64::from_be_bytes(*header);
    if bits & I_FLAG == 0 {
        return Err(DropReason::RxNoVni);
    }
    Ok(((bits & VNI) as u32 >> 8, bits & !(I_FLAG | VNI)))
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

    #[test]
    fn bits_beyond_the_flag_and_the_vni_are_told() {
        assert_eq!(parse_lenient(&header(0xab_cdef)), Ok((0xab_cdef, 0)));
        assert_eq!(parse_lenient(&[0x88, 0x40, 0x12, 0x34, 0, 0, 42, 1]), Ok((42, 0x8040_1234_0000_0001)));
        assert_eq!(0x8040_1234_0000_0000 & !GBP, 0);
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
