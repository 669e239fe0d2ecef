//! `[[jobs]]`: what a job sees of the cluster, and jobs that are none.

use scenarios::{Overrides, load_text};
use sim_core::SimDuration;

const JOBS: &str = r#"
schema_version = 1
training = { global_batch = 16 }

[[nodes]]
name = "a"
count = 2
gpus_per_node = 4
gpu = "A100-40"
zone = "us-central1-a"

[[jobs]]
name = "small"
model = { name = "opt-350m" }
nodes = ["a:0"]

[jobs.plan]
micro_batch = 2
[[jobs.plan.pipelines]]
micro_batches = 8
stages = [{ layers = "0-25", tp = 4, devices = ["a:0-3"] }]

[[jobs]]
name = "large"
model = { name = "gpt-neo-2.7b" }
training = { global_batch = 8, precision = "fp32" }
nodes = ["a"]
start = "20 ms"
weight = 3
"#;

fn faults(text: &str) -> String {
    let faults = load_text(text, "jobs.toml", None, &Overrides::default()).map(|_| ()).expect_err(text);
    faults.iter().map(|f| format!("{f}\n")).collect()
}

#[test]
fn jobs_see_the_cluster_with_their_own_model() {
    let scenario = load_text(JOBS, "jobs.toml", None, &Overrides::default()).expect("it is right").scenario;
    let [small, large] = scenario.jobs.as_slice() else { panic!("two jobs") };
    assert_eq!((small.name.as_str(), large.name.as_str()), ("small", "large"));
    assert_eq!(
        (small.scenario.model.name.as_str(), large.scenario.model.name.as_str()),
        ("opt-350m", "gpt-neo-2.7b")
    );
    assert_eq!((small.scenario.training.global_batch, large.scenario.training.global_batch), (16, 8));
    assert_eq!((small.start, large.start.as_ps()), (SimDuration::ZERO, 20_000_000_000));
    assert_eq!((small.iterations, small.weight, large.iterations, large.weight), (1, 1, 1, 3));
    assert!(small.scenario.plan.is_some() && large.scenario.plan.is_none() && scenario.plan.is_none());
    // Each has the layer times of its own model, and the scenario those of the first.
    assert_eq!(small.scenario.groups[0].layers.at(2, 4).map(|l| l.running().len()), Ok(27));
    assert_eq!(large.scenario.groups[0].layers.at(1, 4).map(|l| l.running().len()), Ok(35));
    assert_eq!(scenario.model.name, "opt-350m");
    let devices = |job: &sim_models::scenario::Job| {
        (0..8).filter(|i| job.may_use(sim_models::scenario::DeviceId { group: 0, index: *i })).count()
    };
    assert_eq!((devices(small), devices(large)), (4, 8));
}

#[test]
fn jobs_that_are_none() {
    for (from, to, message) in [
        ("training = { global_batch = 16 }\n", "", "`[[jobs]]` lacks `training`"),
        ("name = \"large\"", "name = \"small\"", "two jobs are called `small`"),
        ("nodes = [\"a:0\"]", "nodes = [\"a:2\"]", "`a` has 2 nodes"),
        ("nodes = [\"a:0\"]", "nodes = [\"b\"]", "no group of nodes is called `b`"),
        (
            "nodes = [\"a:0\"]",
            "nodes = [\"a:1\"]",
            "the plan uses `a:0`, which is not among the nodes of the job",
        ),
        ("devices = [\"a:0-3\"]", "devices = [\"a:0-2\"]", "error[T0207]"),
        ("start = \"20 ms\"", "plan = { file = \"none.toml\" }", "none.toml"),
        ("start = \"20 ms\"", "plans = 1", "unknown key `plans` in `[[jobs]]`"),
    ] {
        assert!(JOBS.contains(from), "{from}");
        let faults = faults(&JOBS.replacen(from, to, 1));
        assert!(faults.contains(message), "{message}: {faults}");
    }
    // Two jobs want one GPU.
    let plan = JOBS.split("[[jobs]]").nth(1).expect("the first job").replace("small", "other");
    assert!(
        faults(&format!("{JOBS}\n[[jobs]]\n{plan}"))
            .contains("`a:0` is in the plan of the job `small` already")
    );
    let many: String =
        (0..17).map(|i| format!("[[jobs]]\nname = \"{i}\"\nmodel = {{ name = \"opt-350m\" }}\n")).collect();
    assert!(faults(&format!("{JOBS}{many}")).contains("19 jobs: at most 16 share a cluster"));
}
