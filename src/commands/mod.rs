//! One file a subcommand.

mod calibrate;
mod collective;
mod explain;
mod import;
mod list;
mod plan;
mod schema;
mod simulate;
mod trace;
mod validate;

use crate::cli::{Command, Over};
use crate::failure::{Answer, Failure};
use scenarios::{Loaded, Overrides};
use std::io::Write;

pub(crate) fn run(command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Plan(args) => plan::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Collective(args) => collective::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::List(args) => list::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Explain(args) => explain::run(&args),
    }
}

/// The scenario with the command line's overrides, and the overrides; with the plan that it names, if `plan`.
fn load(name: &str, over: &Over, plan: bool) -> Result<(Loaded, Overrides), Failure> {
    // Its own plan need not fit what is set over a scenario, where nobody asks for that plan.
    let mut overrides = Overrides { without_plan: !plan && !over.sets.is_empty(), ..Overrides::default() };
    let mut faults = Vec::new();
    for set in &over.sets {
        faults.extend(overrides.set(set).err());
    }
    for trace in &over.traces {
        faults.extend(overrides.trace(trace).err());
    }
    if let Some(at) = &over.at {
        faults.extend(overrides.start_at(at).err());
    }
    if !faults.is_empty() {
        return Err(Failure::Faults(faults));
    }
    Ok((scenarios::load(name, &overrides)?, overrides))
}

/// Prints to standard output; a reader that went away is no error.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {e}"), ""))
        }
        _ => Ok(()),
    }
}

fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}
