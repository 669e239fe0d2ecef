//! The command `tideplan`. Results go to standard output, progress and notes to standard error.
//!
//! Exit status: 0 done; 1 ran, but the answer is no; 2 bad usage or bad input, with nothing on standard output.

mod cli;
mod commands;
mod external;
mod failure;
mod report;
mod words;
mod write;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli.command) {
        Ok(answer) => ExitCode::from(answer.status()),
        Err(failure) => {
            failure.show();
            ExitCode::from(2)
        }
    }
}
