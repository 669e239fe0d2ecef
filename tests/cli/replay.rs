//! `tideplan replay`: the built-ins, the contract of its JSON, what it writes, what it refuses.

use crate::{has_keys, json, number, tideplan, tideplan_in, two_nodes};
use serde_json::Value;

fn tokens(answer: &Value, policy: &str) -> f64 {
    let policies = answer["policies"].as_array().unwrap();
    number(policies.iter().find(|p| p["policy"] == policy).unwrap(), "tokens")
}

/// Every built-in: no policy above the oracle, no oracle above the bound; adapting pays where it should.
#[test]
fn every_scenario_to_replay() {
    let (_, listed) = json(&["list", "scenarios"]);
    let names: Vec<&str> = listed["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["group"] == "replay")
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 7, "{names:?}");
    let (mut gains, mut near) = (Vec::new(), Vec::new());
    for name in names {
        let (status, answer) = json(&["replay", name]);
        assert_eq!(status, 0, "{name}");
        has_keys(&answer, &["policies", "upper_bound_tokens", "digest"]);
        let policies = answer["policies"].as_array().unwrap();
        let called: Vec<&str> = policies.iter().map(|p| p["policy"].as_str().unwrap()).collect();
        assert_eq!(
            called,
            ["static", "mean", "robust", "reactive", "periodic", "forecast", "oracle"],
            "{name}"
        );
        let oracle = tokens(&answer, "oracle");
        for p in policies {
            let keys = [
                "iterations",
                "tokens",
                "time_s",
                "tokens_per_s",
                "switches",
                "switch_time_s",
                "regret",
                "digest",
            ];
            has_keys(p, &keys);
            assert!(number(p, "tokens") <= oracle, "{name}: {p}");
            assert!((number(p, "regret") - (1.0 - number(p, "tokens") / oracle)).abs() < 1e-12);
            assert!(
                (0.0..=1.0).contains(&number(p, "goodput"))
                    && (0.0..=1.0).contains(&number(p, "availability"))
            );
        }
        assert!(oracle <= number(&answer, "upper_bound_tokens"), "{name}");
        let best = called.iter().filter(|p| **p != "oracle").map(|p| tokens(&answer, p)).fold(0.0, f64::max);
        let adaptive =
            ["reactive", "forecast", "robust"].map(|p| tokens(&answer, p)).into_iter().fold(0.0, f64::max);
        gains.push((name.to_string(), adaptive / tokens(&answer, "static")));
        near.push((name.to_string(), best / oracle));
    }
    assert!(gains.iter().filter(|g| g.1 > 1.1).count() >= 3, "{gains:?}");
    assert!(near.iter().filter(|n| n.1 >= 0.95).count() >= 5, "{near:?}");
}

#[test]
fn neither_threads_nor_reuse_change_a_digest() {
    let digest = |more: &[&str]| {
        let (status, answer) =
            json(&[&["replay", "replay-elastic", "--policy", "static,forecast"], more].concat());
        assert_eq!(status, 0);
        answer["policies"].as_array().unwrap().iter().map(|p| p["digest"].clone()).collect::<Vec<_>>()
    };
    let one = digest(&["--threads", "1"]);
    for more in
        [&["--threads", "1"][..], &["--threads", "2"], &["--threads", "4"], &["--threads", "1", "--no-reuse"]]
    {
        assert_eq!(digest(more), one, "{more:?}");
    }
}

#[test]
fn it_writes_a_page_a_table_and_a_timeline() {
    let folder = two_nodes();
    let sweeps = ["--sweep", "link wan scale 0.1..10", "--sweep", "switch 2 s..8 s"];
    let files = [
        "--html",
        "r.html",
        "--csv",
        "r.csv",
        "--timeline",
        "t.json",
        "--window",
        "0 s..5 s",
        "--seeds",
        "3",
    ];
    let args = [
        &["replay", "two.toml", "--until", "60 s", "--policy", "static,forecast", "--json"][..],
        &sweeps,
        &files,
    ]
    .concat();
    let output = tideplan_in(folder.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["sweep"][0]["points"].as_array().unwrap().len(), 33);
    for b in answer["sweep"][0]["break_even"].as_array().unwrap() {
        assert!(b["between_bps"][1].as_f64().unwrap() <= 1.01 * b["between_bps"][0].as_f64().unwrap());
    }
    assert_eq!(answer["switch_sweep"].as_array().unwrap().len(), 3);
    assert_eq!(answer["policies"][0]["seeds"]["n"], 3);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let page = read("r.html");
    assert!(page.matches("<svg").count() >= 3 && !page.contains("NaN"), "{}", page.len());
    assert!(read("r.csv").starts_with("time_s,static_tokens,forecast_tokens,oracle_tokens\n"));
    let timeline: Value = serde_json::from_str(&read("t.json")).unwrap();
    assert!(timeline["traceEvents"].as_array().unwrap().len() > 10);
    // For people, the same figures.
    let output = tideplan_in(folder.path(), &["replay", "two.toml", "--until", "60 s", "--policy", "static"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("policy") && text.contains("oracle") && text.contains("upper bound"), "{text}");
}

#[test]
fn a_link_that_carries_nothing_for_ever_is_said() {
    let folder = two_nodes();
    std::fs::write(folder.path().join("trace.csv"), "time_s,link,bandwidth_bps\n0,wan,0\n").unwrap();
    let args =
        ["replay", "two.toml", "--until", "600 s", "--set", "replay.max_plans=0", "--policy", "static"];
    let output = tideplan_in(folder.path(), &args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("stalled"), "{text}");
}

/// A trace with nothing in it for a month, and a month of replay, is no more work than a day.
#[test]
fn a_month_of_nothing() {
    let folder = two_nodes();
    std::fs::write(
        folder.path().join("trace.csv"),
        "time_s,link,bandwidth_bps\n0,wan,8e9\n2592000,wan,4e9\n",
    )
    .unwrap();
    let output = tideplan_in(
        folder.path(),
        &["replay", "two.toml", "--until", "30 d", "--policy", "static", "--json"],
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        tokens(&answer, "static") > 0.0 && number(&answer, "simulated") < 50.0,
        "{}",
        answer["simulated"]
    );
}

#[test]
fn bad_replays_are_refused() {
    let folder = two_nodes();
    for (args, message) in [
        (&["--policy", "clever"][..], "no policy is called `clever`"),
        (&["--until", "5"], "needs a unit"),
        (&["--until", "0 s"], "would end at 0 s"),
        (&["--sweep", "link wan"], "is no sweep"),
        (&["--sweep", "link lan scale 1..2"], "no link is called `lan`"),
        (&["--sweep", "link wan scale 2..1"], "does not go from a smaller"),
        (&["--sweep", "switch 0 s..5 s"], "does not go from a smaller"),
        (&["--timeline", "t.json", "--window", "5 s..1 s"], "ends before it begins"),
        (&["--set", "replay.threshold=-1"], "not above 0"),
        (&["--html", "no/such/folder.html", "--until", "20 s", "--policy", "static"], "cannot write"),
    ] {
        let output = tideplan_in(folder.path(), &[&["replay", "two.toml"][..], args].concat());
        let text = String::from_utf8(output.stderr).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?} {text}");
        assert!(text.contains(message), "{args:?}: {text}");
    }
    assert_eq!(tideplan(&["replay"]).status.code(), Some(2));
    let (_, answer) = json(&["list", "policies"]);
    assert_eq!(answer["policies"].as_array().unwrap().len(), 7);
    assert!(answer["policies"][0].as_object().unwrap().keys().next().unwrap() == "name");
}
