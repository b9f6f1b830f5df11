//! The dataplane as a whole: greeting, offloads, lanes, end.

wire_types! {
    /// Answer of `hello`.
    pub struct Hello {
        /// Version of the program.
        pub version: String,
        /// Version of this protocol.
        pub protocol: u32,
        /// Process id of the dataplane.
        pub pid: u32,
        /// Seconds since it started.
        #[cfg_attr(test, ts(type = "number"))]
        pub uptime: u64,
        /// How many lanes move packets.
        pub lanes: u32,
        /// Longest time in microseconds that a lane looks for work before it sleeps.
        pub spin_us: u32,
        /// What the kernel lets it use, found by trying.
        pub capabilities: Capabilities,
        /// Names of the networks held.
        pub networks: Vec<String>,
    }

    /// What the kernel lets the dataplane use, found by trying at start.
    pub struct Capabilities {
        /// TAP hands over and takes TCP superframes.
        pub tap_tso: bool,
        /// TAP hands over and takes UDP superframes (Linux >= 6.2).
        pub tap_uso: bool,
        /// One `sendmsg` can carry a train.
        pub udp_segment: bool,
        /// One `recvmsg` can return a train.
        pub udp_gro: bool,
    }

    /// One offload: whether it can be used, may be used, and is used.
    pub struct OffloadState {
        /// `tap_tso`, `tap_uso`, `udp_segment` or `udp_gro`.
        pub offload: String,
        /// The kernel took it when it was tried.
        pub supported: bool,
        /// Its switch is on.
        pub enabled: bool,
        /// It is in use.
        pub active: bool,
        /// Why it is not in use; empty where it is.
        pub reason: String,
    }

    /// `offloads.set`: one switch. Takes effect at once; on again forgets an earlier failure.
    pub struct OffloadSet {
        /// `tap_tso`, `tap_uso`, `udp_segment` or `udp_gro`.
        pub offload: String,
        /// On or off.
        pub enabled: bool,
    }

    /// `lanes.set`: what is given changes, at once.
    pub struct LanesSet {
        /// How many lanes move packets, 1 to 16. Frames that wait in the TAP queue of a lane that ends are lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub lanes: Option<u32>,
        /// Longest time in microseconds that a lane looks for work before it sleeps, 0 (sleep at once) to 1000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        pub spin_us: Option<u32>,
    }

    /// `shutdown`: ends the dataplane.
    pub struct Shutdown {
        /// Also delete the TAPs (otherwise they stay, without carrier, with addresses and routes).
        pub delete_taps: bool,
    }
}
