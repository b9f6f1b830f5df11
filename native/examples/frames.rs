//! Puts frames on network devices exactly as they are given, superframes and broken ones included, and shows every frame that
//! arrives there. The system tests' hands and eyes: `frames DEVICE...`, in the devices' network namespace.
//!
//! Both ways a *record* is `[u32 LE: bytes that follow][u8 device][u8 kind][virtio header][frame]`, where the device is its
//! number on the command line and the virtio header (`PACKET_VNET_HDR`) says what a checksum or a superframe lacks.
//! Kind 0 is a frame. On stdout kind 1 is a frame of stdin that the kernel would not send, with the errno (i32 LE) in place
//! of the frame; kind 2, without frame, says once that all devices are being watched. Kind 2 on stdin is answered by the same,
//! behind every frame that had arrived before. The end of stdin ends the program.
//!
//! Frames are sent in order, from one processor: what the kernel handles in softirq then stays in that order, too.

use std::io::{self, Read, Write};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;

use vtepd_dataplane::wire::virtio::{self, VirtioHeader};

/// Device and kind.
const HEAD: usize = 2;
const FRAME: u8 = 0;
const REFUSED: u8 = 1;
const WATCHING: u8 = 2;

/// What one wire's worth of frames can pile up while this process is not running.
const RECEIVE_BUFFER: libc::c_int = 64 << 20;
/// A superframe and its virtio header.
const ROOM: usize = virtio::LEN + 65_536 + 64;

// linux/if_packet.h
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const VLAN_TAG: usize = 4;

/// `struct tpacket_auxdata`
#[repr(C)]
#[derive(Clone, Copy)]
struct AuxData {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

fn set<T>(fd: RawFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads size_of::<T>() bytes from a live value.
    let result =
        unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A raw socket on one device, blind to what it sends itself.
fn open(device: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(device)?;
    // SAFETY: the name is a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes no pointers. Protocol 0: nothing is received before bind names the device.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just created, owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: libc::c_int = 1;
    set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER)?;
    set(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &on)?;
    set(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &on)?;
    set(fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &on)?;
    // SAFETY: sockaddr_ll is plain data for which zero is valid.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address lives through the call and its length is right.
    match unsafe { libc::bind(fd, std::ptr::from_ref(&address).cast(), length) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Stays on the processor that it happens to run on.
fn pin() {
    // SAFETY: cpu_set_t is plain data for which zero is valid; the set lives through the call.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(usize::try_from(libc::sched_getcpu()).unwrap_or(0), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

fn record(out: &mut Vec<u8>, device: usize, kind: u8, parts: &[&[u8]]) {
    let length = HEAD + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&[device as u8, kind]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Sends one `[virtio header][frame]`.
fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<(), i32> {
    loop {
        // SAFETY: the kernel reads `bytes.len()` bytes from a live slice.
        if unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) } >= 0 {
            return Ok(());
        }
        match io::Error::last_os_error().raw_os_error().unwrap_or(0) {
            libc::EINTR => {}
            libc::ENOBUFS | libc::EAGAIN => std::thread::yield_now(),
            errno => return Err(errno),
        }
    }
}

/// Takes one frame, its VLAN tag put back where it came from: the kernel keeps it beside the frame. `None` when nothing is there.
fn receive(socket: &OwnedFd, buffer: &mut [u8], out: &mut Vec<u8>, device: usize) -> Option<()> {
    let mut control = [0u64; 16];
    let mut iovec = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data for which zero is valid.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &mut iovec;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: buffer and control buffer live through the call and their sizes are given as they are.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
    let bytes = buffer.get(..usize::try_from(length).ok()?)?;
    let (header, frame) = bytes.split_first_chunk::<{ virtio::LEN }>()?;
    let Some((tpid, tci)) = vlan_tag(&message) else {
        record(out, device, FRAME, &[header, frame]);
        return Some(());
    };
    let mut virtio = VirtioHeader::from_bytes(header)?;
    virtio.hdr_len += if virtio.is_gso() { VLAN_TAG as u16 } else { 0 };
    virtio.csum_start += if virtio.needs_csum() { VLAN_TAG as u16 } else { 0 };
    let (addresses, rest) = frame.split_at_checked(12)?;
    record(out, device, FRAME, &[&virtio.to_bytes(), addresses, &tpid.to_be_bytes(), &tci.to_be_bytes(), rest]);
    Some(())
}

fn vlan_tag(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the kernel wrote well-formed control messages of msg_controllen bytes; the macros stay inside them.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = control.as_ref() {
            if header.cmsg_level == libc::SOL_PACKET && header.cmsg_type == libc::PACKET_AUXDATA {
                let data = libc::CMSG_DATA(control).cast::<AuxData>().read_unaligned();
                let tpid = if data.status & TP_STATUS_VLAN_TPID_VALID != 0 { data.vlan_tpid } else { 0x8100 };
                return (data.status & TP_STATUS_VLAN_VALID != 0).then_some((tpid, data.vlan_tci));
            }
            control = libc::CMSG_NXTHDR(message, control);
        }
    }
    None
}

/// Takes every frame that arrived.
fn receive_all(sockets: &[OwnedFd], buffer: &mut [u8], out: &mut Vec<u8>) {
    for (device, socket) in sockets.iter().enumerate() {
        while receive(socket, buffer, out, device).is_some() {}
    }
}

/// Sends the whole records at the front of `input`; returns how many bytes they were.
fn send_records(sockets: &[OwnedFd], input: &[u8], buffer: &mut [u8], out: &mut Vec<u8>) -> io::Result<usize> {
    let mut used = 0;
    while let Some((length, rest)) = input.get(used..).and_then(<[u8]>::split_first_chunk::<4>) {
        let length = u32::from_le_bytes(*length) as usize;
        let Some(body) = rest.get(..length) else { break };
        let (Some(device), Some(bytes)) = (body.first().map(|device| usize::from(*device)), body.get(HEAD..)) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a record is shorter than its head"));
        };
        used += 4 + length;
        if body.get(1) == Some(&WATCHING) {
            receive_all(sockets, buffer, out);
            record(out, device, WATCHING, &[&[0; virtio::LEN]]);
            continue;
        }
        let socket = sockets.get(device).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no such device"))?;
        if let Err(errno) = send(socket, bytes) {
            record(out, device, REFUSED, &[&[0; virtio::LEN], &errno.to_le_bytes()]);
        }
    }
    Ok(used)
}

fn run(devices: &[String]) -> io::Result<()> {
    let named = |device: &String| open(device).map_err(|error| io::Error::new(error.kind(), format!("{device}: {error}")));
    let sockets = devices.iter().map(named).collect::<io::Result<Vec<_>>>()?;
    pin();
    let (mut stdin, mut stdout) = (io::stdin(), io::stdout());
    let mut out = Vec::new();
    record(&mut out, 0, WATCHING, &[&[0; virtio::LEN]]);
    let (mut input, mut chunk, mut frame) = (Vec::new(), vec![0; 1 << 20], vec![0; ROOM]);
    let watch = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut watched: Vec<libc::pollfd> = std::iter::once(watch(0)).chain(sockets.iter().map(|s| watch(s.as_raw_fd()))).collect();
    loop {
        stdout.write_all(&out)?;
        stdout.flush()?;
        out.clear();
        // SAFETY: the array lives through the call and its length is given as it is.
        unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, -1) };
        receive_all(&sockets, &mut frame, &mut out);
        if watched.first().is_some_and(|stdin| stdin.revents != 0) {
            let length = stdin.read(&mut chunk)?;
            if length == 0 {
                return Ok(());
            }
            input.extend_from_slice(chunk.get(..length).unwrap_or_default());
            let used = send_records(&sockets, &input, &mut frame, &mut out)?;
            input.drain(..used);
        }
    }
}

fn main() -> ExitCode {
    let devices: Vec<String> = std::env::args().skip(1).collect();
    if devices.is_empty() || devices.len() > 256 {
        eprintln!("usage: frames DEVICE... (records on stdin and stdout, see the source)");
        return ExitCode::from(2);
    }
    match run(&devices) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("frames: {error}");
            ExitCode::FAILURE
        }
    }
}
