//! `vtepd-dataplane`: moves packets until it is told to end. Started and fed by `vtepd`; keeps forwarding without it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vtepd_dataplane::control::engine::Engine;
use vtepd_dataplane::control::server;
use vtepd_dataplane::io::event::{Signals, allowed_cpus};
use vtepd_dataplane::log::Log;

const HELP: &str = "vtepd-dataplane: the packet-moving half of vtepd

Usage: vtepd-dataplane --socket PATH [--lanes N] [--log PATH]

  --socket PATH  control socket to listen on; PATH.lock keeps a second one away
  --lanes N      packet threads, 1 to 16 (default: half the CPUs it may use, at least 1)
  --log PATH     JSON lines go there instead of to stderr; turned over at 1 MiB
  --version      print the version
  --help         print this

Ends on SIGTERM or SIGINT. The TAPs stay, with their addresses and routes.";

struct Arguments {
    socket: PathBuf,
    lanes: usize,
    log: Option<PathBuf>,
}

fn arguments() -> Result<Option<Arguments>, lexopt::Error> {
    use lexopt::prelude::{Long, Short, ValueExt};
    let (mut socket, mut lanes, mut log) = (None, (allowed_cpus() / 2).max(1), None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("socket") => socket = Some(PathBuf::from(parser.value()?)),
            Long("lanes") => {
                lanes = parser.value()?.parse_with(|text| match text.parse() {
                    Ok(lanes @ 1..=16) => Ok(lanes),
                    _ => Err("--lanes takes 1 to 16"),
                })?;
            }
            Long("log") => log = Some(PathBuf::from(parser.value()?)),
            Short('h') | Long("help") => {
                println!("{HELP}");
                return Ok(None);
            }
            Long("version") => {
                println!("{}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            _ => return Err(argument.unexpected()),
        }
    }
    let socket = socket.ok_or("--socket PATH is needed (see --help)")?;
    Ok(Some(Arguments { socket, lanes, log }))
}

/// Keeps a second dataplane of the same instance away; held until the process ends.
fn lock(socket: &Path) -> Result<File, String> {
    let mut path = socket.to_owned().into_os_string();
    path.push(".lock");
    let path = PathBuf::from(path);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    let mut holder = String::new();
    let _ = file.read_to_string(&mut holder);
    file.try_lock().map_err(|_| {
        format!("a dataplane already runs on {} (pid {}); stop it or choose another --instance", socket.display(), holder.trim())
    })?;
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

fn listen(socket: &Path) -> io::Result<UnixListener> {
    // The lock says that nobody listens there; what is left is of a process that was killed.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let signals = Signals::new().map_err(|error| error.to_string())?;
    let _lock = lock(&arguments.socket)?;
    let log = Log::new(arguments.log.as_deref()).map_err(|error| format!("cannot open the log: {error}"))?;
    let mut engine = Engine::new(arguments.lanes, log).map_err(|error| match error.errno {
        libc::ENOENT | libc::ENODEV | libc::EPERM | libc::EACCES => {
            format!("{error}; vtepd needs /dev/net/tun (modprobe tun) and CAP_NET_ADMIN")
        }
        _ => error.to_string(),
    })?;
    let listener =
        listen(&arguments.socket).map_err(|error| format!("cannot listen on {}: {error}", arguments.socket.display()))?;
    let served = server::serve(&listener, &signals, &mut engine);
    engine.end();
    let _ = std::fs::remove_file(&arguments.socket);
    served.map_err(|error| format!("the control loop failed: {error}"))
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vtepd-dataplane: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vtepd-dataplane: {error}");
            ExitCode::FAILURE
        }
    }
}
