//! The command, end to end, one binary: what it prints, and with which status it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod collective;

use std::process::{Command, Output};

/// Runs `tideplan` with these arguments.
fn tideplan(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tideplan")).args(args).output().expect("the command starts")
}
