//! `tideplan trace stats`: the figures of a trace.

use super::{open, shown};
use crate::cli::TraceStats;
use crate::commands::{print, print_json};
use crate::failure::{Answer, Failure};
use crate::report::table::{Table, thousands};
use scenarios::series::{Stats, Summary};
use serde_json::{Value, json};

/// Series of a table for people.
const MOST_ROWS: usize = 40;

pub(super) fn run(args: &TraceStats) -> Result<Answer, Failure> {
    let (quantity, records) = open(&args.file, &args.from)?;
    let mut stats = Stats::new(quantity);
    for record in records {
        stats.add(&record?);
    }
    let summaries = stats.summaries();
    if summaries.is_empty() {
        let help = "`tideplan trace stats FILE` without `--link` shows which there are";
        return Err(Failure::new("the trace has no series of that name", help));
    }
    if args.json {
        let series: Vec<Value> = summaries.iter().map(json).collect();
        let object = json!({
            "quantity": quantity.column(), "series": series, "others": stats.others, "doubts": stats.doubts(),
        });
        print_json(&object)?;
    } else {
        print(&text(&stats, &summaries))?;
    }
    Ok(Answer::Yes)
}

fn json(s: &Summary) -> Value {
    json!({
        "name": s.name, "points": s.points, "from_s": s.from_s, "to_s": s.to_s, "min": s.min, "max": s.max,
        "mean": s.mean, "std": s.std, "p05": s.quantiles[0], "median": s.quantiles[1], "p95": s.quantiles[2],
        "zero_share": s.zero_share, "shortest_step_s": s.shortest_step_s, "longest_step_s": s.longest_step_s,
        "changes": s.changes, "autocorrelation": s.autocorrelation, "latency_s": s.latency_s,
    })
}

fn text(stats: &Stats, summaries: &[Summary]) -> String {
    let q = stats.quantity();
    let mut table = Table::new([
        "series",
        "points",
        "from",
        "to",
        "min",
        "5 %",
        "median",
        "mean",
        "95 %",
        "max",
        "zero",
        "longest step",
        "lag 1",
    ]);
    for s in summaries.iter().take(MOST_ROWS) {
        table.row([
            s.name.clone(),
            thousands(s.points),
            format!("{:.0} s", s.from_s),
            format!("{:.0} s", s.to_s),
            shown(q, s.min),
            shown(q, s.quantiles[0]),
            shown(q, s.quantiles[1]),
            shown(q, s.mean),
            shown(q, s.quantiles[2]),
            shown(q, s.max),
            format!("{:.1} %", 100.0 * s.zero_share),
            format!("{:.1} s", s.longest_step_s),
            format!("{:.3}", s.autocorrelation),
        ]);
    }
    let mut text = table.to_string();
    let more = summaries.len().saturating_sub(MOST_ROWS) as u64 + stats.others;
    if more > 0 {
        text += &format!("and {} more; `--json` has all, `--link NAME` one\n", thousands(more));
    }
    for doubt in stats.doubts() {
        text += &format!("note: {doubt}\n");
    }
    text
}
