//! The Internet checksum (RFC 1071).
//!
//! A sum is a `u64` that is congruent, modulo 0xffff, to the sum of the data's big-endian 16-bit words; sums of several pieces
//! are made by passing one as the seed of the next (all but the last piece must have even length). [`fold`] makes 16 bits
//! of it, which are 0 only if every word was 0; the checksum is their complement.

mod simd;

use std::net::{Ipv4Addr, Ipv6Addr};

/// Below this the set-up of vectors costs more than it saves.
const VECTOR_MIN: usize = 64;

/// Adds the 16-bit words of `data`, an odd last byte padded with zero, to `seed`.
pub fn sum(data: &[u8], seed: u64) -> u64 {
    let words = if data.len() >= VECTOR_MIN { simd::words(data) } else { short(data) };
    // Adding words in the wrong byte order gives the sum in the wrong byte order (RFC 1071 §2 (B)): one swap at the end is
    // enough.
    add(seed, u64::from(u16::from_be(fold(words))))
}

/// Sixteen bits congruent to the sum; the Internet checksum is the complement of this.
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// Sum over IPv4's pseudo header; `len` is that of L4 header and payload.
pub fn pseudo_header_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: usize) -> u64 {
    sum(&destination.octets(), sum(&source.octets(), u64::from(protocol) + len as u64))
}

/// Sum over IPv6's pseudo header (RFC 8200 §8.1); `len` is that of L4 header and payload.
pub fn pseudo_header_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: usize) -> u64 {
    sum(&destination.octets(), sum(&source.octets(), u64::from(protocol) + len as u64))
}

/// The checksum after one 16-bit word under it changed (RFC 1624, equation 3).
pub const fn update16(check: u16, old: u16, new: u16) -> u16 {
    !fold(!check as u64 + !old as u64 + new as u64)
}

/// One's complement addition: the carry comes back in, which is neutral because 2^64 = 1 modulo 0xffff.
const fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u64
}

/// Sum of native-endian 64-bit words (2^64 = 1 modulo 0xffff, so a carry counts one): for headers, where a loop over vectors would
/// spend more on its beginning and its end than on the data.
fn short(data: &[u8]) -> u64 {
    let (words, rest) = data.as_chunks::<8>();
    let total = words.iter().fold(0, |total, word| add(total, u64::from_ne_bytes(*word)));
    if rest.is_empty() {
        return total;
    }
    let (half, rest) = rest.as_chunks::<4>();
    let total = half.iter().fold(total, |total, word| add(total, u64::from(u32::from_ne_bytes(*word))));
    let last = match *rest {
        [] => return total,
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c, ..] => [a, b, c, 0],
    };
    add(total, u64::from(u32::from_ne_bytes(last)))
}

/// Sum of native-endian 32-bit words, in plain code that the compiler makes vectors of.
/// Each lane takes less than 2^32 a step, so it holds 2^32 steps: 128 GiB.
fn portable(data: &[u8]) -> u64 {
    let (blocks, rest) = data.as_chunks::<32>();
    let mut lanes = [0u64; 8];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, rest) = rest.as_chunks::<4>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    lanes.iter().fold(u64::from(u32::from_ne_bytes(last)), |sum, lane| add(sum, *lane))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 word by word, one's complement addition in 64 bits.
    fn naive(data: &[u8], seed: u64) -> u16 {
        let mut sum = u128::from(seed);
        for pair in data.chunks(2) {
            sum += u128::from(pair[0]) << 8 | u128::from(pair.get(1).copied().unwrap_or(0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// Every way of summing, whatever the length; the vector one is that of the machine the test runs on.
    fn assert_all(data: &[u8], seed: u64) {
        let expected = naive(data, seed);
        let finish = |words| fold(add(seed, u64::from(u16::from_be(fold(words)))));
        assert_eq!(fold(sum(data, seed)), expected, "{} bytes, seed {seed:#x}", data.len());
        assert_eq!(finish(portable(data)), expected, "portable, {} bytes, seed {seed:#x}", data.len());
        assert_eq!(finish(short(data)), expected, "short, {} bytes, seed {seed:#x}", data.len());
        assert_eq!(finish(simd::words(data)), expected, "vectors, {} bytes, seed {seed:#x}", data.len());
    }

    /// xorshift64*, so that a failure names its seed.
    fn random(len: usize, mut state: u64) -> Vec<u8> {
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&data, 0)), 0xddf2);
    }

    #[test]
    fn every_length_and_alignment() {
        let data = random(400, 1);
        for len in 0..=300 {
            for start in 0..64 {
                assert_all(&data[start..start + len], u64::from(len as u8) * 0x1234_5678_9abc);
            }
        }
    }

    #[test]
    fn large_and_extreme() {
        for len in [1499, 1500, 9000, 65_535, 65_536, 1 << 20] {
            assert_all(&random(len, len as u64), 0);
            assert_all(&vec![0xff; len], u64::MAX);
            assert_all(&vec![0; len], 0);
        }
        assert_eq!(fold(sum(&[0; 1500], 0)), 0, "only zeros sum to zero");
        assert_eq!(fold(sum(&[0xff; 1500], 0)), 0xffff);
    }

    #[test]
    fn pseudo_headers() {
        let (a, b) = (Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 2));
        assert_eq!(fold(pseudo_header_v4(a, b, 6, 0x0102)), naive(&[10, 1, 0, 1, 10, 2, 0, 2, 0, 6, 1, 2], 0));
        let (a, b) = (Ipv6Addr::from([0xfd; 16]), Ipv6Addr::from([0xab; 16]));
        let bytes = [&[0xfd; 16][..], &[0xab; 16], &[0, 1, 2, 3, 0, 0, 0, 58]].concat();
        assert_eq!(fold(pseudo_header_v6(a, b, 58, 0x0001_0203)), naive(&bytes, 0));
    }

    proptest! {
        #[test]
        fn equals_the_reference(len in 0usize..70_000, state in 1u64.., seed: u64) {
            assert_all(&random(len, state), seed);
        }

        #[test]
        fn pieces_of_even_length_add_up(a in proptest::collection::vec(any::<[u8; 2]>(), 0..200), b: Vec<u8>, seed: u64) {
            let a = a.concat();
            prop_assert_eq!(fold(sum(&b, sum(&a, seed))), naive(&[a, b].concat(), seed));
        }

        #[test]
        fn update_is_as_good_as_a_new_sum(
            mut words in proptest::collection::vec(any::<u16>(), 1..40),
            new: u16,
            at: prop::sample::Index,
        ) {
            let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
            let before = !fold(sum(&bytes(&words), 0));
            let at = at.index(words.len());
            let old = std::mem::replace(&mut words[at], new);
            let updated = update16(before, old, new);
            // A receiver adds up everything: all ones is right. (0 and 0xffff are two ways to write one checksum.)
            prop_assert_eq!(fold(sum(&bytes(&words), u64::from(updated))) % 0xffff, 0);
        }
    }
}
