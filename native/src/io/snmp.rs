//! Why the kernel threw datagrams away. A socket has one count of them (`SK_MEMINFO_DROPS`) for full buffers, wrong checksums and
//! filters alike; the namespace counts each cause, for all of its sockets (net/ipv4/udp.c). What both say of the same second is ours.

use super::error::SysError;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Longest of the two files; the counters of interest are in its first tenth.
const ROOM: usize = 64 << 10;

/// Causes counted, over IPv4 and IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// A receive buffer, or the memory of all, was full.
    pub overflows: u64,
    /// The UDP checksum was wrong.
    pub checksums: u64,
}

impl Causes {
    fn since(self, before: Causes) -> Causes {
        Causes {
            overflows: self.overflows.saturating_sub(before.overflows),
            checksums: self.checksums.saturating_sub(before.checksums),
        }
    }

    fn plus(self, other: Causes) -> Causes {
        Causes { overflows: self.overflows + other.overflows, checksums: self.checksums + other.checksums }
    }
}

/// The counters of the namespace that they were opened in.
pub struct UdpCounters {
    files: Vec<File>,
}

impl UdpCounters {
    /// Opens them; IPv6's are absent where the kernel has none.
    pub fn open() -> Result<Self, SysError> {
        let open = |path: &str| File::open(path).map_err(|error| SysError::from_io("open", path, &error));
        let files = [Some(open("/proc/thread-self/net/snmp")?), open("/proc/thread-self/net/snmp6").ok()];
        Ok(UdpCounters { files: files.into_iter().flatten().collect() })
    }

    /// As they are now.
    pub fn read(&self) -> Causes {
        let mut found = Causes::default();
        for file in &self.files {
            let mut text = vec![0; ROOM];
            let length = file.read_at(&mut text, 0).unwrap_or(0);
            found = found.plus(parse(&String::from_utf8_lossy(text.get(..length).unwrap_or_default())));
        }
        found
    }
}

/// `snmp` has a line of names and one of numbers for each protocol, `snmp6` a name and a number on each line.
fn parse(text: &str) -> Causes {
    let mut found = Causes::default();
    let mut count = |name: &str, number: &str| {
        let number = number.parse::<u64>().unwrap_or(0);
        match name {
            "RcvbufErrors" | "MemErrors" | "Udp6RcvbufErrors" | "Udp6MemErrors" => found.overflows += number,
            "InCsumErrors" | "Udp6InCsumErrors" => found.checksums += number,
            _ => {}
        }
    };
    let mut of_udp = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    if let (Some(names), Some(numbers)) = (of_udp.next(), of_udp.next()) {
        names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace()).for_each(|(name, number)| count(name, number));
    }
    for line in text.lines().filter(|line| line.starts_with("Udp6")) {
        if let [name, number] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            count(name, number);
        }
    }
    found
}

/// Divides what our sockets lost among the causes, look by look.
pub struct Losses {
    counters: UdpCounters,
    before: Causes,
    /// Of the last look, not ours so far: a datagram's cause and its loss need not be seen in the same one.
    unclaimed: Causes,
    lost: u64,
    /// What is ours.
    pub ours: Causes,
}

impl Losses {
    /// Nothing is ours yet.
    pub fn open() -> Result<Self, SysError> {
        let counters = UdpCounters::open()?;
        let before = counters.read();
        Ok(Losses { counters, before, unclaimed: Causes::default(), lost: 0, ours: Causes::default() })
    }

    /// `lost`: how many datagrams our sockets have lost so far, read before this call.
    pub fn look(&mut self, lost: u64) {
        let now = self.counters.read();
        let fresh = now.since(self.before);
        self.before = now;
        self.divide(lost, fresh);
    }

    fn divide(&mut self, lost: u64, mut fresh: Causes) {
        let mut more = lost.saturating_sub(self.lost);
        self.lost = self.lost.max(lost);
        let mut claim = |open: &mut u64| {
            let ours = more.min(*open);
            *open -= ours;
            more -= ours;
            ours
        };
        // What happened just now explains a loss before what was left over.
        self.ours.overflows += claim(&mut fresh.overflows);
        self.ours.checksums += claim(&mut fresh.checksums);
        self.ours.checksums += claim(&mut self.unclaimed.checksums);
        self.ours.overflows += claim(&mut self.unclaimed.overflows);
        self.unclaimed = fresh;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn causes(overflows: u64, checksums: u64) -> Causes {
        Causes { overflows, checksums }
    }

    #[test]
    fn both_files_are_read_by_the_names_of_their_counters() {
        let snmp = "Tcp: InErrs InCsumErrors\nTcp: 9 9\n\
            Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n\
            Udp: 64 1 7 58 4 0 2 0 1\nUdpLite: InDatagrams RcvbufErrors InCsumErrors\nUdpLite: 0 5 5\n";
        assert_eq!(parse(snmp), causes(5, 2));
        let snmp6 =
            "Ip6InReceives 5\nUdp6InErrors 3\nUdp6RcvbufErrors                  3\nUdp6InCsumErrors 1\nUdpLite6InCsumErrors 8\n";
        assert_eq!(parse(snmp6), causes(3, 1));
        assert_eq!(parse("Udp: RcvbufErrors\n"), causes(0, 0), "cut short");
        assert_eq!(parse(""), causes(0, 0));
        let _ = UdpCounters::open().unwrap().read();
    }

    #[test]
    fn what_others_lose_is_not_ours_and_nothing_is_counted_twice() {
        let mut losses = Losses::open().unwrap();
        let mut look = |lost, fresh| {
            losses.divide(lost, fresh);
            losses.ours
        };
        assert_eq!(look(0, causes(50, 7)), causes(0, 0), "another program's");
        assert_eq!(look(3, causes(0, 3)), causes(0, 3));
        assert_eq!(look(5, causes(2, 0)), causes(2, 3));
        assert_eq!(look(5, causes(0, 1)), causes(2, 3), "its cause is seen before its loss");
        assert_eq!(look(6, causes(0, 0)), causes(2, 4));
        assert_eq!(look(9, causes(0, 0)), causes(2, 4), "refused by a filter");
        assert_eq!(look(12, causes(2, 9)), causes(4, 5));
    }
}
