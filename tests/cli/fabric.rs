//! A fabric fitted to a log of nccl-tests, and a scenario whose nodes take it.

use crate::{json, number, tideplan};
use std::fmt::Write;

/// A log of four GPUs whose all-reduces reach `gbps` of bus bandwidth after 60 us.
fn log(gbps: f64) -> String {
    let mut log = "./build/all_reduce_perf -b 8 -e 4G -f 4 -g 4\n".to_string();
    for rank in 0..4 {
        let _ =
            writeln!(log, "#  Rank  {rank} Group  0 Pid 1 on node1 device  {rank} [0x0{rank}] NVIDIA L40S");
    }
    for size in (0..15).map(|i| 8u64 << (2 * i)) {
        let us = 60.0 + 1.5 * size as f64 / (gbps * 1e3);
        let _ = writeln!(log, "{size} {} float sum -1 {us:.2} 0.00 0.00 0 {us:.2} 0.00 0.00 0", size / 4);
    }
    log
}

const SCENARIO: &str = r#"
schema_version = 1
about = "tensor parallelism over a fabric that was measured"
model = { name = "opt-350m" }
training = { global_batch = 64, precision = "bf16" }
network = { rate = "100 Gbps", latency = "10 us" }

[[nodes]]
name = "x"
count = 2
gpus_per_node = 4
gpu = "L40S"
fabric = "fabric.toml"

[plan]
micro_batch = 4
[[plan.pipelines]]
micro_batches = 8
replicas = 2
stages = [{ layers = "0-25", tp = 4, devices = ["x:0-3", "x:4-7"] }]
"#;

#[test]
fn a_log_becomes_a_fabric_that_a_scenario_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file).display().to_string();
    std::fs::write(path("scenario.toml"), SCENARIO).unwrap();
    let mut times = Vec::new();
    for gbps in [20.0, 2.0] {
        std::fs::write(path("all_reduce.log"), log(gbps)).unwrap();
        let args = [
            "calibrate",
            &path("all_reduce.log"),
            "--gpu",
            "L40S",
            "--out",
            &path("fabric.toml"),
            "--plot",
            &path("fit.svg"),
        ];
        let (status, answer) = json(&args);
        assert_eq!(status, 0);
        let of = |name: &str| {
            let all = answer["parameters"].as_array().unwrap();
            all.iter().find(|p| p["name"] == name).unwrap().clone()
        };
        // Four cards on one PCIe host say what PCIe leaves, and nothing of a network.
        assert!(of("pcie_share")["standard_error"].as_f64().is_some_and(|e| e > 0.0), "{answer}");
        assert!(of("rdma_share")["standard_error"].is_null(), "{answer}");
        let first = std::fs::read(path("fabric.toml")).unwrap();
        assert_eq!(tideplan(&args).status.code(), Some(0));
        assert_eq!(std::fs::read(path("fabric.toml")).unwrap(), first, "the same input gives the same file");
        assert!(std::fs::read_to_string(path("fit.svg")).unwrap().starts_with("<svg"));
        let (status, iteration) = json(&["simulate", &path("scenario.toml")]);
        assert_eq!(status, 0, "{iteration}");
        times.push(number(&iteration, "iteration_time_s"));
    }
    assert!(times[1] > times[0], "slower links make a slower iteration: {times:?}");
}

#[test]
fn what_is_no_fabric_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file).display().to_string();
    std::fs::write(path("a.log"), log(20.0)).unwrap();
    std::fs::write(path("empty.log"), "nothing\n").unwrap();
    let out = path("f.toml");
    for (args, says) in [
        (vec!["calibrate", &path("empty.log"), "--gpu", "L40S", "--out", &out], "which test ran"),
        (vec!["calibrate", &path("a.log"), "--gpu", "A100", "--out", &out], "no measured collective"),
        (
            vec!["calibrate", &path("a.log"), &path("layers.csv"), "--gpu", "L40S", "--out", &out],
            "no collectives",
        ),
        (
            vec!["calibrate", &path("layers.csv"), "--gpu", "L40S", "--network", "8x", "--out", &out],
            "of logs of collectives",
        ),
    ] {
        let output = tideplan(&args);
        let error = String::from_utf8_lossy(&output.stderr).to_string();
        assert!(output.status.code() == Some(2) && error.contains(says), "{args:?}: {error}");
        assert!(output.stdout.is_empty() && !folder.path().join("f.toml").exists());
    }
    std::fs::write(path("scenario.toml"), SCENARIO).unwrap();
    let refused = tideplan(&["simulate", &path("scenario.toml")]);
    assert_eq!(refused.status.code(), Some(2), "there is no fabric.toml");
    assert_eq!(
        tideplan(&["calibrate", &path("a.log"), "--gpu", "L40S", "--out", &path("fabric.toml")])
            .status
            .code(),
        Some(0)
    );
    let other = SCENARIO.replace("gpus_per_node = 4", "gpus_per_node = 2").replace("tp = 4", "tp = 2");
    std::fs::write(path("scenario.toml"), other).unwrap();
    let refused = tideplan(&["simulate", &path("scenario.toml")]);
    let error = String::from_utf8_lossy(&refused.stderr).to_string();
    assert!(error.contains("T0312") && error.contains("4 x `L40S`"), "{error}");
}
