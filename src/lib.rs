//! The command `tideplan` as a library: [`run`] is the whole of it, and its [`Host`] takes what it says.
//!
//! ```
//! let code = tideplan::run(["tideplan", "list", "planners"], std::sync::Arc::new(tideplan::Terminal));
//! assert_eq!(code, 0);
//! ```

mod cli;
mod commands;
mod external;
mod failure;
mod host;
mod read;
mod report;
mod slurm;
mod words;
mod write;

pub use external::{Answered, Ask};
pub use failure::Problem;
pub use host::{Host, Terminal};
pub use sim_search::Progress;

use clap::Parser;
use std::ffi::OsString;
use std::sync::Arc;

/// Runs the command of those words, the first of which is the program's name; returns its exit status: 0 done; 1 ran, but the
/// answer is no; 2 bad usage or bad input, with nothing on the output.
pub fn run<W: Into<OsString> + Clone>(words: impl IntoIterator<Item = W>, host: Arc<dyn Host>) -> u8 {
    let cli = match cli::Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            host.usage(&error);
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    host::under(Arc::clone(&host), || match commands::run(cli.command) {
        Ok(answer) => answer.status(),
        Err(failure) => {
            host.failed(&failure.problems(), &failure.shown());
            2
        }
    })
}
