//! The whole data folder, where `TIDEPLAN_DATA` names one.

use std::path::PathBuf;
use validation::runs::{Trust, evaluate, read, report, shipped};

#[test]
fn every_row_is_scored_or_has_a_reason() {
    let Some(data) = std::env::var_os("TIDEPLAN_DATA").map(PathBuf::from) else {
        println!("skipped: TIDEPLAN_DATA is not set");
        return;
    };
    let text = std::fs::read_to_string(data.join("runs/runs.csv")).unwrap();
    let rows = read(&text).unwrap();
    let plans = data.join("plans/sailor");
    let outcomes = evaluate(rows, |row| std::fs::read_to_string(plans.join(format!("{}.json", row.id))).ok());
    let report = report(&outcomes);
    let relied = outcomes.iter().filter(|o| o.row.trust != Trust::C).count();
    assert_eq!(report.overall.n + report.overall.skipped, relied);

    // Sailor's rows give what they give shipped, and at most 12 % mean error.
    let ours = evaluate(shipped(), |_| None);
    for own in &ours {
        let given = outcomes.iter().find(|o| o.row.id == own.row.id).unwrap();
        assert_eq!(given.row.iter_time_s, own.row.iter_time_s, "{}", own.row.id);
        assert_eq!(given.row.trust, own.row.trust, "{}", own.row.id);
        assert_eq!(given.result.as_ref().ok(), own.result.as_ref().ok(), "{}", own.row.id);
    }
    assert_eq!(report.overall.n, 28);
    assert!(report.overall.mape.unwrap() <= 0.12);
}
