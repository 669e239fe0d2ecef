//! Published runs from datasheets, NCCL's tables and kernels' shares alone: nothing here was fitted to them.

use scenarios::{Overrides, builtins};
use sim_models::iteration::{Options, simulate};
use sim_models::layout::Layout;
use sim_models::plan::{LayerRange, Layers, Plan, Recompute, Schedule, Stage};
use sim_models::scenario::Scenario;

fn builtin(name: &str) -> Scenario {
    let found = builtins().iter().find(|b| b.name == name).expect("a built-in");
    found.load(&Overrides::default()).unwrap_or_else(|f| panic!("{name}: {f:?}")).scenario
}

/// MFU and seconds of the scenario's plan.
fn run(scenario: &Scenario) -> (f64, f64) {
    let plan = scenario.plan.as_ref().expect("its plan");
    let layout = Layout::new(scenario, plan).unwrap_or_else(|f| panic!("{f:#?}"));
    let iteration = simulate(scenario, plan, &Options::default()).expect("it ends");
    (iteration.mfu(scenario, &layout), iteration.time.as_secs_f64())
}

#[track_caller]
fn within_a_fifth(what: &str, got: f64, published: f64) {
    assert!((got / published - 1.0).abs() <= 0.2, "{what}: {got} for {published}");
}

/// arXiv 2407.21783, table 4: MFU of 16,384 and 8,192 GPUs at a sequence of 8,192.
#[test]
fn llama_3_405b() {
    let mut s = builtin("llama3-405b-h100x16384");
    within_a_fifth("16,384 GPUs", run(&s).0, 0.41);
    // Half the replicas, twice the micro-batches of each.
    s.groups[0].nodes /= 2;
    let plan = s.plan.as_mut().expect("its plan");
    plan.pipelines[0].replicas /= 2;
    plan.pipelines[0].micro_batches *= 2;
    for (i, stage) in (0..).zip(&mut plan.pipelines[0].stages) {
        stage.devices = vec![format!("h100:{}-{}", i * 512, i * 512 + 511).parse().expect("devices")];
    }
    within_a_fifth("8,192 GPUs", run(&s).0, 0.43);
}

/// arXiv 2104.04473, section 5.1: 140 TFLOP/s a GPU, recomputation counted: a third more than the model's own.
#[test]
fn gpt_3_175b() {
    let s = builtin("gpt3-175b-a100x1024");
    // Equation 3 of the paper, for 1,536 samples of 2,048 tokens.
    let (b, l, h, v, t) = (1536.0, 96.0, 12288.0, 50257.0, 2048.0);
    let flop = 96.0 * b * t * l * h * h * (1.0 + t / (6.0 * h) + v / (16.0 * l * h));
    within_a_fifth("seconds", run(&s).1, flop / (1024.0 * 140e12));
}

/// arXiv 2104.04473, table 1: 1,008 billion parameters on 3,072 A100 in 64 stages, 163 TFLOP/s a GPU.
#[test]
fn gpt_1t() {
    let small = builtin("gpt3-175b-a100x1024");
    let text = builtins().iter().find(|b| b.name == "gpt3-175b-a100x1024").expect("a built-in").text;
    let text = text.replace("gpt3-175b", "gpt-1t").replace("global_batch = 1536", "global_batch = 3072");
    let text = text.replace("count = 128", "count = 384");
    let head = &text[..text.find("# The paper does not say").expect("the plan's comment")];
    let loaded = scenarios::load_text(head, "gpt-1t", None, &Overrides::default());
    let mut s = loaded.unwrap_or_else(|f| panic!("{f:?}")).scenario;
    let stage = |i: u32| {
        // Two blocks a stage; embedding and head stand with the first and the last.
        let (first, last) = (if i == 0 { 0 } else { 1 + 2 * i }, if i == 63 { 129 } else { 2 + 2 * i });
        Stage {
            layers: Layers::from(LayerRange { first, last }),
            tp: 8,
            recompute: Recompute::Full,
            devices: vec![format!("a100:{}-{}", i * 48, i * 48 + 47).parse().expect("devices")],
            ..Stage::default()
        }
    };
    let mut plan = Plan { micro_batch: 1, schedule: Schedule::OneFOneB, ..small.plan.expect("its plan") };
    (plan.pipelines[0].replicas, plan.pipelines[0].micro_batches) = (6, 512);
    plan.pipelines[0].stages = (0..64).map(stage).collect();
    s.plan = Some(plan);
    within_a_fifth("seconds", run(&s).1, 102.63);
}
