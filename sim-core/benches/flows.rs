//! dslab's published workload, all to all over shared links, by topology and hosts; whole runs.
//!
//! Criterion takes ten samples at least; what runs for seconds is run and timed once instead, so that the bench ends in less
//! than a minute.
#![allow(missing_docs, reason = "criterion's macros make the items")]
#![allow(clippy::disallowed_types, reason = "a bench reads the clock")]

#[path = "../examples/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

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
            let mut run =
                || executor.run(&graph, &net, &RunOptions::default(), &mut NoObserver).expect("it ends");
            if hosts == 128 && topology != Topology::Mesh {
                let clock = Instant::now();
                run();
                println!("flows/{name}/{hosts}: one run, {:.2} s", clock.elapsed().as_secs_f64());
            } else {
                group.bench_function(BenchmarkId::new(name, hosts), |b| b.iter(&mut run));
            }
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .measurement_time(Duration::from_secs(1))
        .warm_up_time(Duration::from_millis(100));
    targets = flows
}
criterion_main!(benches);
