//! The cost model against measured training runs: every row of a runs file is simulated, or skipped with a reason.
//!
//! ```text
//! CSV --row--> Row --case (with plan)--> Scenario + Plan --simulate--> Outcome --metric, report--> Report
//! ```
//!
//! The columns and the definition of every figure are in `docs/validate.md`.

pub mod budget;
pub mod case;
pub mod metric;
pub mod plan;
mod predictions;
mod report;
mod row;
mod shipped;

pub use predictions::predictions_csv;
pub use report::{Figures, Noisy, Oom, Report, SourceReport, report};
pub use row::{Row, Trust, read};
pub use shipped::shipped;

use serde::Serialize;
use sim_models::iteration::{Options, SimulateError, simulate};
use sim_models::units::Bytes;
use std::fmt;

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
    /// A cell that is no value of its kind, or cells (or a plan) that contradict each other.
    Corrupt,
    /// What the row ran cannot be simulated yet.
    Unsupported,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::MissingField => "missing_field",
            Reason::UnknownGpu => "unknown_gpu",
            Reason::Impossible => "impossible",
            Reason::Corrupt => "corrupt",
            Reason::Unsupported => "unsupported",
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

/// Where a predicted time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Measured layer times of the model on the GPU.
    Profiled,
}

/// What the model says of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// From what.
    pub tier: Tier,
    /// Measured time of an iteration, s.
    pub measured_s: f64,
    /// Simulated time.
    pub predicted_s: f64,
    /// Peak memory of the fullest GPU, GiB.
    pub memory_gib: f64,
}

impl Prediction {
    /// `predicted / measured - 1`.
    pub fn error(&self) -> f64 {
        self.predicted_s / self.measured_s - 1.0
    }
}

/// What came of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The row.
    pub row: Row,
    /// Its prediction, or why there is none.
    pub result: Result<Prediction, Skip>,
}

/// Simulates every row that can be. `plan_file` gives the text of a row's plan in Sailor's format, if it has one.
pub fn evaluate(rows: Vec<Row>, mut plan_file: impl FnMut(&Row) -> Option<String>) -> Vec<Outcome> {
    let outcome = |mut row: Row| {
        let file = plan_file(&row);
        let result = predict(&row, file.as_deref());
        // Rows alike in every cell may still differ in their plan.
        row.configuration.extend(file);
        Outcome { row, result }
    };
    rows.into_iter().map(outcome).collect()
}

fn predict(row: &Row, plan_file: Option<&str>) -> Result<Prediction, Skip> {
    let case = case::build(row, plan_file)?;
    let measured_s = Row::need(row.iter_time_s, "iter_time_s")?;
    let iteration = simulate(&case.scenario, &case.plan, &Options::default()).map_err(not_simulated)?;
    let peak = iteration.devices.iter().map(|d| d.peak_memory_bytes).max().unwrap_or(0);
    Ok(Prediction {
        tier: Tier::Profiled,
        measured_s,
        predicted_s: iteration.time.as_secs_f64(),
        memory_gib: Bytes(peak).as_gib(),
    })
}

fn not_simulated(error: SimulateError) -> Skip {
    match error {
        SimulateError::Plan(faults) => {
            // A micro-batch or TP that nobody measured is no fault of the row.
            let unmeasured = faults.iter().find(|f| f.code == "T0210");
            let reason = if unmeasured.is_some() { Reason::Unsupported } else { Reason::Corrupt };
            let fault = unmeasured.or(faults.first());
            Skip::new(reason, fault.map_or_else(String::new, |f| format!("plan: {}", f.message)))
        }
        other => Skip::new(Reason::Unsupported, other.to_string()),
    }
}
