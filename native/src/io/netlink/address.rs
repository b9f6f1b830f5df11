//! Addresses of links: `RTM_NEWADDR` parsed, requests built (linux/if_addr.h).

use super::codec::{self, Message, Request, attributes_after, family_of, u8_at, u32_at};
use ipnet::IpNet;

/// `struct ifaddrmsg`: family, prefix length, flags, scope (1 each), index (4).
const HEADER: usize = 8;

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub index: u32,
    /// Address and prefix length, host bits kept. On a point-to-point link the own address, not the peer's.
    pub address: IpNet,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
}

impl Address {
    /// Has no lifetime.
    pub fn is_permanent(&self) -> bool {
        self.flags & libc::IFA_F_PERMANENT != 0
    }

    /// No longer to be used for new connections.
    pub fn is_deprecated(&self) -> bool {
        self.flags & libc::IFA_F_DEPRECATED != 0
    }

    /// IPv6 privacy address (for IPv4 the same bit means a secondary address).
    pub fn is_temporary(&self) -> bool {
        self.address.addr().is_ipv6() && self.flags & libc::IFA_F_TEMPORARY != 0
    }

    /// IPv6: duplicate address detection runs or has failed, so the kernel does not use it.
    pub fn is_tentative(&self) -> bool {
        self.flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) != 0
    }
}

/// Reads `RTM_NEWADDR`.
pub fn parse(message: &Message<'_>) -> Option<Address> {
    if message.kind != libc::RTM_NEWADDR {
        return None;
    }
    let length = u8_at(message.payload, 1)?;
    let mut flags = u32::from(u8_at(message.payload, 2)?);
    let mut own = None;
    let mut other = None;
    for (kind, value) in attributes_after(message.payload, HEADER) {
        match kind {
            libc::IFA_LOCAL => own = codec::ip(value),
            libc::IFA_ADDRESS => other = codec::ip(value),
            libc::IFA_FLAGS => flags = u32_at(value, 0)?, // the header has room for 8 of the 32 bits
            _ => {}
        }
    }
    // IFA_ADDRESS is the peer's where there is an IFA_LOCAL that differs, else the address itself (IPv6 gives only that).
    let address = IpNet::new(own.or(other)?, length).ok()?;
    Some(Address { index: u32_at(message.payload, 4)?, address, scope: u8_at(message.payload, 3)?, flags })
}

/// Asks for every address of both families.
pub fn get_all() -> Request {
    Request::new(libc::RTM_GETADDR, 0, &[0; HEADER])
}

/// Asks for a new address.
pub fn add(index: u32, address: IpNet) -> Request {
    build(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, index, address)
}

/// Asks for the end of an address.
pub fn del(index: u32, address: IpNet) -> Request {
    build(libc::RTM_DELADDR, 0, index, address)
}

fn build(kind: u16, flags: i32, index: u32, address: IpNet) -> Request {
    let mut header = [0; HEADER];
    header[0] = family_of(address.addr());
    header[1] = address.prefix_len();
    header[4..].copy_from_slice(&index.to_ne_bytes());
    Request::new(kind, flags, &header).with_ip(libc::IFA_LOCAL, address.addr()).with_ip(libc::IFA_ADDRESS, address.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &[u8]) -> Message<'_> {
        Message { kind: libc::RTM_NEWADDR, flags: 0, sequence: 1, payload }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn an_address_is_read_from_its_bytes() {
        #[rustfmt::skip]
        let bytes = [
            2, 32, 0x80, 0, 7, 0, 0, 0, // AF_INET, /32, IFA_F_PERMANENT, global, link 7
            8, 0, 1, 0, 192, 0, 2, 9,   // IFA_ADDRESS: the peer's
            8, 0, 2, 0, 10, 246, 13, 0, // IFA_LOCAL
            8, 0, 8, 0, 0x80, 0, 0, 0,  // IFA_FLAGS
        ];
        let address = parse(&message(&bytes)).unwrap();
        assert_eq!(address, Address { index: 7, address: "10.246.13.0/32".parse().unwrap(), scope: 0, flags: 0x80 });
        assert!(address.is_permanent() && !address.is_deprecated() && !address.is_temporary() && !address.is_tentative());
        for end in 0..bytes.len() {
            let _ = parse(&message(&bytes[..end]));
        }
    }

    #[test]
    fn a_prefix_length_beyond_the_family_is_refused() {
        let bytes = [2, 33, 0, 0, 7, 0, 0, 0, 8, 0, 2, 0, 10, 246, 13, 0];
        assert_eq!(parse(&message(&bytes)), None);
    }

    #[test]
    fn one_bit_means_secondary_for_ipv4_and_temporary_for_ipv6() {
        let with = |address: &str| Address { index: 1, address: address.parse().unwrap(), scope: 0, flags: 1 };
        assert!(!with("192.0.2.2/24").is_temporary());
        assert!(with("2001:db8::2/64").is_temporary());
    }
}
