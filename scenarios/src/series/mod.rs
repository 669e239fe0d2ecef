//! Traces as streams of records: read from our CSV or imported from other tools' files, changed, looked at, generated and
//! written. Everything but an import of a foreign format goes record by record, so that a trace of 10^7 points needs no
//! more memory than one of ten.
//!
//! ```text
//! file --csv / import--> records --edit--> records --write--> CSV
//! generate ------------/                \--stats--> figures, quantiles, a sketch to draw
//! ```

mod csv;
mod edit;
mod generate;
mod import;
mod stats;

pub use csv::{CsvRecords, write_header, write_record};
pub use edit::{Edit, Edits};
pub use generate::{Ar1, Diurnal, Failures, Markov, fit_ar1, generate_ar1};
pub use import::{KINDS, import};
pub use stats::{SeriesStats, Stats, Summary};

use crate::fault::{Fault, Source};
use std::sync::Arc;

/// What the values of a trace are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Bandwidth of a link, bit/s.
    Bandwidth,
    /// Load that others put on a link or a port, bit/s.
    Load,
    /// Nodes of a group that are there.
    Available,
    /// Whether one node is there: 1 or 0.
    Up,
    /// How many times slower than usual a GPU or node computes: 1 is its usual speed.
    Slowdown,
    /// Share of a capacity, 0 to 1.
    Share,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Quantity; 6] = [
        Quantity::Bandwidth,
        Quantity::Load,
        Quantity::Available,
        Quantity::Up,
        Quantity::Slowdown,
        Quantity::Share,
    ];

    /// Its column in a trace file.
    pub fn column(self) -> &'static str {
        match self {
            Quantity::Bandwidth => "bandwidth_bps",
            Quantity::Load => "load_bps",
            Quantity::Available => "available",
            Quantity::Up => "up",
            Quantity::Slowdown => "slowdown",
            Quantity::Share => "share",
        }
    }

    /// The column that names what it is of.
    pub fn name_column(self) -> &'static str {
        match self {
            Quantity::Bandwidth | Quantity::Load | Quantity::Share => "link",
            Quantity::Available => "node_group",
            Quantity::Up | Quantity::Slowdown => "node",
        }
    }

    /// The largest value that can be meant: the end of [`sim_core::Rate`], a million nodes.
    pub fn most(self) -> f64 {
        match self {
            Quantity::Bandwidth | Quantity::Load => 8.0 * 281e12,
            Quantity::Available => 1e6,
            Quantity::Up | Quantity::Share => 1.0,
            Quantity::Slowdown => 1e6,
        }
    }
}

/// One point of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Nanoseconds from the trace's start.
    pub at_ns: u64,
    /// Which link, group or node.
    pub name: Arc<str>,
    /// The value, in the unit of its [`Quantity`].
    pub value: f64,
    /// Latency measured with it, seconds.
    pub latency_s: Option<f64>,
}

/// Records in the order of their file, or the fault that ends them.
pub type Records<'a> = Box<dyn Iterator<Item = Result<Record, Fault>> + 'a>;

/// A fault of one line of a file that is not kept: the line is its text.
pub(crate) fn line_fault(
    file: &str,
    line: u64,
    text: &str,
    code: &'static str,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Fault {
    let text: String = text.trim_end().chars().take(200).collect();
    let help = help.into();
    let span = (!text.is_empty()).then_some(0..text.len());
    Fault {
        code,
        message: message.into(),
        help: (!help.is_empty()).then_some(help),
        source: Arc::new(Source { name: format!("{file}, line {line}"), text }),
        span,
    }
}

/// A fault of a whole file.
pub(crate) fn file_fault(
    file: &str,
    code: &'static str,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Fault {
    let help = help.into();
    Fault {
        code,
        message: message.into(),
        help: (!help.is_empty()).then_some(help),
        source: Arc::new(Source { name: file.into(), text: String::new() }),
        span: None,
    }
}

/// Seconds as nanoseconds; `None` when not from 0 to 584 years.
pub(crate) fn nanoseconds(seconds: f64) -> Option<u64> {
    let ns = (seconds * 1e9).round();
    (ns.is_finite() && (0.0..1.8e19).contains(&ns)).then_some(ns as u64)
}

/// Nanoseconds as seconds, written with no more digits than they have.
pub fn seconds_text(ns: u64) -> String {
    let (whole, part) = (ns / 1_000_000_000, ns % 1_000_000_000);
    if part == 0 {
        return whole.to_string();
    }
    format!("{whole}.{}", format!("{part:09}").trim_end_matches('0'))
}
