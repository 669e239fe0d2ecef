//! Fits the parameters to measurements, with a loss that forgets outliers, and priors.
//!
//! Every residual is `ln(predicted / measured)`. A thousand rows of one sweep say little more than thirty: rows are
//! gathered in cells (one source, fabric, operation, group and octave of the size), a cell weighs as one, and no source
//! weighs more than 24 cells. The priors are rows too, so that what no measurement determines stays where it was.

use super::nccl::Nccl;
use super::parameters::{Name, Parameters, Values};
use super::ways::US;
use super::{Algorithm, CollectiveKind, CollectiveModel, Fabric, Group};
use crate::calibrate::{self, Fitted, Parameter};
use crate::units::Bytes;
use std::collections::BTreeMap;

/// No source weighs more than this many cells.
const MOST_CELLS: f64 = 24.0;
/// Rows taken of a cell, spread evenly over its sizes.
const OF_A_CELL: usize = 3;
/// Relative error beyond which a row counts less and less, and the error that a row is believed to.
const SCALE: f64 = 0.15;
/// Residuals are handed on this small, where the search's own loss is quadratic: outliers are dealt with here.
const UNIT: f64 = 1e-3;
/// The least value of a parameter whose bound is 0: its logarithm is searched.
const SMALLEST: f64 = 1e-6;

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Who measured: samples of one source share a weight.
    pub source: String,
    /// On what.
    pub fabric: Fabric,
    /// What.
    pub kind: CollectiveKind,
    /// How much, above 0.
    pub bytes: u64,
    /// Among which ranks.
    pub group: Group,
    /// How, where that was said.
    pub algorithm: Option<Algorithm>,
    /// A framework issued and timed it from the host; otherwise nccl-tests or a trace of kernels did.
    pub from_host: bool,
    /// Measured seconds, finite and above 0.
    pub seconds: f64,
}

impl Sample {
    /// The predicted seconds with these values; `None` where the fabric does not hold the group.
    pub fn predicted(&self, values: Values) -> Option<f64> {
        let model = Nccl::with_values(self.fabric, values).ok()?;
        let bytes = Bytes(self.bytes);
        let named = self.algorithm.map(|algorithm| model.time_by(algorithm, self.kind, bytes, self.group));
        let estimate = match named {
            Some(Ok(named)) => Ok(named),
            // An algorithm that the fabric cannot run is a misnomer: NCCL chose.
            _ => model.time(self.kind, bytes, self.group),
        };
        let issued = if self.from_host { values.get(Name::HostUs) * US } else { 0.0 };
        estimate.ok().map(|e| e.seconds).filter(|s| *s > 0.0).map(|s| s + issued)
    }
}

/// The parameters that fit best, started from (and held to) the priors of `start`; sources and sizes are the samples'.
/// Without samples they are the priors. Beside them, what the search says of each.
pub fn fit(samples: &[&Sample], start: &Parameters) -> (Parameters, Vec<Fitted>) {
    let rows = weighted(samples);
    let searched: Vec<Parameter> = Name::ALL
        .into_iter()
        .map(|name| {
            let p = start.get(name);
            Parameter::new(name.key(), p.prior, p.min.max(SMALLEST), p.max)
        })
        .collect();
    let fitted = calibrate::fit(&searched, |values| residuals_of(&rows, start, start.bounded(values)));
    let values: Vec<f64> = fitted.iter().map(|f| f.value).collect();
    let mut best = start.with(&start.bounded(&values));
    let mut sources: Vec<String> = samples.iter().map(|s| s.source.clone()).collect();
    sources.sort_unstable();
    sources.dedup();
    best.sources = sources;
    if !samples.is_empty() {
        let sizes = samples.iter().map(|s| s.bytes as f64);
        best.sizes = sizes.fold((f64::INFINITY, 0.0), |(low, high), b| (low.min(b), high.max(b)));
    }
    (best, fitted)
}

/// Which parameters the samples say more of than `parameters`' spreads do, at their values.
pub fn determined(samples: &[&Sample], parameters: &Parameters) -> [bool; Name::ALL.len()] {
    const STEP: f64 = 0.01;
    let (rows, values) = (weighted(samples), parameters.values());
    Name::ALL.map(|name| {
        let at = |factor: f64| {
            let changed: Vec<f64> =
                Name::ALL.into_iter().map(|n| values.get(n) * if n == name { factor } else { 1.0 }).collect();
            parameters.bounded(&changed)
        };
        let (low, high) = (at(1.0 - STEP), at(1.0 + STEP));
        let of = |row: &Row<'_>| {
            let slope = libm::log(row.sample.predicted(high)? / row.sample.predicted(low)?) / (2.0 * STEP);
            Some(row.weight * row.weight * slope * slope)
        };
        let said = rows.iter().filter_map(of).fold(0.0, |sum, s| sum + s) / (SCALE * SCALE);
        let spread = parameters.get(name).spread;
        said > 1.0 / (spread * spread)
    })
}

struct Row<'s> {
    sample: &'s Sample,
    weight: f64,
}

/// Cells, and of each a few rows with the weight of the cell.
fn weighted<'s>(samples: &[&'s Sample]) -> Vec<Row<'s>> {
    type Cell<'s> = (&'s str, CollectiveKind, Group, u64, [u64; 3]);
    let mut cells: BTreeMap<Cell<'s>, Vec<&'s Sample>> = BTreeMap::new();
    for sample in samples.iter().copied().filter(|s| s.bytes > 0 && s.seconds > 0.0 && s.seconds.is_finite())
    {
        let fabric = &sample.fabric;
        let between = fabric.network.as_ref().map_or(0.0, |net| net.card_rate * f64::from(net.cards));
        let rates = [fabric.ring_rate(sample.group.per_node()), between, fabric.architecture.channel];
        let octave = u64::from(sample.bytes.ilog2());
        let cell = (sample.source.as_str(), sample.kind, sample.group, octave, rates.map(f64::to_bits));
        cells.entry(cell).or_default().push(sample);
    }
    let mut of_source: BTreeMap<&str, f64> = BTreeMap::new();
    for cell in cells.keys() {
        *of_source.entry(cell.0).or_default() += 1.0;
    }
    let mut rows = Vec::new();
    for (cell, mut members) in cells {
        members.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.seconds.total_cmp(&b.seconds)));
        let taken = members.len().min(OF_A_CELL);
        let count = of_source[cell.0];
        let weight = count.min(MOST_CELLS) / count / taken as f64;
        for i in 0..taken {
            let sample = members[(2 * i + 1) * members.len() / (2 * taken)];
            rows.push(Row { sample, weight: weight.sqrt() });
        }
    }
    rows
}

/// The measurements' residuals, then the priors'.
fn residuals_of(rows: &[Row<'_>], parameters: &Parameters, values: Values) -> Vec<f64> {
    let measured = rows.iter().map(|row| {
        let error = row.sample.predicted(values).map_or(0.0, |p| libm::log(p / row.sample.seconds));
        let loss = libm::sqrt(libm::log1p(error * error / (SCALE * SCALE)));
        loss.copysign(error) * row.weight * UNIT
    });
    let believed = Name::ALL.into_iter().map(|name| {
        let p = parameters.get(name);
        libm::log(values.get(name).max(SMALLEST) / p.prior) / p.spread * UNIT
    });
    measured.chain(believed).collect()
}
