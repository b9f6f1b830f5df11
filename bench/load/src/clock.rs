//! Time that both processes agree on.

use std::time::Duration;

/// Nanoseconds of CLOCK_MONOTONIC. Unlike `Instant`, one process's reading means the same in another.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec to the address, which is ours for the call; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A length of time in nanoseconds.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds, for the results.
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
