//! What a kernel that refuses, takes a part, or has no room does to a batch.

use super::kernel::{Kernel, write_control};
use super::*;
use crate::io::pool::PoolSpec;
use crate::io::udp::Endpoint;
use crate::wire::outer::Df;
use crate::wire::vxlan;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::zeroed;

/// One message as the kernel saw it.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Seen {
    /// Last byte of the address.
    to: u8,
    bytes: Vec<u8>,
    segment: Option<u16>,
}

/// Answers calls from a list, then takes everything.
#[derive(Default)]
struct Script {
    answers: RefCell<VecDeque<Result<usize, i32>>>,
    sent: RefCell<Vec<Seen>>,
    waits: RefCell<usize>,
    /// How many errors each look into the queue finds.
    queued: RefCell<VecDeque<usize>>,
}

impl Script {
    fn new(answers: &[Result<usize, i32>]) -> Self {
        Script { answers: RefCell::new(answers.iter().copied().collect()), ..Script::default() }
    }

    /// (to, bytes, segment) of every message taken.
    fn shape(&self) -> Vec<(u8, usize, Option<u16>)> {
        self.sent.borrow().iter().map(|seen| (seen.to, seen.bytes.len(), seen.segment)).collect()
    }

    fn receivers(&self) -> Vec<u8> {
        self.sent.borrow().iter().map(|seen| seen.to).collect()
    }
}

impl Kernel for Script {
    unsafe fn send(&self, _: i32, messages: &mut [libc::mmsghdr]) -> Result<usize, i32> {
        let count = self.answers.borrow_mut().pop_front().unwrap_or(Ok(messages.len()))?.min(messages.len());
        for message in messages.iter().take(count) {
            let header = &message.msg_hdr;
            // SAFETY: the batch under test promises valid pointers and lengths.
            let (iovecs, address) = unsafe {
                (
                    std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen),
                    header.msg_name.cast::<libc::sockaddr_in>().read(),
                )
            };
            let mut bytes = Vec::new();
            for iovec in iovecs {
                // SAFETY: as above.
                bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(iovec.iov_base.cast::<u8>(), iovec.iov_len) });
            }
            let mut segment = None;
            // SAFETY: the control buffer was built by `write_control`.
            unsafe {
                if let Some(first) = libc::CMSG_FIRSTHDR(header).as_ref()
                    && (first.cmsg_level, first.cmsg_type) == (libc::SOL_UDP, libc::UDP_SEGMENT)
                {
                    segment = Some(libc::CMSG_DATA(first).cast::<u16>().read_unaligned());
                }
            }
            self.sent.borrow_mut().push(Seen { to: address.sin_addr.s_addr.to_ne_bytes()[3], bytes, segment });
        }
        Ok(count)
    }

    fn wait_for_room(&self, _: i32) {
        *self.waits.borrow_mut() += 1;
    }

    fn drain(&self, _: i32, seen: &mut dyn FnMut(PathError)) -> usize {
        let count = self.queued.borrow_mut().pop_front().unwrap_or(0);
        let to = SocketAddr::from(([127, 0, 0, 9], 4789));
        (0..count).for_each(|_| seen(PathError { to, header: None, mtu: Some(1400), local: false }));
        count
    }
}

struct Rig {
    pool: SendPool,
    batch: SendBatch,
    frames: Vec<u8>,
    counters: LaneCounters,
}

struct Flushed {
    sent: u64,
    drops: Vec<(DropReason, u64)>,
    fault: Option<SendFault>,
}

impl Rig {
    fn new() -> Self {
        Self::with_df(Df::Unset)
    }

    fn with_df(df: Df) -> Self {
        let endpoint = Endpoint { v6: false, local: Some([127, 0, 0, 1].into()), ifindex: None };
        Rig {
            pool: SendPool::open(&PoolSpec { df, ..PoolSpec::new(endpoint) }, true, &[]).unwrap(),
            batch: SendBatch::default(),
            frames: Vec::new(),
            counters: LaneCounters::default(),
        }
    }

    /// Adds a datagram of `len` bytes, each of the value `fill`, to 127.0.0.`to` by one socket.
    fn push(&mut self, to: u8, len: u32, fill: u8) {
        let ip = [127, 0, 0, to].into();
        let target =
            Target { address: SocketAddr::new(ip, 4789), via: 0, header: vxlan::header(1), peer: Arc::new(Peer::new(ip)) };
        let at = self.frames.len() as u32;
        self.frames.resize((at + len) as usize, fill);
        self.batch.push(&self.pool, 3, &target, Outer::default(), &[Piece { buffer: Buffer::Frames, at, len }], 1472);
    }

    fn flush(&mut self, kernel: &Script) -> Flushed {
        let mut drops = Vec::new();
        let (sent, fault) = self.batch.flush_to(
            Way { kernel, pool: &self.pool, errors: &mut |_| {} },
            [&self.frames, &[]],
            &self.counters,
            |reason, count| drops.push((reason, count)),
        );
        Flushed { sent: sent.packets, drops, fault }
    }
}

#[test]
fn equal_datagrams_to_one_peer_leave_as_a_train_that_a_shorter_one_ends() {
    let (mut rig, kernel) = (Rig::new(), Script::default());
    for (to, len) in [(1, 100), (1, 100), (1, 60), (1, 60), (2, 60), (2, 80)] {
        rig.push(to, len, to);
    }
    assert_eq!(rig.flush(&kernel).sent, 6);
    assert_eq!(kernel.shape(), [(1, 260, Some(100)), (1, 60, None), (2, 60, None), (2, 80, None)]);
    assert!(rig.batch.is_empty());
}

#[test]
fn a_train_ends_at_64_segments_at_64_kib_and_where_it_would_need_fragments() {
    let (mut rig, kernel) = (Rig::new(), Script::default());
    (0..65).for_each(|_| rig.push(1, 70, 0));
    (0..45).for_each(|_| rig.push(2, 1472, 0));
    (0..2).for_each(|_| rig.push(3, 1473, 0));
    rig.flush(&kernel);
    let expected =
        [(1, 64 * 70, Some(70)), (1, 70, None), (2, 44 * 1472, Some(1472)), (2, 1472, None), (3, 1473, None), (3, 1473, None)];
    assert_eq!(kernel.shape(), expected);
}

#[test]
fn a_partly_taken_batch_goes_on_where_it_stopped() {
    let mut rig = Rig::new();
    let kernel = Script::new(&[Ok(2), Err(libc::EINTR), Ok(1)]);
    (1..=5).for_each(|to| rig.push(to, 100, to));
    let flushed = rig.flush(&kernel);
    assert_eq!((flushed.sent, flushed.drops.len()), (5, 0));
    assert_eq!(kernel.receivers(), [1, 2, 3, 4, 5]);
}

#[test]
fn one_peer_that_cannot_be_reached_costs_no_other_its_frames() {
    let mut rig = Rig::new();
    let kernel = Script::new(&[Ok(1), Err(libc::EHOSTUNREACH)]);
    for to in 1..=3 {
        rig.push(to, 100, to);
        rig.push(to, 100, to);
    }
    let flushed = rig.flush(&kernel);
    assert_eq!((flushed.sent, flushed.drops), (4, vec![(DropReason::TxUnroutable, 2)]));
    assert_eq!(kernel.receivers(), [1, 3]);
}

#[test]
fn a_full_queue_is_waited_for_a_little_and_then_named() {
    let mut rig = Rig::new();
    let kernel = Script::new(&[Err(libc::EAGAIN), Err(libc::ENOBUFS)]);
    rig.push(1, 100, 1);
    assert_eq!(rig.flush(&kernel).sent, 1);
    assert_eq!(*kernel.waits.borrow(), 2);
    let kernel = Script::new(&[Err(libc::ENOBUFS); 6]);
    rig.push(1, 100, 1);
    rig.push(2, 100, 2);
    let flushed = rig.flush(&kernel);
    assert_eq!((flushed.sent, flushed.drops), (1, vec![(DropReason::TxQueueFull, 1)]));
}

#[test]
fn a_train_that_the_device_cannot_segment_is_sent_singly_and_trains_end() {
    let mut rig = Rig::new();
    let kernel = Script::new(&[Err(libc::EIO)]);
    (0..3).for_each(|fill| rig.push(1, 100, fill));
    let flushed = rig.flush(&kernel);
    assert_eq!((flushed.sent, flushed.fault), (3, Some(("UDP_SEGMENT", libc::EIO))));
    assert_eq!(flushed.drops.iter().map(|(_, count)| count).sum::<u64>(), 0);
    assert_eq!(kernel.shape(), [(1, 100, None); 3]);
    assert_eq!(kernel.sent.borrow().iter().map(|seen| seen.bytes[0]).collect::<Vec<_>>(), [0, 1, 2]);
    let kernel = Script::default();
    (0..2).for_each(|fill| rig.push(1, 100, fill));
    rig.flush(&kernel);
    assert_eq!(kernel.shape(), [(1, 100, None); 2], "no more trains after EIO");
}

#[test]
fn a_train_too_big_for_the_path_is_sent_singly_so_that_it_can_be_fragmented() {
    let mut rig = Rig::new();
    let kernel = Script::new(&[Err(libc::EMSGSIZE), Ok(1), Err(libc::EMSGSIZE)]);
    (0..3).for_each(|fill| rig.push(1, 1400, fill));
    let flushed = rig.flush(&kernel);
    assert_eq!((flushed.sent, flushed.drops), (2, vec![(DropReason::TxTooBig, 1)]));
    assert!(rig.pool.segments(), "the path is to blame, not the offload");
}

#[test]
fn an_icmp_error_about_one_peer_does_not_fail_a_send_to_another() {
    let mut rig = Rig::with_df(Df::Set);
    let kernel = Script::new(&[Ok(1), Err(libc::ECONNREFUSED), Err(libc::EMSGSIZE), Ok(1)]);
    kernel.queued.borrow_mut().extend([1, 3]);
    (1..=4).for_each(|to| rig.push(to, 100, to));
    let flushed = rig.flush(&kernel);
    assert_eq!((flushed.sent, flushed.drops), (4, vec![]));
    assert_eq!(kernel.receivers(), [1, 2, 3, 4]);
    // An error of its own has nothing in the queue behind it.
    let kernel = Script::new(&[Err(libc::EMSGSIZE)]);
    (1..=2).for_each(|to| rig.push(to, 100, to));
    assert_eq!(rig.flush(&kernel).drops, [(DropReason::TxTooBig, 1)]);
    // Nor does a flood of errors hold the lane.
    let kernel = Script::new(&[Err(libc::ECONNREFUSED); 20]);
    kernel.queued.borrow_mut().extend([1; 20]);
    rig.push(1, 100, 1);
    assert_eq!(rig.flush(&kernel).drops, [(DropReason::TxSocketError, 1)]);
    assert_eq!(kernel.answers.borrow().len(), 20 - 9);
}

#[test]
fn control_messages_are_exactly_as_long_as_what_they_hold() {
    let all = [
        (None, 0, 0, 0, 0),
        (Some(1400), 0, 0, 0, 24),
        (None, 2, 0, 0, 24),
        (None, 0, 9, 0, 24),
        (None, 0, 0, 3, 32),
        (Some(1400), 2, 0, 0, 48),
        (Some(1400), 2, 9, 3, 104),
    ];
    for (segment, tos, ttl, via, expected) in all {
        let (mut control, local) = (Control::EMPTY, Some([127, 0, 0, 1].into()));
        // SAFETY: msghdr is plain data for which zero is valid.
        let mut header: libc::msghdr = unsafe { zeroed() };
        write_control(&mut header, &mut control, segment, Outer { tos, ttl, df: false, via }, false, local);
        assert_eq!(header.msg_controllen, expected);
        assert_eq!(header.msg_control.is_null(), expected == 0);
    }
}

#[test]
fn the_real_kernel_takes_a_mixed_batch() {
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let mut rig = Rig::new();
    let peer = Arc::new(Peer::new([127, 0, 0, 1].into()));
    let target = Target { address: receiver.local_addr().unwrap(), via: 0, header: vxlan::header(1), peer: Arc::clone(&peer) };
    rig.frames = (0..5u8).flat_map(|fill| vec![fill; 200]).collect();
    for (at, len) in [(0, 200), (200, 200), (400, 150), (600, 200), (800, 30)] {
        rig.batch.push(
            &rig.pool,
            3,
            &target,
            Outer { tos: 2, ..Outer::default() },
            &[Piece { buffer: Buffer::Frames, at, len }],
            1472,
        );
    }
    let (sent, fault) =
        rig.batch.flush(&rig.pool, &rig.frames, &[], &rig.counters, &mut |_| {}, |reason, _| panic!("{reason:?}"));
    assert_eq!((sent.packets, fault, rig.counters.udp_messages_sent.get()), (5, None, 2));
    assert_eq!(peer.tx(), (5, 200 + 200 + 150 + 200 + 30 - 5 * 22));
    let mut buffer = [0; 2000];
    for (fill, len) in [(0, 200), (1, 200), (2, 150), (3, 200), (4, 30)] {
        let got = receiver.recv(&mut buffer).unwrap();
        assert_eq!((got, buffer[0]), (len, fill));
    }
}
