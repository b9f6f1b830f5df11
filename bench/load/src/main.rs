//! `vtepd-load`: makes the traffic of the benchmark and counts it where it arrives.
//!
//! One command is one measurement between two network namespaces. The tool forks before it has any thread: the child becomes
//! the far side, the parent the near side, and a page of shared counters lies between them, so both ends of the measured
//! window are taken from one clock and no control connection shares the tunnel. The result is one line of JSON.
//!
//! - [`bulk`]: TCP streams, bytes counted by the receivers, CPU time of the whole machine over the same window
//! - [`paced`]: UDP datagrams at an offered rate, losses counted by the receiver
//! - [`ping`]: request and response, every round trip kept
//! - [`launch`]: not a measurement: runs a program inside a namespace, with a TAP's descriptor if it needs one

mod bulk;
mod clock;
mod launch;
mod machine;
mod options;
mod paced;
mod ping;
mod sides;

use options::Command;
use std::process::ExitCode;

/// What went wrong: the call, its object, and the system's reason.
pub type Failure = String;

fn main() -> ExitCode {
    let command = match options::parse() {
        Ok(Some(command)) => command,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vtepd-load: {error} (see --help)");
            return ExitCode::from(2);
        }
    };
    let result = match command {
        Command::Bulk(options) => bulk::run(&options),
        Command::Paced(options) => paced::run(&options),
        Command::Ping(options) => ping::run(&options),
        Command::Launch(options) => launch::run(&options),
    };
    match result {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vtepd-load: {error}");
            ExitCode::FAILURE
        }
    }
}
