//! What the controller asks for: protocol, engine, tables by source, events, the socket.

pub mod engine;
pub mod error;
mod events;
#[cfg(test)]
mod generate;
mod host;
mod lanes;
mod master;
mod network;
mod networks;
mod offloads;
pub mod protocol;
pub mod server;
mod stats;
mod underlay;
mod watch;
