//! A million capacity changes of one link under 64 transfers that share it.
#![allow(missing_docs, reason = "criterion's macros make the items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sim_core::{
    CapacityProfile, Executor, GraphBuilder, NetworkBuilder, NoObserver, Rate, RunOptions, SimDuration,
    SimTime, Transfer,
};

const CHANGES: u64 = 1_000_000;
const GAP_PS: u64 = 1_000_000;
const FLOWS: u64 = 64;

fn trace(c: &mut Criterion) {
    let rate = |i: u64| Rate::from_bytes_per_s(1e9 + (i % 7) as f64 * 1e6).expect("a rate");
    let points = (1..=CHANGES).map(|i| (SimTime::from_ps(i * GAP_PS), rate(i))).collect();
    let mut net = NetworkBuilder::new();
    let link = net.resource(CapacityProfile::steps(rate(0), points).expect("they increase"));
    let net = net.build();
    let mut graph = GraphBuilder::new();
    for i in 0..FLOWS {
        // Together a little more than a million microseconds at 1 GB/s.
        let bytes = 1_010_000_000 / FLOWS + i;
        let transfer = Transfer { bytes, latency: SimDuration::ZERO, cap: Rate::MAX, uses: &[(link, 1)] };
        graph.transfer(transfer, &[], &[]);
    }
    let graph = graph.build().expect("a graph");
    let mut executor = Executor::new();
    let mut group = c.benchmark_group("trace");
    group.throughput(Throughput::Elements(CHANGES));
    group.bench_function("1e6_changes_under_64_flows", |b| {
        b.iter(|| executor.run(&graph, &net, &RunOptions::default(), &mut NoObserver).expect("it ends"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(100));
    targets = trace
}
criterion_main!(benches);
