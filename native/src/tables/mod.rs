//! What lanes look things up in: immutable snapshots, published by one pointer swap.
//!
//! The control thread owns the masters, changes a clone and publishes it; a lane loads the current snapshot once a turn and
//! never waits. Only counters and ages inside the entries are written by lanes, and those are atomics.

mod neighbours;
mod network;
mod options;
mod path;
mod peer;
mod sharded;

pub use neighbours::Neighbours;
pub use network::{FdbTargets, NO_VNI, Network, PortKey, Snapshot, Target};
pub use options::Options;
pub use path::TooBig;
pub use peer::Peer;
pub use sharded::Sharded;
