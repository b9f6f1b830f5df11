//! The FDB with 10, 1,000 and 100,000 entries: what a lane pays to look one up, and the control thread to change one.
//!
//! `hot` asks for 10 of the entries again and again: the cost of the lookup itself, which must not depend on the size. `spread`
//! asks for all of them in an order without pattern: with 100,000 the tables do not fit in the cache, and what is added is the memory's.

use arc_swap::ArcSwap;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use vtepd_dataplane::tables::{FdbTargets, Network, Peer, PortKey, Snapshot, Target};
use vtepd_dataplane::wire::{Mac, vxlan};

const SIZES: [usize; 3] = [10, 1_000, 100_000];
const HOT: usize = 10;
const VNI: u32 = 2;

fn mac(index: usize) -> Mac {
    let [a, b, c, d] = (index as u32).to_be_bytes();
    Mac([2, 0, a, b, c, d])
}

fn targets(index: usize) -> Arc<FdbTargets> {
    let ip = Ipv4Addr::from_bits(0x0af5_0000 + (index % 1000) as u32).into();
    let target = Target { address: SocketAddr::new(ip, 4789), via: 0, header: vxlan::header(VNI), peer: Arc::new(Peer::new(ip)) };
    Arc::new(FdbTargets::fixed([target].into()))
}

fn network(size: usize) -> Network {
    let mut network = Network::new(0, VNI, PortKey { v6: false, port: 4789 });
    for index in 0..size {
        network.fdb.insert(mac(index), targets(index));
    }
    network
}

/// `count` indices below `size` in an order without pattern (a multiplicative generator modulo a prime).
fn order(count: usize, size: usize) -> Vec<Mac> {
    let mut state = 1usize;
    let mut next = || {
        state = state * 48_271 % 2_147_483_647;
        mac(state % size)
    };
    (0..count).map(|_| next()).collect()
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    for size in SIZES {
        let network = network(size);
        for (name, keys) in [("hot", order(1 << 10, HOT)), ("spread", order(1 << 17, size))] {
            let mut keys = keys.iter().cycle();
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| keys.next().and_then(|key| network.targets(black_box(*key))).is_some());
            });
        }
        let absent = Mac([6, 0, 0, 0, 0, 1]);
        group.bench_function(BenchmarkId::new("miss", size), |bencher| {
            bencher.iter(|| network.targets(black_box(absent)).is_none());
        });
    }
    group.finish();
}

/// One entry set in a published snapshot: clone, change, swap, as the control thread does it while lanes read.
fn update(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("update");
    for size in SIZES {
        let mut snapshot = Snapshot::default();
        snapshot.networks.push(Some(Arc::new(network(size))));
        let published = ArcSwap::from_pointee(snapshot);
        let fresh = targets(7);
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("one entry", size), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let mut snapshot = Snapshot::clone(&published.load());
                let Some(mut network) = snapshot.network(0).map(|network| Network::clone(network)) else { return };
                network.fdb.insert(mac(turn % size), fresh.clone());
                snapshot.networks = vec![Some(Arc::new(network))];
                published.store(Arc::new(snapshot));
            });
        });
        group.bench_function(BenchmarkId::new("load by a lane", size), |bencher| {
            bencher.iter(|| black_box(published.load()).network(0).is_some());
        });
    }
    group.finish();
}

criterion_group!(benches, lookup, update);
criterion_main!(benches);
