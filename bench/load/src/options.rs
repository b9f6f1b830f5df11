//! The command line, checked once.

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::Duration;

const HELP: &str = "vtepd-load: makes the traffic of vtepd's benchmark

Usage:
  vtepd-load bulk  SIDES [--flows N] [--both] [--seconds S] [--warm S]   TCP streams near -> far, with --both also back
  vtepd-load paced SIDES [--size BYTES] [--rate PPS] [--seconds S]       UDP datagrams near -> far; rate 0 = as fast as it goes
  vtepd-load ping  SIDES [--tcp] [--near-cpu N --far-cpu N] [--size BYTES] [--seconds S] [--warm S]
  vtepd-load launch [--netns NAME] [--tap DEVICE] -- PROGRAM [ARGUMENT...]   TAP DEVICE becomes descriptor 3

SIDES: --near NETNS --far NETNS --address IP [--port N], where IP is an address of the far namespace.";

/// Where the two ends are.
pub struct Sides {
    /// Namespace of the sender.
    pub near: String,
    /// Namespace of the receiver.
    pub far: String,
    /// An address of the receiver.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// TCP streams.
pub struct Bulk {
    /// Where.
    pub sides: Sides,
    /// Connections in each direction.
    pub flows: usize,
    /// Also from far to near.
    pub both: bool,
    /// Length of the measured window.
    pub seconds: Duration,
    /// What runs before it.
    pub warm: Duration,
}

/// UDP at an offered rate.
pub struct Paced {
    /// Where.
    pub sides: Sides,
    /// UDP payload in bytes.
    pub size: usize,
    /// Datagrams a second; 0 = no pacing.
    pub rate: u64,
    /// How long to send.
    pub seconds: Duration,
}

/// Request and response.
pub struct Ping {
    /// Where.
    pub sides: Sides,
    /// TCP instead of UDP.
    pub tcp: bool,
    /// CPU of the asking side.
    pub near_cpu: Option<usize>,
    /// CPU of the answering side.
    pub far_cpu: Option<usize>,
    /// Payload in bytes.
    pub size: usize,
    /// Length of the measured window.
    pub seconds: Duration,
    /// What runs before it.
    pub warm: Duration,
}

/// A program in a namespace.
pub struct Launch {
    /// Namespace; absent = the present one.
    pub netns: Option<String>,
    /// TAP to attach as descriptor 3.
    pub tap: Option<String>,
    /// The program and its arguments.
    pub program: Vec<OsString>,
}

/// What to do.
pub enum Command {
    /// TCP streams.
    Bulk(Bulk),
    /// UDP at an offered rate.
    Paced(Paced),
    /// Request and response.
    Ping(Ping),
    /// A program in a namespace.
    Launch(Launch),
}

#[derive(Default)]
struct Given {
    near: Option<String>,
    far: Option<String>,
    address: Option<IpAddr>,
    port: Option<u16>,
    flows: Option<usize>,
    both: bool,
    tcp: bool,
    near_cpu: Option<usize>,
    far_cpu: Option<usize>,
    size: Option<usize>,
    rate: Option<u64>,
    seconds: Option<f64>,
    warm: Option<f64>,
    netns: Option<String>,
    tap: Option<String>,
    program: Vec<OsString>,
}

/// Reads the command line; `None` when help was asked for.
pub fn parse() -> Result<Option<Command>, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let mut parser = lexopt::Parser::from_env();
    let mut command = None;
    let mut given = Given::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => {
                println!("{HELP}");
                return Ok(None);
            }
            Long("near") => given.near = Some(parser.value()?.string()?),
            Long("far") => given.far = Some(parser.value()?.string()?),
            Long("address") => given.address = Some(parser.value()?.parse()?),
            Long("port") => given.port = Some(parser.value()?.parse()?),
            Long("flows") => given.flows = Some(parser.value()?.parse()?),
            Long("both") => given.both = true,
            Long("tcp") => given.tcp = true,
            Long("near-cpu") => given.near_cpu = Some(parser.value()?.parse()?),
            Long("far-cpu") => given.far_cpu = Some(parser.value()?.parse()?),
            Long("size") => given.size = Some(parser.value()?.parse()?),
            Long("rate") => given.rate = Some(parser.value()?.parse()?),
            Long("seconds") => given.seconds = Some(parser.value()?.parse()?),
            Long("warm") => given.warm = Some(parser.value()?.parse()?),
            Long("netns") => given.netns = Some(parser.value()?.string()?),
            Long("tap") => given.tap = Some(parser.value()?.string()?),
            Value(word) if command.is_none() => command = Some(word.string()?),
            Value(word) => {
                given.program.push(word);
                given.program.extend(parser.raw_args()?);
            }
            _ => return Err(argument.unexpected()),
        }
    }
    given.finish(command.as_deref()).map(Some)
}

impl Given {
    fn finish(mut self, command: Option<&str>) -> Result<Command, lexopt::Error> {
        let seconds = duration("--seconds", self.seconds, 1.0)?;
        let warm = duration("--warm", self.warm, 0.1)?;
        match command {
            Some("bulk") => {
                let flows = self.flows.unwrap_or(1);
                if !(1..=64).contains(&flows) {
                    return Err("--flows takes 1 to 64".into());
                }
                Ok(Command::Bulk(Bulk { sides: self.sides()?, flows, both: self.both, seconds, warm }))
            }
            Some("paced") => {
                let (size, rate) = (self.size()?, self.rate.unwrap_or(0));
                Ok(Command::Paced(Paced { sides: self.sides()?, size, rate, seconds }))
            }
            Some("ping") => {
                let (size, near_cpu, far_cpu) = (self.size()?, self.near_cpu, self.far_cpu);
                Ok(Command::Ping(Ping { sides: self.sides()?, tcp: self.tcp, near_cpu, far_cpu, size, seconds, warm }))
            }
            Some("launch") if self.program.is_empty() => Err("launch needs a program after --".into()),
            Some("launch") => Ok(Command::Launch(Launch { netns: self.netns, tap: self.tap, program: self.program })),
            Some(other) => Err(format!("unknown command '{other}'").into()),
            None => Err("a command is needed: bulk, paced, ping or launch".into()),
        }
    }

    fn sides(&mut self) -> Result<Sides, lexopt::Error> {
        let missing = |name: &str| lexopt::Error::from(format!("{name} is needed"));
        Ok(Sides {
            near: self.near.take().ok_or_else(|| missing("--near"))?,
            far: self.far.take().ok_or_else(|| missing("--far"))?,
            address: self.address.ok_or_else(|| missing("--address"))?,
            port: self.port.unwrap_or(5201),
        })
    }

    fn size(&self) -> Result<usize, lexopt::Error> {
        match self.size.unwrap_or(64) {
            size @ 1..=9000 => Ok(size),
            _ => Err("--size takes 1 to 9000".into()),
        }
    }
}

fn duration(name: &str, value: Option<f64>, default: f64) -> Result<Duration, lexopt::Error> {
    let seconds = value.unwrap_or(default);
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if seconds <= 3600.0 => Ok(duration),
        _ => Err(format!("{name} takes 0 to 3600 seconds").into()),
    }
}
