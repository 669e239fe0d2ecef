//! Figures by something else than the source: `--by`.

use super::report::{Figures, figures};
use super::{Outcome, Row};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What rows are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The GPU, by catalogue name.
    Gpu,
    /// The framework.
    Framework,
    /// Which kinds of parallelism share out the model.
    Parallelism,
    /// Number of GPUs.
    Scale,
    /// Where the time comes from.
    Tier,
}

impl By {
    /// All of them.
    pub const ALL: [By; 5] = [By::Gpu, By::Framework, By::Parallelism, By::Scale, By::Tier];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            By::Gpu => "gpu",
            By::Framework => "framework",
            By::Parallelism => "parallelism",
            By::Scale => "scale",
            By::Tier => "tier",
        }
    }

    fn key(self, outcome: &Outcome) -> (u64, String) {
        let row = &outcome.row;
        match self {
            By::Gpu => (0, outcome.result.as_ref().map_or_else(|_| names(row), |p| p.gpu.clone())),
            By::Framework => (0, outcome.result.as_ref().map_or(String::new(), |p| p.framework.clone())),
            By::Parallelism => (0, parallelism(row)),
            By::Scale => (row.gpus.unwrap_or(0), row.gpus.map_or("?".into(), |n| format!("{n} GPUs"))),
            By::Tier => match &outcome.result {
                Ok(p) => (p.tier as u64, p.tier.to_string()),
                Err(_) => (9, "skipped".into()),
            },
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<By, String> {
        By::ALL.into_iter().find(|by| by.name() == text).ok_or_else(|| {
            let names = By::ALL.map(By::name).join(", ");
            format!("expected one of {names}")
        })
    }
}

fn names(row: &Row) -> String {
    row.mix.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" + ")
}

/// `TP+PP`: the degrees above 1, without their sizes.
pub fn parallelism(row: &Row) -> String {
    let above = |degree: Option<u64>| degree.unwrap_or(1) > 1;
    let parts = [("TP", row.tp), ("PP", row.pp), ("CP", row.cp), ("EP", row.ep), ("DP", row.dp)];
    let used: Vec<&str> = parts.into_iter().filter(|(_, d)| above(*d)).map(|(n, _)| n).collect();
    if used.is_empty() { "one GPU".into() } else { used.join("+") }
}

/// Figures of each group, in order.
pub fn by(outcomes: &[Outcome], by: By) -> Vec<(String, Figures)> {
    let mut groups: BTreeMap<(u64, String), Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        groups.entry(by.key(outcome)).or_default().push(outcome);
    }
    groups.into_iter().map(|((_, name), list)| (name, figures(&list))).collect()
}
