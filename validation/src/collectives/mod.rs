//! The collective model against measured collectives: by source, with the shipped parameters and with parameters that were
//! fitted without the source.
//!
//! The file is a CSV with a header. Needed: `source`, `collective`, `gpu`, `gpus`, `nodes`, `size_bytes`, and one of
//! `time_us`, `busbw_GBps`, `algbw_GBps`; read where present: `algorithm`, `gpus_per_node`, `intra_link`, `inter_link`, `inplace`, `source_url`,
//! `notes`. Sizes are nccl-tests' ([`sim_models::collective`]). A row that has no `inplace` and names neither nccl-tests nor a
//! trace of kernels was timed from the host. A send between two nodes with `gpus_per_node` = k is k pairs side by side, each of
//! `size_bytes`, and a bandwidth is that of all of them.
//!
//! Parameters are fitted on the file's other sources and on the shipped rows ([`SHIPPED`]) of sources that the file has not.

mod row;
#[cfg(test)]
mod tests;

pub use row::{Reason, Row};

use row::read;
use serde::Serialize;
use sim_models::collective::Parameters;
use sim_models::collective::fit::{Sample, fit};
use sim_models::collective::parameters::Values;
use std::collections::{BTreeMap, BTreeSet};

/// A size from which a collective is bound by its links: 1 MiB.
const LARGE: u64 = 1 << 20;

/// The measurements that are shipped, as a file.
pub const SHIPPED: &str = include_str!("../../data/collectives.csv");

/// Why a file cannot be scored at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectivesError {
    /// A column that every file needs.
    #[error(
        "line 1: column `{column}` is missing: expected a header with source, collective, gpu, gpus, nodes, size_bytes \
             and one of time_us, busbw_GBps, algbw_GBps"
    )]
    Column {
        /// Which.
        column: &'static str,
    },
    /// Not a CSV file.
    #[error("line {line}: {what}")]
    Csv {
        /// From 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
}

/// Relative errors `|predicted / measured - 1|` of some rows; `None` where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Rows.
    pub n: usize,
    /// Mean.
    pub mape: Option<f64>,
    /// Median.
    pub median_ape: Option<f64>,
    /// 90th percentile.
    pub p90_ape: Option<f64>,
}

/// All sizes, and those of 1 MiB and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BySize {
    /// All.
    pub all: Score,
    /// 1 MiB and more.
    pub large: Score,
}

/// With which parameters the headline figures of a source were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoredBy {
    /// Parameters fitted on the file's other sources: the shipped ones have seen this source.
    LeaveOneOut,
    /// The shipped parameters, which have not.
    Shipped,
}

/// What came of a source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceReport {
    /// Its name, verbatim.
    pub source: String,
    /// Rows scored.
    pub n: usize,
    /// Rows not scored.
    pub skipped: usize,
    /// Why not.
    pub skipped_reasons: BTreeMap<&'static str, usize>,
    /// Mean relative error.
    pub mape: Option<f64>,
    /// Median relative error.
    pub median_ape: Option<f64>,
    /// 90th percentile of the relative error.
    pub p90_ape: Option<f64>,
    /// How the three were made.
    pub scored_by: ScoredBy,
    /// The same for 1 MiB and more.
    pub large: Score,
    /// With the shipped parameters.
    pub shipped: BySize,
    /// With parameters fitted on the file's other sources.
    pub leave_one_out: BySize,
    /// The headline by GPU, as the file names it.
    pub by_gpu: BTreeMap<String, BySize>,
}

/// What came of a family of GPUs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GpuReport {
    /// The family's name in the catalogue.
    pub gpu: String,
    /// As its sources were scored.
    pub scored: BySize,
    /// With parameters fitted without any row of the family.
    pub leave_one_out: BySize,
}

/// Unweighted means over sources of their median errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Overall {
    /// Sources with a scored row, and with one of 1 MiB and more.
    pub sources: usize,
    /// As `sources`.
    pub large_sources: usize,
    /// All sizes.
    pub median_ape: Option<f64>,
    /// 1 MiB and more.
    pub large_median_ape: Option<f64>,
}

/// What came of a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// By source, in the order of their first rows.
    pub sources: Vec<SourceReport>,
    /// By family of GPUs, by name.
    pub gpus: Vec<GpuReport>,
    /// The headline figures.
    pub overall: Overall,
    /// With the shipped parameters.
    pub shipped: Overall,
    /// With parameters fitted without the source.
    pub leave_one_out: Overall,
}

/// The rows of a file, in its order.
///
/// # Errors
/// See [`CollectivesError`].
pub fn rows(text: &str) -> Result<Vec<Row>, CollectivesError> {
    read(text)
}

/// The samples of a file that can be fitted on.
pub fn samples(rows: &[Row]) -> Vec<&Sample> {
    rows.iter().filter_map(|row| row.sample.as_ref().ok()).collect()
}

/// What parameters for a file are fitted on: its own samples, and the shipped ones of sources that it has not.
pub fn training<'r>(rows: &'r [Row], shipped: &'r [Row]) -> Vec<&'r Row> {
    let own: BTreeSet<&str> = rows.iter().map(|row| row.source.as_str()).collect();
    rows.iter().chain(shipped.iter().filter(|row| !own.contains(row.source.as_str()))).collect()
}

/// Scores a file. Refits once for each of its sources and each of its families of GPUs, without it: a few seconds.
///
/// # Errors
/// See [`CollectivesError`].
pub fn validate(text: &str, shipped: &Parameters) -> Result<Report, CollectivesError> {
    let rows = rows(text)?;
    let mut order: Vec<&str> = Vec::new();
    let mut of_source: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    let mut of_family: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        let list = of_source.entry(&row.source).or_default();
        if list.is_empty() {
            order.push(&row.source);
        }
        list.push(row);
        if row.sample.is_ok() {
            of_family.entry(&row.family).or_default().push(row);
        }
    }
    let carried = read(SHIPPED)?;
    let all = training(&rows, &carried);
    let without = |left: &dyn Fn(&Row) -> bool| {
        let kept = all.iter().filter(|row| !left(row)).filter_map(|row| row.sample.as_ref().ok());
        fit(&kept.collect::<Vec<&Sample>>(), shipped).0
    };
    let mut headlines: BTreeMap<&str, Values> = BTreeMap::new();
    let mut sources = Vec::new();
    for source in order {
        let others = without(&|row| row.source == source);
        let seen = shipped.sources.iter().any(|s| s == source);
        headlines.insert(source, if seen { others.values() } else { shipped.values() });
        sources.push(source_report(source, &of_source[source], shipped, &others));
    }
    let gpus = of_family.into_iter().map(|(family, rows)| {
        let others = without(&|row| row.family == family).values();
        let (mut scored, mut leave_one_out) = (Errors::default(), Errors::default());
        for (row, sample) in rows.iter().filter_map(|row| Some((row, row.sample.as_ref().ok()?))) {
            let main = headlines[row.source.as_str()];
            if let Some((main, without)) = error(sample, main).zip(error(sample, others)) {
                scored.push(sample.bytes, main);
                leave_one_out.push(sample.bytes, without);
            }
        }
        GpuReport { gpu: family.to_string(), scored: scored.score(), leave_one_out: leave_one_out.score() }
    });
    Ok(Report {
        gpus: gpus.collect(),
        overall: overall(&sources, |s| BySize { all: headline(s), large: s.large }),
        shipped: overall(&sources, |s| s.shipped),
        leave_one_out: overall(&sources, |s| s.leave_one_out),
        sources,
    })
}

/// Relative error of a prediction; `None` where there is none.
fn error(sample: &Sample, values: Values) -> Option<f64> {
    Some((sample.predicted(values)? / sample.seconds - 1.0).abs())
}

fn headline(s: &SourceReport) -> Score {
    Score { n: s.n, mape: s.mape, median_ape: s.median_ape, p90_ape: s.p90_ape }
}

fn source_report(source: &str, rows: &[&Row], shipped: &Parameters, without: &Parameters) -> SourceReport {
    let mut skipped_reasons: BTreeMap<&'static str, usize> = BTreeMap::new();
    let (mut by_shipped, mut by_without) = (Errors::default(), Errors::default());
    let mut gpus: BTreeMap<&str, Errors> = BTreeMap::new();
    let seen = shipped.sources.iter().any(|s| s == source);
    let (shipped, without) = (shipped.values(), without.values());
    for row in rows {
        let errors = row.sample.as_ref().map_err(|r| *r).and_then(|sample| {
            let both = error(sample, shipped).zip(error(sample, without));
            both.map(|e| (sample.bytes, e)).ok_or(Reason::Impossible)
        });
        match errors {
            Err(reason) => *skipped_reasons.entry(reason.name()).or_default() += 1,
            Ok((bytes, (with, without))) => {
                by_shipped.push(bytes, with);
                by_without.push(bytes, without);
                gpus.entry(&row.gpu).or_default().push(bytes, if seen { without } else { with });
            }
        }
    }
    let (shipped, leave_one_out) = (by_shipped.score(), by_without.score());
    let main = if seen { leave_one_out } else { shipped };
    SourceReport {
        source: source.to_string(),
        n: main.all.n,
        skipped: skipped_reasons.values().sum(),
        skipped_reasons,
        mape: main.all.mape,
        median_ape: main.all.median_ape,
        p90_ape: main.all.p90_ape,
        scored_by: if seen { ScoredBy::LeaveOneOut } else { ScoredBy::Shipped },
        large: main.large,
        shipped,
        leave_one_out,
        by_gpu: gpus.into_iter().map(|(gpu, mut errors)| (gpu.to_string(), errors.score())).collect(),
    }
}

/// Relative errors with their sizes.
#[derive(Default)]
struct Errors {
    small: Vec<f64>,
    large: Vec<f64>,
}

impl Errors {
    fn push(&mut self, bytes: u64, error: f64) {
        if bytes >= LARGE { self.large.push(error) } else { self.small.push(error) }
    }

    fn score(&mut self) -> BySize {
        let large = score(&mut self.large.clone());
        self.small.extend_from_slice(&self.large);
        BySize { all: score(&mut self.small), large }
    }
}

fn score(errors: &mut [f64]) -> Score {
    errors.sort_by(f64::total_cmp);
    let n = errors.len();
    if n == 0 {
        return Score::default();
    }
    let median = (errors[(n - 1) / 2] + errors[n / 2]) / 2.0;
    let ninetieth = errors[(n * 9).div_ceil(10).max(1) - 1];
    let mean = errors.iter().fold(0.0, |sum, e| sum + e) / n as f64;
    Score { n, mape: Some(mean), median_ape: Some(median), p90_ape: Some(ninetieth) }
}

fn overall(sources: &[SourceReport], of: impl Fn(&SourceReport) -> BySize) -> Overall {
    let mean = |medians: &[f64]| {
        let sum = medians.iter().fold(0.0, |sum, e| sum + e);
        (!medians.is_empty()).then(|| sum / medians.len() as f64)
    };
    let all: Vec<f64> = sources.iter().filter_map(|s| of(s).all.median_ape).collect();
    let large: Vec<f64> = sources.iter().filter_map(|s| of(s).large.median_ape).collect();
    Overall {
        sources: all.len(),
        large_sources: large.len(),
        median_ape: mean(&all),
        large_median_ape: mean(&large),
    }
}
