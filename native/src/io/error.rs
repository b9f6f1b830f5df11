//! What a failed system call says: the call, what it was done to, and the kernel's reason.

use std::fmt;
use std::io;

/// A failed system call or netlink request, as `TUNSETOFFLOAD on flannel.3: EINVAL (Invalid argument)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysError {
    /// What was asked of the kernel: `TUNSETOFFLOAD`, `RTM_NEWROUTE`, `open`.
    pub call: String,
    /// What it was done to: `flannel.3`, `10.246.13.0/24 dev flannel.3`.
    pub object: String,
    /// The number of the reason.
    pub errno: i32,
    /// The kernel's own sentence (netlink extended acknowledgement), or what the caller knows beyond the number.
    pub detail: Option<String>,
}

impl SysError {
    /// An error with a known number.
    pub fn new(call: impl Into<String>, object: impl Into<String>, errno: i32) -> SysError {
        SysError { call: call.into(), object: object.into(), errno, detail: None }
    }

    /// The error of the system call that this thread did last.
    pub fn last(call: impl Into<String>, object: impl Into<String>) -> SysError {
        SysError::from_io(call, object, &io::Error::last_os_error())
    }

    /// From an error of the standard library; one that no system call gave becomes EIO and keeps its text.
    pub fn from_io(call: impl Into<String>, object: impl Into<String>, error: &io::Error) -> SysError {
        match error.raw_os_error() {
            Some(errno) => SysError::new(call, object, errno),
            None => SysError::new(call, object, libc::EIO).with_detail(error.to_string()),
        }
    }

    /// Adds a sentence that says more than the number.
    pub fn with_detail(mut self, detail: impl Into<String>) -> SysError {
        self.detail = Some(detail.into());
        self
    }

    /// Name of the number: `EINVAL`.
    pub fn name(&self) -> &'static str {
        errno_name(self.errno)
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: {} ({})", self.call, self.object, self.name(), errno_text(self.errno))?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SysError {}

/// The C library's sentence for a number: `Invalid argument`.
pub fn errno_text(errno: i32) -> String {
    // The standard library appends the number; the name says it better.
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.strip_suffix(&format!(" (os error {errno})")).unwrap_or(&text).to_owned()
}

macro_rules! errno_names {
    ($($name:ident),+ $(,)?) => {
        /// Name of an errno: `EINVAL`; `EUNKNOWN` for a number that Linux does not have.
        pub fn errno_name(errno: i32) -> &'static str {
            match errno {
                $(libc::$name => stringify!($name),)+
                _ => "EUNKNOWN",
            }
        }
    };
}

// Every number of asm-generic/errno.h, in its order; of two names for one number the one that the kernel uses.
errno_names! {
    EPERM, ENOENT, ESRCH, EINTR, EIO, ENXIO, E2BIG, ENOEXEC, EBADF, ECHILD, EAGAIN, ENOMEM, EACCES, EFAULT, ENOTBLK, EBUSY,
    EEXIST, EXDEV, ENODEV, ENOTDIR, EISDIR, EINVAL, ENFILE, EMFILE, ENOTTY, ETXTBSY, EFBIG, ENOSPC, ESPIPE, EROFS, EMLINK,
    EPIPE, EDOM, ERANGE, EDEADLK, ENAMETOOLONG, ENOLCK, ENOSYS, ENOTEMPTY, ELOOP, ENOMSG, EIDRM, ECHRNG, EL2NSYNC, EL3HLT,
    EL3RST, ELNRNG, EUNATCH, ENOCSI, EL2HLT, EBADE, EBADR, EXFULL, ENOANO, EBADRQC, EBADSLT, EBFONT, ENOSTR, ENODATA, ETIME,
    ENOSR, ENONET, ENOPKG, EREMOTE, ENOLINK, EADV, ESRMNT, ECOMM, EPROTO, EMULTIHOP, EDOTDOT, EBADMSG, EOVERFLOW, ENOTUNIQ,
    EBADFD, EREMCHG, ELIBACC, ELIBBAD, ELIBSCN, ELIBMAX, ELIBEXEC, EILSEQ, ERESTART, ESTRPIPE, EUSERS, ENOTSOCK,
    EDESTADDRREQ, EMSGSIZE, EPROTOTYPE, ENOPROTOOPT, EPROTONOSUPPORT, ESOCKTNOSUPPORT, EOPNOTSUPP, EPFNOSUPPORT,
    EAFNOSUPPORT, EADDRINUSE, EADDRNOTAVAIL, ENETDOWN, ENETUNREACH, ENETRESET, ECONNABORTED, ECONNRESET, ENOBUFS, EISCONN,
    ENOTCONN, ESHUTDOWN, ETOOMANYREFS, ETIMEDOUT, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EALREADY, EINPROGRESS, ESTALE,
    EUCLEAN, ENOTNAM, ENAVAIL, EISNAM, EREMOTEIO, EDQUOT, ENOMEDIUM, EMEDIUMTYPE, ECANCELED, ENOKEY, EKEYEXPIRED,
    EKEYREVOKED, EKEYREJECTED, EOWNERDEAD, ENOTRECOVERABLE, ERFKILL, EHWPOISON,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_call_object_and_reason() {
        let error = SysError::new("TUNSETOFFLOAD", "flannel.3", libc::EINVAL);
        assert_eq!(error.to_string(), "TUNSETOFFLOAD on flannel.3: EINVAL (Invalid argument)");
        let error = error.with_detail("offload needs IFF_VNET_HDR");
        assert_eq!(error.to_string(), "TUNSETOFFLOAD on flannel.3: EINVAL (Invalid argument): offload needs IFF_VNET_HDR");
    }

    #[test]
    fn every_errno_of_linux_has_a_name() {
        assert_eq!(errno_name(libc::EAGAIN), "EAGAIN");
        assert_eq!(errno_name(libc::EOPNOTSUPP), "EOPNOTSUPP");
        assert_eq!(errno_name(libc::EHWPOISON), "EHWPOISON");
        // 41 and 58 were never given out.
        let unnamed: Vec<i32> = (1..=133).filter(|&errno| errno_name(errno) == "EUNKNOWN").collect();
        assert_eq!(unnamed, [41, 58]);
        assert_eq!(errno_name(0), "EUNKNOWN");
        assert_eq!(errno_name(-22), "EUNKNOWN");
    }

    #[test]
    fn an_error_without_a_system_call_keeps_its_text() {
        let error = SysError::from_io("read", "x", &io::Error::new(io::ErrorKind::UnexpectedEof, "ended early"));
        assert_eq!(error.to_string(), "read on x: EIO (Input/output error): ended early");
        let error = SysError::from_io("open", "/x", &io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(error.to_string(), "open on /x: ENOENT (No such file or directory)");
    }
}
