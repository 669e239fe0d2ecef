//! VALIDATION.md: what a run of the command found, as a section of the page that the next run can be held against.
//!
//! The page has two sections between marks, `A` for the shipped rows and `B` for the data folder; each is replaced on its own.

use super::group::{By, by};
use super::report::{Figures, Report};
use super::{Outcome, Reason, Trust, goal};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A section of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The shipped rows.
    Shipped,
    /// The rows of the data folder.
    Data,
}

impl Section {
    fn marks(self) -> (&'static str, &'static str) {
        match self {
            Section::Shipped => ("<!-- section A -->\n", "<!-- end of section A -->\n"),
            Section::Data => ("<!-- section B -->\n", "<!-- end of section B -->\n"),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Section::Shipped => "A. The shipped rows",
            Section::Data => "B. All measured rows, those that cannot be shipped among them",
        }
    }
}

const HEAD: &str = "# How far off: the figures

Written by `tideplan validate --write VALIDATION.md`; every figure is defined in docs/validate.md. Errors in percent of the
measured iteration time.

";

/// What the page says of a section; `None` where it has none.
pub fn section_of(page: &str, section: Section) -> Option<&str> {
    let (start, end) = section.marks();
    let from = page.find(start)? + start.len();
    let to = from + page[from..].find(end)?;
    Some(&page[from..to])
}

/// The page with this section in place of its own.
pub fn with_section(page: &str, section: Section, text: &str) -> String {
    let (start, end) = section.marks();
    match section_of(page, section) {
        Some(old) => {
            let from = old.as_ptr() as usize - page.as_ptr() as usize;
            format!("{}{text}{}", &page[..from], &page[from + old.len()..])
        }
        None => format!("{}{start}{text}{end}", if page.is_empty() { HEAD } else { page }),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |s| format!("{:.1}", 100.0 * s))
}

fn table<'a>(first: &str, rows: impl Iterator<Item = (&'a str, &'a Figures)>) -> String {
    let mut out = format!(
        "| {first} | rows | skipped | mean | median | 90th | bias | tau | regret | memory | noise floor | in the 90 % interval | \
         fitted on: rows, mean | trust C: rows, mean |\n| --- |{}\n",
        " ---: |".repeat(13)
    );
    for (name, f) in rows {
        let apart =
            |n: usize, m: Option<f64>| if n == 0 { "-".into() } else { format!("{n}, {}", percent(m)) };
        let tau = f.kendall_tau.map_or("-".into(), |t| format!("{t:.2}"));
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {tau} | {} | {} | {} | {} | {} | {} |",
            f.n,
            f.skipped,
            percent(f.mape),
            percent(f.median_ape),
            percent(f.p90_ape),
            f.bias.map_or("-".into(), |b| format!("{:+.1}", 100.0 * b)),
            percent(f.top1_regret),
            percent(f.memory_mape),
            percent(f.noise_floor),
            percent(f.interval_coverage),
            apart(f.fitted.n, f.fitted.mape),
            apart(f.noisy.n, f.noisy.mape)
        );
    }
    out
}

/// A section: outcomes in the best tier of each row, and all from datasheets alone.
pub fn section(section: Section, report: &Report, outcomes: &[Outcome], datasheet: &Report) -> String {
    let mut out = format!("## {}\n\n", section.title());
    let sources = report.sources.iter().map(|s| (s.source.as_str(), &s.figures));
    out += &table("source", sources.chain([("all", &report.overall)]));
    if report.oom.n > 0 {
        let o = &report.oom;
        let _ = writeln!(
            out,
            "\nOut of memory: of {} failures {} % are foreseen; of the configurations predicted to fail {} % did \
             ({} false alarms among {} runs).",
            o.failures,
            percent(o.recall),
            percent(o.precision),
            o.false_alarms,
            o.n - o.failures
        );
    }
    out += "\n### From datasheets and micro-benchmarks alone\n\nNothing here was fitted on runs.\n\n";
    let sources = datasheet.sources.iter().map(|s| (s.source.as_str(), &s.figures));
    out += &table("source", sources.chain([("all", &datasheet.overall)]));
    for key in [By::Tier, By::Gpu, By::Framework, By::Scale] {
        let groups = by(outcomes, key);
        let _ = write!(
            out,
            "\n### By {key}\n\n{}",
            table(key.name(), groups.iter().map(|(n, f)| (n.as_str(), f)))
        );
    }
    out += &goal::table(report, datasheet, outcomes);
    out += &cross_validation();
    out += &doubtful(outcomes);
    out
}

/// Left out by source, by model and by GPU: as `fit_runs -- cross` last wrote it.
fn cross_validation() -> String {
    let mut out = String::from(
        "\n### Left out of the fit\n\nConstants fitted anew without a source, a model or a GPU, and what they give on it. Written by\n\
         `cargo run --release -p validation --example fit_runs -- cross validation/data/cross.csv`.\n\n| left out | rows | mean with it | mean without it |\n\
         | --- | ---: | ---: | ---: |\n",
    );
    for line in include_str!("../../data/cross.csv").lines().skip(1) {
        let cells: Vec<String> = csv_cells(line);
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}

fn csv_cells(line: &str) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
    let record = reader.records().next().and_then(Result::ok);
    record.map_or_else(Vec::new, |r| r.iter().map(String::from).collect())
}

/// Configurations whose repeats differ by more than this share are listed.
const INCONSISTENT: f64 = 0.10;

/// Rows that cannot be, or that contradict others, with the arithmetic.
fn doubtful(outcomes: &[Outcome]) -> String {
    let mut out = String::from("\n### Impossible, corrupt and inconsistent rows\n\n");
    let mut lines: Vec<String> = Vec::new();
    for outcome in outcomes {
        if let Err(skip) = &outcome.result
            && matches!(skip.reason, Reason::Impossible | Reason::Corrupt)
        {
            lines.push(format!("{} ({}): {}", outcome.row.id, skip.reason, skip.what));
        }
    }
    let mut repeats: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|o| o.row.trust != Trust::C && o.row.iter_time_s.is_some()) {
        repeats.entry(&outcome.row.configuration).or_default().push(outcome);
    }
    for group in repeats.values().filter(|g| g.len() > 1) {
        let times = || group.iter().filter_map(|o| o.row.iter_time_s);
        let (least, most) = (times().fold(f64::INFINITY, f64::min), times().fold(0.0, f64::max));
        if most > (1.0 + INCONSISTENT) * least {
            let ids: Vec<&str> = group.iter().map(|o| o.row.id.as_str()).collect();
            let apart = 100.0 * (most / least - 1.0);
            lines.push(format!(
                "{}: one configuration, {least} to {most} s, {apart:.0} % apart",
                ids.join(", ")
            ));
        }
    }
    if lines.is_empty() {
        out += "None.\n";
    }
    for line in lines {
        let _ = writeln!(out, "- {line}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_replaced_on_their_own() {
        let page = with_section("", Section::Shipped, "a\n");
        let page = with_section(&page, Section::Data, "b\n");
        let page = with_section(&page, Section::Shipped, "new\n");
        assert_eq!(section_of(&page, Section::Shipped), Some("new\n"));
        assert_eq!(section_of(&page, Section::Data), Some("b\n"));
        assert_eq!(section_of("", Section::Data), None);
    }
}
