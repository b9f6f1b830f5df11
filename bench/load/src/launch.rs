//! Runs a program inside a namespace, killed when its parent ends, and with a TAP as descriptor 3 if asked.
//!
//! Node cannot make the ioctl that ties a descriptor to a TAP; reading and writing it afterwards is its own work.

use crate::Failure;
use crate::options::Launch;
use crate::sides::{die_with_parent, enter, last_error};
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where the program finds the TAP.
const TAP_FD: i32 = 3;

/// Replaces this process; returns only on failure.
pub fn run(options: &Launch) -> Result<String, Failure> {
    die_with_parent();
    if let Some(netns) = &options.netns {
        enter(netns)?;
    }
    if let Some(name) = &options.tap {
        attach(name)?;
    }
    let Some((program, arguments)) = options.program.split_first() else {
        return Err("no program to run".to_owned());
    };
    let error = Command::new(program).args(arguments).exec();
    Err(format!("exec {}: {error}", program.display()))
}

/// Attaches to a TAP as plain as it gets: one frame a read, no virtio header, no offloads.
fn attach(name: &str) -> Result<(), Failure> {
    let path = "/dev/net/tun";
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| format!("open {path}: {error}"))?;
    // SAFETY: ifreq is plain old data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(format!("'{name}' is no device name: 1 to 15 bytes"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) } < 0 {
        return Err(last_error(&format!("TUNSETIFF on {name}")));
    }
    let fd = file.into_raw_fd();
    // SAFETY: F_SETFD on, or dup2 of, a descriptor that is ours; what 3 was before is nobody's here but perhaps this very one.
    let placed = unsafe { if fd == TAP_FD { libc::fcntl(fd, libc::F_SETFD, 0) } else { libc::dup2(fd, TAP_FD) } };
    if placed < 0 {
        return Err(last_error("dup2 of the TAP's descriptor"));
    }
    Ok(())
}
