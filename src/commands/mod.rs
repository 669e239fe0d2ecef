//! One file a subcommand.

mod calibrate;
mod collective;
mod compare;
mod exchange;
mod explain;
mod import;
mod init;
mod jobs;
mod list;
mod merge;
mod plan;
mod plan_explain;
mod plan_jobs;
mod planned;
mod replay;
mod schema;
mod searching;
mod simulate;
mod trace;
mod validate;
mod verify;
mod why;
mod workload;

use crate::cli::{Command, Over};
use crate::failure::{Answer, Failure};
use crate::host::host;
use scenarios::{Loaded, Overrides};

pub(crate) fn run(command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Plan(args) => plan::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Collective(args) => collective::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Export(args) => exchange::export(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::List(args) => list::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Explain(args) => explain::run(&args),
    }
}

/// The scenario with the command line's overrides, and the overrides; with the plan that it names, if `plan`.
fn load(name: &str, over: &Over, plan: bool) -> Result<(Loaded, Overrides), Failure> {
    load_or(name, None, over, plan)
}

/// The same of a text in place of a file or a built-in.
fn load_or(name: &str, text: Option<&str>, over: &Over, plan: bool) -> Result<(Loaded, Overrides), Failure> {
    let found = load_jobs_too(name, text, over, plan)?;
    if !found.0.scenario.jobs.is_empty() {
        let message = format!("scenario `{name}` has several jobs: here one is taken");
        return Err(Failure::new(message, "`tideplan plan` and `tideplan simulate` take `[[jobs]]`"));
    }
    Ok(found)
}

/// The same, also of a scenario with several jobs.
fn load_jobs_too(
    name: &str,
    text: Option<&str>,
    over: &Over,
    plan: bool,
) -> Result<(Loaded, Overrides), Failure> {
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
    let given = host().scenario(name);
    let loaded = match text.or(given.as_deref()) {
        Some(text) => scenarios::load_text(text, &format!("{name}.toml"), None, &overrides)?,
        None => scenarios::load(name, &overrides)?,
    };
    Ok((loaded, overrides))
}

/// Gives results to the host; a reader that went away is no error.
fn print(text: &str) -> Result<(), Failure> {
    match host().out(text) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {e}"), ""))
        }
        _ => Ok(()),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value);
    print(&(text.map_err(|e| Failure::new(format!("cannot write JSON: {e}"), ""))? + "\n"))
}

/// The planner of that name; `external` needs its command.
fn planner(name: &str, external: Option<&str>) -> Result<Box<dyn sim_search::planners::Planner>, Failure> {
    if name == sim_search::planners::EXTERNAL.name {
        let command = external.ok_or_else(|| {
            Failure::new("planner `external` has no command", "`--external \"COMMAND ARGS\"`")
        })?;
        let external = crate::external::External::new(command);
        return Ok(Box::new(external.map_err(|e| Failure::new(e, "a program and its arguments"))?));
    }
    let mut list = sim_search::planners::builtin();
    match list.iter().position(|p| p.about().name == name) {
        Some(at) => Ok(list.swap_remove(at)),
        None => {
            if let Some(ask) = host().planner(name) {
                return Ok(Box::new(crate::external::Hosted { ask }));
            }
            let names: Vec<&str> = sim_search::planners::all().iter().map(|a| a.name).collect();
            Err(Failure::new(format!("no planner is called `{name}`"), names.join(", ")))
        }
    }
}
