//! Joining what one `recvmmsg` brought: one flow in order, several flows mixed, and frames that nothing can be joined of.

mod frames;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frames::{HEADERS, SEGMENT, SEGMENTS, tcp4};
use std::hint::black_box;
use vtepd_dataplane::offload::coalesce::Coalescer;
use vtepd_dataplane::wire::virtio::VirtioHeader;

/// Frames one after the other in an arena, as (start, length), and what to put back after a flush has patched the first frames.
struct Batch {
    arena: Vec<u8>,
    frames: Vec<(usize, usize)>,
    originals: Vec<(usize, Vec<u8>)>,
}

/// `count` frames with `payload` bytes each, taken in turn from `flows` flows.
fn batch(count: usize, flows: usize, payload: usize) -> Batch {
    let mut batch = Batch { arena: Vec::new(), frames: Vec::new(), originals: Vec::new() };
    for index in 0..count {
        let turn = index / flows;
        let frame = tcp4((index % flows) as u8, (turn * payload) as u32, turn as u16, payload, false);
        if turn == 0 {
            batch.originals.push((batch.arena.len(), frame[..HEADERS].to_vec()));
        }
        batch.frames.push((batch.arena.len(), frame.len()));
        batch.arena.extend(frame);
    }
    batch
}

/// One turn of a lane; returns the number of writes.
fn turn(coalescer: &mut Coalescer, batch: &mut Batch) -> usize {
    for (at, len) in &batch.frames {
        coalescer.push(&mut batch.arena, *at, *len, VirtioHeader::default());
    }
    let mut writes = 0;
    coalescer.flush(&mut batch.arena, &mut |_, virtio, pieces, segments| {
        black_box((virtio, pieces, segments));
        writes += 1;
    });
    for (at, headers) in &batch.originals {
        batch.arena[*at..*at + headers.len()].copy_from_slice(headers);
    }
    writes
}

fn coalesce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("coalesce");
    let mut coalescer = Coalescer::new(64, true);
    for flows in [1, 4, SEGMENTS] {
        let mut batch = batch(SEGMENTS, flows, SEGMENT);
        assert_eq!(turn(&mut coalescer, &mut batch), flows, "one superframe a flow");
        group.throughput(Throughput::Bytes(batch.arena.len() as u64));
        group.bench_function(BenchmarkId::new("flows", flows), |bencher| {
            bencher.iter(|| turn(&mut coalescer, &mut batch));
        });
    }
    // Pure acknowledgements: looked at, never joined.
    let mut batch = batch(64, 1, 0);
    assert_eq!(turn(&mut coalescer, &mut batch), 64);
    group.throughput(Throughput::Elements(64));
    group.bench_function("acknowledgements", |bencher| bencher.iter(|| turn(&mut coalescer, &mut batch)));
    group.finish();
}

criterion_group!(benches, coalesce);
criterion_main!(benches);
