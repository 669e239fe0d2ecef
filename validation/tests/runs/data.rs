//! The whole data folder, where `TIDEPLAN_DATA` names one.

use std::path::PathBuf;
use validation::runs::{Settings, Trust, evaluate, read, report, shipped};

#[test]
fn every_row_is_scored_or_has_a_reason() {
    let Some(data) = std::env::var_os("TIDEPLAN_DATA").map(PathBuf::from) else {
        println!("skipped: TIDEPLAN_DATA is not set");
        return;
    };
    let text = std::fs::read_to_string(data.join("runs/runs.csv")).unwrap();
    let rows = read(&text).unwrap();
    let plans = data.join("plans/sailor");
    let settings = Settings::default();
    let outcomes =
        evaluate(rows, &settings, |row| std::fs::read_to_string(plans.join(format!("{}.json", row.id))).ok());
    let report = report(&outcomes);
    let relied = outcomes.iter().filter(|o| o.row.trust != Trust::C).count();
    assert_eq!(report.overall.n + report.overall.skipped, relied);

    for source in &report.sources {
        let f = &source.figures;
        assert!(f.n * 10 >= 9 * (f.n + f.skipped), "{}: {} of {}", source.source, f.n, f.n + f.skipped);
    }

    // Shipped rows give what they give here.
    for own in &evaluate(shipped(), &settings, |_| None) {
        let given = outcomes.iter().find(|o| o.row.id == own.row.id).unwrap();
        assert_eq!(given.row.iter_time_s, own.row.iter_time_s, "{}", own.row.id);
        assert_eq!(given.row.trust, own.row.trust, "{}", own.row.id);
        if let (Ok(a), Ok(b)) = (&given.result, &own.result) {
            assert_eq!((a.predicted_s, a.memory_gib), (b.predicted_s, b.memory_gib), "{}", own.row.id);
        }
    }
}
