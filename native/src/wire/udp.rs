//! The UDP header (RFC 768). Offsets count from its first byte.

/// Two ports, length, checksum.
pub const HEADER_LEN: usize = 8;
/// Length of header and payload.
pub const LENGTH: usize = 4;
/// Checksum; 0 means that there is none, so one that computes to 0 is sent as 0xffff.
pub const CHECKSUM: usize = 6;
