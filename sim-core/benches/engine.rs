//! The engine: ping-pong between two processes, and PHOLD; and the executor on a pipeline's task graph. For the same against other kernels see `benches/peers`.
#![allow(missing_docs, reason = "criterion's macros make the items")]

#[path = "../examples/support/mod.rs"]
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sim_core::{
    CapacityProfile, Class, Engine, Executor, GraphBuilder, Limits, NetworkBuilder, NoObserver, Rate,
    RunOptions, Scheduler, SimDuration, SimTime, Transfer, World,
};
use support::phold::Phold;

const EVENTS: u64 = 100_000;

struct PingPong {
    left: u64,
}

impl World for PingPong {
    type Event = bool;
    fn handle(&mut self, _now: SimTime, ping: bool, scheduler: &mut Scheduler<bool>) {
        self.left -= 1;
        if self.left > 0 {
            scheduler.after(SimDuration::from_ps(1_000), Class::Start, !ping);
        }
    }
    fn fingerprint(ping: &bool) -> u64 {
        u64::from(*ping)
    }
}

fn engine(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("ping_pong", |b| {
        let mut engine = Engine::new(PingPong { left: 0 });
        b.iter(|| {
            engine.reset();
            engine.world_mut().left = EVENTS;
            engine.scheduler().after(SimDuration::ZERO, Class::Start, true);
            engine.run(&Limits::default()).expect("it ends")
        });
    });
    for pending in [10u32, 100, 1_000, 10_000, 100_000] {
        group.bench_function(BenchmarkId::new("phold", pending), |b| {
            let mut engine = Engine::new(Phold::new(pending, u64::MAX, 1));
            Phold::fill(&mut engine);
            b.iter(|| {
                engine.world_mut().stop_after(EVENTS);
                engine.run(&Limits::default()).expect("it stops")
            });
        });
    }
    group.finish();
}

/// A pipeline of `STAGES` stages and `BATCHES` micro-batches there and back: delays on a stream a stage, and a transfer on a
/// link of its own between neighbours, as a planner runs it over and over.
fn graph(c: &mut Criterion) {
    const STAGES: usize = 16;
    const BATCHES: usize = 64;
    let mut net = NetworkBuilder::new();
    let rate = Rate::from_bytes_per_s(1e10).expect("a rate");
    let links: Vec<_> = (0..STAGES).map(|_| net.resource(CapacityProfile::constant(rate))).collect();
    let net = net.build();
    let mut builder = GraphBuilder::new();
    let streams: Vec<_> = (0..STAGES).map(|_| builder.stream()).collect();
    for batch in 0..BATCHES as u64 {
        let mut before = None;
        for (stage, &link) in links.iter().enumerate() {
            let deps: Vec<_> = before.into_iter().collect();
            let time = SimDuration::from_ps(1_000_000 + stage as u64 * 977 + batch);
            let compute = builder.delay(time, &[streams[stage]], &deps);
            let uses = [(link, 1)];
            let send =
                Transfer { bytes: 10_000, latency: SimDuration::from_ps(5_000), cap: Rate::MAX, uses: &uses };
            before = Some(builder.transfer(send, &[], &[compute]));
        }
    }
    let graph = builder.build().expect("a graph");
    let mut executor = Executor::new();
    let mut group = c.benchmark_group("graph");
    group.throughput(Throughput::Elements(graph.len() as u64));
    group.bench_function("pipeline_2048_tasks", |b| {
        b.iter(|| executor.run(&graph, &net, &RunOptions::default(), &mut NoObserver).expect("it ends"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = engine, graph
}
criterion_main!(benches);
