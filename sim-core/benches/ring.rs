//! A ring all-reduce of 1 MiB in 4 splits, message by message and folded, 8 to 4,096 ranks.
#![allow(missing_docs, reason = "criterion's macros make the items")]

#[path = "../examples/support/mod.rs"]
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sim_core::generate::{Fcfs, Symmetry};
use sim_core::{NoObserver, RunOptions};
use support::ring::{Links, Ring};

const BYTES: u64 = 1 << 20;
const SPLITS: u32 = 4;

fn ring(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    for ranks in [8u32, 64, 256, 1_024, 4_096] {
        let links = Links(ranks);
        let mut program = Ring::new(ranks, BYTES, SPLITS);
        group.throughput(Throughput::Elements(
            u64::from(ranks) * 2 * u64::from(ranks - 1) * u64::from(SPLITS),
        ));
        let folded = Fcfs::folded(ranks, Symmetry::Rotation, &links, &links).expect("the links are alike");
        for (name, mut world) in [("folded", folded.ordered()), ("whole", Fcfs::new(ranks).ordered())] {
            if name == "whole" && ranks > 1_024 {
                continue;
            }
            group.bench_function(BenchmarkId::new(name, ranks), |b| {
                b.iter(|| {
                    program.reset();
                    world
                        .run(&mut program, &links, &links, &RunOptions::default(), &mut NoObserver)
                        .expect("it ends")
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(100));
    targets = ring
}
criterion_main!(benches);
