//! What the controller asks for: protocol, engine, tables by source, events, the socket.

mod caches;
pub mod engine;
pub mod error;
mod events;
mod follow;
#[cfg(test)]
mod generate;
mod host;
mod host_neighbours;
mod journal;
mod lanes;
mod limits;
mod master;
mod network;
mod networks;
mod offloads;
mod options;
pub mod protocol;
pub mod server;
mod stats;
mod underlay;
mod update;
mod watch;
