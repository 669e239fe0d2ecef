//! `--html`: the report as one page with its pictures, and the worst rows with a guess why.

use super::group::{By, by, parallelism};
use super::report::{Figures, Report};
use super::svg::{Series, error_bars, escape, predicted_against_measured};
use super::{Outcome, Prediction, Row, Trust};
use std::fmt::Write;

/// Rows of the list of the worst.
const WORST: usize = 20;
/// Groups of fewer rows are not drawn.
const LEAST_ROWS: usize = 3;

fn scored(outcomes: &[Outcome]) -> impl Iterator<Item = (&Row, &Prediction)> {
    let relied = outcomes.iter().filter(|o| o.row.trust != Trust::C);
    relied.filter_map(|o| Some((&o.row, o.result.as_ref().ok()?)))
}

/// The page.
pub fn html(report: &Report, outcomes: &[Outcome]) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>tideplan validate</title>\n<style>body{font-family:\
         sans-serif;max-width:60em;margin:2em auto}table{border-collapse:collapse}td,th{padding:2px 8px;text-align:right;\
         border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}td.t{text-align:left}</style>\n\
         <h1>Predicted against measured</h1>\n<p>Errors of the iteration time as a share of the measured one, rows of trust A and B. \
         Every figure is defined in docs/validate.md.</p>\n",
    );
    page += &table(report);
    page += "<h2>Predicted against measured time</h2>\n<p>Dashed: 20 % low, 25 % high.</p>\n";
    let series: Vec<Series<'_>> = report
        .sources
        .iter()
        .map(|s| {
            let rows = scored(outcomes).filter(|(row, _)| row.source == s.source);
            (s.source.as_str(), rows.map(|(r, p)| (p.measured_s, p.predicted_s, r.id.as_str())).collect())
        })
        .collect();
    page += &predicted_against_measured(&series);
    for (title, key) in [
        ("Error by number of GPUs", By::Scale),
        ("Error by kind of parallelism", By::Parallelism),
        ("Error by GPU", By::Gpu),
        ("Error by framework", By::Framework),
    ] {
        let bars = by(outcomes, key).into_iter().filter(|(_, f)| f.n + f.fitted.n >= LEAST_ROWS);
        let bars: Vec<_> = bars.filter_map(|(name, f)| bar(name, &f)).collect();
        let _ = write!(page, "<h2>{title}</h2>\n{}", error_bars(&bars));
    }
    page += "<h2>Error by tensor and pipeline parallelism</h2>\n";
    page += &degrees(outcomes);
    page += &worst(outcomes);
    page + "</html>\n"
}

fn bar(name: String, f: &Figures) -> Option<(String, usize, f64, f64)> {
    Some((name, f.n, f.median_ape?, f.p90_ape?))
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |s| format!("{:.1}", 100.0 * s))
}

fn table(report: &Report) -> String {
    let mut out = String::from(
        "<table><tr><th>source<th>rows<th>skipped<th>mean %<th>median %<th>90th %<th>bias %<th>tau<th>regret %<th>memory %\
         <th>noise %<th>in interval %</tr>\n",
    );
    let all = report.sources.iter().map(|s| (s.source.as_str(), &s.figures));
    for (name, f) in all.chain([("all", &report.overall)]) {
        let tau = f.kendall_tau.map_or("-".into(), |t| format!("{t:.2}"));
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{tau}<td>{}<td>{}<td>{}<td>{}</tr>",
            escape(name),
            f.n,
            f.skipped,
            percent(f.mape),
            percent(f.median_ape),
            percent(f.p90_ape),
            percent(f.bias),
            percent(f.top1_regret),
            percent(f.memory_mape),
            percent(f.noise_floor),
            percent(f.interval_coverage)
        );
    }
    out + "</table>\n"
}

/// Mean error by TP (down) and PP (across).
fn degrees(outcomes: &[Outcome]) -> String {
    use std::collections::{BTreeMap, BTreeSet};
    let mut cells: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
    for (row, p) in scored(outcomes) {
        let key = (row.tp.unwrap_or(1), row.pp.unwrap_or(1));
        cells.entry(key).or_default().push(p.error().abs());
    }
    let columns: BTreeSet<u64> = cells.keys().map(|k| k.1).collect();
    let lines: BTreeSet<u64> = cells.keys().map(|k| k.0).collect();
    let mut out = String::from("<table><tr><th>mean % (rows)");
    for pp in &columns {
        let _ = write!(out, "<th>PP {pp}");
    }
    out += "</tr>\n";
    for tp in lines {
        let _ = write!(out, "<tr><td>TP {tp}");
        for pp in &columns {
            match cells.get(&(tp, *pp)) {
                Some(e) => {
                    let mean = super::metric::mean(e.iter().copied());
                    let _ = write!(out, "<td>{} ({})", percent(mean), e.len());
                }
                None => out += "<td>",
            }
        }
        out += "</tr>\n";
    }
    out + "</table>\n"
}

fn worst(outcomes: &[Outcome]) -> String {
    let mut rows: Vec<_> = scored(outcomes).collect();
    let far = |p: &Prediction| libm::log(p.predicted_s / p.measured_s).abs();
    rows.sort_by(|a, b| far(b.1).total_cmp(&far(a.1)).then_with(|| a.0.id.cmp(&b.0.id)));
    let mut out = String::from(
        "<h2>The rows that are furthest off</h2>\n<table><tr><th>row<th>measured s<th>predicted s<th>error %<th>run<th>a guess why</tr>\n",
    );
    for (row, p) in rows.into_iter().take(WORST) {
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{:.3}<td>{:.3}<td>{:+.1}<td class=t>{} {}, {}<td class=t>{}</tr>",
            escape(&row.id),
            p.measured_s,
            p.predicted_s,
            100.0 * p.error(),
            row.gpus.unwrap_or(0),
            escape(&p.gpu),
            parallelism(row),
            guess(row, p)
        );
    }
    out + "</table>\n"
}

/// What most likely put a row so far off, from what its source says of it.
pub fn guess(row: &Row, p: &Prediction) -> &'static str {
    let degree = |cell: Option<u64>| cell.unwrap_or(1);
    let micro_batches = row.global_batch.unwrap_or(1) / (degree(row.dp) * degree(row.micro_batch)).max(1);
    let full = row.peak_mem_gib.is_some_and(|m| m > 0.93 * p.capacity_gib) || !p.fits;
    let slow = p.error() < 0.0;
    match () {
        () if slow && p.predicted_s < 0.4 * p.measured_s => {
            "the run stalled: it took over 2.5 times what alike ones do"
        }
        () if slow && full => "memory nearly full: the allocator waits and retries",
        () if degree(row.tp) > degree(row.gpus_per_node.or(Some(8))) => "tensor parallelism across nodes",
        () if micro_batches <= 1 => "one micro-batch: what an iteration costs beside its passes weighs most",
        () if row.experts.unwrap_or(0) > 1 => "experts: grouped kernels and the exchange of tokens",
        () if slow && row.gpus.unwrap_or(0) >= 256 => "a large cluster: stragglers and shared links",
        () if degree(row.pp) > 1 && micro_batches < 4 * degree(row.pp) => {
            "a short pipeline: its bubble, and how stages are cut"
        }
        () if row.framework.is_empty() => "the framework is not stated",
        () => "not explained",
    }
}
