//! Scale laws, by instruction count and not by clock: an event costs the same however many flows there are, but for a
//! logarithm. Skipped, with a message, where valgrind is not installed, and without optimisation, whose instructions take
//! minutes to count and say nothing of the product's.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The example `scale`, which `cargo test` builds beside this binary.
fn example() -> Result<PathBuf, &'static str> {
    let here = std::env::current_exe().map_err(|_| "this binary has no path")?;
    let folder = here.parent().and_then(Path::parent).ok_or("this binary is in no folder")?;
    // The profile `ci` is optimised with debug assertions, so these do not tell; the folder of the profile does.
    if folder.ends_with("debug") {
        return Err("not optimised: run `cargo test --profile ci`");
    }
    let path = folder.join("examples/scale");
    if path.exists() { Ok(path) } else { Err("the example `scale` is not built") }
}

/// Instructions of one run of the example under callgrind.
fn instructions(example: &Path, flows: u32, run: bool) -> Option<u64> {
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
    let example = match example() {
        Ok(example) => example,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
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
