//! `tideplan collective`: its keys, its published times, its errors.

use crate::tideplan;
use serde_json::Value;

/// An all-reduce that every case departs from: later options stand in for earlier ones of the same name.
const BASE: [(&str, &str); 8] = [
    ("--op", "all_reduce"),
    ("--algorithm", "ring"),
    ("--ranks", "8"),
    ("--bytes", "1 MiB"),
    ("--topology", "ring"),
    ("--bandwidth", "50 GiB/s"),
    ("--latency", "500 ns"),
    ("--splits", "4"),
];

/// The base with some options changed, and switches at the end.
fn run(changes: &[(&'static str, &'static str)], switches: &[&'static str]) -> std::process::Output {
    let mut args = vec!["collective"];
    for &(option, value) in &BASE {
        let changed = changes.iter().find(|c| c.0 == option);
        args.extend([option, changed.map_or(value, |c| c.1)]);
    }
    for &(option, value) in changes.iter().filter(|c| BASE.iter().all(|b| b.0 != c.0)) {
        args.extend([option, value]);
    }
    args.extend(switches);
    tideplan(&args)
}

fn json(changes: &[(&'static str, &'static str)], switches: &[&'static str]) -> Value {
    let switches = [&["--json"], switches].concat();
    let output = run(changes, &switches);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn one_json_object_with_the_keys_of_the_contract() {
    let answer = json(&[], &[]);
    let keys: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "time_s",
            "events",
            "digest",
            "folded",
            "unfolded_because",
            "convention",
            "algorithm_bandwidth_bytes_per_s",
            "bus_bandwidth_bytes_per_s"
        ]
    );
    assert_eq!(answer, json(&[], &[]), "two runs are one run");
    // 14 steps of 500 ns and 128 KiB at 50 GiB/s.
    let time = answer["time_s"].as_f64().unwrap();
    assert!((time - 14.0 * (500e-9 + 131_072.0 / (50.0 * 1_073_741_824.0))).abs() < 1e-10, "{time}");
    // nccl-tests: 2 (n - 1) / n of the size over the time.
    let bus = answer["bus_bandwidth_bytes_per_s"].as_f64().unwrap();
    assert!((bus * time / (1_048_576.0 * 1.75) - 1.0).abs() < 1e-12, "{bus}");
    // No time, no rate.
    assert!(json(&[("--ranks", "1")], &[])["bus_bandwidth_bytes_per_s"].is_null());
}

#[test]
fn astra_sim_at_2048_ranks() {
    let astra = ("--convention", "astra-sim");
    let check = |ranks, ns: f64, switches: &[&'static str]| {
        let answer = json(&[astra, ("--ranks", ranks)], switches);
        assert!((answer["time_s"].as_f64().unwrap() * 1e9 - ns).abs() < 0.5, "{answer}");
        assert_eq!(answer["folded"], switches.is_empty());
    };
    // Published, ns; ASTRA-sim 2 with its congestion-aware analytical network.
    check("2048", 8_384_552.0, &[]);
    check("64", 296_896.0, &["--no-fold"]);
    // An all-gather counts one rank's part there: 8 times that is the buffer.
    let part = json(&[astra, ("--op", "all_gather"), ("--bytes", "128 KiB")], &[]);
    let time = part["time_s"].as_f64().unwrap();
    let rate = part["algorithm_bandwidth_bytes_per_s"].as_f64().unwrap();
    assert!((rate * time / 1_048_576.0 - 1.0).abs() < 1e-12);
}

#[test]
fn folded_and_unfolded_times_are_equal() {
    for convention in ["tideplan", "astra-sim"] {
        for (algorithm, topology) in [("ring", "ring"), ("direct", "full"), ("halving_doubling", "switch")] {
            let changes =
                [("--convention", convention), ("--algorithm", algorithm), ("--topology", topology)];
            let (folded, whole) = (json(&changes, &[]), json(&changes, &["--no-fold"]));
            assert_eq!(folded["time_s"], whole["time_s"], "{changes:?}");
            assert_eq!((&folded["folded"], &whole["folded"]), (&true.into(), &false.into()), "{changes:?}");
        }
    }
    let tree = json(&[("--algorithm", "double_binary_tree")], &[]);
    assert_eq!(tree["folded"], false);
    assert!(tree["unfolded_because"].as_str().unwrap().contains("tree"));
}

#[test]
fn the_text_answers_the_question_first() {
    let output = run(&[("--convention", "astra-sim")], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "all_reduce of 1 MiB among 8 ranks in a ring, topology ring, links of 50 GiB/s and 500 ns, 4 splits, \
         convention astra-sim"
    );
    assert_eq!(lines[2], "time           64.44 us (64440 ns)");
    assert!(lines[5].contains(" events, digest ") && lines[5].ends_with("one rank simulated for all"));
    assert!(output.stderr.is_empty());
}

#[test]
fn bad_input_is_status_2_and_says_what_would_be_right() {
    let check = |changes: &[(&'static str, &'static str)], wanted: &[&str]| {
        let output = run(changes, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{changes:?}: {said}");
        assert!(output.stdout.is_empty(), "{changes:?}");
        for part in wanted {
            assert!(said.contains(part), "{changes:?} lacks `{part}`: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    };
    check(&[("--bytes", "1048576")], &["--bytes", "needs a unit", "1048576 GiB"]);
    check(&[("--bandwidth", "400")], &["--bandwidth", "needs a unit", "400 Gbps"]);
    check(&[("--latency", "5")], &["--latency", "needs a unit", "5 ms"]);
    // All at once.
    check(&[("--bytes", "1"), ("--bandwidth", "2"), ("--latency", "3")], &["3 errors"]);
    check(&[("--bandwidth", "50 Gb")], &["has no unit `Gb`"]);
    check(&[("--bandwidth", "0 Gbps")], &["moves nothing", "above 0"]);
    check(&[("--bandwidth", "nan Gbps")], &["finite"]);
    check(&[("--bandwidth", "-1 Gbps")], &["from 0"]);
    check(&[("--bytes", "")], &["--bytes"]);
    check(&[("--latency", "1e9 d")], &["213 d"]);
    check(&[("--ranks", "0")], &["1 to 65536"]);
    check(&[("--ranks", "-1")], &["--ranks"]);
    check(&[("--ranks", "65536"), ("--topology", "full")], &["1 to 4096"]);
    check(&[("--splits", "0")], &["1 to 65535"]);
    check(&[("--op", "allreduce")], &["all_reduce"]);
    check(&[("--convention", "simgrid")], &["tideplan, astra-sim"]);
    check(&[("--algorithm", "halving_doubling"), ("--ranks", "6")], &["power of two", "4 or 8"]);
    check(
        &[("--algorithm", "double_binary_tree"), ("--op", "all_gather")],
        &["does no `all_gather`", "ring"],
    );
    check(&[("--latency", "200 d")], &["213 days"]);
    let many =
        [("--algorithm", "direct"), ("--ranks", "65536"), ("--topology", "switch"), ("--splits", "65")];
    check(&many, &["at once", "fewer ranks"]);
}
