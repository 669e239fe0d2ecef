//! What the model is meant to reach, by source, beside what it does reach: `data/goals.toml`.

use super::report::{Figures, Report};
use super::{Outcome, Trust};
use serde::Deserialize;
use std::fmt::Write;

/// A goal. Errors are fractions.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// What it is for.
    pub rows: String,
    /// The source, verbatim; `*` for each.
    pub source: String,
    /// Held in the datasheet tier.
    #[serde(default)]
    pub datasheet: bool,
    /// Mean error of the time, at most.
    #[serde(default)]
    pub mean: Option<f64>,
    /// Its median, at most.
    #[serde(default)]
    pub median: Option<f64>,
    /// Kendall's tau, at least.
    #[serde(default)]
    pub tau: Option<f64>,
    /// Top-1 regret, at most.
    #[serde(default)]
    pub regret: Option<f64>,
    /// Mean error of the memory, at most.
    #[serde(default)]
    pub memory: Option<f64>,
    /// What the evidence points to where it is not reached.
    pub evidence: String,
}

#[derive(Deserialize)]
struct File {
    goal: Vec<Goal>,
}

/// All goals.
pub fn all() -> Vec<Goal> {
    let file: File = toml::from_str(include_str!("../../data/goals.toml")).expect("the goals read: tested");
    file.goal
}

struct Held {
    name: &'static str,
    found: Option<f64>,
    goal: Option<f64>,
    least: bool,
}

fn held(goal: &Goal, f: &Figures) -> [Held; 5] {
    let held = |name, found, goal, least| Held { name, found, goal, least };
    [
        held("mean", f.mape, goal.mean, false),
        held("median", f.median_ape, goal.median, false),
        held("tau", f.kendall_tau, goal.tau, true),
        held("regret", f.top1_regret, goal.regret, false),
        held("memory", f.memory_mape, goal.memory, false),
    ]
}

/// A table of goals, for the sources that there are.
pub(super) fn table(report: &Report, datasheet: &Report, outcomes: &[Outcome]) -> String {
    let mut out = String::from(
        "\n### Goals\n\n| rows | goal | reached | noise floor | where not: what the evidence points to |\n\
         | --- | --- | --- | ---: | --- |\n",
    );
    for goal in all() {
        let of = if goal.datasheet { datasheet } else { report };
        for source in of.sources.iter().filter(|s| goal.source == "*" || s.source == goal.source) {
            let f = &source.figures;
            let (mut wanted, mut reached, mut missed) = (Vec::new(), Vec::new(), false);
            for h in held(&goal, f) {
                let (Some(goal), Some(found)) = (h.goal, h.found) else { continue };
                let good = if h.least { found >= goal } else { found <= goal };
                missed |= !good;
                let show = |v: f64| if h.least { format!("{v:.2}") } else { format!("{:.1}", 100.0 * v) };
                wanted.push(format!("{} {}", h.name, show(goal)));
                reached.push(format!("{} {}{}", h.name, show(found), if good { "" } else { " (not)" }));
            }
            if wanted.is_empty() {
                continue;
            }
            let name = if goal.source == "*" {
                format!("{}: {}", goal.rows, source.source)
            } else {
                goal.rows.clone()
            };
            let noise = f.noise_floor.map_or("-".into(), |n| format!("{:.1}", 100.0 * n));
            let evidence = if missed { goal.evidence.as_str() } else { "" };
            // Writing to a String does not fail.
            let _ = writeln!(
                out,
                "| {name} | {} | {} | {noise} | {evidence} |",
                wanted.join(", "),
                reached.join(", ")
            );
        }
    }
    let relied = outcomes.iter().filter(|o| o.row.trust != Trust::C && !o.fitted);
    let predicted: Vec<bool> =
        relied.filter_map(|o| o.result.as_ref().ok().map(super::Prediction::covers)).collect();
    if !predicted.is_empty() {
        let inside = predicted.iter().filter(|c| **c).count();
        let _ = writeln!(
            out,
            "\n90 % intervals: goal 85 to 95 %, they hold {:.1} % of {} rows.",
            100.0 * inside as f64 / predicted.len() as f64,
            predicted.len()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_goals_read() {
        assert!(super::all().len() > 10);
    }
}
