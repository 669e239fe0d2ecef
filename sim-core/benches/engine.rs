//! The engine: ping-pong between two processes, and PHOLD. For the same against other kernels see `benches/peers`.
#![allow(missing_docs, reason = "criterion's macros make the items")]

#[path = "../examples/support/mod.rs"]
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sim_core::{Class, Engine, Limits, Scheduler, SimDuration, SimTime, World};
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

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = engine
}
criterion_main!(benches);
