//! `simulate --explain`, `--links` and `--html`: what they print, and that their figures add up.

use crate::{has_keys, json, names, number, tideplan, tideplan_in, two_nodes};
use serde_json::Value;

#[track_caller]
fn text(output: &std::process::Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// All of the answer from the critical path on.
fn explanation(text: &str) -> &str {
    &text[text.find("critical path").expect("it is explained")..]
}

#[test]
fn two_stages_over_a_link_that_changes() {
    let folder = two_nodes();
    std::fs::write(folder.path().join("trace.csv"), "time_s,link,bandwidth_bps\n0,wan,8e9\n0.5,wan,4e9\n")
        .unwrap();
    let output = tideplan_in(
        folder.path(),
        &["simulate", "two.toml", "--explain", "--links", "links.csv", "--html", "why.html"],
    );
    insta::assert_snapshot!("two_stages", explanation(&text(&output)));
    assert_eq!(names(folder.path()), ["links.csv", "trace.csv", "two.toml", "why.html"]);
    let links = std::fs::read_to_string(folder.path().join("links.csv")).unwrap();
    let wan: Vec<&str> =
        links.lines().filter(|l| l.contains("wan from east") || l.starts_with("time")).collect();
    insta::assert_snapshot!("links", wan.join("\n"));
    let page = std::fs::read_to_string(folder.path().join("why.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(page.matches("<svg").count() == 4 && !page.contains("NaN"), "{page}");

    // The plan sends 8 activations of 2 x 2,048 x 1,024 floats each way: what the rows of the file sum to.
    let rows: Vec<(f64, f64)> = wan[1..]
        .iter()
        .map(|row| row.split(',').collect::<Vec<_>>())
        .map(|cells| (cells[0].parse().unwrap(), cells[2].parse().unwrap()))
        .collect();
    let bytes: f64 = rows.windows(2).map(|pair| (pair[1].0 - pair[0].0) * pair[0].1).sum();
    assert!((bytes / f64::from(8 * 2 * 2048 * 1024 * 4) - 1.0).abs() < 1e-9, "{bytes}");
}

#[test]
fn folded_and_not() {
    let name = "opt350-a100x32-v100x96";
    insta::assert_snapshot!("folded", explanation(&text(&tideplan(&["simulate", name, "--explain"]))));
    let (_, folded) = json(&["simulate", name, "--explain"]);
    let (_, whole) = json(&["simulate", name, "--explain", "--no-fold"]);
    let ps = number(&folded["explain"], "time_ps");
    for (answer, is_folded) in [(&folded, true), (&whole, false)] {
        let e = &answer["explain"];
        has_keys(e, &["critical_path", "stages", "overall", "faster", "links", "evidence", "folded"]);
        assert_eq!((&e["folded"], number(e, "time_ps")), (&Value::Bool(is_folded), ps));
        let sum = |list: &Value, keys: &[&str]| -> f64 {
            list.as_array().unwrap().iter().flat_map(|p| keys.iter().map(move |k| number(p, k))).sum()
        };
        assert_eq!(sum(&e["critical_path"]["parts"], &["time_ps"]), ps);
        for stage in e["stages"].as_array().unwrap() {
            let parts =
                ["compute_ps", "exposed_tp_ps", "exposed_pp_ps", "exposed_dp_ps", "bubble_ps", "wait_ps"];
            assert_eq!(parts.iter().map(|k| number(stage, k)).sum::<f64>(), ps, "{stage}");
        }
        assert_eq!(sum(&e["stages"], &["devices"]), 126.0);
        let gains: Vec<f64> = e["faster"].as_array().unwrap().iter().map(|f| number(f, "gain")).collect();
        assert!(gains.len() == 6 && gains.is_sorted_by(|a, b| a >= b), "{gains:?}");
    }
    assert_eq!(folded["explain"]["stages"], whole["explain"]["stages"]);
    assert_eq!(folded["explain"]["faster"], whole["explain"]["faster"]);
    let count =
        |e: &Value| e["explain"]["links"].as_array().unwrap().iter().map(|l| number(l, "count")).sum::<f64>();
    assert_eq!((count(&folded), count(&whole)), (64.0, 64.0), "a NIC each way of 32 nodes");
    // Nothing else of the answer changes.
    let (_, plain) = json(&["simulate", name]);
    let mut rest = folded.clone();
    rest.as_object_mut().unwrap().remove("explain");
    assert_eq!(rest, plain);
}

#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    let folder = two_nodes();
    for option in ["--links", "--html"] {
        let output = tideplan_in(folder.path(), &["simulate", "two.toml", option, "none/f"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{error}");
        assert!(error.contains("none/f"), "{error}");
    }
    assert_eq!(names(folder.path()), ["trace.csv", "two.toml"]);
}

/// Twelve stages: the path is shown by kind, and adds up all the same.
#[test]
fn a_long_path_is_shown_by_kind() {
    let folder = two_nodes();
    let plan = std::fs::read_to_string(folder.path().join("two.toml")).unwrap();
    let (head, _) = plan.split_once("[plan]").unwrap();
    let stage = |i: usize| {
        let last = if i == 11 { 25 } else { 2 * i + 1 };
        format!("    {{ layers = \"{}-{last}\", tp = 1, devices = [\"a:{i}\"] }},\n", 2 * i)
    };
    let stages: String = (0..12).map(stage).collect();
    let plan = format!(
        "{head}[plan]\nmicro_batch = 2\n[[plan.pipelines]]\nmicro_batches = 8\nstages = [\n{stages}]\n"
    );
    std::fs::write(folder.path().join("two.toml"), plan.replacen("count = 1", "count = 3", 1)).unwrap();
    let output = text(&tideplan_in(folder.path(), &["simulate", "two.toml", "--explain"]));
    let path: Vec<&str> = explanation(&output).lines().skip(2).take_while(|l| !l.is_empty()).collect();
    let kinds: Vec<&str> = path.iter().map(|l| l.split("  ").next().unwrap()).collect();
    assert_eq!(kinds, ["forward", "transfer between stages", "backward", "optimizer step"], "{output}");
    assert!(path[1].contains(" places"), "{output}");
}

/// What is said to help is what comes of it: the NICs a tenth faster, by the table and by the scenario.
#[test]
fn faster_nics_are_those_of_a_scenario_with_faster_nics() {
    for (name, group) in [("mixtral-8x22b-h100x512", "h100"), ("deepseek-v3-h800x2048", "h800")] {
        let (_, answer) = json(&["simulate", name, "--explain"]);
        let list = answer["explain"]["faster"].as_array().unwrap();
        let nics = list.iter().find(|f| f["what"] == format!("NICs of {group}")).unwrap();
        let nic = format!("nodes.{group}.nic=3.52 Tbps");
        let (_, set) = json(&["simulate", name, "--set", &nic, "--set", "network.rate=3.52 Tbps"]);
        let (told, is) = (number(nics, "iteration_time_s"), number(&set, "iteration_time_s"));
        assert!((told / is - 1.0).abs() < 1e-6, "{name}: {told} s told, {is} s");
        assert!(is < number(&answer, "iteration_time_s"));
    }
}
