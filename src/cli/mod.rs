//! The command line: its shape, its help, its examples. A file for each sort of commands.

mod files;
mod measure;
mod plan;
mod run;
mod trace;

pub(crate) use files::{Export, Import, ToTool};
pub(crate) use measure::{Calibrate, Compare, Validate};
pub(crate) use plan::{Init, Merge, Plan, Verify, Words};
pub(crate) use run::{Collective, Replay, Simulate};
pub(crate) use trace::{
    Trace, TraceConvert, TraceFrom, TraceGenerate, TraceModel, TraceOf, TracePlot, TraceStats,
};

use clap::{Args, Parser, Subcommand};

/// Plan and simulate distributed training on mixed GPUs over a network that changes.
#[derive(Debug, Parser)]
#[command(
    name = "tideplan",
    version,
    max_term_width = 100,
    after_help = "Start here:\n  tideplan plan                         search the built-in quickstart\n  tideplan list scenarios               what else is built in\n  tideplan simulate quickstart --plan best.toml --timeline t.json\n\nExit status: 0 done; 1 ran, but the answer is no; 2 bad usage or bad input."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of them in a run")]
pub(crate) enum Command {
    /// Find the parallel plan that trains fastest.
    Plan(Plan),
    /// Write a scenario file to start from.
    Init(Init),
    /// Join what the parts of a search found.
    Merge(Merge),
    /// Check the certificate of a search.
    Verify(Verify),
    /// Simulate one iteration of a plan.
    Simulate(Simulate),
    /// Simulate one collective operation, message by message.
    Collective(Collective),
    /// Planners side by side, under one judge.
    Compare(Compare),
    /// Hold the cost model against measured runs.
    Validate(Validate),
    /// Fit a device to measured profiles.
    Calibrate(Calibrate),
    /// Turn other tools' measurements, plans and clusters into ours.
    Import(Import),
    /// Run a job through a trace, by policy.
    Replay(Replay),
    /// Write a plan as another tool takes it.
    Export(Export),
    /// Look at a trace, turn another tool's into ours, make one up.
    Trace(Trace),
    /// What there is: scenarios, devices, planners, policies.
    List(List),
    /// The JSON Schema of a scenario file, or of a plan.
    Schema(Schema),
    /// An error code at length.
    Explain(Explain),
}

/// A scenario, and what the command line says over it.
#[derive(Debug, Args)]
pub(crate) struct Over {
    /// Set a value of the scenario, e.g. `training.global_batch=512`, `nodes.a100.count=8`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Replace the trace of a link by a CSV file.
    #[arg(long = "trace", value_name = "LINK=FILE")]
    pub(crate) traces: Vec<String>,
    /// Instant of the traces at which the iteration starts, e.g. `90 s`.
    #[arg(long, value_name = "T")]
    pub(crate) at: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// What to list.
    #[arg(value_enum)]
    pub(crate) what: What,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum What {
    Scenarios,
    Devices,
    Planners,
    Policies,
}

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Of what.
    #[arg(value_enum, default_value = "scenario")]
    pub(crate) of: SchemaOf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum SchemaOf {
    Scenario,
    Plan,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// An error code, e.g. `T0101`; without one, all of them.
    pub(crate) code: Option<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s.is_finite() => Ok(s),
        _ => Err("expected a positive number of seconds".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{Command, CommandFactory};

    /// An example that is wrapped cannot be copied.
    #[test]
    fn examples_fit_into_a_line() {
        fn check(command: &Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
