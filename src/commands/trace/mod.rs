//! `tideplan trace`: look at a trace, turn another tool's into ours, make one up.

mod convert;
mod generate;
mod plot;
mod stats;

use crate::cli::{Trace, TraceFrom, TraceOf};
use crate::failure::{Answer, Failure};
use scenarios::series::{CsvRecords, Edit, Edits, KINDS, Quantity, Records, import};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Largest file of a foreign format, which is read whole.
const MOST_BYTES: u64 = 512 << 20;

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
    let failed = |e: std::io::Error| {
        let why =
            if e.kind() == std::io::ErrorKind::NotFound { "no such file".into() } else { e.to_string() };
        Failure::new(format!("cannot read `{shown}`: {why}"), "")
    };
    if path.is_dir() {
        return Err(Failure::new(format!("cannot read `{shown}`: it is a folder"), ""));
    }
    let file = File::open(path).map_err(failed)?;
    let (quantity, records): (Quantity, Records<'static>) = match from.from.as_deref() {
        None | Some("tideplan") => {
            let quantity = match &from.column {
                None => None,
                Some(name) => Some(quantity(name)?),
            };
            let records = CsvRecords::new(BufReader::with_capacity(1 << 16, file), &shown, quantity)?;
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
            let mut bytes = Vec::new();
            file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() as u64 > MOST_BYTES {
                let message = format!("cannot read `{shown}`: over {} MiB", MOST_BYTES >> 20);
                return Err(Failure::new(message, "convert it in parts"));
            }
            let text = String::from_utf8(bytes).map_err(|e| {
                let at = e.utf8_error().valid_up_to();
                Failure::new(format!("cannot read `{shown}`: not UTF-8 text at byte {at}"), "")
            })?;
            let records = import(kind, &text, &shown)?;
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
