//! `tideplan trace`: look at a trace, turn another tool's into ours, make one up.

mod convert;
mod generate;
mod plot;
mod stats;

use crate::cli::{Trace, TraceFrom, TraceOf};
use crate::failure::{Answer, Failure};
use crate::read;
use scenarios::series::{CsvRecords, Edit, Edits, KINDS, Quantity, Records, import};
use std::path::Path;

/// Most rows of a trace that is written.
const MOST_ROWS: u64 = 100_000_000;

pub(super) fn run(args: &Trace) -> Result<Answer, Failure> {
    match &args.what {
        TraceOf::Stats(args) => stats::run(args),
        TraceOf::Convert(args) => convert::run(args),
        TraceOf::Plot(args) => plot::run(args),
        TraceOf::Generate(args) => generate::run(args),
    }
}

/// The records of a file, and what they are.
fn open(path: &Path, from: &TraceFrom) -> Result<(Quantity, Records<'static>), Failure> {
    let shown = path.display().to_string();
    let (quantity, records): (Quantity, Records<'static>) = match from.from.as_deref() {
        None | Some("tideplan") => {
            let quantity = match &from.column {
                None => None,
                Some(name) => Some(quantity(name)?),
            };
            let records = CsvRecords::new(read::stream(path, "a trace")?, &shown, quantity)?;
            (records.quantity(), Box::new(records))
        }
        Some(name) => {
            let Some(kind) = KINDS.iter().find(|k| k.name == name) else {
                let names: Vec<&str> = KINDS.iter().map(|k| k.name).collect();
                return Err(Failure::new(
                    format!("no kind of trace is called `{name}`"),
                    format!("one of tideplan, {}", names.join(", ")),
                ));
            };
            let records = import(kind, &read::text(path, "a trace; a longer one in parts")?, &shown)?;
            (kind.quantity, Box::new(records.into_iter().map(Ok)))
        }
    };
    let records = match &from.link {
        Some(link) => Edits(vec![Edit::Select(link.clone())]).apply(records),
        None => records,
    };
    Ok((quantity, records))
}

fn quantity(name: &str) -> Result<Quantity, Failure> {
    Quantity::ALL.into_iter().find(|q| q.column() == name).ok_or_else(|| {
        let names: Vec<&str> = Quantity::ALL.iter().map(|q| q.column()).collect();
        Failure::new(format!("no column `{name}` is known"), format!("one of {}", names.join(", ")))
    })
}

/// A time on the command line, in ns.
fn nanoseconds(text: &str) -> Result<u64, Failure> {
    scenarios::quantity::nanoseconds(text).map_err(|e| Failure::new(e.to_string(), e.help()))
}

/// A value in a person's unit: `7.1 Gbit/s`, `28 nodes`.
fn shown(quantity: Quantity, value: f64) -> String {
    match quantity {
        Quantity::Bandwidth | Quantity::Load => {
            let (by, unit) = match value {
                v if v >= 1e12 => (1e12, "Tbit/s"),
                v if v >= 1e9 => (1e9, "Gbit/s"),
                v if v >= 1e6 => (1e6, "Mbit/s"),
                v if v >= 1e3 => (1e3, "kbit/s"),
                _ => (1.0, "bit/s"),
            };
            format!("{:.3} {unit}", value / by)
        }
        Quantity::Available => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}
