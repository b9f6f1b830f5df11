//! The packet-moving half of vtepd: TAP on one side, VXLAN over UDP on the other.
//!
//! Layers, each using only those before it: [`wire`] and [`drops`] (pure bytes, names) - [`offload`] (segment, coalesce) -
//! [`tables`] (immutable snapshots) and [`counters`] - [`io`] (file descriptors, kernel facts) - [`lane`] (the loop) -
//! [`control`] (what the controller asks for). One thing looks back: [`io::host`] answers in the words of [`control::protocol`].

pub mod control;
pub mod counters;
pub mod drops;
pub mod io;
pub mod lane;
pub mod log;
pub mod offload;
pub mod tables;
pub mod wire;
