//! `tideplan plan`: the contract of its JSON, and that no answer depends on what it should not.

use crate::{has_keys, json, names, number, tideplan, tideplan_in, two_nodes};
use serde_json::Value;
use std::path::Path;

const SAILOR: [&str; 3] = ["opt350-a100x32", "opt350-a100x32-v100x96", "opt350-a100x128-v100x384"];

/// What holds of every answer.
#[track_caller]
fn check(answer: &Value, top: usize) {
    has_keys(
        answer,
        &[
            "best",
            "ranked",
            "counts",
            "plans_represented",
            "lower_bound_s",
            "gap",
            "proven_optimal",
            "stopped",
            "rounds",
            "search_time_s",
            "digest",
        ],
    );
    let counts = &answer["counts"];
    has_keys(counts, &["considered", "pruned", "bounded", "simulated", "expanded", "open"]);
    let count = |key: &str| counts[key].as_u64().unwrap_or_else(|| panic!("{key}: {counts}"));
    let pruned: u64 = counts["pruned"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(
        count("considered"),
        pruned + count("bounded") + count("simulated") + count("expanded") + count("open"),
        "{counts}"
    );
    let stopped = answer["stopped"].as_str().unwrap();
    assert!(["done", "simulations", "seconds", "interrupt"].contains(&stopped), "{stopped}");
    if stopped == "done" {
        assert_eq!(count("open"), 0, "{counts}");
    }
    assert!(answer["plans_represented"].as_str().unwrap().parse::<u128>().is_ok());
    assert!(number(answer, "search_time_s") > 0.0 && answer["rounds"].is_u64());
    assert_eq!(answer["digest"].as_str().unwrap().len(), 32);

    let ranked = answer["ranked"].as_array().unwrap();
    assert!(ranked.len() <= top);
    assert_eq!(answer["best"].is_null(), ranked.is_empty());
    for pair in ranked.windows(2) {
        assert!(number(&pair[0], "iteration_time_s") <= number(&pair[1], "iteration_time_s"));
        assert_ne!(pair[0]["plan"], pair[1]["plan"]);
    }
    if ranked.is_empty() {
        assert!(answer["gap"].is_null() && answer["lower_bound_s"].is_null());
        assert_eq!(answer["proven_optimal"], false);
        return;
    }
    let best = &answer["best"];
    has_keys(
        best,
        &[
            "plan",
            "iteration_time_s",
            "objective_value",
            "tokens_per_s",
            "mfu",
            "fits",
            "devices",
            "events",
            "digest",
            "folded",
        ],
    );
    let time = number(best, "iteration_time_s");
    assert_eq!(best["fits"], true);
    for key in ["plan", "iteration_time_s", "objective_value"] {
        assert_eq!(best[key], ranked[0][key], "{key}");
    }
    assert_eq!(number(best, "objective_value"), time);
    let (bound, gap) = (number(answer, "lower_bound_s"), number(answer, "gap"));
    assert!(bound >= 0.0 && bound <= time, "{bound} above {time}");
    assert!((gap - (time - bound) / time).abs() < 1e-9, "{gap}: {bound} to {time}");
    assert_eq!(answer["proven_optimal"], gap == 0.0);
}

#[test]
fn answers_keep_the_contract() {
    let limits: [(&[&str], &str, usize); 5] = [
        (&["opt350-a100x32"], "done", 5),
        (&["--max-simulations", "1", "--top", "1000"], "simulations", 1000),
        (&["--max-simulations", "300", "--top", "7"], "simulations", 7),
        (&["opt350-a100x128-v100x384", "--max-simulations", "64", "--top", "1"], "simulations", 1),
        (&["opt350-a100x32-v100x96", "--max-seconds", "1e-9"], "seconds", 5),
    ];
    for (args, stopped, top) in limits {
        let (status, answer) = json(&[&["plan"], args].concat());
        assert_eq!(status, i32::from(answer["best"].is_null()), "{args:?}");
        assert_eq!(answer["stopped"], stopped, "{args:?}");
        check(&answer, top);
    }
}

/// `search_time_s` is the only key that may differ.
#[test]
fn the_answer_depends_neither_on_threads_nor_on_the_run() {
    for args in [
        &["plan", "--max-simulations", "200", "--top", "20"][..],
        &["plan", "opt350-a100x32-v100x96", "--max-simulations", "130"],
        &["plan", "opt350-a100x32", "--at", "7 s"],
    ] {
        let run = |threads: &[&str]| {
            let mut answer = json(&[args, threads].concat()).1;
            answer.as_object_mut().unwrap().shift_remove("search_time_s").expect("it is there");
            answer
        };
        let one = run(&["--threads", "1"]);
        for threads in [&["--threads", "2"][..], &["--threads", "5"], &[]] {
            assert_eq!(one, run(threads), "{args:?} {threads:?}");
        }
    }
}

/// The search is at least as good as the planner whose plan the scenario names.
#[test]
fn no_slower_than_sailors_plan() {
    for name in SAILOR {
        let found = json(&["plan", name, "--max-simulations", "256", "--explain"]).1;
        let searched = number(&found["best"], "iteration_time_s");
        // Hardly any plan of the space comes to the simulator.
        assert!(number(&found["rejected"], "never_simulated") >= 0.99, "{name}");
        let sailors = number(&json(&["simulate", name]).1, "iteration_time_s");
        assert!(searched <= sailors, "{name}: {searched} s, Sailor's plan {sailors} s");
    }
}

#[test]
fn the_plan_written_is_the_best_and_simulates_alike() {
    let folder = two_nodes();
    let run = |args: &[&str]| {
        let output = tideplan_in(folder.path(), args);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    // Later in the trace the link is half as fast.
    for at in ["0 s", "12 s"] {
        let found = run(&[
            "plan",
            "two.toml",
            "--set",
            "search.max_stages=2",
            "--at",
            at,
            "--out",
            "best.toml",
            "--json",
        ]);
        check(&found, 5);
        let mut best = found["best"].clone();
        let text = std::fs::read_to_string(folder.path().join("best.toml")).unwrap();
        let written: sim_models::plan::Plan = toml::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(written).unwrap(), best["plan"]);
        let simulated = run(&["simulate", "two.toml", "--at", at, "--plan", "best.toml", "--json"]);
        for key in ["plan", "objective_value"] {
            best.as_object_mut().unwrap().shift_remove(key).expect("it is there");
        }
        assert_eq!(simulated, best, "at {at}");
        let own = run(&["simulate", "two.toml", "--at", at, "--json"]);
        assert!(number(&simulated, "iteration_time_s") <= number(&own, "iteration_time_s"));
    }
    assert_eq!(names(folder.path()), ["best.toml", "trace.csv", "two.toml"]);
}

#[test]
fn overrides_reach_the_search() {
    let time = |args: &[&str]| {
        let args = [&["plan", "--max-simulations", "64"], args].concat();
        number(&json(&args).1["best"], "iteration_time_s")
    };
    let all = time(&[]);
    assert!(time(&["--set", "nodes.a100.count=1"]) > 1.5 * all, "a quarter of the fast GPUs");
    assert!(time(&["--set", "training.global_batch=512"]) < 0.7 * all, "half the batch");
    let (_, answer) = json(&["plan", "opt350-a100x32", "--set", "search.max_stages=1"]);
    for ranked in answer["ranked"].as_array().unwrap() {
        let pipelines = ranked["plan"]["pipelines"].as_array().unwrap();
        assert!(pipelines.iter().all(|p| p["stages"].as_array().unwrap().len() == 1));
    }
}

#[test]
fn a_cluster_too_small_is_a_no_with_the_nearest_miss() {
    let folder = two_nodes();
    let small = ["--set", "nodes.a.memory=2 GiB", "--set", "nodes.v.memory=2 GiB"];
    let args = [&["plan", "two.toml", "--out", "best.toml"], &small[..]].concat();
    let output = tideplan_in(folder.path(), &[&args[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    check(&answer, 5);
    assert!(answer["best"].is_null() && answer["counts"]["pruned"]["memory"].as_u64().unwrap() > 0);
    let lacks = number(&answer["nearest_miss"], "lacking_bytes");
    assert!(lacks > 0.0 && answer["nearest_miss"]["pipeline"].as_str().unwrap().contains("tp"));

    let output = tideplan_in(folder.path(), &args);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let miss = format!("lacks {:.2} GiB on a device", lacks / f64::from(1 << 30));
    assert!(text.contains("no plan is feasible") && text.contains(&miss), "{text}");
    assert_eq!(names(folder.path()), ["trace.csv", "two.toml"], "no plan, no file");

    // Memory that grows by what was missing ends up large enough.
    let mut gib = 2.0;
    let mut steps = 0;
    loop {
        let set = ["a", "v"].map(|g| format!("nodes.{g}.memory={gib} GiB"));
        let args = ["plan", "two.toml", "--json", "--set", &set[0], "--set", &set[1]];
        let output = tideplan_in(folder.path(), &args);
        if output.status.code() == Some(0) {
            break;
        }
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        gib += number(&answer["nearest_miss"], "lacking_bytes") / f64::from(1 << 30) + 0.001;
        steps += 1;
        assert!(steps < 10 && gib < 5.0, "{answer}");
    }
    assert!(steps > 0);
}

#[test]
fn a_file_that_cannot_be_written_is_left_alone() {
    let folder = two_nodes();
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    let before = names(folder.path());
    let missing = Path::new("no").join("such").join("best.toml");
    for out in [missing.to_str().unwrap(), "taken", "two.toml/best.toml"] {
        let output = tideplan_in(
            folder.path(),
            &["plan", "two.toml", "--set", "search.max_stages=1", "--out", out, "--json"],
        );
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{out}: {error}");
        assert!(error.contains(&format!("cannot write `{out}`")), "{error}");
        assert_eq!(names(folder.path()), before, "{out}");
    }
    // A file that was there is replaced whole.
    std::fs::write(folder.path().join("best.toml"), "old").unwrap();
    let output = tideplan_in(
        folder.path(),
        &["plan", "two.toml", "--set", "search.max_stages=1", "--out", "best.toml"],
    );
    assert_eq!(output.status.code(), Some(0));
    let text = std::fs::read_to_string(folder.path().join("best.toml")).unwrap();
    assert!(text.starts_with("micro_batch"), "{text}");
}

#[test]
fn the_table_says_what_the_json_says() {
    let output = tideplan(&["plan", "opt350-a100x32", "--top", "3"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, answer) = json(&["plan", "opt350-a100x32", "--top", "3"]);
    let time = number(&answer["best"], "iteration_time_s");
    assert_eq!(output.status.code(), Some(0));
    for part in [
        format!("iteration {time:.3} s"),
        "proven: no plan of the space is faster".into(),
        format!("{:.3} s", number(&answer["ranked"][2], "iteration_time_s")),
        format!("{}  simulated", answer["counts"]["simulated"]),
        "A100-40".into(),
        "no partition of the layers fits into memory".into(),
    ] {
        assert!(text.contains(&part), "no `{part}` in\n{text}");
    }
}
