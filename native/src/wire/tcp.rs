//! The TCP header (RFC 9293 §3.1): the fields that segmentation and coalescing need. Offsets count from its first byte.

/// Smallest header.
pub const HEADER_LEN: usize = 20;
/// Sequence number, four bytes.
pub const SEQUENCE: usize = 4;
/// Data offset (high four bits) and reserved bits, the lowest of which is AccECN's AE.
pub const DATA_OFFSET: usize = 12;
/// Flags.
pub const FLAGS: usize = 13;
/// Checksum.
pub const CHECKSUM: usize = 16;

/// No more data comes.
pub const FIN: u8 = 0x01;
/// Open a connection.
pub const SYN: u8 = 0x02;
/// Kill a connection.
pub const RST: u8 = 0x04;
/// Hand over what came so far.
pub const PSH: u8 = 0x08;
/// The acknowledgement number is valid.
pub const ACK: u8 = 0x10;
/// The urgent pointer is valid.
pub const URG: u8 = 0x20;
/// Congestion was seen.
pub const ECE: u8 = 0x40;
/// Congestion was heard of.
pub const CWR: u8 = 0x80;

/// Bytes of the header at the front of `segment`, options included; `None` if it is cut or shorter than a header can be.
pub fn header_len(segment: &[u8]) -> Option<usize> {
    let len = usize::from(segment.get(DATA_OFFSET)? >> 4) * 4;
    (len >= HEADER_LEN && len <= segment.len()).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_length_is_between_20_and_what_is_there() {
        let with = |words: u8, len: usize| {
            let mut segment = vec![0; len];
            segment[DATA_OFFSET] = words << 4;
            header_len(&segment)
        };
        assert_eq!(with(5, 20), Some(20));
        assert_eq!(with(8, 32), Some(32));
        assert_eq!(with(8, 31), None);
        assert_eq!(with(4, 20), None);
        assert_eq!(header_len(&[0x50; 12]), None);
    }

    proptest! {
        #[test]
        fn never_panics(segment: Vec<u8>) {
            prop_assert!(header_len(&segment).is_none_or(|len| len <= segment.len()));
        }
    }
}
