//! Cutting a TCP superframe into segments, each with its headers and checksums; a plain frame's checksum beside it.

mod frames;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frames::{HEADERS, SEGMENT, SEGMENTS, superframe, tcp4};
use std::hint::black_box;
use vtepd_dataplane::offload::segment::{complete_checksum, segment};
use vtepd_dataplane::wire::virtio::{GSO_NONE, VirtioHeader};
use vtepd_dataplane::wire::vxlan;

fn superframes(criterion: &mut Criterion) {
    let prefix = vxlan::header(2);
    let virtio = superframe();
    let mut group = criterion.benchmark_group("segment");
    for count in [2, 10, SEGMENTS] {
        let frame = tcp4(1, 1, 1, count * SEGMENT, true);
        let (mut headers, mut segments) = (Vec::new(), Vec::new());
        group.throughput(Throughput::Bytes((count * SEGMENT) as u64));
        group.bench_with_input(BenchmarkId::new("segments", count), &frame, |bencher, frame| {
            bencher.iter(|| {
                headers.clear();
                segments.clear();
                let result = segment(&prefix, black_box(frame), &virtio, &mut headers, &mut segments);
                assert!(result.is_ok());
                segments.len()
            });
        });
        assert_eq!((segments.len(), headers.len()), (count, count * (prefix.len() + HEADERS)));
    }
    group.finish();
}

fn plain(criterion: &mut Criterion) {
    let virtio = VirtioHeader { gso_type: GSO_NONE, gso_size: 0, ..superframe() };
    let mut group = criterion.benchmark_group("complete_checksum");
    for payload in [12, SEGMENT] {
        let mut frame = tcp4(1, 1, 1, payload, true);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(frame.len()), |bencher| {
            // The second time it completes what is complete already: another sum, the same work.
            bencher.iter(|| complete_checksum(black_box(&mut frame), &virtio).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, superframes, plain);
criterion_main!(benches);
