//! A GPU that only a datasheet describes, planned and simulated end to end, with how sure the answer is.

use crate::{json, number, tideplan};
use serde_json::Value;
use std::path::Path;

/// 32 GPUs of this name, with an A100's figures (NVIDIA A100 datasheet, 40 GB SXM) for one of ours.
const SCENARIO: &str = r#"
schema_version = 1
about = "a GPU from its datasheet"
model = { name = "opt-350m" }
training = { global_batch = 1024 }
network = { rate = "100 Gbps", latency = "10 us" }
search = { max_simulations = 64 }

[[nodes]]
name = "x"
count = 4
gpus_per_node = 8
gpu = "GPU"

[[gpus]]
name = "X100"
architecture = "ampere"
memory = "40 GiB"
memory_bandwidth = "1555 GB/s"
multiprocessors = 108
cache = "40 MiB"
nvlink = "300 GB/s"
tflops = { fp32 = 19.5, tf32 = 156, fp16 = 312, bf16 = 312 }
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (file, gpu) in [("own.toml", "X100"), ("measured.toml", "A100-40")] {
            folder.write(file, &SCENARIO.replace("\"GPU\"", &format!("{gpu:?}")));
        }
        folder
    }

    fn path(&self, file: &str) -> String {
        Path::join(self.0.path(), file).display().to_string()
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    /// The answer of a command on a scenario.
    fn json(&self, command: &str, scenario: &str, more: &[&str]) -> Value {
        json(&[&[command, &self.path(scenario)], more].concat()).1
    }
}

fn time(answer: &Value) -> f64 {
    number(answer, "iteration_time_s")
}

fn interval(answer: &Value) -> (f64, f64) {
    let at = |i: usize| answer["time_interval_s"][i].as_f64().unwrap();
    (at(0), at(1))
}

/// No plan that the search simulated is faster than its bound, and the answer says how it is known.
#[test]
fn a_gpu_of_a_datasheet_is_planned_and_simulated() {
    let folder = Folder::new();
    let out = folder.path("plan.toml");
    for precision in ["training.precision=fp32", "training.precision=bf16"] {
        let found = folder.json("plan", "own.toml", &["--out", &out, "--top", "50", "--set", precision]);
        let ranked = found["ranked"].as_array().unwrap();
        assert!(ranked.len() > 5);
        for plan in ranked {
            assert!(time(plan) >= number(&found, "lower_bound_s"), "{plan}");
        }
        let simulated = folder.json("simulate", "own.toml", &["--plan", &out, "--set", precision]);
        for answer in [&found["best"], &simulated] {
            assert_eq!(answer["evidence"], "extrapolated");
            let (time, (low, high)) = (time(answer), interval(answer));
            assert!(low < 0.8 * time && high > 1.25 * time && low > 0.4 * time && high < 2.5 * time);
        }
        assert_eq!(found["best"]["iteration_time_s"], simulated["iteration_time_s"]);
    }
    let output = tideplan(&["simulate", &folder.path("own.toml"), "--plan", &out]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("layer times extrapolated: for their part, nine times in ten between"), "{text}");
}

/// An A100 by its figures alone, against the table of the same GPU (Sailor's, MIT).
#[test]
fn an_a100_by_its_figures_is_within_a_fifth_of_its_table() {
    let folder = Folder::new();
    for (tp, sizes) in [(1, &[1, 2, 4][..]), (2, &[1, 2, 4, 8]), (4, &[1, 2, 4, 8])] {
        for size in sizes {
            let replicas = 32 / tp;
            let plan = format!(
                "micro_batch = {size}\n[[pipelines]]\nreplicas = {replicas}\nmicro_batches = {}\n\
                 stages = [{{ layers = \"0-25\", tp = {tp}, devices = [\"x:0-31\"] }}]\n",
                1024 / size / replicas
            );
            folder.write("plan.toml", &plan);
            let of = |scenario| folder.json("simulate", scenario, &["--plan", &folder.path("plan.toml")]);
            let (own, measured) = (of("own.toml"), of("measured.toml"));
            let error = time(&own) / time(&measured) - 1.0;
            assert!(error.abs() < 0.2, "micro-batch {size}, tp {tp}: {error}");
            assert_eq!(measured["evidence"], "measured");
            let (low, high) = interval(&own);
            assert!(low < time(&measured) && time(&measured) < high, "micro-batch {size}, tp {tp}");
        }
    }
}

/// What a table does not have is thrown out or a fault, unless the scenario lets it be carried on.
#[test]
fn a_table_is_carried_on_when_asked() {
    let folder = Folder::new();
    folder.write(
        "plan.toml",
        "micro_batch = 2\n[[pipelines]]\nreplicas = 4\nmicro_batches = 128\n\
         stages = [{ layers = \"0-25\", tp = 8, devices = [\"x:0-31\"] }]\n",
    );
    let plan = folder.path("plan.toml");
    let output = tideplan(&["simulate", &folder.path("measured.toml"), "--plan", &plan]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("T0210"));
    let beyond = ["--set", "search.extrapolate=true"];
    let answer = folder.json("simulate", "measured.toml", &[&["--plan", &plan], &beyond[..]].concat());
    assert_eq!(answer["evidence"], "extrapolated");

    let thrown_out = |more: &[&str]| {
        let found = folder.json("plan", "measured.toml", more);
        assert_eq!(found["best"]["evidence"], "measured");
        number(&found["counts"]["pruned"], "not_measured")
    };
    assert!(thrown_out(&[]) > 0.0 && thrown_out(&beyond) == 0.0);
}
