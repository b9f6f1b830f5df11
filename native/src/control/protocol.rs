//! The control protocol: newline-delimited JSON-RPC 2.0 over a unix stream socket.
//!
//! Its methods and notifications are listed here; what they carry is in the modules, by subject. Types are written there and nowhere
//! else; `src/dataplane/protocol.ts` is generated from them (`cargo test generated` fails when it is out of date,
//! `UPDATE=1 cargo test generated` rewrites it). Addresses and MACs travel as text, prefixes as `10.246.13.0/24`. A request that
//! changes something is applied whole or not at all, unless it says otherwise.

// What every type here has in common. It stands before the modules, which use it.
macro_rules! wire_types {
    ($($(#[$meta:meta])* pub $kind:ident $name:ident { $($body:tt)* })+) => {
        $(
            #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
            #[cfg_attr(test, derive(ts_rs::TS))]
            #[serde(deny_unknown_fields)]
            $(#[$meta])*
            pub $kind $name { $($body)* }
        )+
    };
}

mod by_hand;
mod dataplane;
mod events;
mod host;
mod network;
mod stats;
mod tables;

pub use by_hand::*;
pub use dataplane::*;
pub use events::*;
pub use host::*;
pub use network::*;
pub use stats::*;
pub use tables::*;

/// Version of this protocol; a controller refuses a dataplane with another one.
pub const PROTOCOL: u32 = 1;
/// Longest request line in bytes (100,000 FDB entries need about 12 MiB); a longer one ends the connection.
pub const MAX_LINE: usize = 64 << 20;

/// Calls `$callback!` with the table of methods: name, parameters, result. The server's dispatch and the generated TypeScript
/// come from it.
#[macro_export]
macro_rules! protocol_methods {
    ($callback:ident) => {
        $callback! {
            "hello" => hello(Empty) -> Hello;
            "network.create" => network_create(NetworkSpec) -> NetworkState;
            "network.update" => network_update(NetworkUpdate) -> NetworkState;
            "network.delete" => network_delete(NetworkName) -> Empty;
            "network.list" => network_list(Empty) -> Vec<NetworkState>;
            "tables.replace" => tables_replace(TablesReplace) -> TablesChanged;
            "tables.patch" => tables_patch(TablesPatch) -> TablesChanged;
            "tables.dump" => tables_dump(NetworkName) -> TablesDump;
            "fdb.change" => fdb_change(FdbChange) -> Empty;
            "fdb.flush" => fdb_flush(FdbFlush) -> FdbFlushed;
            "neigh.change" => neigh_change(NeighChange) -> Empty;
            "host.read" => host_read(HostRead) -> HostFacts;
            "host.route_get" => host_route_get(RouteGet) -> RouteFacts;
            "host.change" => host_change(HostChange) -> HostChanged;
            "stats" => stats(Empty) -> Stats;
            "offloads.show" => offloads_show(Empty) -> Vec<OffloadState>;
            "offloads.set" => offloads_set(OffloadSet) -> Vec<OffloadState>;
            "lanes.set" => lanes_set(LanesSet) -> Hello;
            "events.subscribe" => events_subscribe(Empty) -> Empty;
            "shutdown" => shutdown(Shutdown) -> Empty;
        }
    };
}

/// The names of the notifications and what they carry; the generated TypeScript comes from it.
#[macro_export]
macro_rules! protocol_notifications {
    ($callback:ident) => {
        $callback! {
            "learned" => FdbEvent;
            "moved" => FdbEvent;
            "aged" => FdbEvent;
            "held" => FdbEvent;
            "miss" => MissEvent;
            "fdb" => FdbNotification;
            "neigh" => NeighbourNotification;
            "changed" => ChangedEvent;
            "link" => LinkEvent;
            "offload-disabled" => OffloadEvent;
        }
    };
}

wire_types! {
    /// Parameters of a method that takes none.
    #[derive(Default)]
    pub struct Empty {}

    /// A failure with a stable name.
    pub struct RpcErrorData {
        /// An errno name (`EEXIST`, `ENOENT`, ...) or one of this protocol's: `REVISION_MISMATCH`, `NOT_SERVED`.
        pub name: String,
        /// What happened, to what, and what to do.
        pub message: String,
    }
}
