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

/// Nor is a reader of errors.
#[test]
fn a_reader_of_errors_that_went_away_is_no_panic() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command(&["plan", "no-such-scenario"]).stderr(writer).output().expect("the command starts");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
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

/// A file that is written has the permissions of any new file, or keeps its own; a link to it stays one.
#[cfg(unix)]
#[test]
fn written_files_are_like_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = two_nodes();
    let at = |name: &str| folder.path().join(name);
    let mode = |name: &str| std::fs::metadata(at(name)).unwrap().permissions().mode();
    let write = |out: &str| {
        let args = ["simulate", "two.toml", "--links", out];
        let output = command(&args).current_dir(folder.path()).output().expect("the command starts");
        assert_eq!(output.status.code(), Some(0), "{out}: {}", String::from_utf8_lossy(&output.stderr));
    };
    write("new.csv");
    assert_eq!(mode("new.csv"), mode("trace.csv"));
    std::fs::set_permissions(at("new.csv"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("new.csv", at("link.csv")).unwrap();
    let before = std::fs::metadata(at("new.csv")).unwrap().modified().unwrap();
    write("link.csv");
    assert!(std::fs::symlink_metadata(at("link.csv")).unwrap().is_symlink());
    assert!(std::fs::metadata(at("new.csv")).unwrap().modified().unwrap() > before);
    assert_eq!(mode("new.csv") & 0o777, 0o600);
    // What is no file is written to, as a device is.
    let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().expect("there is `mkfifo`");
    assert!(made.success());
    let reader = std::process::Command::new("cat").arg(at("pipe")).stdout(Stdio::piped()).spawn();
    let reader = reader.expect("there is `cat`");
    write("pipe");
    assert!(!std::fs::metadata(at("pipe")).unwrap().is_file());
    let read = reader.wait_with_output().unwrap().stdout;
    assert_eq!(read, std::fs::read(at("new.csv")).unwrap());
}

/// What has no end is no file of ours, and fills no memory.
#[cfg(unix)]
#[test]
fn a_file_without_end_is_refused() {
    let folder = two_nodes();
    for args in [
        &["verify", "/dev/zero"][..],
        &["merge", "/dev/zero"],
        &["plan", "two.toml", "--checkpoint", "/dev/zero"],
        &["plan", "/dev/zero"],
        &["trace", "stats", "/dev/zero"],
    ] {
        let output = command(args).current_dir(folder.path()).output().expect("the command starts");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {error}");
        assert!(error.contains("/dev/zero"), "{args:?}: {error}");
    }
}
