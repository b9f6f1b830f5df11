//! File descriptors and kernel facts: the only place where `unsafe` is allowed.

pub mod error;
pub mod errqueue;
pub mod event;
pub mod host;
pub mod netlink;
pub mod netns;
pub mod pool;
pub mod raw;
pub mod receive;
pub mod send;
pub mod snmp;
pub mod steering;
pub mod tap;
pub mod udp;
