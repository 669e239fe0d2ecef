//! `tideplan trace plot`: a trace as a picture, or as a line of blocks on the terminal.

use super::{open, shown};
use crate::cli::TracePlot;
use crate::commands::print;
use crate::failure::{Answer, Failure};
use crate::report::svg::{Chart, Line, sparkline};
use crate::write;
use scenarios::series::{Stats, Summary};

/// Series of a picture, and of the terminal.
const MOST_LINES: usize = 8;
const MOST_ROWS: usize = 40;

pub(super) fn run(args: &TracePlot) -> Result<Answer, Failure> {
    let (quantity, records) = open(&args.file, &args.from)?;
    let mut stats = Stats::new(quantity);
    for record in records {
        stats.add(&record?);
    }
    let series = stats.summaries();
    if series.is_empty() {
        return Err(Failure::new("the trace has no series of that name", ""));
    }
    let mut text = String::new();
    let width = series.iter().take(MOST_ROWS).map(|s| s.name.chars().count()).max().unwrap_or(0);
    for s in series.iter().take(MOST_ROWS) {
        let pad = " ".repeat(width - s.name.chars().count());
        text += &format!(
            "{}{pad} {}  {} to {}\n",
            s.name,
            sparkline(&s.sketch, 60),
            shown(quantity, s.min),
            shown(quantity, s.max)
        );
    }
    if series.len() > MOST_ROWS {
        text += &format!("and {} more\n", series.len() - MOST_ROWS);
    }
    if let Some(path) = &args.out {
        let (by, unit) = unit(&series, quantity.column());
        let lines = series.iter().take(MOST_LINES).map(|s| line(s, by)).collect();
        let title = args.file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let chart = Chart { title, x: "time, s".into(), y: unit, lines, marks: Vec::new() };
        write::whole(path, chart.svg().as_bytes())?;
        text += &format!("wrote {}\n", path.display());
    }
    print(&text)?;
    Ok(Answer::Yes)
}

fn unit(series: &[Summary], column: &str) -> (f64, String) {
    let max = series.iter().map(|s| s.max).fold(0.0, f64::max);
    match column {
        "bandwidth_bps" | "load_bps" if max >= 1e9 => (1e9, "Gbit/s".into()),
        "bandwidth_bps" | "load_bps" if max >= 1e6 => (1e6, "Mbit/s".into()),
        "bandwidth_bps" | "load_bps" => (1.0, "bit/s".into()),
        other => (1.0, other.into()),
    }
}

fn line(s: &Summary, by: f64) -> Line {
    let cell = (s.to_s - s.from_s) / s.sketch.len().max(1) as f64;
    let mut points: Vec<(f64, f64)> =
        s.sketch.iter().enumerate().map(|(i, v)| (s.from_s + i as f64 * cell, v / by)).collect();
    points.extend(s.sketch.last().map(|v| (s.to_s, v / by)));
    Line { name: s.name.clone(), points, steps: true }
}
