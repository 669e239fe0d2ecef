//! `compare`, `list planners` and `plan --planner`: planners side by side.

use super::{command, has_keys, json, names, number, tideplan, tideplan_in, two_nodes};
use serde_json::Value;

const PLANNERS: [&str; 13] = [
    "tideplan",
    "exhaustive",
    "megatron",
    "amp",
    "metis",
    "sailor",
    "alpa",
    "varuna",
    "piper",
    "mcmc",
    "galvatron",
    "random",
    "external",
];

#[test]
fn planners_are_listed_with_their_source() {
    let (status, answer) = json(&["list", "planners"]);
    assert_eq!(status, 0);
    let listed: Vec<&str> =
        answer["planners"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(listed, PLANNERS);
    has_keys(&answer["planners"][1], &["name", "about", "source", "leaves_out"]);
}

#[test]
fn a_comparison_has_a_row_a_planner_and_pictures() {
    let folder = two_nodes();
    let args = ["compare", "two.toml", "--simulations", "20", "--html", "c.html", "--csv", "c.csv", "--json"];
    let output = tideplan_in(folder.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = answer["scenarios"][0]["planners"].as_array().unwrap();
    assert_eq!(rows.len(), PLANNERS.len() - 1);
    let keys = [
        "planner",
        "plan",
        "iteration_time_s",
        "own_estimate_s",
        "search_time_s",
        "candidates",
        "feasible",
        "error",
    ];
    let mut best = f64::INFINITY;
    for row in rows {
        has_keys(row, &keys);
        assert_eq!(row["feasible"], true, "{row}");
        best = best.min(number(row, "iteration_time_s"));
    }
    assert_eq!(number(&rows[0], "iteration_time_s"), best, "ours is not beaten");
    let html = std::fs::read_to_string(folder.path().join("c.html")).unwrap();
    assert_eq!(html.matches("<svg").count(), 3);
    assert!(!html.contains("NaN") && html.ends_with("</html>\n"));
    let csv = std::fs::read_to_string(folder.path().join("c.csv")).unwrap();
    assert_eq!(csv.lines().count(), PLANNERS.len());
    assert_eq!(names(folder.path()), ["c.csv", "c.html", "trace.csv", "two.toml"]);
}

#[test]
fn a_planner_that_fails_is_a_row() {
    let folder = two_nodes();
    for (command_line, problem) in [
        ("false", "ended with"),
        ("cat", "not a plan"),
        ("no-such-program", "cannot start"),
        ("sleep 100", "out of time"),
        ("yes", "MiB"),
    ] {
        let args = ["compare", "two.toml", "--external", command_line, "--max-seconds", "2", "--json"];
        let output = tideplan_in(folder.path(), &args);
        assert_eq!(output.status.code(), Some(1), "{command_line}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = &answer["scenarios"][0]["planners"][0];
        let error = row["error"].as_str().unwrap();
        assert!(error.contains(problem) || error == "out of time", "{command_line}: {error}");
        assert_eq!((&row["plan"], &row["feasible"]), (&Value::Null, &Value::Bool(false)));
    }
}

#[cfg(unix)]
#[test]
fn a_planner_of_ones_own_and_a_plan_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = two_nodes();
    let path = folder.path();
    // Reads the scenario, writes one plan whatever it says.
    let script = "#!/bin/sh\ngrep -q '\"layer_times\"' || exit 3\n\
        echo '{\"plan\": {\"micro_batch\": 2, \"pipelines\": [{\"micro_batches\": 8, \"stages\": [\
        {\"layers\": \"0-25\", \"tp\": 4, \"devices\": [\"a:0-3\"]}]}]}, \"own_estimate_s\": 1.5}'\n";
    std::fs::write(path.join("mine.sh"), script).unwrap();
    std::fs::set_permissions(path.join("mine.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = tideplan_in(path, &["plan", "two.toml", "--planner", "megatron", "--out", "theirs.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let args = ["compare", "two.toml", "--external", "./mine.sh", "--plan", "theirs.toml", "--json"];
    let output = tideplan_in(path, &args);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = answer["scenarios"][0]["planners"].as_array().unwrap();
    let of = |i: usize| (rows[i]["planner"].as_str().unwrap(), rows[i]["feasible"].as_bool().unwrap());
    assert_eq!([of(0), of(1)], [("external", true), ("theirs", true)]);
    assert_eq!(number(&rows[0], "own_estimate_s"), 1.5);
    // The plan of `plan --planner` is the one that is judged again from its file.
    let (_, planned) = json(&["plan", path.join("two.toml").to_str().unwrap(), "--planner", "megatron"]);
    assert_eq!(number(&planned["best"], "iteration_time_s"), number(&rows[1], "iteration_time_s"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    for (args, problem) in [
        (&["compare"][..], "required"),
        (&["compare", "quickstart", "--planners", "metiss"], "no planner is called `metiss`"),
        (&["compare", "quickstart", "--planners", "amp,amp"], "named twice"),
        (&["compare", "quickstart", "--planners", "external"], "no command"),
        (&["compare", "quickstart", "--judge", "me"], "no judge `me`"),
        (&["compare", "--suite", "quickstart"], "cannot be used"),
        (&["plan", "quickstart", "--planner", "nobody"], "no planner is called"),
    ] {
        let output = tideplan(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty());
        let error = String::from_utf8_lossy(&output.stderr).replace(['\n', '\r'], " ");
        assert!(error.contains(problem), "{args:?}: {error}");
    }
    assert!(command(&["compare", "--help"]).output().unwrap().status.success());
}

/// Whoever judges, ours is what that judge likes best.
#[test]
fn ours_is_not_beaten_under_another_judge() {
    let folder = two_nodes();
    for judge in ["contention-free", "metis", "sailor"] {
        let planners = "tideplan,metis,sailor,amp,megatron";
        let args = ["compare", "two.toml", "--judge", judge, "--planners", planners, "--json"];
        let output = tideplan_in(folder.path(), &args);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = answer["scenarios"][0]["planners"].as_array().unwrap();
        let time = |row: &Value| row["iteration_time_s"].as_f64().unwrap_or(f64::INFINITY);
        let least = rows[1..].iter().map(time).fold(f64::INFINITY, f64::min);
        assert!(time(&rows[0]) <= least * (1.0 + 1e-9), "{judge}: {} against {least}", time(&rows[0]));
    }
}
