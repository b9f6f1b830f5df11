//! Network namespaces: finds one by name or path and does things inside it without ever moving the calling thread.
//!
//! setns(2) moves one thread, not the process, and a thread that is left in the wrong namespace opens the wrong sockets
//! from then on. So the move happens on a thread of its own that ends with the work. What was opened there (a netlink
//! socket, a TAP, a UDP socket) belongs to that namespace for good and may be used from any thread.

use super::error::SysError;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::thread;

/// Where `ip netns add` puts its names.
const NAMED: &str = "/run/netns";
/// The namespace that this process was started in; no thread of it stays elsewhere.
const OWN: &str = "/proc/self/ns/net";

/// A network namespace, held open: it lives on while this does, even if its name is removed.
#[derive(Debug)]
pub struct Netns {
    file: File,
    label: Option<String>,
    own: bool,
    id: NetnsId,
}

/// What a namespace is called by the kernel: equal ids are the same namespace, whatever the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetnsId {
    /// Device of the nsfs mount.
    pub device: u64,
    /// Inode there; the number in `net:[4026531840]`.
    pub inode: u64,
}

impl Netns {
    /// Opens the namespace that is called so below /run/netns, or is at this absolute path (`/proc/812/ns/net`);
    /// `None` is the one that this process runs in.
    pub fn open(name_or_path: Option<&str>) -> Result<Netns, SysError> {
        let own_id = id_of(&open_namespace(Path::new(OWN))?)?;
        let path = match name_or_path {
            Some(text) => path_of(text)?,
            None => PathBuf::from(OWN),
        };
        let file = open_namespace(&path)?;
        let id = id_of(&file)?;
        Ok(Netns { file, label: name_or_path.map(str::to_owned), own: id == own_id, id })
    }

    /// Identity, for comparison.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// True where this is the namespace that the process runs in, under whatever name.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// The name or path that it was opened by; `None` if it was opened as the own one.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Runs `work` inside the namespace and returns what it returns. In another namespace than the own it runs on a
    /// short-lived thread, and the caller waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, SysError> + Send) -> Result<T, SysError> {
        if self.own {
            return work();
        }
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
                enter(&self.file, self.label.as_deref().unwrap_or(OWN))?;
                work()
            });
            let thread = thread.map_err(|error| SysError::from_io("clone", "a thread for another namespace", &error))?;
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Two handles are equal where they are of one namespace.
impl PartialEq for Netns {
    fn eq(&self, other: &Netns) -> bool {
        self.id == other.id
    }
}

impl Eq for Netns {}

fn path_of(text: &str) -> Result<PathBuf, SysError> {
    let path = Path::new(text);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    // A name is one plain component: "..", "a/b" and "" would leave the directory or be the directory.
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) if name == OsString::from(text).as_os_str() => Ok(Path::new(NAMED).join(name)),
        _ => Err(SysError::new("open", format!("network namespace '{text}'"), libc::EINVAL)
            .with_detail("give a name below /run/netns or an absolute path")),
    }
}

fn open_namespace(path: &Path) -> Result<File, SysError> {
    let object = || format!("network namespace {}", path.display());
    // O_NONBLOCK: a path that is a pipe would otherwise hold the thread until somebody writes to it.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| SysError::from_io("open", object(), &error))?;
    // SAFETY: the descriptor is open; NS_GET_NSTYPE takes no argument (Linux >= 4.11) and only returns a number.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
    if kind == libc::CLONE_NEWNET {
        return Ok(file);
    }
    Err(SysError::new("open", object(), libc::EINVAL).with_detail("this is not a network namespace"))
}

fn id_of(file: &File) -> Result<NetnsId, SysError> {
    let metadata = file.metadata().map_err(|error| SysError::from_io("fstat", "network namespace", &error))?;
    Ok(NetnsId { device: metadata.dev(), inode: metadata.ino() })
}

fn enter(file: &File, label: &str) -> Result<(), SysError> {
    // SAFETY: the descriptor is open and of a network namespace; only the calling thread moves.
    if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
        return Ok(());
    }
    Err(SysError::last("setns", format!("network namespace {label}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_directory_of_names() {
        for bad in ["", ".", "..", "../x", "a/b", "a/", "./a"] {
            let error = Netns::open(Some(bad)).unwrap_err();
            assert_eq!(error.errno, libc::EINVAL, "{bad}: {error}");
        }
        assert_eq!(path_of("blue").unwrap(), Path::new("/run/netns/blue"));
        assert_eq!(path_of("/proc/1/ns/net").unwrap(), Path::new("/proc/1/ns/net"));
    }

    #[test]
    fn what_is_not_a_network_namespace_is_refused() {
        assert_eq!(Netns::open(Some("/dev/null")).unwrap_err().errno, libc::EINVAL);
        assert_eq!(Netns::open(Some("/proc/self/ns/uts")).unwrap_err().errno, libc::EINVAL);
        assert_eq!(Netns::open(Some("/proc/self/ns/absent")).unwrap_err().errno, libc::ENOENT);
    }

    #[test]
    fn the_own_namespace_is_known_under_any_name_and_needs_no_thread() {
        let own = Netns::open(None).unwrap();
        let by_path = Netns::open(Some("/proc/self/ns/net")).unwrap();
        assert!(own.is_own() && by_path.is_own());
        assert_eq!(own, by_path);
        let here = thread::current().id();
        assert_eq!(own.run(|| Ok(thread::current().id())).unwrap(), here);
    }
}
