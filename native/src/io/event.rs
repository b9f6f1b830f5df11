//! Waiting: epoll for lanes, poll for the control thread, eventfd to wake either, signalfd to end in order.

use super::error::SysError;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

fn own(call: &'static str, fd: RawFd) -> Result<OwnedFd, SysError> {
    if fd < 0 {
        return Err(SysError::last(call, ""));
    }
    // SAFETY: the kernel just gave this descriptor to us and nobody else holds it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Wakes a thread that waits on it.
pub struct Waker(OwnedFd);

impl Waker {
    /// A waker that nobody has used.
    pub fn new() -> Result<Self, SysError> {
        // SAFETY: takes no pointers.
        own("eventfd", unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) }).map(Waker)
    }

    /// Wakes; cheap when already awake, never blocks.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes 8 bytes from a live array. Failure means the counter is full: the thread will wake anyway.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Forgets earlier wakes.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: reads at most 8 bytes into a live array; EAGAIN when there was no wake.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// For polling.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A set of descriptors that a lane waits on, each with a number of the lane's choice.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// An empty set that reports at most `capacity` descriptors at a time.
    pub fn new(capacity: usize) -> Result<Self, SysError> {
        // SAFETY: takes no pointers.
        let fd = own("epoll_create1", unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; capacity.max(1)] })
    }

    /// Watches a descriptor for input.
    pub fn add(&self, fd: RawFd, number: u64) -> Result<(), SysError> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        // SAFETY: `event` lives through the call.
        match unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(SysError::last("epoll_ctl", format!("fd {fd}"))),
        }
    }

    /// Watches it no longer.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: a null event is allowed for EPOLL_CTL_DEL.
        unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Waits up to `timeout_ms` (-1 = for ever) and returns the numbers that are ready with whether they only report an error.
    pub fn wait(&mut self, timeout_ms: i32) -> impl Iterator<Item = (u64, bool)> + '_ {
        let capacity = i32::try_from(self.events.len()).unwrap_or(i32::MAX);
        // SAFETY: `events` has room for `capacity` events.
        let ready = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), capacity, timeout_ms) };
        let ready = usize::try_from(ready).unwrap_or(0);
        self.events.iter().take(ready).map(|event| (event.u64, event.events & libc::EPOLLIN as u32 == 0))
    }
}

/// One descriptor of [`poll`].
pub type PollFd = libc::pollfd;

/// Waits until a descriptor is ready or `timeout_ms` (-1 = for ever) is over.
pub fn poll(fds: &mut [PollFd], timeout_ms: i32) -> io::Result<()> {
    let count = fds.len() as libc::nfds_t;
    // SAFETY: the slice holds `count` descriptors.
    match unsafe { libc::poll(fds.as_mut_ptr(), count, timeout_ms) } {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}

/// SIGTERM and SIGINT as a descriptor. To be made before any thread starts, so that all of them block the signals.
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks both signals in this thread and those it starts, and listens for them.
    pub fn new() -> Result<Self, SysError> {
        // SAFETY: a sigset_t is plain data, initialised by sigemptyset before use; all calls take pointers to it while it lives.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigaddset(&mut set, libc::SIGINT);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
        };
        own("signalfd", fd).map(Signals)
    }

    /// For polling: readable once a signal came.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sets the calling thread's nice value; fails without CAP_SYS_NICE.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: takes no pointers; 0 is the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// CPUs this process may run on (its affinity mask).
pub fn allowed_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
