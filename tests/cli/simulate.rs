//! `tideplan simulate`: its keys, the plans it is checked on, and what may not change the time.

use crate::{has_keys, json, number, tideplan, tideplan_in, two_nodes};
use serde_json::Value;

#[test]
fn one_json_object_with_the_keys_of_the_contract() {
    let (status, answer) = json(&["simulate", "opt350-a100x32-v100x96"]);
    assert_eq!(status, 0);
    has_keys(
        &answer,
        &["iteration_time_s", "tokens_per_s", "mfu", "fits", "devices", "events", "digest", "folded"],
    );
    let time = number(&answer, "iteration_time_s");
    // 1,024 sequences of 2,048 tokens.
    assert!((number(&answer, "tokens_per_s") * time / (1024.0 * 2048.0) - 1.0).abs() < 1e-12);
    assert!((0.01..1.0).contains(&number(&answer, "mfu")));
    assert_eq!((&answer["fits"], &answer["folded"]), (&Value::Bool(true), &Value::Bool(true)));
    let devices = answer["devices"].as_array().unwrap();
    for device in devices {
        has_keys(
            device,
            &[
                "id",
                "gpu",
                "count",
                "busy_s",
                "exposed_comm_s",
                "bubble_s",
                "peak_memory_bytes",
                "memory_bytes",
            ],
        );
        let parts = ["busy_s", "exposed_comm_s", "bubble_s"].map(|key| number(device, key));
        assert!((parts.iter().sum::<f64>() - time).abs() < 1e-9 * time, "{device}");
        assert!(number(device, "peak_memory_bytes") <= number(device, "memory_bytes"));
    }
    let count: f64 = devices.iter().map(|d| number(d, "count")).sum();
    assert_eq!(count, 126.0, "30 A100 and 96 V100");
}

/// Within 15 % of what Sailor's own simulator (SOSP'25) gives for its plans; docs/sailor.md tells the difference.
#[test]
fn sailors_plans_take_about_what_sailor_says() {
    for (name, sailor_s) in
        [("opt350-a100x32", 7.993), ("opt350-a100x32-v100x96", 5.884), ("opt350-a100x128-v100x384", 1.912)]
    {
        let (_, answer) = json(&["simulate", name]);
        let off = number(&answer, "iteration_time_s") / sailor_s - 1.0;
        assert!(off.abs() < 0.15, "{name}: {:+.1} %", 100.0 * off);
        let (_, whole) = json(&["simulate", name, "--no-fold"]);
        for key in ["iteration_time_s", "tokens_per_s", "mfu", "fits"] {
            assert_eq!(answer[key], whole[key], "{name}: {key}");
        }
        assert_eq!((&answer["folded"], &whole["folded"]), (&Value::Bool(true), &Value::Bool(false)));
        assert!(number(&answer, "events") < number(&whole, "events"));
        // Each device, or one like it, stands in the folded answer.
        let count: f64 = answer["devices"].as_array().unwrap().iter().map(|d| number(d, "count")).sum();
        assert_eq!(count, whole["devices"].as_array().unwrap().len() as f64);
        // The run is the same each time, digest and all.
        assert_eq!((answer, whole), (json(&["simulate", name]).1, json(&["simulate", name, "--no-fold"]).1));
    }
}

#[test]
fn a_plan_that_exceeds_memory_is_a_no_with_its_times() {
    let name = "opt350-a100x32";
    let (status, fits) = json(&["simulate", name]);
    assert_eq!(status, 0);
    let (status, exceeds) = json(&["simulate", name, "--set", "nodes.a100.memory=8 GiB"]);
    assert_eq!((status, &exceeds["fits"]), (1, &Value::Bool(false)));
    for key in ["iteration_time_s", "tokens_per_s", "digest"] {
        assert_eq!(fits[key], exceeds[key], "{key}");
    }
    let output = tideplan(&["simulate", name, "--set", "nodes.a100.memory=8 GiB"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lacks = number(&exceeds["devices"][0], "peak_memory_bytes") / f64::from(1 << 30) - 8.0;
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains(&format!("lacks {lacks:.2} GiB")), "{text}");
}

#[test]
fn traces_and_instants_change_the_time() {
    let folder = two_nodes();
    std::fs::write(folder.path().join("slow.csv"), "time_s,link,bandwidth_bps\n0,wan,1e9\n").unwrap();
    std::fs::write(
        folder.path().join("drop.csv"),
        "time_s,link,bandwidth_bps\n0,wan,8e9\n0.5,wan,0\n1.5,wan,8e9\n",
    )
    .unwrap();
    let time = |args: &[&str]| {
        let output = tideplan_in(folder.path(), &[&["simulate", "two.toml", "--json"], args].concat());
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        number(&answer, "iteration_time_s")
    };
    let usual = time(&[]);
    assert!(time(&["--trace", "wan=slow.csv"]) > usual);
    assert!(time(&["--at", "10 s"]) > usual, "half the rate");
    assert_eq!(time(&["--at", "0 s"]), usual);
    assert!(time(&["--set", "network.links.wan.latency=30 ms"]) > usual);
    let dropped = time(&["--trace", "wan=drop.csv"]);
    assert!(dropped > usual && dropped < usual + 1.01, "{usual} s, a second down: {dropped} s");
}

/// What was done of an iteration is lost when a node of its plan leaves, and said; the keys are those of the iteration without.
#[test]
fn a_node_that_leaves_in_mid_iteration() {
    let folder = two_nodes();
    let text = std::fs::read_to_string(folder.path().join("two.toml")).unwrap();
    let run = |file: &str| -> Value {
        let output = tideplan_in(folder.path(), &["simulate", file, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let usual = run("two.toml");
    let (half, node) = (number(&usual, "iteration_time_s") / 2.0, "nodes = \"v:0\"\ndown = true");
    assert!(usual["interrupted"].is_null());
    let leaves = format!("[[events]]\nat = \"{half} s\"\nuntil = \"100 s\"\n{node}\n\n[plan]");
    std::fs::write(folder.path().join("leaves.toml"), text.replace("[plan]", &leaves)).unwrap();
    let mut cut = run("leaves.toml");
    let found = cut.as_object_mut().unwrap().shift_remove("interrupted").unwrap();
    assert_eq!(cut, usual);
    // One pipeline over both nodes: it waits until the node is back, less the restart of 5 s.
    let near =
        |value: &Value, key: &str, want: f64| assert!((number(value, key) - want).abs() < 1e-6, "{found}");
    near(&found, "lost_s", half);
    near(&found, "restarting_s", 5.0);
    near(&found, "waiting_s", 95.0 - half);
    assert_eq!(found["losses"][0]["nodes"], serde_json::json!(["v:0"]));
    assert!(number(&found, "computed") > 0.1 && number(&found, "computed") < 0.9, "{found}");
    let done = &found["done"];
    assert_eq!((&done["pipelines"], &done["of"]), (&1.into(), &1.into()));
    near(done, "after_s", 100.0 + number(done, "iteration_time_s"));
    let shown = tideplan_in(folder.path(), &["simulate", "leaves.toml"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("work lost") && shown.contains("waits"), "{shown}");
}

/// A link that is down for ever is said to be.
#[test]
fn a_link_that_is_down_for_ever_is_an_error() {
    let folder = two_nodes();
    std::fs::write(folder.path().join("down.csv"), "time_s,link,bandwidth_bps\n0,wan,0\n").unwrap();
    let output = tideplan_in(folder.path(), &["simulate", "two.toml", "--trace", "wan=down.csv", "--json"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{error}");
    assert!(error.contains("stalled at") && error.contains("down for ever"), "{error}");
}
