//! Pure bytes: parses and builds headers. Never sees a file descriptor.
//!
//! Every function here takes what a stranger sent and answers with a value: none panics, allocates or keeps a borrow.

pub mod arp;
pub mod checksum;
pub mod ecn;
pub mod ethernet;
pub mod flow;
mod framing;
pub mod icmp;
pub mod ip;
mod mac;
pub mod nd;
pub mod outer;
pub mod tcp;
pub mod udp;
pub mod virtio;
pub mod vxlan;

pub use framing::Framing;
pub use mac::Mac;

/// The two bytes at `at`, in network order; `None` past the end.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    match bytes.get(at..)? {
        [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// The four bytes at `at`, in network order; 0 past the end.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Writes `value` at `at` in network order; does nothing past the end.
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some([high, low, ..]) = bytes.get_mut(at..) {
        [*high, *low] = value.to_be_bytes();
    }
}
