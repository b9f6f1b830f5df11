//! How busy the whole machine is.
//!
//! Busy time is what is left of the CPUs' time after idle, I/O wait and stolen time. Where ticks stop in idle (CONFIG_NO_HZ_IDLE,
//! every distribution), the kernel takes idle time from the clock and not from ticks, and leaves interrupts and softirqs that
//! hit an idle CPU out of it, so the rest is exact but for the 10 ms in which /proc/stat counts: 0.5 % of a second on two CPUs.
//! The cgroup's clock (`cpuacct.usage`) agrees to that and would miss the softirqs on an idle CPU.

use crate::Failure;
use crate::clock::now_ns;

/// /proc/stat counts in USER_HZ, which is 100 on every architecture that Rust's Linux targets have.
const TICKS_PER_SECOND: f64 = 100.0;

/// A reading of the machine's counters.
#[derive(Clone, Copy)]
pub struct Machine {
    at_ns: u64,
    cpus: usize,
    idle: u64,
    steal: u64,
}

/// CPU seconds between two readings.
pub struct Spent {
    /// Worked, whoever did it: user, system, interrupts and softirqs.
    pub busy: f64,
    /// Taken by the hypervisor while somebody wanted to run.
    pub steal: f64,
}

impl Machine {
    /// Reads them now.
    pub fn read() -> Result<Machine, Failure> {
        let text = std::fs::read_to_string("/proc/stat").map_err(|error| format!("read /proc/stat: {error}"))?;
        let at_ns = now_ns();
        let cpus = text.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1).max(1);
        let fields: Vec<u64> =
            text.lines().next().unwrap_or("").split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
        match fields.as_slice() {
            // user nice system idle iowait irq softirq steal
            [_, _, _, idle, iowait, _, _, steal, ..] => Ok(Machine { at_ns, cpus, idle: idle + iowait, steal: *steal }),
            _ => Err("/proc/stat: its first line does not begin with eight numbers".to_owned()),
        }
    }

    /// What was spent since an earlier reading.
    pub fn since(&self, earlier: &Machine) -> Spent {
        let ticks = |now: u64, then: u64| now.saturating_sub(then) as f64 / TICKS_PER_SECOND;
        let whole = self.at_ns.saturating_sub(earlier.at_ns) as f64 / 1e9 * self.cpus as f64;
        let steal = ticks(self.steal, earlier.steal);
        Spent { busy: (whole - ticks(self.idle, earlier.idle) - steal).max(0.0), steal }
    }
}
