//! The whole data folder, where `TIDEPLAN_DATA` names one.

use std::path::PathBuf;
use validation::runs::markdown::{Section, section, section_of};
use validation::runs::{Outcome, Settings, Tier, Trust, evaluate, mark_fitted, oom, read, report, shipped};

/// What the page must say of outcomes; its own text is what was last written.
fn page_says(part: Section, outcomes: &[Outcome], datasheet: &[Outcome], oom: oom::Oom) {
    let mut found = report(outcomes);
    found.oom = oom;
    let text = section(part, &found, outcomes, &report(datasheet));
    let page = include_str!("../../../VALIDATION.md");
    let own = section_of(page, part).expect("the section is there");
    if let Some((line, (a, b))) = own.lines().zip(text.lines()).enumerate().find(|(_, (a, b))| a != b) {
        panic!("VALIDATION.md is not what the command writes, line {line} of {part:?}:\n{a}\n{b}");
    }
    assert_eq!(own.lines().count(), text.lines().count(), "{part:?}");
}

#[test]
fn section_a_of_the_page_is_what_the_shipped_rows_give() {
    let sheet = Settings { tier: Some(Tier::Datasheet), ..Settings::default() };
    let ours = mark_fitted(evaluate(shipped(), &Settings::default(), |_| None));
    page_says(Section::Shipped, &ours, &evaluate(shipped(), &sheet, |_| None), oom::Oom::default());
}

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

    let sheet = Settings { tier: Some(Tier::Datasheet), ..settings };
    let rows = read(&text).unwrap();
    let by_sheet =
        evaluate(rows, &sheet, |row| std::fs::read_to_string(plans.join(format!("{}.json", row.id))).ok());
    let failed = std::fs::read_to_string(data.join("runs/oom_configs.csv")).unwrap();
    let failures = oom::read(&failed, outcomes.iter().map(|o| &o.row)).unwrap();
    let oom = oom::score(&validation::runs::fit_in_memory(failures, &settings), &outcomes);
    page_says(Section::Data, &outcomes, &by_sheet, oom);

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
