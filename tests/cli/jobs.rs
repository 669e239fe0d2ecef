//! `tideplan simulate` of several jobs on one cluster.

use crate::{has_keys, json, number, texts, tideplan, tideplan_in};
use serde_json::Value;
use std::path::Path;

/// Two jobs, each with a stage in either zone: only the link between the zones is common to them.
fn two_jobs() -> String {
    let job = |name: &str, start: &str, devices: &str| {
        format!("[[jobs]]\nname = \"{name}\"\n{start}\n") + &texts::two_stages("jobs.plan", devices)
    };
    let jobs = job("one", "", "0-3") + "\n" + &job("other", "start = \"0 s\"\n", "4-7");
    texts::two_kinds("two jobs over one link", 2, ["us-central1-a", "us-west1-b"], "7 Gbps", &jobs)
}

fn run(folder: &Path, text: &str, args: &[&str]) -> (i32, Value) {
    std::fs::write(folder.join("jobs.toml"), text).unwrap();
    let output = tideplan_in(folder, &[&["simulate", "jobs.toml", "--json"], args].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let answer = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), answer)
}

#[test]
fn the_keys_of_a_simulation_and_of_each_job() {
    let folder = tempfile::tempdir().unwrap();
    let (status, answer) = run(folder.path(), &two_jobs(), &[]);
    assert_eq!(status, 0);
    let keys = ["iteration_time_s", "tokens_per_s", "mfu", "fits"];
    has_keys(&answer, &[&keys[..], &["devices", "events", "digest", "folded", "jobs"]].concat());
    let jobs = answer["jobs"].as_array().unwrap();
    assert_eq!(jobs.iter().map(|j| j["name"].as_str().unwrap()).collect::<Vec<_>>(), ["one", "other"]);
    let times: Vec<f64> = jobs.iter().map(|j| number(j, "iteration_time_s")).collect();
    for job in jobs {
        has_keys(job, &[&keys[..], &["start_s", "alone_s"]].concat());
        assert!(number(job, "iteration_time_s") > number(job, "alone_s"), "the link is shared: {job}");
    }
    assert_eq!(number(&answer, "iteration_time_s"), times[0].max(times[1]));
    let tokens: f64 = jobs.iter().map(|j| number(j, "tokens_per_s")).sum();
    assert!((number(&answer, "tokens_per_s") / tokens - 1.0).abs() < 1e-12);
    let named =
        |name: &str| answer["devices"].as_array().unwrap().iter().filter(|d| d["job"] == name).count();
    assert_eq!((named("one"), named("other")), (8, 8));
    // By itself a job takes what a scenario without jobs does.
    let both = two_jobs();
    let alone = &both[..both.rfind("[[jobs]]\n").unwrap()];
    let plain = alone.replace("[[jobs]]\nname = \"one\"\n", "").replace("jobs.plan", "plan");
    let (_, single) = run(folder.path(), alone, &[]);
    let (_, plain) = run(folder.path(), &plain, &[]);
    for key in ["iteration_time_s", "tokens_per_s", "events", "digest"] {
        assert_eq!(single[key], plain[key], "{key}");
    }
    assert_eq!(single["jobs"][0]["iteration_time_s"], jobs[0]["alone_s"]);
    // Far apart in time they do not meet.
    let (_, apart) = run(folder.path(), &two_jobs().replace("start = \"0 s\"", "start = \"100 s\""), &[]);
    for job in apart["jobs"].as_array().unwrap() {
        assert_eq!(job["iteration_time_s"], job["alone_s"]);
    }
}

#[test]
fn why_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--explain", "--links", "links.csv", "--timeline", "t.json"];
    let (_, answer) = run(folder.path(), &two_jobs(), &args);
    for job in answer["jobs"].as_array().unwrap() {
        let parts = job["explain"]["critical_path"]["parts"].as_array().unwrap();
        let path: u64 = parts.iter().map(|p| p["time_ps"].as_u64().unwrap()).sum();
        assert_eq!(path, job["explain"]["time_ps"].as_u64().unwrap());
        assert!(parts.iter().any(|p| {
            p["held"].as_array().is_some_and(|h| h.iter().any(|h| h["link"] == "wan from us-central1-a"))
        }));
    }
    let wan = |l: &&Value| l["link"] == "wan from us-central1-a";
    let links = answer["explain"]["links"].as_array().unwrap();
    let peak = number(links.iter().find(wan).unwrap(), "peak_utilisation");
    assert!(peak > 0.999, "{peak}");
    let csv = std::fs::read_to_string(folder.path().join("links.csv")).unwrap();
    assert!(csv.starts_with("time_s,link,") && csv.contains("wan from us-west1-b"));
    let timeline: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("t.json")).unwrap()).unwrap();
    let events = timeline["traceEvents"].as_array().unwrap();
    for job in ["one", "other"] {
        assert!(events.iter().any(|e| e["args"]["job"] == job), "{job}");
    }
    let output = tideplan_in(folder.path(), &["simulate", "jobs.toml", "--explain"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["job one", "job other", "critical path", "shared links, all jobs", "longer by"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_job_without_a_plan_and_commands_of_one_job() {
    for (args, message) in [
        (&["simulate", "jobs-two"][..], "the job `small` of scenario `jobs-two` names no plan"),
        (&["replay", "jobs-two"], "several jobs"),
        (&["simulate", "jobs-two", "--html", "x.html"], "`--html` shows one"),
        (&["simulate", "jobs-two", "--plan", "x.toml"], "`--plan` is of one"),
    ] {
        let output = tideplan(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
        assert!(error.contains(message), "{args:?}: {error}");
    }
    let (_, answer) = json(&["list", "scenarios"]);
    let two = answer["scenarios"].as_array().unwrap().iter().find(|s| s["name"] == "jobs-two").unwrap();
    assert_eq!(two["gpus"], 16);
}

#[test]
fn two_jobs_are_planned_on_nodes_of_their_own_and_their_plans_simulate() {
    let (code, found) = json(&["plan", "jobs-two", "--max-simulations", "150"]);
    assert_eq!(code, 0);
    has_keys(
        &found,
        &["best", "ranked", "counts", "plans_represented", "lower_bound_s", "gap", "even_split_s"],
    );
    let best = &found["best"];
    has_keys(
        best,
        &["plan", "iteration_time_s", "objective_value", "fits", "devices", "events", "digest", "jobs"],
    );
    assert_eq!(best["fits"], true);
    assert!(number(best, "objective_value") <= number(&found, "even_split_s"));
    let names: Vec<&Value> = best["jobs"].as_array().into_iter().flatten().map(|j| &j["name"]).collect();
    assert_eq!(names, ["small", "large"]);
    let c = &found["counts"];
    let count = |key: &str| c[key].as_u64().unwrap_or(0);
    assert_eq!(
        count("considered"),
        count("bounded") + count("simulated") + count("expanded") + count("open")
    );
    let refused = tideplan(&["plan", "jobs-two", "--planner", "megatron"]);
    assert_eq!(refused.status.code(), Some(2));
}
