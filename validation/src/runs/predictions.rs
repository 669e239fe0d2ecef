//! Every row's prediction as CSV.

use super::{Outcome, Trust};
use serde::Serialize;

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    source: &'a str,
    trust: &'static str,
    tier: Option<super::Tier>,
    measured_s: Option<f64>,
    predicted_s: Option<f64>,
    error: Option<f64>,
    measured_peak_gib: Option<f64>,
    predicted_peak_gib: Option<f64>,
    skipped: Option<super::Reason>,
    why: &'a str,
}

/// One line a row, in the order of the file: `id,source,trust,tier,measured_s,predicted_s,error,measured_peak_gib,
/// predicted_peak_gib,skipped,why`; `error` is `predicted / measured - 1`, cells that do not apply are empty.
pub fn predictions_csv(outcomes: &[Outcome]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for outcome in outcomes {
        let row = &outcome.row;
        let (p, skip) = (outcome.result.as_ref().ok(), outcome.result.as_ref().err());
        let line = Line {
            id: &row.id,
            source: &row.source,
            trust: match row.trust {
                Trust::A => "A",
                Trust::B => "B",
                Trust::C => "C",
            },
            tier: p.map(|p| p.tier),
            measured_s: row.iter_time_s,
            predicted_s: p.map(|p| p.predicted_s),
            error: p.map(super::Prediction::error),
            measured_peak_gib: row.peak_mem_gib,
            predicted_peak_gib: p.map(|p| p.memory_gib),
            skipped: skip.map(|s| s.reason),
            why: skip.map_or("", |s| &s.what),
        };
        writer.serialize(line).expect("a flat line into memory");
    }
    let bytes = writer.into_inner().expect("flushing into memory");
    String::from_utf8(bytes).expect("cells are strings and numbers")
}
