//! Bytes of netlink: messages and attributes, cut out of what the kernel sent and put together for it (netlink(7)).
//!
//! Numbers are in host order, everything is padded to 4 bytes. Whatever is cut short or lies about its length ends the
//! iteration; nothing here fails or panics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `struct nlmsghdr`: length (4), type (2), flags (2), sequence (4), port (4).
pub const HEADER: usize = 16;
/// An acknowledgement, good or bad.
pub const ERROR: u16 = libc::NLMSG_ERROR as u16;
/// The end of a dump.
pub const DONE: u16 = libc::NLMSG_DONE as u16;
/// Length and type of an attribute, 2 bytes each.
const ATTRIBUTE_HEADER: usize = 4;

const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// One message, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `RTM_*` or `NLMSG_*`.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The request that this answers; 0 for notifications.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages of one datagram.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(rest, 0)? as usize;
        let payload = rest.get(HEADER..length)?;
        let message = Message { kind: u16_at(rest, 4)?, flags: u16_at(rest, 6)?, sequence: u32_at(rest, 8)?, payload };
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in `rest`: type without its flag bits, and value.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attributes after a fixed header of `header` bytes; none if the header is not whole.
pub fn attributes_after(payload: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(payload.get(header..).unwrap_or_default())
}

/// One byte.
pub fn u8_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

/// Two bytes, host order.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

/// Four bytes, host order.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

/// Eight bytes, host order.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u64::from_ne_bytes(*chunk))
}

/// Four bytes, signed, host order.
pub fn i32_at(bytes: &[u8], offset: usize) -> Option<i32> {
    bytes.get(offset..)?.first_chunk().map(|chunk| i32::from_ne_bytes(*chunk))
}

/// A string that ends at its first NUL.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// An address: 4 bytes are IPv4, 16 are IPv6.
pub fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        16 => value.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
}

/// `AF_INET` or `AF_INET6`.
pub fn family_of(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// A request being put together.
#[derive(Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
}

impl Request {
    /// A request with the fixed header of its kind, whose size is a multiple of 4.
    pub fn new(kind: u16, flags: i32, fixed: &[u8]) -> Request {
        Request { kind, flags: (flags | libc::NLM_F_REQUEST) as u16, payload: fixed.to_vec() }
    }

    /// Appends an attribute.
    pub fn with(mut self, kind: u16, value: &[u8]) -> Request {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.payload.extend_from_slice(&length.to_ne_bytes());
        self.payload.extend_from_slice(&kind.to_ne_bytes());
        self.payload.extend_from_slice(value);
        self.payload.resize(aligned(self.payload.len()), 0);
        self
    }

    /// Appends a number.
    pub fn with_u32(self, kind: u16, value: u32) -> Request {
        self.with(kind, &value.to_ne_bytes())
    }

    /// Appends an address.
    pub fn with_ip(self, kind: u16, address: IpAddr) -> Request {
        match address {
            IpAddr::V4(v4) => self.with(kind, &v4.octets()),
            IpAddr::V6(v6) => self.with(kind, &v6.octets()),
        }
    }

    /// `RTM_*` of this request.
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// Adds `NLM_F_*` flags.
    pub fn with_flags(mut self, flags: i32) -> Request {
        self.flags |= flags as u16;
        self
    }

    /// The bytes to send under this sequence number.
    pub fn stamped(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend_from_slice(&((HEADER + self.payload.len()) as u32).to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]); // the port: the kernel fills it in
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_request_is_these_bytes() {
        let request = Request::new(libc::RTM_GETLINK, 0, &[0xaa; 4]).with(3, b"lo\0").with_u32(29, 8).with_flags(libc::NLM_F_ACK);
        #[rustfmt::skip]
        let expected = [
            36, 0, 0, 0, 18, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0, // length, type, REQUEST | ACK, sequence, port
            0xaa, 0xaa, 0xaa, 0xaa,
            7, 0, 3, 0, b'l', b'o', 0, 0, // padded, which the length does not count
            8, 0, 29, 0, 8, 0, 0, 0,
        ];
        assert_eq!(request.stamped(9), expected);
        let message = messages(&expected).next().unwrap();
        assert_eq!((message.kind, message.flags, message.sequence), (18, 5, 9));
        let found: Vec<_> = attributes_after(message.payload, 4).collect();
        assert_eq!(found, [(3, &b"lo\0"[..]), (29, &[8, 0, 0, 0][..])]);
    }

    #[test]
    fn a_datagram_holds_several_messages() {
        let mut bytes = Request::new(16, 0, &[1; 4]).stamped(1);
        bytes.extend(Request::new(17, 0, &[2; 8]).stamped(2));
        let kinds: Vec<_> = messages(&bytes).map(|message| (message.kind, message.payload.len())).collect();
        assert_eq!(kinds, [(16, 4), (17, 8)]);
    }

    #[test]
    fn lengths_that_lie_end_the_iteration() {
        for length in [0u32, 1, 15, 17, u32::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.resize(16, 0);
            assert_eq!(messages(&bytes).count(), 0, "message of {length}");
        }
        for length in [0u16, 3, 9, u16::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.resize(8, 0);
            assert_eq!(attributes(&bytes).count(), 0, "attribute of {length}");
        }
        assert_eq!(attributes_after(&[1, 2, 3], 16).count(), 0);
    }

    #[test]
    fn text_ends_at_its_nul() {
        assert_eq!(text(b"eth0\0rest"), "eth0");
        assert_eq!(text(b"eth0"), "eth0");
        assert_eq!(text(b""), "");
    }
}
