//! Residuals by operator and size.

use serde::Serialize;
use std::collections::BTreeMap;

/// Errors of one operator at sizes within a factor of ten.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Residual {
    /// Its name.
    pub name: String,
    /// Power of ten of the size: FLOP of a product, bytes of a memory-bound kernel.
    pub decade: i32,
    /// Measurements.
    pub n: usize,
    /// Median of `|predicted / measured - 1|`.
    pub median: f64,
    /// Median of `predicted / measured - 1`.
    pub bias: f64,
}

/// Groups (name, size, log of predicted over measured), in order of name and size.
pub(super) fn summarise(errors: &[(String, f64, f64)]) -> Vec<Residual> {
    let mut groups: BTreeMap<(&str, i32), Vec<f64>> = BTreeMap::new();
    for (name, size, error) in errors {
        // A size is at least 1 and below 10^300.
        let decade = libm::floor(libm::log10(size.max(1.0))) as i32;
        groups.entry((name, decade)).or_default().push(libm::exp(*error) - 1.0);
    }
    let summary = |((name, decade), list): ((&str, i32), Vec<f64>)| Residual {
        name: name.to_owned(),
        decade,
        n: list.len(),
        median: median(list.iter().map(|e| e.abs()).collect()),
        bias: median(list),
    };
    groups.into_iter().map(summary).collect()
}

/// The median, 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (n, half) if n % 2 == 1 => values[half],
        (_, half) => (values[half - 1] + values[half]) / 2.0,
    }
}

/// Standard deviation that the median absolute error of a normal distribution would have; at least 1 %.
pub(super) fn spread(errors: impl Iterator<Item = f64>) -> f64 {
    super::fit::round((median(errors.map(f64::abs).collect()) * 1.4826).max(0.01))
}
