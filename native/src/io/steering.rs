//! Which queue of a TAP a frame waits in: a small BPF program that the kernel runs for each frame it sends there
//! (`TUNSETSTEERINGEBPF`, `tun_ebpf_select_queue` in drivers/net/tun.c).
//!
//! A TAP's queue does not count for its sender (`tun_net_xmit` orphans the packet), so one bulk TCP flow fills a queue with its whole
//! window, milliseconds of it. With a queue for each group of flows everything else does not wait behind that. The kernel's own
//! choice moves a flow to the queue that its answers were written to, and thereby reorders it; this one depends on the addresses and
//! ports only.

use super::error::SysError;
use crate::wire::Framing;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::LazyLock;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Insn {
    code: u8,
    /// Destination in the low four bits, source in the high ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes shorter ones for zero behind.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// Registers: 0 takes what is loaded, 6 must hold the packet for loads, 7 is the hash, 8 an offset.
const R0: u8 = 0;
const R1: u8 = 1;
const R6: u8 = 6;
const R7: u8 = 7;
const R8: u8 = 8;

const fn insn(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Insn {
    Insn { code, registers: from << 4 | to, offset, immediate }
}
const fn mov(to: u8, from: u8) -> Insn {
    insn(0xbf, to, from, 0, 0)
}
const fn set(to: u8, value: i32) -> Insn {
    insn(0xb7, to, 0, 0, value)
}
const fn and(to: u8, value: i32) -> Insn {
    insn(0x57, to, 0, 0, value)
}
const fn shift_left(to: u8, bits: i32) -> Insn {
    insn(0x67, to, 0, 0, bits)
}
const fn shift_right(to: u8, bits: i32) -> Insn {
    insn(0x77, to, 0, 0, bits)
}
const fn xor(to: u8, from: u8) -> Insn {
    insn(0xaf, to, from, 0, 0)
}
const fn multiply(to: u8, value: i32) -> Insn {
    insn(0x27, to, 0, 0, value)
}
/// Jumps over `by` instructions if register 0 is `value`.
const fn if_is(value: i32, by: i16) -> Insn {
    insn(0x15, R0, 0, by, value)
}
/// The same if it has any of these bits.
const fn if_any_bit(value: i32, by: i16) -> Insn {
    insn(0x45, R0, 0, by, value)
}
const fn jump(by: i16) -> Insn {
    insn(0x05, 0, 0, by, 0)
}
/// Loads from the packet into register 0; a packet that is too short ends the program with 0: the first queue.
const fn byte(at: i32) -> Insn {
    insn(0x30, 0, 0, 0, at)
}
const fn half(at: i32) -> Insn {
    insn(0x28, 0, 0, 0, at)
}
const fn word(at: i32) -> Insn {
    insn(0x20, 0, 0, 0, at)
}
/// The same at register 8 and `at`.
const fn word_behind(at: i32) -> Insn {
    insn(0x40, 0, R8, 0, at)
}

/// Golden ratio of 2^31, odd.
const MIX: i32 = 0x4f1b_bcdd;

/// Register 0 goes into the hash.
const fn mix() -> [Insn; 2] {
    [xor(R7, R0), multiply(R7, MIX)]
}

/// The program for frames, or for bare IPv4 packets. What is not IP, or tagged: the first queue. Fragments and what has no ports: by
/// addresses.
fn program(framing: Framing) -> Vec<Insn> {
    let network = framing.link_len() as i32;
    let mixed = |loads: &[Insn]| loads.iter().flat_map(|load| [&[*load][..], &mix()].concat()).collect::<Vec<_>>();
    let finish = [
        mov(R0, R7),
        shift_right(R0, 32),
        xor(R7, R0),
        mov(R0, R7),
        shift_right(R0, 16),
        and(R0, 0xffff),
        insn(0x95, 0, 0, 0, 0),
    ];
    // Behind an address: ports of TCP, UDP and SCTP, found at register 8.
    let ports = [if_is(6, 3), if_is(17, 2), if_is(132, 1), jump(3), word_behind(network), mix()[0], mix()[1]];
    let v4_addresses = mixed(&[word(network + 12), word(network + 16)]);
    let v4_rest = [
        half(network + 6),
        if_any_bit(0x3fff, 5 + ports.len() as i16),
        byte(network),
        and(R0, 0x0f),
        shift_left(R0, 2),
        mov(R8, R0),
        byte(network + 9),
    ];
    let v6_addresses = mixed(&[8, 12, 16, 20, 24, 28, 32, 36].map(|at| word(network + at)));
    let v6_rest = [set(R8, 40), byte(network + 6)];
    let v4 = [&v4_addresses[..], &v4_rest, &ports, &finish].concat();
    let v6 = [&v6_addresses[..], &v6_rest, &ports, &finish].concat();
    let start = [mov(R6, R1), set(R7, MIX)];
    let leave = [set(R0, 0), insn(0x95, 0, 0, 0, 0)];
    match framing {
        Framing::Ethernet => {
            let choice = [half(12), if_is(0x86dd, 3 + v4.len() as i16), if_is(0x0800, 2)];
            [&start[..], &choice, &leave, &v4, &v6].concat()
        }
        Framing::Bare => [&start[..], &[byte(0), and(R0, 0xf0), if_is(0x40, 2)], &leave, &v4].concat(),
    }
}

fn load(kind: u32, framing: Framing) -> io::Result<OwnedFd> {
    let (program, license) = (program(framing), c"Apache-2.0");
    let attributes = Load {
        kind,
        count: program.len() as u32,
        program: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: the kernel reads the attributes, and through them `count` instructions and a terminated string, all alive until the
    // call returns.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, std::ptr::from_ref(&attributes), size_of::<Load>()) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel just gave this descriptor to us and nobody else holds it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

static FOR_FRAMES: LazyLock<io::Result<OwnedFd>> = LazyLock::new(|| load(BPF_PROG_TYPE_SOCKET_FILTER, Framing::Ethernet));
static FOR_PACKETS: LazyLock<io::Result<OwnedFd>> = LazyLock::new(|| load(BPF_PROG_TYPE_SOCKET_FILTER, Framing::Bare));

/// The loaded program's descriptor, or why this kernel does not take it.
pub fn program_fd(framing: Framing) -> Result<RawFd, SysError> {
    let program = match framing {
        Framing::Ethernet => &*FOR_FRAMES,
        Framing::Bare => &*FOR_PACKETS,
    };
    match program {
        Ok(program) => Ok(program.as_raw_fd()),
        Err(error) => Err(SysError::from_io("bpf", "BPF_PROG_LOAD of the TAP's steering program", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::fixture::{Packet, tcp4, tcp6, udp4, udp6};

    const BPF_PROG_TEST_RUN: libc::c_long = 10;
    /// The kernel runs socket filters in tests without the Ethernet header, unlike `tun_ebpf_select_queue`; these with it.
    const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

    #[repr(C)]
    struct TestRun {
        program: u32,
        result: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
    }

    /// What the kernel computes for a frame; `None` where this process may not load programs.
    fn run(frames: &[Vec<u8>]) -> Option<Vec<u32>> {
        run_program(BPF_PROG_TYPE_SCHED_CLS, Framing::Ethernet, frames)
    }

    fn run_program(kind: u32, framing: Framing, frames: &[Vec<u8>]) -> Option<Vec<u32>> {
        let program = match load(kind, framing) {
            Ok(program) => program,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                println!("SKIP: loading BPF programs needs root");
                return None;
            }
            Err(error) => panic!("the kernel refuses the program: {error}"),
        };
        let results = frames.iter().map(|frame| {
            let attributes = TestRun {
                program: program.as_raw_fd() as u32,
                result: 0,
                size_in: frame.len() as u32,
                size_out: 0,
                data_in: frame.as_ptr() as u64,
                data_out: 0,
                repeat: 1,
                duration: 0,
            };
            // SAFETY: the kernel reads the attributes and the frame and writes the result, all alive until the call returns.
            let status =
                unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, std::ptr::from_ref(&attributes), size_of::<TestRun>()) };
            assert_eq!(status, 0, "{}", io::Error::last_os_error());
            // SAFETY: a live, initialised field, which the kernel wrote behind the compiler's back.
            unsafe { std::ptr::from_ref(&attributes.result).read_volatile() }
        });
        Some(results.collect())
    }

    #[test]
    fn the_socket_filter_is_accepted_too() {
        for framing in [Framing::Ethernet, Framing::Bare] {
            match load(BPF_PROG_TYPE_SOCKET_FILTER, framing) {
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}"),
                Ok(_) => assert!(program_fd(framing).is_ok()),
            }
        }
    }

    #[test]
    fn a_flow_has_one_queue_whatever_else_its_packets_say() {
        for packet in [tcp4(&[1; 40]), tcp6(&[1; 40]), udp4(&[1; 40]), udp6(&[1; 40])] {
            let other = Packet { payload: vec![9; 400], id: 77, sequence: 99, ..packet.clone() };
            let results = run(&[packet.build(), other.build(), packet.build_partial()]);
            assert!(results.is_none_or(|results| results[0] == results[1] && results[0] == results[2]), "{packet:?}");
        }
    }

    #[test]
    fn flows_spread() {
        for base in [tcp4(&[1; 40]), tcp6(&[1; 40]), udp4(&[1; 40])] {
            let transport = base.transport();
            let frames: Vec<_> = (0..320u16)
                .map(|port| {
                    let mut frame = base.build();
                    frame[transport..transport + 2].copy_from_slice(&(40_000 + port).to_be_bytes());
                    frame
                })
                .collect();
            let Some(results) = run(&frames) else { return };
            let mut queues = [0; 16];
            results.iter().for_each(|result| queues[*result as u16 as usize % 16] += 1);
            assert!(queues.iter().all(|flows| (5..=40).contains(flows)), "{queues:?}");
        }
    }

    #[test]
    fn bare_packets_have_the_queue_of_their_frame() {
        let frames: Vec<_> =
            [tcp4(&[1; 40]), udp4(&[1; 40]), Packet { flow: 9, ..tcp4(&[1; 40]) }].map(|packet| packet.build()).into();
        // The kernel runs a socket filter on what is behind the Ethernet header: the packet that a TUN has.
        let bare = run_program(BPF_PROG_TYPE_SOCKET_FILTER, Framing::Bare, &frames);
        assert_eq!(bare, run(&frames));
    }

    #[test]
    fn all_fragments_of_a_packet_have_one_queue() {
        let fragment = |flags: u8, offset: u8, payload: u8| {
            let mut frame = udp4(&[payload; 64]).build();
            (frame[20], frame[21]) = (flags, offset);
            frame[34..38].copy_from_slice(&[payload; 4]);
            frame
        };
        let results = run(&[fragment(0x20, 0, 1), fragment(0x20, 8, 2), fragment(0, 16, 3)]);
        assert!(results.is_none_or(|results| results[0] == results[1] && results[1] == results[2]));
    }

    #[test]
    fn what_is_not_ip_or_is_cut_waits_in_the_first_queue() {
        let arp = [&[0xff; 12][..], &[8, 6], &[7; 28]].concat();
        let cut = tcp4(&[1; 40]).build()[..36].to_vec();
        let options = {
            let mut frame = tcp4(&[]).build();
            frame[14] = 0x4f;
            frame
        };
        assert!(run(&[arp, cut, options]).is_none_or(|results| results == [0, 0, 0]));
    }
}
