//! Two processes, one in each namespace, with a page of counters between them.

use crate::Failure;
use crate::clock::now_ns;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::time::Duration;

/// How long the far side may take to be ready; it only binds a socket.
const READY: Duration = Duration::from_secs(5);

/// Lies in memory that both processes map. All zero at the start.
#[repr(C)]
pub struct Shared {
    ready: AtomicBool,
    /// Bytes, or datagrams, that arrived at the far side.
    pub far: AtomicU64,
    /// Bytes that arrived at the near side.
    pub near: AtomicU64,
    /// When the last of them arrived, by [`now_ns`].
    pub last_ns: AtomicU64,
}

impl Shared {
    fn map() -> Result<&'static Shared, Failure> {
        let len = size_of::<Shared>();
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping, at an address that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(last_error("mmap of the shared counters"));
        }
        // SAFETY: page-aligned, zeroed, `len` bytes long and never unmapped; all fields are atomics, for which zero is valid.
        Ok(unsafe { &*at.cast::<Shared>() })
    }

    /// Called by the far side when it can be reached.
    pub fn set_ready(&self) {
        self.ready.store(true, Release);
    }
}

/// The far process; ended when this is dropped.
pub struct Far {
    pid: libc::pid_t,
    /// The counters.
    pub shared: &'static Shared,
}

/// Starts `serve` in the namespace `netns` as a process of its own and waits until it is ready. To be called before any thread
/// is started.
pub fn start_far(netns: &str, serve: impl FnOnce(&'static Shared) -> Result<(), Failure>) -> Result<Far, Failure> {
    let shared = Shared::map()?;
    // SAFETY: this process has one thread, so the child may do whatever a process may.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(last_error("fork"));
    }
    if pid == 0 {
        die_with_parent();
        let result = enter(netns).and_then(|()| serve(shared));
        if let Err(error) = &result {
            eprintln!("vtepd-load (far side, in {netns}): {error}");
        }
        std::process::exit(i32::from(result.is_err()));
    }
    let far = Far { pid, shared };
    let started = now_ns();
    while !shared.ready.load(Acquire) {
        far.check()?;
        if now_ns() - started > READY.as_nanos() as u64 {
            return Err(format!("the far side in {netns} was not ready within {READY:?}"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(far)
}

impl Far {
    /// Fails when the far side has ended.
    pub fn check(&self) -> Result<(), Failure> {
        // SAFETY: waitpid may be given a null status; WNOHANG makes it return at once.
        match unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::WNOHANG) } {
            0 => Ok(()),
            _ => Err("the far side ended early; its reason is above".to_owned()),
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // SAFETY: our own child. If `check` has already reaped it, kill could meet a stranger only after the kernel's whole pid
        // range went round within this call's microseconds.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// Moves the calling thread into a namespace of `ip netns`.
pub fn enter(netns: &str) -> Result<(), Failure> {
    let path = format!("/run/netns/{netns}");
    let file = File::open(&path).map_err(|error| format!("open {path}: {error}"))?;
    // SAFETY: setns takes a descriptor that lives through the call.
    if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
        return Err(last_error(&format!("setns to {netns}")));
    }
    Ok(())
}

/// The kernel kills this process when its parent ends, however that ends.
pub fn die_with_parent() {
    // SAFETY: PR_SET_PDEATHSIG takes a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Keeps the calling thread on one CPU.
pub fn pin(cpu: Option<usize>) -> Result<(), Failure> {
    let Some(cpu) = cpu else { return Ok(()) };
    // SAFETY: cpu_set_t is plain old data, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(format!("there is no CPU {cpu}"));
    }
    // SAFETY: `cpu` is below CPU_SETSIZE, checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: 0 is the calling thread; the set lives through the call.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } < 0 {
        return Err(last_error(&format!("sched_setaffinity to CPU {cpu}")));
    }
    Ok(())
}

/// Counts what arrived at the far side and when.
pub fn count_far(shared: &Shared, what: u64) {
    shared.far.fetch_add(what, Relaxed);
    shared.last_ns.store(now_ns(), Relaxed);
}

/// The failure of the system call just made.
pub fn last_error(what: &str) -> Failure {
    format!("{what}: {}", io::Error::last_os_error())
}
