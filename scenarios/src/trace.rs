//! A trace: the capacity of a link over time, from CSV.
//!
//! ```text
//! time_s,link,bandwidth_bps,latency_s      columns in any order, found by the header; others are ignored
//! 0,wan,7.1e9,0.015                        `link` and `latency_s` may be missing
//! 5,wan,3.0e9,0.016                        a value holds until the next point of its link
//! ```
//!
//! Lines that start with `#` are comments. A field holds no comma. Times are seconds from 0; unix times (10^8 and later)
//! are rebased to the first point. Before its first point a trace has that point's value. A wrapped trace holds its last
//! value for as long as the interval before it, and starts again.

use crate::fault::{Fault, Faults, Place};
use crate::format::Mode;
use crate::nearest::{list, suggestion};
use sim_core::{CapacityProfile, Rate, SimDuration, SimTime};
use sim_models::timeline::Timeline;
use std::collections::BTreeSet;

/// Times from here on are unix times: 1973, or 3 years on a clock that reaches 213 days.
const UNIX: f64 = 1e8;
/// Faulty rows of one file that are listed.
const MOST_ROWS: usize = 20;

/// Which rows and column of a file make a trace.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Column of the values.
    pub column: String,
    /// Rows whose `link` is this; the only link of the file will do too, unless `exact`.
    pub link: String,
    /// Whether no other name will do.
    pub exact: bool,
}

impl Selection {
    /// `bandwidth_bps` of a link.
    pub fn of_link(link: impl Into<String>) -> Selection {
        Selection { column: "bandwidth_bps".into(), link: link.into(), exact: false }
    }
}

/// One point.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at: SimTime,
    value: f64,
    place: Place,
}

/// The values of one link over time, in the unit of their column.
#[derive(Clone, Debug)]
pub struct Series {
    points: Vec<Point>,
    latency_s: Option<f64>,
}

impl Series {
    /// The series of a CSV text; `name` is what errors call it.
    ///
    /// # Errors
    /// A missing column, a row with too few fields, a number that is none, is negative, NaN or infinite, a time that does
    /// not lie after the one before it, no row at all: every fault, each with its line.
    pub fn parse(text: &str, name: &str, selection: &Selection) -> Result<Series, Vec<Fault>> {
        let mut faults = Faults::default();
        let whole = faults.add_source(name, text);
        let series = Series::read(text, whole, selection, &mut faults);
        series.ok_or_else(|| faults.finish())
    }

    /// The points: instant and value, times strictly increasing. Never empty.
    pub fn points(&self) -> impl ExactSizeIterator<Item = (SimTime, f64)> {
        self.points.iter().map(|p| (p.at, p.value))
    }

    /// Time-weighted mean of the column `latency_s`, where there is one.
    pub fn latency_s(&self) -> Option<f64> {
        self.latency_s
    }

    /// After this it starts again, when wrapped: the last point and once more the interval before it (of one point,
    /// the point).
    pub fn period(&self) -> SimDuration {
        let ps = |point: &Point| point.at.as_ps();
        let (last, interval) = match self.points.as_slice() {
            [.., before, last] => (ps(last), ps(last) - ps(before)),
            [only] => (ps(only), 0),
            [] => (0, 0),
        };
        SimDuration::from_ps(last.saturating_add(interval))
    }

    /// The same with every value through `f`, which keeps it from 0 up.
    pub(crate) fn map(mut self, f: impl Fn(f64) -> f64) -> Series {
        self.points.iter_mut().for_each(|p| p.value = f(p.value));
        self
    }

    /// Capacity on the replay's clock: each value times `bytes_per_s`; `None` where [`Series::profile`] finds a fault.
    pub(crate) fn timeline(&self, bytes_per_s: f64, mode: Mode) -> Option<Timeline> {
        let mut points: Vec<(u64, u64)> = Vec::with_capacity(self.points.len());
        for point in &self.points {
            let at = point.at.as_ps().div_ceil(1_000);
            let rate = Rate::from_bytes_per_s(point.value * bytes_per_s).ok()?.raw();
            match points.last_mut() {
                // Two points within a nanosecond: the later one holds.
                Some(last) if last.0 == at => last.1 = rate,
                _ => points.push((at, rate)),
            }
        }
        match mode {
            Mode::Wrap if points.len() > 1 => {
                let last = points.last().map_or(0, |p| p.0);
                Timeline::wrapping(points, self.period().as_ps().div_ceil(1_000).max(last + 1)).ok()
            }
            _ => Timeline::steps(points).ok(),
        }
    }

    pub(crate) fn read(
        text: &str,
        whole: Place,
        selection: &Selection,
        faults: &mut Faults,
    ) -> Option<Series> {
        let columns = columns(text, whole, selection, faults)?;
        series(text, whole, &columns, &selection.column, faults)
    }

    /// Capacity: each value times `bytes_per_s`.
    pub(crate) fn profile(
        &self,
        bytes_per_s: f64,
        mode: Mode,
        faults: &mut Faults,
    ) -> Option<CapacityProfile> {
        let mut steps = Vec::with_capacity(self.points.len());
        for point in &self.points {
            match Rate::from_bytes_per_s(point.value * bytes_per_s) {
                Ok(rate) => steps.push((point.at, rate)),
                Err(error) => {
                    faults.push(
                        point.place,
                        "T0402",
                        error.to_string(),
                        "check `unit` and `scale` of the trace",
                    );
                    return None;
                }
            }
        }
        let first = steps.first().map_or(Rate::ZERO, |step| step.1);
        let profile = match mode {
            Mode::Wrap if steps.len() > 1 => CapacityProfile::wrapping(first, steps, self.period()),
            _ => CapacityProfile::steps(first, steps),
        };
        match profile {
            Ok(profile) => Some(profile),
            // Only at the very end of the clock.
            Err(error) => {
                let last = self.points.last()?;
                faults.push(last.place, "T0403", error.to_string(), "");
                None
            }
        }
    }
}

/// Where the fields of a row stand.
struct Columns<'a> {
    time: usize,
    value: usize,
    latency: Option<usize>,
    /// Only rows with this in that column.
    link: Option<(usize, &'a str)>,
}

/// A line of fields: where it starts in the text, and what is in it.
#[derive(Clone, Copy)]
struct Row<'a> {
    start: usize,
    line: &'a str,
}

impl<'a> Row<'a> {
    /// The lines, without comments and blank ones.
    fn all(text: &'a str) -> impl Iterator<Item = Row<'a>> {
        let mut start = 0;
        let rows = text.split_inclusive('\n').map(move |line| {
            let row = Row { start, line };
            start += line.len();
            row
        });
        rows.filter(|row| !bare(row.line).is_empty() && !bare(row.line).starts_with('#'))
    }

    fn fields(self) -> impl Iterator<Item = &'a str> {
        self.line.split(',').map(|field| bare(field).trim_matches('"'))
    }

    fn field(self, column: usize) -> Option<&'a str> {
        self.fields().nth(column)
    }

    /// Of a field, or of the whole line when there is none such.
    fn place(self, column: usize, whole: Place, faults: &Faults) -> Place {
        let mut at = self.start;
        for (i, piece) in self.line.split(',').enumerate() {
            if i == column {
                let field = bare(piece);
                let from = at + piece.find(field).unwrap_or(0);
                return faults.part(whole, from..from + field.len());
            }
            at += piece.len() + 1;
        }
        faults.part(whole, self.start..self.start + self.line.trim_end().len())
    }
}

/// Without white space and the mark that some programs put at the start of a file.
fn bare(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

fn columns<'a>(
    text: &'a str,
    whole: Place,
    selection: &Selection,
    faults: &mut Faults,
) -> Option<Columns<'a>> {
    let mut rows = Row::all(text);
    let Some(header) = rows.next() else {
        faults.push(whole, "T0404", "the trace is empty", "a header and at least one row");
        return None;
    };
    let names: Vec<&str> = header.fields().collect();
    let mut find = |name: &str, required: bool| {
        let at = names.iter().position(|n| *n == name);
        if at.is_none() && required {
            let message = format!("the header has no column `{name}`");
            let place = header.place(usize::MAX, whole, faults);
            faults.push(place, "T0401", message, suggestion(name, &names));
        }
        at
    };
    let (time, value) = (find("time_s", true), find(&selection.column, true));
    let (link, latency) = (find("link", false), find("latency_s", false));
    let (time, value) = (time?, value?);
    let Some(link) = link else { return Some(Columns { time, value, latency, link: None }) };
    let links: BTreeSet<&str> = rows.filter_map(|row| row.field(link)).collect();
    let only = if links.len() == 1 && !selection.exact { links.first() } else { None };
    match links.get(selection.link.as_str()).or(only) {
        Some(name) => Some(Columns { time, value, latency, link: Some((link, *name)) }),
        None if links.is_empty() => {
            faults.push(whole, "T0404", "the trace has no rows", "at least one after the header");
            None
        }
        None => {
            let links: Vec<&str> = links.into_iter().collect();
            let message = format!("the trace has no rows of the link `{}`", selection.link);
            faults.push(whole, "T0404", message, format!("choose one with `select`: {}", list(&links)));
            None
        }
    }
}

fn number(row: Row<'_>, column: usize, name: &str, whole: Place, faults: &mut Faults) -> Option<f64> {
    let place = row.place(column, whole, faults);
    let Some(text) = row.field(column) else {
        let message = format!("the row has no `{name}`: it has {} fields", row.fields().count());
        faults.push(place, "T0402", message, "");
        return None;
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Some(number),
        _ => {
            let text: String = text.chars().take(40).collect();
            faults.push(
                place,
                "T0402",
                format!("`{text}` is not a number from 0 up"),
                format!("in `{name}`"),
            );
            None
        }
    }
}

fn series(
    text: &str,
    whole: Place,
    columns: &Columns<'_>,
    column: &str,
    faults: &mut Faults,
) -> Option<Series> {
    let before = faults.count();
    let mut points: Vec<Point> = Vec::new();
    let mut latencies = Vec::new();
    let mut base = None;
    let mut last = f64::NEG_INFINITY;
    for row in Row::all(text).skip(1) {
        if faults.count() >= before + MOST_ROWS {
            break;
        }
        if columns.link.is_some_and(|(link, name)| row.field(link).is_some_and(|f| f != name)) {
            continue;
        }
        let time = number(row, columns.time, "time_s", whole, faults);
        let value = number(row, columns.value, column, whole, faults);
        let latency = columns.latency.and_then(|l| number(row, l, "latency_s", whole, faults));
        let (Some(time), Some(value)) = (time, value) else { continue };
        let place = row.place(columns.time, whole, faults);
        if time <= last {
            let problem = if time == last { "is there twice" } else { "goes backwards" };
            let message = format!("time {problem}: `{time}` s after `{last}` s");
            faults.push(place, "T0403", message, "the times of a link must increase");
            continue;
        }
        last = time;
        let base = *base.get_or_insert(if time >= UNIX { time } else { 0.0 });
        match SimTime::from_secs_f64(time - base) {
            Ok(at) if points.last().is_some_and(|p| p.at >= at) => {
                let message = format!("time `{time}` s is within a picosecond of the one before it");
                faults.push(place, "T0403", message, "the times of a link must increase");
            }
            Ok(at) => {
                points.push(Point { at, value, place: row.place(columns.value, whole, faults) });
                latencies.extend(latency);
            }
            Err(error) => faults.push(place, "T0402", error.to_string(), ""),
        }
    }
    if faults.count() > before {
        return None;
    }
    if points.is_empty() {
        faults.push(whole, "T0404", "the trace has no rows", "at least one after the header");
        return None;
    }
    let mut series = Series { points, latency_s: None };
    series.latency_s = series.mean(&latencies);
    Some(series)
}

impl Series {
    fn mean(&self, values: &[f64]) -> Option<f64> {
        if values.is_empty() || values.len() != self.points.len() {
            return None;
        }
        let ends =
            self.points.iter().skip(1).map(|p| p.at.as_secs_f64()).chain([self.period().as_secs_f64()]);
        let (mut sum, mut weight) = (0.0, 0.0);
        for ((point, end), value) in self.points.iter().zip(ends).zip(values) {
            let length = end - point.at.as_secs_f64();
            sum += length * value;
            weight += length;
        }
        Some(if weight > 0.0 { sum / weight } else { values[0] })
    }
}
