//! The Internet checksum over what it is taken of: a header, a small frame, a segment, a jumbo segment, a superframe.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use vtepd_dataplane::wire::checksum::{fold, sum};

fn checksum(criterion: &mut Criterion) {
    let data: Vec<u8> = (0..65_536usize).map(|at| (at * 31) as u8).collect();
    let mut group = criterion.benchmark_group("checksum");
    for len in [20, 64, 1400, 8950, 61_000] {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &data[..len], |bencher, data| {
            bencher.iter(|| fold(sum(black_box(data), 0)));
        });
    }
    group.finish();
}

criterion_group!(benches, checksum);
criterion_main!(benches);
