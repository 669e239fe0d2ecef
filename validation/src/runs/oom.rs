//! Out of memory, yes or no: configurations that failed against runs of the same sources that did not.
//!
//! A file of failures (`--oom`) says of a configuration what its sweep varied. What it leaves out (the model's shape, the
//! framework, the GPUs of a node) is taken from a run of the same source and model, or of the same model.

use super::row::{Columns, Row, read_as};
use super::{Outcome, RunsError, Skip};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Columns without which no failure can be judged.
const NEEDED: [&str; 9] = ["source", "model", "gpu", "gpus", "tp", "pp", "dp", "micro_batch", "global_batch"];

/// Whether running out of memory is foreseen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Oom {
    /// Of the configurations predicted to fail, the share that did. `None` when none is predicted to.
    pub precision: Option<f64>,
    /// Of those that failed, the share predicted to. `None` without any.
    pub recall: Option<f64>,
    /// Configurations: failures, and runs of their sources.
    pub n: usize,
    /// Failures.
    pub failures: usize,
    /// Runs that did not fail and are predicted to.
    pub false_alarms: usize,
    /// Failures that no prediction could be made for: they count as not foreseen.
    pub skipped: usize,
}

/// Reads a file of failures and fills in what it leaves out from `runs`.
///
/// # Errors
/// As [`super::read`].
pub fn read<'a>(text: &str, runs: impl IntoIterator<Item = &'a Row>) -> Result<Vec<Row>, RunsError> {
    let mut failures = read_as(text, &Columns { needed: &NEEDED, target: None })?;
    let mut by_both: BTreeMap<(&str, &str), &Row> = BTreeMap::new();
    let mut by_model: BTreeMap<&str, &Row> = BTreeMap::new();
    for run in runs.into_iter().filter(|r| r.fault.is_none()) {
        by_both.entry((&run.source, &run.model)).or_insert(run);
        by_model.entry(&run.model).or_insert(run);
    }
    for failure in &mut failures {
        let both = by_both.get(&(failure.source.as_str(), failure.model.as_str()));
        if let Some(run) = both.or_else(|| by_model.get(failure.model.as_str())) {
            failure.fill_from(run);
        }
    }
    Ok(failures)
}

/// Scores failures, each predicted to fit or not, and the runs of their sources.
pub fn score(failures: &[(Row, Result<bool, Skip>)], runs: &[Outcome]) -> Oom {
    let sources: BTreeSet<&str> = failures.iter().map(|(row, _)| row.source.as_str()).collect();
    let foreseen = failures.iter().filter(|(_, fits)| matches!(fits, Ok(false))).count();
    let skipped = failures.iter().filter(|(_, fits)| fits.is_err()).count();
    let ran = || runs.iter().filter(|o| sources.contains(o.row.source.as_str()));
    let false_alarms = ran().filter(|o| o.result.as_ref().is_ok_and(|p| !p.fits)).count();
    let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
    Oom {
        precision: share(foreseen, foreseen + false_alarms),
        recall: share(foreseen, failures.len()),
        n: failures.len() + ran().count(),
        failures: failures.len(),
        false_alarms,
        skipped,
    }
}
