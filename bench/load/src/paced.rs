//! UDP datagrams at an offered rate: is less than so much of it lost?
//!
//! The sender is paced by looking at the clock, never by sleeping, and hands over whatever is due with one `sendmmsg`. The receiver
//! has a buffer for more than a tenth of a second, so that what is lost was lost on the way to it.

use crate::Failure;
use crate::clock::{nanos, now_ns, seconds};
use crate::machine::Machine;
use crate::options::Paced;
use crate::sides::{Shared, count_far, enter, last_error, start_far};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

/// Datagrams a `sendmmsg`: few enough that the burst (32 of 1000 places) does not fill a device's queue by itself.
const SEND_BATCH: usize = 32;
const RECEIVE_BATCH: usize = 64;
/// Largest payload that `--size` takes.
const SIZE_MAX: usize = 9000;
/// A small datagram costs about 1 KiB of a socket's buffer: 64 Ki of them.
static RECEIVE_BUFFER: libc::c_int = 64 << 20;
/// After the last datagram was sent, the receiver is done when nothing came for this long...
const SETTLED_NS: u64 = 50_000_000;
/// ...or after this long: a queue of 10,000 frames at 20,000 a second.
const GIVE_UP_NS: u64 = 500_000_000;

/// Sends at the offered rate and returns what came of it as JSON.
pub fn run(options: &Paced) -> Result<String, Failure> {
    let address = SocketAddr::new(options.sides.address, options.sides.port);
    let far = start_far(&options.sides.far, |shared| receive(address, shared))?;
    enter(&options.sides.near)?;
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).map_err(|error| format!("bind in {}: {error}", options.sides.near))?;
    socket.connect(address).map_err(|error| format!("connect to {address}: {error}"))?;

    let machine = Machine::read()?;
    let start = now_ns();
    let sent = send(&socket, options, start)?;
    let sending = now_ns() - start;
    settle(far.shared, sent);
    let spent = Machine::read()?.since(&machine);
    far.check()?;
    let received = far.shared.far.load(Relaxed);
    let receiving = far.shared.last_ns.load(Relaxed).saturating_sub(start);
    Ok(format!(
        r#"{{"offered":{},"sent":{sent},"received":{received},"sending":{},"receiving":{},"busy":{:.4},"steal":{:.4}}}"#,
        options.rate,
        seconds(sending),
        seconds(receiving.max(sending)),
        spent.busy,
        spent.steal,
    ))
}

/// Returns how many were handed to the kernel.
fn send(socket: &UdpSocket, options: &Paced, start: u64) -> Result<u64, Failure> {
    let payload = vec![0x5a; options.size];
    let mut vector = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: mmsghdr is plain old data, for which zero is valid.
    let mut messages: [libc::mmsghdr; SEND_BATCH] = unsafe { std::mem::zeroed() };
    for message in &mut messages {
        message.msg_hdr.msg_iov = &mut vector;
        message.msg_hdr.msg_iovlen = 1;
    }
    let whole = nanos(options.seconds);
    let mut sent = 0;
    loop {
        let elapsed = now_ns() - start;
        if elapsed >= whole {
            return Ok(sent);
        }
        let due = match options.rate {
            0 => SEND_BATCH as u64,
            rate => due_by(rate, elapsed).saturating_sub(sent),
        };
        if due == 0 {
            std::hint::spin_loop();
            continue;
        }
        let batch = due.min(SEND_BATCH as u64) as libc::c_uint;
        // SAFETY: `batch` headers, each with one vector over `payload`; all live through the call, which only reads them.
        let count = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), batch, 0) };
        if count >= 0 {
            sent += count as u64;
            continue;
        }
        match std::io::Error::last_os_error().raw_os_error() {
            // Refused here and not sent: no loss of the tunnel, and the clock runs on.
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR) => {}
            // An ICMP error about an earlier one; that one is missed at the receiver.
            Some(libc::ECONNREFUSED | libc::EHOSTUNREACH) => {}
            _ => return Err(last_error("sendmmsg")),
        }
    }
}

/// How many should have been sent after so many nanoseconds.
fn due_by(rate: u64, elapsed: u64) -> u64 {
    u64::try_from(u128::from(rate) * u128::from(elapsed) / 1_000_000_000).unwrap_or(u64::MAX)
}

fn settle(shared: &Shared, sent: u64) {
    let start = now_ns();
    loop {
        let now = now_ns();
        let quiet = now.saturating_sub(shared.last_ns.load(Relaxed).max(start)) > SETTLED_NS;
        if quiet || shared.far.load(Relaxed) >= sent || now - start > GIVE_UP_NS {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn receive(address: SocketAddr, shared: &'static Shared) -> Result<(), Failure> {
    let socket = UdpSocket::bind(address).map_err(|error| format!("bind {address}: {error}"))?;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option is one c_int, which lives through the call.
    let set = unsafe {
        let value = (&raw const RECEIVE_BUFFER).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value, len)
    };
    if set < 0 {
        return Err(last_error("SO_RCVBUFFORCE"));
    }
    let mut buffer = vec![0u8; RECEIVE_BATCH * SIZE_MAX];
    let mut vectors: Vec<libc::iovec> =
        buffer.chunks_mut(SIZE_MAX).map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() }).collect();
    // SAFETY: mmsghdr is plain old data, for which zero is valid.
    let mut messages: [libc::mmsghdr; RECEIVE_BATCH] = unsafe { std::mem::zeroed() };
    for (message, vector) in messages.iter_mut().zip(&mut vectors) {
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
    }
    shared.set_ready();
    loop {
        let flags = libc::MSG_WAITFORONE as _;
        // SAFETY: RECEIVE_BATCH headers, each with one vector over its own slot of `buffer`; all live through the call.
        let count =
            unsafe { libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), RECEIVE_BATCH as _, flags, std::ptr::null_mut()) };
        match count {
            1.. => count_far(shared, count as u64),
            _ if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            _ => return Err(last_error("recvmmsg")),
        }
    }
}
