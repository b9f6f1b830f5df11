//! Cutting and joining undo each other, whatever the frames.

use super::coalesce::Coalescer;
use super::fixture::*;
use super::received::classify;
use super::segment::{Segment, segment};
use crate::wire::virtio::VirtioHeader;
use proptest::prelude::*;

/// The frames that a superframe is cut into.
fn cut(frame: &[u8], virtio: &VirtioHeader) -> Vec<Vec<u8>> {
    let (mut headers, mut segments) = (vec![], vec![]);
    segment(&[], frame, virtio, &mut headers, &mut segments).unwrap();
    let whole = |s: &Segment| {
        [&headers[s.header.0 as usize..s.header.1 as usize], &frame[s.payload.0 as usize..s.payload.1 as usize]].concat()
    };
    segments.iter().map(whole).collect()
}

/// What `classify` says of a frame, dropped ones included.
fn classified(frame: &[u8]) -> VirtioHeader {
    classify(frame, 65535).map_or_else(|_| VirtioHeader::default(), |received| received.virtio)
}

/// What one batch of frames is written as.
fn join(udp: bool, frames: &[Vec<u8>], virtio: impl Fn(&[u8]) -> VirtioHeader) -> Vec<(Vec<u8>, VirtioHeader)> {
    let mut coalescer = Coalescer::new(64, udp);
    let mut arena = frames.concat();
    let mut at = 0;
    for frame in frames {
        coalescer.push(&mut arena, at, frame.len(), virtio(frame));
        at += frame.len();
    }
    let mut writes = vec![];
    coalescer.flush(&mut arena, &mut |arena, virtio, pieces, _| {
        writes.push((pieces.iter().flat_map(|(from, to)| arena[*from..*to].to_vec()).collect(), *virtio));
    });
    writes
}

/// What a receiver sees of a flow: everything in order, but pure acknowledgements, which may be overtaken, apart.
fn streams(frames: Vec<Vec<u8>>) -> Vec<(Vec<u8>, bool, Vec<Vec<u8>>)> {
    let mut streams: Vec<(Vec<u8>, bool, Vec<Vec<u8>>)> = vec![];
    for frame in frames {
        let v6 = frame[12] == 0x86;
        let transport = if v6 { 54 } else { 34 };
        let addresses = if v6 { 22..54 } else { 26..34 };
        let key = [&frame[addresses], &[frame[if v6 { 20 } else { 23 }]], &frame[transport..transport + 4]].concat();
        let tcp = frame[if v6 { 20 } else { 23 }] == 6;
        let bare = tcp && frame[transport + 13] == 0x10 && frame.len() == transport + 4 * usize::from(frame[transport + 12] >> 4);
        match streams.iter_mut().find(|stream| stream.0 == key && stream.1 == bare) {
            Some(stream) => stream.2.push(frame),
            None => streams.push((key, bare, vec![frame])),
        }
    }
    streams.sort();
    streams
}

/// What happens to one flow between two frames of it.
#[derive(Clone, Debug)]
enum Step {
    Data { flow: usize, len: usize, flags: u8 },
    Acknowledgement { flow: usize },
    Corrupt { flow: usize, at: prop::sample::Index },
    Partial { flow: usize },
    Gap { flow: usize },
    Window { flow: usize },
    Identification { flow: usize },
}

const FLOWS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let flow = 0..FLOWS;
    let len = prop_oneof![8 => Just(100usize), 1 => 1usize..150];
    let flags = prop_oneof![20 => Just(0x10u8), 2 => Just(0x18), 1 => any::<u8>()];
    prop_oneof![
        30 => (flow.clone(), len, flags).prop_map(|(flow, len, flags)| Step::Data { flow, len, flags }),
        2 => flow.clone().prop_map(|flow| Step::Acknowledgement { flow }),
        1 => (flow.clone(), any::<prop::sample::Index>()).prop_map(|(flow, at)| Step::Corrupt { flow, at }),
        1 => flow.clone().prop_map(|flow| Step::Partial { flow }),
        1 => flow.clone().prop_map(|flow| Step::Gap { flow }),
        1 => flow.clone().prop_map(|flow| Step::Window { flow }),
        1 => flow.prop_map(|flow| Step::Identification { flow }),
    ]
}

/// Plays the steps; all flows forbid nothing, so that identification counts.
fn play(steps: &[Step]) -> Vec<Vec<u8>> {
    let base = |packet: Packet, flow| Packet { df: false, flow, ..packet };
    let mut flows = [base(tcp4(b""), 1), base(tcp6(b""), 2), base(udp4(b""), 3), base(tcp4(b""), 4)];
    let mut frames = vec![];
    let mut send = |state: &mut Packet, payload: Vec<u8>, flags: u8| {
        let packet = Packet { payload, flags, ..state.clone() };
        state.sequence = state.sequence.wrapping_add(packet.payload.len() as u32);
        state.id = state.id.wrapping_add(1);
        frames.push(packet.build());
        (packet, frames.len() - 1)
    };
    let mut changes: Vec<(usize, Option<usize>, Packet)> = vec![];
    for step in steps {
        match step {
            Step::Data { flow, len, flags } => drop(send(&mut flows[*flow], vec![*len as u8; *len], *flags)),
            Step::Acknowledgement { flow } => drop(send(&mut flows[*flow], vec![], 0x10)),
            Step::Corrupt { flow, at } => {
                let (packet, place) = send(&mut flows[*flow], vec![3; 100], 0x10);
                changes.push((place, Some(packet.headers() + at.index(100)), packet));
            }
            Step::Partial { flow } => {
                let (packet, place) = send(&mut flows[*flow], vec![4; 100], 0x10);
                changes.push((place, None, packet));
            }
            Step::Gap { flow } => flows[*flow].sequence = flows[*flow].sequence.wrapping_add(1000),
            Step::Window { flow } => flows[*flow].window ^= 1,
            Step::Identification { flow } => flows[*flow].id = flows[*flow].id.wrapping_add(9),
        }
    }
    for (place, corrupt, packet) in changes {
        match corrupt {
            Some(at) => frames[place][at] ^= 0x40,
            None => frames[place] = packet.build_partial(),
        }
    }
    frames
}

/// One byte changed, and the end cut off.
fn damage() -> impl Strategy<Value = (prop::sample::Index, u8, prop::sample::Index)> {
    any::<(prop::sample::Index, u8, prop::sample::Index)>()
}

proptest! {
    #[test]
    fn joining_what_was_cut_gives_the_superframe_back(
        packet in any_packet(proptest::collection::vec(any::<u8>(), 2..20_000)),
        size: prop::sample::Index,
        last in prop_oneof![Just(0u8), Just(0x08), Just(0x09)],
    ) {
        let packet = Packet { flags: 0x10 | last, ..packet };
        let payload = packet.payload.len();
        let least = payload.div_ceil(64);
        let size = (least + size.index(payload - least)) as u16;
        let frame = packet.build_partial();
        let segments = cut(&frame, &packet.gso(size));
        // Not classified: one complete checksum in 65536 equals the pseudo-header sum, is taken for partial, and is not joined.
        let writes = join(true, &segments, |_| VirtioHeader::default());
        prop_assert_eq!(writes, vec![(frame, packet.gso(size))]);
    }

    #[test]
    fn cutting_what_was_joined_gives_every_flow_back(steps in proptest::collection::vec(step(), 1..120), udp: bool) {
        let frames = play(&steps);
        let writes = join(udp, &frames, classified);
        prop_assert!(writes.len() <= frames.len());
        let mut out = vec![];
        for (frame, virtio) in writes {
            if virtio.is_gso() { out.extend(cut(&frame, &virtio)) } else { out.push(frame) }
        }
        prop_assert_eq!(streams(out), streams(frames));
    }

    #[test]
    fn no_batch_panics(
        packets in proptest::collection::vec((any_packet(proptest::collection::vec(any::<u8>(), 0..50)), damage()), 0..20),
        noise: Vec<Vec<u8>>,
    ) {
        let mut frames = noise;
        for (packet, (at, value, end)) in packets {
            let mut frame = packet.build();
            let at = at.index(frame.len());
            frame[at] = value;
            frame.truncate(end.index(frame.len() + 1));
            frames.extend([packet.build(), frame]);
        }
        let before: usize = frames.iter().map(Vec::len).sum();
        let writes = join(true, &frames, classified);
        prop_assert!(writes.iter().map(|(frame, _)| frame.len()).sum::<usize>() <= before);
    }
}
