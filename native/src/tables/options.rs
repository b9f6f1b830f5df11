//! A network's options as the lanes see them; all off by default.

use crate::wire::outer;

/// What a network does beyond the ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// TTL, TOS and DF of the outer header.
    pub outer: outer::Policy,
    /// IPv6 flow label of the outer header.
    pub flowlabel: u32,
    /// Bits of the VXLAN header that may be set in what is received, beside the I flag and the VNI.
    pub accept_bits: u64,
    /// Tell of destination MACs without an entry.
    pub l2miss: bool,
    /// Tell of addresses without a neighbour.
    pub l3miss: bool,
    /// Send what is for a router's MAC straight to the neighbour that it is for.
    pub rsc: bool,
    /// Flood what the proxy cannot answer.
    pub proxy_flood: bool,
}
