//! The command, end to end, one binary: what it prints, and with which status it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod collective;
mod compare;
mod datasheet;
mod docs;
mod exchange;
mod explain;
mod fabric;
mod jobs;
mod lists;
mod plan;
mod replay;
mod search;
mod simulate;
mod streams;
mod texts;
mod timeline;
mod trace;
mod workload;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// The command with these arguments, in plain text whatever the terminal.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tideplan"));
    command.args(args).env("NO_COLOR", "1").env_remove("FORCE_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

/// Runs `tideplan` with these arguments.
fn tideplan(args: &[&str]) -> Output {
    command(args).output().expect("the command starts")
}

/// Runs `tideplan` in a folder.
fn tideplan_in(folder: &Path, args: &[&str]) -> Output {
    command(args).current_dir(folder).output().expect("the command starts")
}

/// Its status and the one JSON object it prints.
#[track_caller]
fn json(args: &[&str]) -> (i32, Value) {
    let output = tideplan(&[args, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let answer = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    assert!(text.ends_with('\n') && text.lines().count() == 1, "{args:?}: one line");
    (output.status.code().unwrap(), answer)
}

/// The object has these keys; more may stand beside them.
#[track_caller]
fn has_keys(value: &Value, keys: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    for key in keys {
        assert!(object.contains_key(*key), "no `{key}` in {:?}", object.keys().collect::<Vec<_>>());
    }
}

/// A number under a key.
#[track_caller]
fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("`{key}` is no number in {value}"))
}

/// A scenario of two nodes in two zones with a plan, and the trace it names.
fn two_nodes_text() -> String {
    let trace = "[[traces]]\nlink = \"wan\"\nfile = \"trace.csv\"\n\n";
    let more = trace.to_string() + &texts::two_stages("plan", "0-3");
    texts::two_kinds("two nodes", 1, ["east", "west"], "8 Gbps", &more)
}

const TRACE: &str = "time_s,link,bandwidth_bps\n0,wan,8e9\n10,wan,4e9\n";

/// A folder with that scenario as `two.toml`.
fn two_nodes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("two.toml"), two_nodes_text()).expect("a file");
    std::fs::write(folder.path().join("trace.csv"), TRACE).expect("a file");
    folder
}

/// Names of what is in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|n| n.into_string().expect("plain names")).collect();
    names.sort();
    names
}
