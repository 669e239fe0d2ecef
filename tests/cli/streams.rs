//! Standard output and standard error: what goes where, and readers that go away.

use crate::{command, tideplan, two_nodes};
use std::process::Stdio;

/// Every command whose reader is gone ends without a word.
#[test]
fn a_reader_that_went_away_is_no_error() {
    let folder = two_nodes();
    for args in [
        &["plan", "two.toml", "--set", "search.max_stages=1"][..],
        &["plan", "two.toml", "--set", "search.max_stages=1", "--json"],
        &["simulate", "two.toml"],
        &["simulate", "two.toml", "--json"],
        &["simulate", "opt350-a100x32-v100x96", "--no-fold", "--json"],
        &["list", "devices"],
        &["list", "scenarios", "--json"],
        &["schema"],
        &["explain"],
        &["explain", "T0101"],
        &["validate"],
        &["--help"],
        &["--version"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command(args).current_dir(folder.path()).stdout(writer).stderr(Stdio::piped()).output();
        let output = output.expect("the command starts");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{args:?}: {:?} {error}", output.status);
        assert!(!error.contains("panicked"), "{args:?}: {error}");
    }
}

#[test]
fn bad_usage_says_so_on_standard_error_alone() {
    for args in [
        &[][..],
        &["plna"],
        &["plan", "--threads", "0"],
        &["plan", "--threads", "-1"],
        &["plan", "--top", "0"],
        &["plan", "--max-simulations", "0"],
        &["plan", "--max-seconds", "nan"],
        &["plan", "--max-seconds", "-1"],
        &["plan", "--objectve", "time"],
        &["plan", "a", "b"],
        &["plan", "--set", "training.global_batch"],
        &["plan", "--at", "soon"],
        &["plan", "--trace", "wan"],
        &["plan", "no-such-scenario"],
        &["plan", "no/such/file.toml"],
        &["simulate"],
        &["simulate", "quickstart"],
        &["simulate", "opt350-a100x32", "--plan", "no-such-plan.toml"],
        &["simulate", "opt350-a100x32", "--at", "-1 s"],
        &["list"],
        &["list", "planes"],
        &["schema", "trace"],
        &["validate", "--runs", "no-such-runs.csv"],
    ] {
        let output = tideplan(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {error}");
        assert!(!error.is_empty() && !error.contains("panicked"), "{args:?}: {error}");
    }
}
