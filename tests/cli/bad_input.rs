//! Bad input at the command line: status 2, nothing on standard output, one clear error with its place
//! (`snapshots/`). The same in `plan` and `simulate`.

use crate::{TRACE, tideplan_in, two_nodes, two_nodes_text};
use std::fmt::Write;
use std::path::Path;

/// Good text, spoilt.
fn spoilt(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

/// What the command says, checked: one error, with its file and line.
fn error(folder: &Path, what: &str, args: &[&str], place: &str) -> String {
    let output = tideplan_in(folder, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{what}: {error}");
    assert_eq!(error.matches("  × ").count(), 1, "{what}: one error: {error}");
    assert!(error.contains(place), "{what}: {place}: {error}");
    error
}

#[test]
fn scenarios() {
    let folder = two_nodes();
    let mut report = String::new();
    for (what, from, to, place) in [
        ("unknown key", "gpus_per_node = 4", "gpus_per_node = 4\ngpus = 4", "bad.toml:10:1"),
        ("missing unit", "\"8 Gbps\"", "8", "bad.toml:23:12"),
        ("negative number", "\"8 Gbps\"", "\"-8 Gbps\"", "bad.toml:23:12"),
        ("NaN", "\"15 ms\"", "nan", "bad.toml:24:11"),
        ("not TOML", "count = 1", "count = one", "bad.toml:8:9"),
        ("a link nobody has", "link = \"wan\"", "link = \"lan\"", "bad.toml:27:8"),
        ("a zone nobody has", "[\"east\", \"west\"]", "[\"east\", \"north\"]", "bad.toml:22:20"),
        ("a GPU nobody knows", "A100-40", "A100-48", "bad.toml:10:7"),
        (
            "a GPU whose profile is not there",
            "gpu = \"A100-40\"",
            "gpu = \"A100-40\"\nprofile = \"a100.csv\"",
            "bad.toml:11:11",
        ),
        ("an empty stage", "layers = \"13-25\"", "layers = \"\"", "bad.toml:36:16"),
        ("a stage without devices", "devices = [\"v:0-3\"]", "devices = []", "bad.toml:36:43"),
        ("a layer twice", "13-25", "12-25", "bad.toml:36:16"),
        ("a layer in no stage", "13-25", "14-25", "bad.toml:36:16"),
        ("a device twice", "v:0-3", "a:0-3", "bad.toml:36:43"),
        ("a group nobody has", "v:0-3", "w:0-3", "bad.toml:36:43"),
        ("more micro-batches than the batch", "micro_batches = 8", "micro_batches = 9", "bad.toml:32:1"),
    ] {
        std::fs::write(folder.path().join("bad.toml"), spoilt(&two_nodes_text(), from, to)).unwrap();
        let plan = error(folder.path(), what, &["plan", "bad.toml"], place);
        let simulate = error(folder.path(), what, &["simulate", "bad.toml", "--json"], place);
        assert_eq!(plan, simulate, "{what}");
        write!(report, "--- {what}\n{plan}").unwrap();
    }
    insta::assert_snapshot!("scenarios", report);
}

#[test]
fn traces() {
    let folder = two_nodes();
    let mut report = String::new();
    for (what, from, to, place) in [
        ("goes backwards", "0,wan,8e9\n10", "20,wan,8e9\n10", "trace.csv:3:1"),
        ("negative", "4e9", "-4e9", "trace.csv:3:8"),
        ("NaN", "4e9", "nan", "trace.csv:3:8"),
        ("other columns", "time_s", "time", "trace.csv:1:1"),
        ("other links", "\n0,wan,8e9\n10,wan,4e9", "\n0,lan,8e9\n0,man,8e9", "trace.csv:1:1"),
    ] {
        std::fs::write(folder.path().join("trace.csv"), spoilt(TRACE, from, to)).unwrap();
        let text = error(folder.path(), what, &["plan", "two.toml"], place);
        write!(report, "--- {what}\n{text}").unwrap();
    }
    insta::assert_snapshot!("traces", report);
}

#[test]
fn plan_files() {
    let folder = two_nodes();
    let text = two_nodes_text();
    let good = text[text.find("micro_batch =").unwrap()..].replace("plan.pipelines", "pipelines");
    std::fs::write(folder.path().join("plan.toml"), &good).unwrap();
    let args = ["simulate", "two.toml", "--plan", "plan.toml"];
    assert_eq!(tideplan_in(folder.path(), &args).status.code(), Some(0));
    let mut report = String::new();
    for (what, from, to, place) in [
        ("unknown key", "micro_batch = 2", "micro_batch = 2\nmicro_batchs = 3", "plan.toml:2:1"),
        ("an empty stage", "layers = \"13-25\"", "layers = \"\"", "plan.toml:6:16"),
        ("a layer twice", "13-25", "12-25", "plan.toml:6:16"),
        ("a device twice", "v:0-3", "a:0-3", "plan.toml:6:43"),
        ("more micro-batches than the batch", "micro_batches = 8", "micro_batches = 9", "plan.toml:2:1"),
        ("a device that is not there", "[\"v:0-3\"]", "[\"v:0-2\", \"v:9\"]", "plan.toml:6:43"),
        (
            "tp that nobody measured",
            "tp = 4, devices = [\"v:0-3\"]",
            "tp = 3, devices = [\"v:0-2\"]",
            "plan.toml:6:30",
        ),
    ] {
        std::fs::write(folder.path().join("plan.toml"), spoilt(&good, from, to)).unwrap();
        let text = error(folder.path(), what, &args, place);
        write!(report, "--- {what}\n{text}").unwrap();
    }
    insta::assert_snapshot!("plan_files", report);
}

/// All faults of a file are told at once, each at its place.
#[test]
fn several_faults_are_told_at_once() {
    let folder = two_nodes();
    let text = spoilt(&two_nodes_text(), "count = 1", "count = 0");
    let text = spoilt(&spoilt(&text, "\"8 Gbps\"", "\"8 GB\""), "global_batch = 16", "global_batch = 1.5");
    std::fs::write(folder.path().join("bad.toml"), text).unwrap();
    let output = tideplan_in(folder.path(), &["plan", "bad.toml", "--json"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{error}");
    assert!(error.ends_with("3 errors\n"), "{error}");
    for place in ["bad.toml:4:", "bad.toml:8:", "bad.toml:23:"] {
        assert!(error.contains(place), "{place}: {error}");
    }
}

/// Nothing that a file can hold ends in a panic.
#[test]
fn files_that_are_none() {
    let folder = two_nodes();
    let deep = format!("a = {}", "[".repeat(20_000));
    let long = format!("schema_version = 1\nabout = \"{}\"", "x".repeat(50_000));
    for (what, content) in [
        ("empty", &b""[..]),
        ("binary", b"\x7fELF\x02\x01\x01\x00\xff\xfe"),
        ("not UTF-8", b"schema_version = 1\nabout = \"\xc3\x28\""),
        ("deeply nested", deep.as_bytes()),
        ("long", long.as_bytes()),
        ("a line of a trace", b"0,wan,8e9\n"),
    ] {
        for name in ["bad.toml", "trace.csv", "plan.toml"] {
            std::fs::write(folder.path().join("trace.csv"), TRACE).unwrap();
            std::fs::write(folder.path().join(name), content).unwrap();
            let args: &[&str] = match name {
                "bad.toml" => &["plan", "bad.toml"],
                "trace.csv" => &["plan", "two.toml"],
                _ => &["simulate", "two.toml", "--plan", "plan.toml"],
            };
            let output = tideplan_in(folder.path(), args);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{what}, {name}: {error}");
            assert!(!error.contains("panicked"), "{what}, {name}: {error}");
        }
    }
    // A folder in place of a file.
    let output = tideplan_in(folder.path(), &["plan", "."]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
}

/// A line of any length is named and not shown.
#[test]
fn a_long_line_is_not_shown() {
    let folder = two_nodes();
    std::fs::write(folder.path().join("trace.csv"), "x".repeat(1 << 20)).unwrap();
    let output = tideplan_in(folder.path(), &["plan", "two.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{error}");
    assert!(error.contains("trace.csv:1:1: the header has no column `time_s`"), "{error}");
    assert!(error.len() < 1000, "{} bytes", error.len());
}
