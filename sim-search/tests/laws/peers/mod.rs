//! Re-implemented planners against what the published ones answered, and ours on their cases. The inputs are not ours to ship:
//! they are read under `TIDEPLAN_DATA`, and without it the tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod amp;
mod metis;
mod sailor;

use std::path::{Path, PathBuf};

/// What a variable of the environment names, or a word that it is not set.
fn folder(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable);
    if found.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    found.map(PathBuf::from)
}

fn data() -> Option<PathBuf> {
    folder("TIDEPLAN_DATA")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
