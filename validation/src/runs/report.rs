//! Outcomes of rows, put together by source.

use super::metric::{Sweep, kendall_tau, mean, median, noise_floor, quantile, top1_regret};
use super::oom::Oom;
use super::{Outcome, Prediction, Reason, Row, Tier, Trust};
use serde::Serialize;
use std::collections::BTreeMap;

/// Figures over the rows of trust A and B; `None` where there is nothing to take them over. Errors are fractions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Rows scored.
    pub n: usize,
    /// Rows not scored.
    pub skipped: usize,
    /// Why not.
    pub skipped_reasons: BTreeMap<Reason, usize>,
    /// Mean of `|predicted / measured - 1|`.
    pub mape: Option<f64>,
    /// Its median.
    pub median_ape: Option<f64>,
    /// Its 90th percentile.
    pub p90_ape: Option<f64>,
    /// Mean of `predicted / measured - 1`.
    pub bias: Option<f64>,
    /// Order within sweeps: [`kendall_tau`].
    pub kendall_tau: Option<f64>,
    /// Cost of choosing by prediction within sweeps: [`top1_regret`].
    pub top1_regret: Option<f64>,
    /// Mean error of the peak memory, over the rows that give one.
    pub memory_mape: Option<f64>,
    /// What repeated configurations leave: [`noise_floor`].
    pub noise_floor: Option<f64>,
    /// Share of the rows whose measured time is inside its interval, which is to hold nine in ten.
    pub interval_coverage: Option<f64>,
    /// Rows of trust C, in no other figure.
    pub noisy: Noisy,
    /// Shipped rows that constants were fitted on, in no other figure but the counts of skipped rows.
    pub fitted: Noisy,
    /// The same by tier of the prediction.
    pub tiers: BTreeMap<Tier, Noisy>,
}

/// Some rows and their mean error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Noisy {
    /// Rows scored.
    pub n: usize,
    /// Mean of `|predicted / measured - 1|`.
    pub mape: Option<f64>,
}

/// The figures of one source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceReport {
    /// Its name, verbatim.
    pub source: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What came of a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// By source, in the order of their first rows.
    pub sources: Vec<SourceReport>,
    /// Over all rows.
    pub overall: Figures,
    /// Out of memory, yes or no.
    pub oom: Oom,
}

/// Puts outcomes together.
pub fn report(outcomes: &[Outcome]) -> Report {
    let mut order: Vec<&str> = Vec::new();
    let mut of_source: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        let rows = of_source.entry(&outcome.row.source).or_default();
        if rows.is_empty() {
            order.push(&outcome.row.source);
        }
        rows.push(outcome);
    }
    let source = |name: &&str| SourceReport { source: (*name).into(), figures: figures(&of_source[name]) };
    Report {
        sources: order.iter().map(source).collect(),
        overall: figures(&outcomes.iter().collect::<Vec<_>>()),
        oom: Oom::default(),
    }
}

/// The figures of some outcomes.
pub(super) fn figures(outcomes: &[&Outcome]) -> Figures {
    let (noisy, relied): (Vec<&Outcome>, Vec<&Outcome>) =
        outcomes.iter().partition(|o| o.row.trust == Trust::C);
    let mut skipped_reasons: BTreeMap<Reason, usize> = BTreeMap::new();
    let mut scored: Vec<(&Row, &Prediction)> = Vec::new();
    let mut fitted: Vec<f64> = Vec::new();
    for outcome in &relied {
        match &outcome.result {
            Ok(prediction) if outcome.fitted => fitted.push(prediction.error().abs()),
            Ok(prediction) => scored.push((&outcome.row, prediction)),
            Err(skip) => *skipped_reasons.entry(skip.reason).or_default() += 1,
        }
    }
    let errors: Vec<f64> = scored.iter().map(|(_, p)| p.error().abs()).collect();
    let memory = scored.iter().filter_map(|(row, p)| Some((p.memory_gib / row.peak_mem_gib? - 1.0).abs()));
    let mut tiers: BTreeMap<Tier, Vec<f64>> = BTreeMap::new();
    for (_, p) in &scored {
        tiers.entry(p.tier).or_default().push(p.error().abs());
    }
    let sweeps = sweeps(&scored);
    Figures {
        n: scored.len(),
        skipped: skipped_reasons.values().sum(),
        skipped_reasons,
        mape: mean(errors.iter().copied()),
        median_ape: median(&errors),
        p90_ape: quantile(&errors, 0.9),
        bias: mean(scored.iter().map(|(_, p)| p.error())),
        kendall_tau: kendall_tau(&sweeps),
        top1_regret: top1_regret(&sweeps),
        memory_mape: mean(memory),
        noise_floor: noise_floor(&repeats(&scored)),
        interval_coverage: mean(scored.iter().map(|(_, p)| if p.covers() { 1.0 } else { 0.0 })),
        noisy: some(noisy.iter().filter_map(|o| Some(o.result.as_ref().ok()?.error().abs()))),
        fitted: some(fitted),
        tiers: tiers.into_iter().map(|(tier, errors)| (tier, some(errors))).collect(),
    }
}

fn some(errors: impl IntoIterator<Item = f64>) -> Noisy {
    let errors: Vec<f64> = errors.into_iter().collect();
    Noisy { n: errors.len(), mape: mean(errors) }
}

/// Rows of one source that train one model on as many GPUs of the same kinds with one batch and sequence: what a planner
/// would choose from.
fn sweeps(scored: &[(&Row, &Prediction)]) -> Vec<Sweep> {
    let mut sweeps: BTreeMap<_, Sweep> = BTreeMap::new();
    for (row, p) in scored {
        let key = (&row.source, &row.model, &row.mix, row.gpus, row.global_batch, row.seq_len);
        sweeps.entry(key).or_default().push((p.measured_s, p.predicted_s));
    }
    sweeps.into_values().collect()
}

fn repeats(scored: &[(&Row, &Prediction)]) -> Vec<Vec<f64>> {
    let mut groups: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (row, p) in scored {
        groups.entry(&row.configuration).or_default().push(p.measured_s);
    }
    groups.into_values().collect()
}
