//! The command `tideplan`. Results go to standard output, progress and notes to standard error.
//!
//! Exit status: 0 done; 1 ran, but the answer is no; 2 bad usage or bad input, with nothing on standard output.

use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    ExitCode::from(tideplan::run(std::env::args_os(), Arc::new(tideplan::Terminal)))
}
