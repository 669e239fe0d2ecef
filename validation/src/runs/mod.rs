//! The cost model against measured training runs: every row of a runs file is simulated, or skipped with a reason.
//!
//! ```text
//! CSV --row--> Row --case (with plan)--> Scenario + Plan --simulate--> Outcome --metric, report--> Report
//! ```
//!
//! The columns and the definition of every figure are in `docs/validate.md`.

pub mod budget;
pub mod case;
mod cluster;
mod degrees;
pub mod goal;
pub mod group;
mod html;
pub mod markdown;
pub mod metric;
pub mod oom;
mod placed;
pub mod plan;
mod predictions;
mod report;
mod row;
mod shape;
mod shipped;
pub mod split;
mod svg;

pub use html::{guess, html};
pub use predictions::predictions_csv;
pub use report::{Figures, Noisy, Report, SourceReport, report};
pub use row::{Row, Trust, read};
pub use shipped::shipped;

pub use case::Settings;
use rayon::prelude::*;
use serde::Serialize;
use sim_models::iteration::{Options, SimulateError, simulate};
use sim_models::units::Bytes;
use std::fmt;
use std::str::FromStr;

/// Why a runs file cannot be scored at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct RunsError {
    /// From 1.
    pub line: u64,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Why a row is not scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Something the prediction needs is not said, and nothing else implies it.
    MissingField,
    /// No GPU of the catalogue.
    UnknownGpu,
    /// More arithmetic or memory than the GPUs have.
    Impossible,
    /// A cell that is no value of its kind, or cells (or a plan) that contradict each other or cannot have run.
    Corrupt,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::MissingField => "missing_field",
            Reason::UnknownGpu => "unknown_gpu",
            Reason::Impossible => "impossible",
            Reason::Corrupt => "corrupt",
        })
    }
}

/// A row that is not scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Its kind.
    pub reason: Reason,
    /// In words.
    pub what: String,
}

impl Skip {
    pub(crate) fn new(reason: Reason, what: String) -> Skip {
        Skip { reason, what }
    }
}

/// Where a predicted time comes from, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Measured layer times of the model on the GPU.
    Profiled,
    /// Constants of GPU and framework that were fitted on other runs.
    Calibrated,
    /// Datasheets and micro-benchmarks alone.
    Datasheet,
}

impl Tier {
    /// All of them.
    pub const ALL: [Tier; 3] = [Tier::Profiled, Tier::Calibrated, Tier::Datasheet];
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Profiled => "profiled",
            Tier::Calibrated => "calibrated",
            Tier::Datasheet => "datasheet",
        })
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Tier, String> {
        let names = Tier::ALL.map(|t| t.to_string());
        let found = Tier::ALL.into_iter().find(|t| t.to_string() == text);
        found.ok_or_else(|| format!("expected one of {}", names.join(", ")))
    }
}

/// What the model says of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// From what.
    pub tier: Tier,
    /// The GPUs, by catalogue name.
    pub gpu: String,
    /// The framework whose constants were used.
    pub framework: String,
    /// Measured time of an iteration, s.
    pub measured_s: f64,
    /// Simulated time.
    pub predicted_s: f64,
    /// Nine times in ten the measured time is from here ..
    pub low_s: f64,
    /// .. to here.
    pub high_s: f64,
    /// Peak memory of the fullest GPU, GiB.
    pub memory_gib: f64,
    /// Memory of the smallest GPU, GiB.
    pub capacity_gib: f64,
    /// Whether every GPU has as much as it needs.
    pub fits: bool,
}

impl Prediction {
    /// `predicted / measured - 1`.
    pub fn error(&self) -> f64 {
        self.predicted_s / self.measured_s - 1.0
    }

    /// Whether the measured time is inside the interval.
    pub fn covers(&self) -> bool {
        (self.low_s..=self.high_s).contains(&self.measured_s)
    }
}

/// What came of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The row.
    pub row: Row,
    /// Its prediction, or why there is none.
    pub result: Result<Prediction, Skip>,
    /// Whether constants that it uses were fitted on it.
    pub fitted: bool,
}

/// Simulates every row that can be, on all cores; the order of the outcomes is that of the rows. `plan_file` gives the text of
/// a row's plan in Sailor's format, if it has one.
pub fn evaluate(
    rows: Vec<Row>,
    settings: &Settings<'_>,
    plan_file: impl Fn(&Row) -> Option<String> + Sync,
) -> Vec<Outcome> {
    let outcome = |mut row: Row| {
        let file = plan_file(&row);
        let result = predict(&row, file.as_deref(), settings);
        // Rows alike in every cell may still differ in their plan.
        row.configuration.extend(file);
        Outcome { row, result, fitted: false }
    };
    rows.into_par_iter().map(outcome).collect()
}

/// Marks the rows that the shipped constants were fitted on: of the shipped ones, by a hash of their names, where those
/// constants were used.
#[must_use]
pub fn mark_fitted(mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    for outcome in &mut outcomes {
        let calibrated = outcome.result.as_ref().is_ok_and(|p| p.tier == Tier::Calibrated);
        outcome.fitted = calibrated && split::is_fitted(&outcome.row.id);
    }
    outcomes
}

fn predict(row: &Row, plan_file: Option<&str>, settings: &Settings<'_>) -> Result<Prediction, Skip> {
    match (row.iter_time_s, &row.fault) {
        (Some(measured_s), _) => simulated(row, plan_file, settings, measured_s),
        (None, Some(fault)) => Err(Skip::new(Reason::Corrupt, fault.clone())),
        (None, None) => Row::need(None, "iter_time_s"),
    }
}

/// Whether configurations fit into memory, or why that cannot be said; in their order, on all cores.
pub fn fit_in_memory(rows: Vec<Row>, settings: &Settings<'_>) -> Vec<(Row, Result<bool, Skip>)> {
    let fits = |row: Row| {
        let fits = simulated(&row, None, settings, 1.0).map(|p| p.fits);
        (row, fits)
    };
    rows.into_par_iter().map(fits).collect()
}

fn simulated(
    row: &Row,
    plan_file: Option<&str>,
    settings: &Settings<'_>,
    measured_s: f64,
) -> Result<Prediction, Skip> {
    let case = case::build(row, plan_file, settings)?;
    let iteration = simulate(&case.scenario, &case.plan, &Options::default()).map_err(not_simulated)?;
    let predicted_s = iteration.time.as_secs_f64();
    let width = libm::exp(case.half_width);
    let capacity = case.gpus.iter().map(|g| g.memory.as_gib()).fold(f64::INFINITY, f64::min);
    let of_stage = |stages: u32| {
        let there = iteration.devices.iter().filter(|d| d.stage < stages);
        Bytes(there.map(|d| d.peak_memory_bytes).max().unwrap_or(0)).as_gib()
    };
    let fullest_gib = of_stage(u32::MAX);
    let memory_gib = if case.framework.habits.reports_first { of_stage(1) } else { fullest_gib };
    Ok(Prediction {
        tier: case.tier,
        gpu: case.gpus.iter().map(|g| g.name.as_str()).collect::<Vec<_>>().join(" + "),
        framework: case.framework.name.clone(),
        measured_s,
        predicted_s,
        low_s: predicted_s / width,
        high_s: predicted_s * width,
        memory_gib,
        capacity_gib: capacity,
        fits: fullest_gib <= capacity * (1.0 - case.fragmentation),
    })
}

fn not_simulated(error: SimulateError) -> Skip {
    let what = match error {
        SimulateError::Plan(faults) => {
            faults.first().map_or_else(String::new, |f| format!("plan: {}", f.message))
        }
        other => other.to_string(),
    };
    Skip::new(Reason::Corrupt, what)
}
