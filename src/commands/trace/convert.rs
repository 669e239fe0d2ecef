//! `tideplan trace convert`: other tools' traces, and changes to ours.

use super::{MOST_ROWS, nanoseconds, open};
use crate::cli::TraceConvert;
use crate::commands::print;
use crate::failure::{Answer, Failure};
use crate::host::note;
use crate::write;
use scenarios::series::{Edit, Edits, Quantity, Record, Records, write_header, write_record};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

/// Most repeats of a wrapped trace.
const MOST_REPEATS: u64 = 1_000_000;

pub(super) fn run(args: &TraceConvert) -> Result<Answer, Failure> {
    let edits = edits(args)?;
    let until = match (&args.wrap, &args.hold) {
        (Some(text), _) | (None, Some(text)) => Some(nanoseconds(text)?),
        (None, None) => None,
    };
    let (quantity, _) = open(&args.files[0], &args.from)?;
    let mut tally = Tally::default();
    write::streamed(&args.out, |out| {
        let latency = has_latency(args)?;
        write_header(out, quantity, latency).map_err(write::failed)?;
        let mut start = 0u64;
        for turn in 0.. {
            let mut end = start;
            for path in &args.files {
                let (found, records) = open(path, &args.from)?;
                if found != quantity {
                    let message = format!("{} is of another quantity than the first file", path.display());
                    return Err(Failure::new(message, "splice traces of one kind"));
                }
                end = pass((quantity, edits.apply(records)), end, until, latency, out, &mut tally)?;
            }
            let again = args.wrap.is_some() && until.is_some_and(|until| end < until) && end > start;
            if !again {
                break;
            }
            if turn >= MOST_REPEATS {
                let message = format!("the trace would repeat over {MOST_REPEATS} times");
                return Err(Failure::new(message, "a shorter `--wrap`"));
            }
            start = end;
        }
        // Held: the end is a point too, so that the trace is as long as was asked.
        if let (Some(until), None) = (until, &args.wrap) {
            for record in std::mem::take(&mut tally.last).into_values() {
                write_record(out, &Record { at_ns: until, ..record }, latency).map_err(write::failed)?;
                tally.rows += 1;
            }
        }
        Ok(())
    })?;
    let rows = tally.rows;
    if rows == 0 {
        note!("note: nothing is left of the trace");
    }
    print(&format!("wrote {}: {rows} rows of {}\n", args.out.display(), quantity.column()))?;
    Ok(Answer::Yes)
}

/// Whether the first record has a latency.
fn has_latency(args: &TraceConvert) -> Result<bool, Failure> {
    let (quantity, mut records) = open(&args.files[0], &args.from)?;
    let first = records.next().transpose()?;
    Ok(quantity == Quantity::Bandwidth && first.is_some_and(|r| r.latency_s.is_some()))
}

/// Writes the records from `start` on; gives where the next trace begins: one more step after the last.
fn pass(
    (quantity, records): (Quantity, Records<'_>),
    start: u64,
    until: Option<u64>,
    latency: bool,
    out: &mut dyn Write,
    tally: &mut Tally,
) -> Result<u64, Failure> {
    let (mut last, mut step, mut any) = (0u64, 0u64, false);
    for record in records {
        let record = record?;
        tally.seen += 1;
        if tally.seen > MOST_ROWS {
            let message = format!("the trace would have over {MOST_ROWS} rows");
            return Err(Failure::new(message, "a part of it, a longer `--resample` or a shorter `--wrap`"));
        }
        if record.value > quantity.most() {
            let message =
                format!("`{}` would be above {}, the most there can be", quantity.column(), quantity.most());
            return Err(Failure::new(message, "a smaller `--scale`"));
        }
        if record.at_ns > last {
            step = record.at_ns - last;
        }
        (last, any) = (last.max(record.at_ns), true);
        let record = Record { at_ns: start.saturating_add(record.at_ns), ..record };
        if until.is_some_and(|until| record.at_ns >= until) {
            continue;
        }
        write_record(&mut &mut *out, &record, latency).map_err(write::failed)?;
        tally.rows += 1;
        tally.last.insert(Arc::clone(&record.name), record);
    }
    Ok(start.saturating_add(last).saturating_add(if any { step.max(1) } else { 0 }))
}

/// What was gone through and written: rows, and the last one of each series.
#[derive(Default)]
struct Tally {
    seen: u64,
    rows: u64,
    last: BTreeMap<Arc<str>, Record>,
}

fn edits(args: &TraceConvert) -> Result<Edits, Failure> {
    let mut edits = Vec::new();
    if args.start.is_some() || args.end.is_some() {
        let from = args.start.as_deref().map_or(Ok(0), nanoseconds)?;
        let to = args.end.as_deref().map_or(Ok(u64::MAX), nanoseconds)?;
        if from >= to {
            return Err(Failure::new("`--start` does not lie before `--end`", ""));
        }
        edits.push(Edit::Cut { from, to });
    }
    if let Some(name) = &args.rename {
        if name.is_empty() || name.contains([',', '"', '\n', '\r']) {
            return Err(Failure::new("a name in a trace has no comma, quote or line end", ""));
        }
        edits.push(Edit::Rename(name.clone()));
    }
    if let Some(by) = args.scale {
        if !(by.is_finite() && by > 0.0) {
            return Err(Failure::new("`--scale` must be above zero", ""));
        }
        edits.push(Edit::Scale(by));
    }
    if let Some(step) = &args.resample {
        let step = nanoseconds(step)?;
        if step == 0 {
            return Err(Failure::new("`--resample` must be above zero", "for example `--resample \"5 s\"`"));
        }
        edits.push(Edit::Resample(step));
    }
    Ok(Edits(edits))
}
