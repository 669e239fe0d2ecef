//! Changes to a stream of records: chosen, scaled, renamed, cut, shifted, put on a grid, repeated.

use super::{Record, Records, file_fault};
use crate::fault::Fault;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Only the series of this name.
    Select(String),
    /// Every series is called this.
    Rename(String),
    /// Values times this.
    Scale(f64),
    /// Only `[from, to)` ns; the first point of a series is the value that holds at `from`, and times start at 0 there.
    Cut {
        /// First nanosecond.
        from: u64,
        /// First nanosecond after it.
        to: u64,
    },
    /// Later by this many ns.
    Shift(u64),
    /// Onto a grid of this many ns: the time-weighted mean of each cell.
    Resample(u64),
}

/// Changes in their order.
#[derive(Clone, Debug, Default)]
pub struct Edits(pub Vec<Edit>);

impl Edits {
    /// The stream with every change made.
    pub fn apply<'a>(&self, records: Records<'a>) -> Records<'a> {
        self.0.iter().fold(records, |records, edit| one(records, edit.clone()))
    }
}

fn one(records: Records<'_>, edit: Edit) -> Records<'_> {
    match edit {
        Edit::Select(name) => Box::new(records.filter(move |r| !matches!(r, Ok(r) if *r.name != *name))),
        Edit::Rename(name) => {
            let name: Arc<str> = name.into();
            Box::new(records.map(move |r| r.map(|r| Record { name: Arc::clone(&name), ..r })))
        }
        Edit::Scale(by) => Box::new(records.map(move |r| r.map(|r| Record { value: r.value * by, ..r }))),
        Edit::Shift(by) => {
            Box::new(records.map(move |r| r.map(|r| Record { at_ns: r.at_ns.saturating_add(by), ..r })))
        }
        Edit::Cut { from, to } => Box::new(Queued {
            records,
            queue: VecDeque::new(),
            step: Cut { from, to, before: BTreeMap::new() },
            ended: false,
        }),
        Edit::Resample(step) => {
            let step = step.max(1);
            Box::new(Queued {
                records,
                queue: VecDeque::new(),
                step: Resample { step, cells: BTreeMap::new() },
                ended: false,
            })
        }
    }
}

/// What turns records into others, some later.
trait Step {
    fn take(&mut self, record: Record, out: &mut VecDeque<Record>) -> Result<(), Fault>;
    fn end(&mut self, out: &mut VecDeque<Record>);
}

struct Queued<'a, S> {
    records: Records<'a>,
    queue: VecDeque<Record>,
    step: S,
    ended: bool,
}

impl<S: Step> Iterator for Queued<'_, S> {
    type Item = Result<Record, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.queue.pop_front() {
                return Some(Ok(record));
            }
            if self.ended {
                return None;
            }
            match self.records.next() {
                Some(Ok(record)) => {
                    if let Err(fault) = self.step.take(record, &mut self.queue) {
                        self.ended = true;
                        return Some(Err(fault));
                    }
                }
                Some(Err(fault)) => {
                    self.ended = true;
                    return Some(Err(fault));
                }
                None => {
                    self.ended = true;
                    self.step.end(&mut self.queue);
                }
            }
        }
    }
}

struct Cut {
    from: u64,
    to: u64,
    /// The last record of a series before the cut.
    before: BTreeMap<Arc<str>, Option<Record>>,
}

impl Step for Cut {
    fn take(&mut self, record: Record, out: &mut VecDeque<Record>) -> Result<(), Fault> {
        if record.at_ns >= self.to {
            return Ok(());
        }
        if record.at_ns <= self.from {
            self.before.insert(Arc::clone(&record.name), Some(record));
            return Ok(());
        }
        if let Some(first) = self.before.get_mut(&record.name).and_then(Option::take) {
            out.push_back(Record { at_ns: 0, ..first });
        }
        out.push_back(Record { at_ns: record.at_ns - self.from, ..record });
        Ok(())
    }

    fn end(&mut self, out: &mut VecDeque<Record>) {
        let left = std::mem::take(&mut self.before);
        out.extend(left.into_values().flatten().map(|r| Record { at_ns: 0, ..r }));
    }
}

/// Most cells between two points: they are kept until they are taken.
const MOST_CELLS: u64 = 1 << 22;

struct Resample {
    step: u64,
    cells: BTreeMap<Arc<str>, Cell>,
}

/// The cell of a series that is not done yet.
struct Cell {
    start: u64,
    last: Record,
    /// Values times ns so far, and latencies.
    sum: f64,
    latency: f64,
    covered: u64,
}

impl Cell {
    /// Lets the last value hold until `to`, emitting the cells that end by then.
    fn until(&mut self, to: u64, step: u64, out: &mut VecDeque<Record>) {
        loop {
            let end = self.start.saturating_add(step);
            let from = self.last.at_ns.max(self.start);
            let held = end.min(to).saturating_sub(from);
            self.sum += self.last.value * held as f64;
            self.latency += self.last.latency_s.unwrap_or(0.0) * held as f64;
            self.covered += held;
            if end > to {
                self.last.at_ns = to;
                return;
            }
            self.emit(out);
            self.start = end;
            if end == u64::MAX {
                // No time lies behind it.
                return;
            }
        }
    }

    fn emit(&mut self, out: &mut VecDeque<Record>) {
        if self.covered > 0 {
            let mean = |sum: f64| sum / self.covered as f64;
            let latency_s = self.last.latency_s.map(|_| mean(self.latency));
            let name = Arc::clone(&self.last.name);
            out.push_back(Record { at_ns: self.start, name, value: mean(self.sum), latency_s });
        }
        (self.sum, self.latency, self.covered) = (0.0, 0.0, 0);
    }
}

impl Step for Resample {
    fn take(&mut self, record: Record, out: &mut VecDeque<Record>) -> Result<(), Fault> {
        let step = self.step;
        match self.cells.get_mut(&record.name) {
            Some(cell) => {
                if record.at_ns.saturating_sub(cell.start) / step > MOST_CELLS {
                    let between = format!(
                        "over {MOST_CELLS} cells of {step} ns lie between two points of `{}`",
                        record.name
                    );
                    let help = "a longer cell, or a part of the trace";
                    return Err(file_fault("the trace", "T0408", between, help));
                }
                cell.until(record.at_ns, step, out);
                cell.last = record;
            }
            None => {
                let start = record.at_ns / step * step;
                let cell = Cell { start, last: record.clone(), sum: 0.0, latency: 0.0, covered: 0 };
                self.cells.insert(record.name, cell);
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut VecDeque<Record>) {
        for (_, mut cell) in std::mem::take(&mut self.cells) {
            // The last value holds to the end of its cell.
            let end = cell.start.saturating_add(self.step);
            cell.until(end, self.step, out);
        }
    }
}
