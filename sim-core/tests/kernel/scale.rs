//! Scale laws, by instruction count and not by clock: an event costs the same however many flows there are, but for a
//! logarithm. Skipped, with a message, where valgrind is not installed.

use std::path::PathBuf;
use std::process::Command;

/// The example `scale`, which `cargo test` builds beside this binary.
fn example() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let path = here.parent()?.parent()?.join("examples/scale");
    path.exists().then_some(path)
}

/// Instructions of one run of the example under callgrind.
fn instructions(example: &PathBuf, flows: u32, run: bool) -> Option<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(example).args(["--flows", &flows.to_string()]);
    if !run {
        command.arg("--no-run");
    }
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|l| l.contains("Collected"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

#[test]
fn an_event_costs_the_same_at_any_size() {
    let Some(example) = example() else {
        eprintln!("skipped: the example `scale` is not built");
        return;
    };
    let per_flow = |flows| {
        let whole = instructions(&example, flows, true)?;
        let setup = instructions(&example, flows, false)?;
        Some((whole - setup) as f64 / f64::from(flows))
    };
    let Some(small) = per_flow(1_000) else {
        eprintln!("skipped: valgrind is not installed");
        return;
    };
    let large = per_flow(100_000).expect("valgrind ran before");
    eprintln!("{small:.0} instructions a flow at 1,000, {large:.0} at 100,000");
    // log 100,000 / log 1,000 is 5 / 3.
    assert!(large <= 2.0 * small * 5.0 / 3.0, "{small} instructions a flow at 1,000, {large} at 100,000");
}
