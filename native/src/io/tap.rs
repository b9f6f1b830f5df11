//! The TAP: a persistent, multi-queue device with a virtio header in front of every frame. For a layer-3 network it is a TUN, the same
//! with bare packets, and meant wherever TAPs are spoken of.
//!
//! Persistent, so that addresses and routes outlive this process. A multi-queue TAP lets a second process attach and silently
//! take a share of the traffic, and an attach with other flags succeeds while the device keeps the old ones; both are therefore
//! checked here (by netlink before, by TUNGETIFF after) and refused.

use super::error::SysError;
use super::netlink::Netlink;
use super::netns::Netns;
use super::steering;
use crate::wire::{Framing, virtio};
use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const TUNSETSTEERINGEBPF: libc::c_ulong = 0x8004_54e0;

const IFF_TUN: u16 = 0x0001;
const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_PERSIST: u16 = 0x0800;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

const fn flags(framing: Framing) -> u16 {
    let kind = match framing {
        Framing::Ethernet => IFF_TAP,
        Framing::Bare => IFF_TUN,
    };
    kind | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE
}

const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO: libc::c_ulong = 0x02 | 0x04 | 0x08; // TSO4, TSO6, TSO_ECN
const TUN_F_USO: libc::c_ulong = 0x20 | 0x40; // USO4, USO6: only both or none (Linux 6.2)

/// Queue length of the TAP in frames. At the default of 1000 a lane that is descheduled for a moment loses most of a fast sender's
/// small packets; 10,000 lost none (measured: 0.39 -> 1.19 of the kernel device's rate).
const TX_QUEUE_LEN: u32 = 10_000;
/// Largest superframe asked for: 44 segments of 1450 bytes with replicated headers still fit one 64 KiB datagram train.
const GSO_MAX_SIZE: u32 = 61_000;

/// Queues that a lane has of a TAP where flows can be steered: one flow in sixteen shares its queue with a given other one. Each costs a
/// ring of [`TX_QUEUE_LEN`] pointers, and a TAP has at most 256 (MAX_TAP_QUEUES).
const FLOW_QUEUES: usize = 16;

/// What the TAP hands over and takes beyond single frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapOffloads {
    /// TCP superframes.
    pub tso: bool,
    /// UDP superframes.
    pub uso: bool,
}

impl TapOffloads {
    /// What is left of these where `other` has it too.
    pub const fn and(self, other: TapOffloads) -> TapOffloads {
        TapOffloads { tso: self.tso && other.tso, uso: self.uso && other.uso }
    }

    const fn flags(self) -> libc::c_ulong {
        // The kernel gives USO only together with TSO's checksum flag; TSO and USO are independent of each other.
        TUN_F_CSUM | if self.tso { TUN_F_TSO } else { 0 } | if self.uso { TUN_F_USO } else { 0 }
    }
}

/// One queue of a TAP. Reads and writes never block.
pub struct TapQueue(File);

#[repr(C)]
struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    padding: [u8; 22],
}

impl IfReq {
    fn new(name: &str, flags: u16) -> Self {
        let mut request = IfReq { name: [0; libc::IFNAMSIZ], flags, padding: [0; 22] };
        for (to, from) in request.name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
            *to = from;
        }
        request
    }
}

impl TapQueue {
    /// Reads one `[virtio header][frame]`. `WouldBlock` when the queue is empty.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// Writes one frame or superframe: the virtio header first, then the frame's pieces.
    pub fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.0).write_vectored(pieces)
    }

    /// For polling.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn ioctl(&self, call: &'static str, request: libc::c_ulong, argument: libc::c_ulong, name: &str) -> Result<(), SysError> {
        // SAFETY: the requests used here take their argument by value and touch no memory of ours.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) } {
            0.. => Ok(()),
            _ => Err(SysError::last(call, name)),
        }
    }

    /// A persistent device keeps the size that its last user set, which need not be ours.
    fn set_virtio_header_size(&self, name: &str) -> Result<(), SysError> {
        let size = virtio::LEN as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int, which `size` is.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), TUNSETVNETHDRSZ, std::ptr::from_ref(&size).cast::<c_void>()) } {
            0.. => Ok(()),
            _ => Err(SysError::last("TUNSETVNETHDRSZ", name)),
        }
    }

    fn ioctl_ifreq(&self, call: &'static str, request: libc::c_ulong, argument: &mut IfReq, name: &str) -> Result<(), SysError> {
        // SAFETY: TUNSETIFF and TUNGETIFF read and write one struct ifreq (40 bytes), which `argument` is.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), request, std::ptr::from_mut(argument).cast::<c_void>()) } {
            0.. => Ok(()),
            _ => Err(SysError::last(call, name)),
        }
    }

    /// Lets the steering program choose the queue of every frame that the host sends to the TAP.
    fn steer(&self, name: &str, framing: Framing) -> Result<(), SysError> {
        let program = steering::program_fd(framing)?;
        // SAFETY: TUNSETSTEERINGEBPF reads one int, which `program` is.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), TUNSETSTEERINGEBPF, std::ptr::from_ref(&program).cast::<c_void>()) } {
            0.. => Ok(()),
            _ => Err(SysError::last("TUNSETSTEERINGEBPF", name)),
        }
    }

    /// Changes what the whole TAP hands over, while packets flow.
    pub fn set_offloads(&self, offloads: TapOffloads, name: &str) -> Result<(), SysError> {
        self.ioctl("TUNSETOFFLOAD", TUNSETOFFLOAD, offloads.flags(), name)
    }

    /// Asks for offloads, most first, and returns what the kernel gave.
    fn negotiate(&self, name: &str) -> Result<TapOffloads, SysError> {
        for (tso, uso) in [(true, true), (true, false), (false, false)] {
            let offloads = TapOffloads { tso, uso };
            if self.set_offloads(offloads, name).is_ok() {
                return Ok(offloads);
            }
        }
        self.ioctl("TUNSETOFFLOAD", TUNSETOFFLOAD, 0, name)?;
        Ok(TapOffloads { tso: false, uso: false })
    }
}

/// A TAP with all its queues.
pub struct Tap {
    /// By lane; the lanes have equally many.
    pub queues: Vec<Vec<Arc<TapQueue>>>,
    /// Why each lane has one queue only.
    pub unsteered: Option<SysError>,
    /// What the kernel gave.
    pub offloads: TapOffloads,
    /// Interface index in its namespace.
    pub index: u32,
    /// True if it did not exist before.
    pub created: bool,
}

fn refusal(name: &str, why: &str) -> SysError {
    SysError::new("attach", name, libc::EBUSY).with_detail(why)
}

/// Refuses a device of another kind, of other flags, or that somebody else is attached to.
fn check_existing(netlink: &Netlink, name: &str, framing: Framing) -> Result<bool, SysError> {
    let Some(link) = netlink.link_by_name(name)? else { return Ok(false) };
    let Some(tun) = link.tun else {
        let kind = link.kind.unwrap_or_else(|| "hardware".into());
        return Err(refusal(
            name,
            &format!("a {kind} device of this name exists; remove it (ip link del {name}) or choose another name"),
        ));
    };
    if !(tun.tap == (framing == Framing::Ethernet) && tun.persist && tun.multi_queue && tun.vnet_hdr) {
        return Err(refusal(
            name,
            &format!(
                "an existing TUN/TAP device has other flags than {}, persist, multi_queue, vnet_hdr; remove it (ip link del {name})",
                if framing == Framing::Ethernet { "tap" } else { "tun" }
            ),
        ));
    }
    if tun.num_queues.unwrap_or(0) + tun.num_disabled_queues.unwrap_or(0) > 0 {
        return Err(refusal(
            name,
            "another process is attached to this TAP and would take a share of its traffic; stop it first",
        ));
    }
    Ok(true)
}

fn open_queue(name: &str, framing: Framing) -> Result<TapQueue, SysError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(|error| SysError::from_io("open", "/dev/net/tun", &error))?;
    let queue = TapQueue(file);
    let wanted = flags(framing);
    queue.ioctl_ifreq("TUNSETIFF", TUNSETIFF, &mut IfReq::new(name, wanted), name)?;
    let mut held = IfReq::new(name, 0);
    queue.ioctl_ifreq("TUNGETIFF", TUNGETIFF, &mut held, name)?;
    let flags = held.flags & !IFF_PERSIST;
    if flags != wanted {
        return Err(refusal(name, &format!("asked for flags {wanted:#06x}, the device has {flags:#06x}")));
    }
    queue.set_virtio_header_size(name)?;
    Ok(queue)
}

impl Tap {
    /// Creates the TAP, or attaches to the persistent one that an earlier run left, with queues for so many lanes.
    ///
    /// The device is still down if it is new. MAC, MTU and state are set by netlink.
    pub fn open(name: &str, framing: Framing, netns: &Netns, netlink: &Netlink, lanes: usize) -> Result<Tap, SysError> {
        let existed = check_existing(netlink, name, framing)?;
        let first = netns.run(|| open_queue(name, framing).map(Arc::new))?;
        let unsteered = first.steer(name, framing).err();
        let each = if unsteered.is_none() { FLOW_QUEUES } else { 1 };
        let mut opened = vec![Arc::clone(&first)];
        opened.append(&mut open_queues(name, framing, netns, lanes.max(1) * each - 1)?);
        let offloads = first.negotiate(name)?;
        first.ioctl("TUNSETPERSIST", TUNSETPERSIST, 1, name)?;
        let link = netlink.link_by_name(name)?.ok_or_else(|| refusal(name, "the device vanished while it was opened"))?;
        if link.tun.and_then(|tun| tun.num_queues).is_some_and(|held| held as usize != opened.len()) {
            return Err(refusal(name, "another process attached to this TAP at the same moment; stop it first"));
        }
        let settings =
            super::netlink::LinkSettings { txqlen: Some(TX_QUEUE_LEN), gso_max_size: Some(GSO_MAX_SIZE), ..Default::default() };
        netlink.set_link(link.index, &settings)?;
        let queues = opened.chunks(each).map(<[_]>::to_vec).collect();
        Ok(Tap { queues, unsteered, offloads, index: link.index, created: !existed })
    }
}

/// More queues of a TAP that this process is attached to.
pub fn open_queues(name: &str, framing: Framing, netns: &Netns, count: usize) -> Result<Vec<Arc<TapQueue>>, SysError> {
    netns.run(|| (0..count).map(|_| open_queue(name, framing).map(Arc::new)).collect())
}

/// Tries on a device of its own that is gone afterwards what TAPs can do here.
pub fn probe() -> Result<TapOffloads, SysError> {
    open_queue("vtepprobe%d", Framing::Ethernet).and_then(|queue| queue.negotiate("vtepprobe%d"))
}
