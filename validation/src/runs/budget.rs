//! The error budget: how wrong the model may be on the shipped rows. A change that makes it worse has to say so here.

use super::report::{Figures, Report};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Most that some figures may be, as fractions.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Least rows scored.
    pub n: usize,
    /// Mean error of the time.
    pub mape: f64,
    /// Its median.
    pub median_ape: f64,
    /// Its 90th percentile.
    pub p90_ape: f64,
    /// Mean error of the peak memory, where the source gives it.
    pub memory_mape: Option<f64>,
}

/// The committed budget: limits by source, verbatim, and `overall`.
pub fn committed() -> BTreeMap<String, Limits> {
    toml::from_str(include_str!("../../data/budget.toml")).expect("the committed budget reads: tested")
}

/// What of the budget `report` breaks, in words; empty when it keeps it.
pub fn broken(report: &Report, budget: &BTreeMap<String, Limits>) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, limits) in budget {
        let found = match name.as_str() {
            "overall" => Some(&report.overall),
            _ => report.sources.iter().find(|s| s.source == *name).map(|s| &s.figures),
        };
        match found {
            None => broken.push(format!("{name}: no such source in the rows")),
            Some(figures) => broken.extend(over(figures, limits).into_iter().map(|w| format!("{name}: {w}"))),
        }
    }
    broken
}

fn over(figures: &Figures, limits: &Limits) -> Vec<String> {
    let mut over = Vec::new();
    if figures.n < limits.n {
        over.push(format!("{} rows scored, of at least {}", figures.n, limits.n));
    }
    let checks = [
        ("mape", figures.mape, Some(limits.mape)),
        ("median_ape", figures.median_ape, Some(limits.median_ape)),
        ("p90_ape", figures.p90_ape, Some(limits.p90_ape)),
        ("memory_mape", figures.memory_mape, limits.memory_mape),
    ];
    for (name, found, most) in checks {
        let Some(most) = most else { continue };
        // No figure at all is no figure within the budget.
        if !found.is_some_and(|f| f <= most) {
            let found = found.map_or("none".to_string(), |f| format!("{f:.4}"));
            over.push(format!("{name} is {found}, at most {most}"));
        }
    }
    over
}
