//! One iteration, as the search simulates it: a plan laid out, folded, lowered and run in memory that is kept. Mixed clusters of
//! 32, 128 and 512 GPUs, and published plans up to 131,072.
#![allow(missing_docs, reason = "criterion's macros make the items")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use scenarios::{Overrides, builtins};
use sim_core::SimTime;
use sim_models::fold::Folding;
use sim_models::iteration::Simulator;
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::scenario::Scenario;

const NAMES: [&str; 7] = [
    "opt350-a100x32",
    "opt350-a100x32-v100x96",
    "opt350-a100x128-v100x384",
    "gpt3-175b-a100x1024",
    "deepseek-v3-h800x2048",
    "llama3-405b-h100x16384",
    "llama3-405b-h100x131072",
];

fn load(name: &str) -> Scenario {
    let builtin = builtins().iter().find(|b| b.name == name).expect("a built-in");
    builtin.load(&Overrides::default()).unwrap_or_else(|f| panic!("{name}: {f:?}")).scenario
}

fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("step");
    group.sample_size(20);
    for name in NAMES {
        let scenario = load(name);
        let (plan, fabric) = (scenario.plan.as_ref().expect("its plan"), Fabric::new(&scenario));
        let mut simulator = Simulator::new(&scenario, &fabric);
        group.bench_function(BenchmarkId::new("folded", name), |b| {
            b.iter(|| {
                let layout = Layout::new(&scenario, plan).expect("a plan");
                let folding = Folding::of(&layout);
                simulator.run(plan, &layout, &folding, SimTime::ZERO, None).expect("it ends").end
            });
        });
    }
    group.finish();
}

fn unfolded(c: &mut Criterion) {
    let mut group = c.benchmark_group("unfolded");
    group.sample_size(10);
    for name in ["opt350-a100x128-v100x384", "gpt3-175b-a100x1024", "llama3-405b-h100x16384"] {
        let scenario = load(name);
        let (plan, fabric) = (scenario.plan.as_ref().expect("its plan"), Fabric::new(&scenario));
        let layout = Layout::new(&scenario, plan).expect("a plan");
        let mut simulator = Simulator::new(&scenario, &fabric);
        let folding = Folding::none(&layout);
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| simulator.run(plan, &layout, &folding, SimTime::ZERO, None).expect("it ends").end);
        });
    }
    group.finish();
}

criterion_group!(benches, step, unfolded);
criterion_main!(benches);
