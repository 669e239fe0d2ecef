//! dslab's published workload, all to all over shared links, by topology and hosts; whole runs.
#![allow(missing_docs, reason = "criterion's macros make the items")]

#[path = "../examples/support/mod.rs"]
mod support;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sim_core::{Executor, NoObserver, RunOptions};
use support::workload::{Topology, all_to_all};

fn flows(c: &mut Criterion) {
    let mut group = c.benchmark_group("flows");
    for (name, topology) in [
        ("star", Topology::Star),
        ("mesh", Topology::Mesh),
        ("tree", Topology::Tree),
        ("fat_tree", Topology::FatTree),
    ] {
        for hosts in [16, 64, 128] {
            let (net, graph) = all_to_all(topology, hosts, 123);
            let mut executor = Executor::new();
            group.bench_function(BenchmarkId::new(name, hosts), |b| {
                b.iter(|| {
                    executor.run(&graph, &net, &RunOptions::default(), &mut NoObserver).expect("it ends")
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(100));
    targets = flows
}
criterion_main!(benches);
