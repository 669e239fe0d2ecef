//! Our trace CSV, read and written a line at a time: `time_s`, a name, a value, perhaps `latency_s`.

use super::{Quantity, Record, file_fault, line_fault, nanoseconds, seconds_text};
use crate::fault::Fault;
use crate::nearest::suggestion;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

/// Times in here are unix times: from 1973 to the year 5138.
const UNIX: std::ops::Range<f64> = 1e8..1e11;
/// Longest line that is read.
const LONGEST: usize = 64 << 10;

/// The records of a CSV text as it is read.
pub struct CsvRecords<R> {
    reader: R,
    file: String,
    quantity: Quantity,
    columns: Columns,
    named: Option<&'static str>,
    line: u64,
    text: String,
    base: Option<f64>,
    /// Last time of each series, and its name.
    series: BTreeMap<Arc<str>, u64>,
    done: bool,
    rows: u64,
}

#[derive(Clone, Copy)]
struct Columns {
    time: usize,
    name: Option<usize>,
    value: usize,
    latency: Option<usize>,
}

impl<R: BufRead> CsvRecords<R> {
    /// Reads the header; `file` is what faults call it. Without `quantity`, the first of ours that the header has.
    ///
    /// # Errors
    /// When there is no header, or it lacks a column.
    pub fn new(reader: R, file: &str, quantity: Option<Quantity>) -> Result<Self, Fault> {
        let mut this = CsvRecords {
            reader,
            file: file.into(),
            quantity: Quantity::Bandwidth,
            columns: Columns { time: 0, name: None, value: 0, latency: None },
            named: None,
            line: 0,
            text: String::new(),
            base: None,
            series: BTreeMap::new(),
            done: false,
            rows: 0,
        };
        if !this.advance()? {
            return Err(file_fault(file, "T0404", "the trace is empty", "a header and at least one row"));
        }
        let header = this.text.clone();
        let names: Vec<&str> = fields(&header).collect();
        let find = |name: &str| names.iter().position(|n| *n == name);
        let lacks = |name: &str| {
            let message = format!("the header has no column `{name}`");
            line_fault(file, this.line, &header, "T0401", message, suggestion(name, &names))
        };
        let known = || Quantity::ALL.into_iter().find(|q| find(q.column()).is_some());
        let quantity = quantity.or_else(known).ok_or_else(|| lacks("bandwidth_bps"))?;
        let named = [quantity.name_column(), "link", "node", "gpu", "node_group"];
        let named = named.into_iter().find(|n| find(n).is_some());
        let columns = Columns {
            time: find("time_s").ok_or_else(|| lacks("time_s"))?,
            value: find(quantity.column()).ok_or_else(|| lacks(quantity.column()))?,
            name: named.and_then(find),
            latency: find("latency_s"),
        };
        (this.quantity, this.columns, this.named) = (quantity, columns, named);
        Ok(this)
    }

    /// What the values are.
    pub fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// The column that names the series, where there is one.
    pub fn name_column(&self) -> Option<&'static str> {
        self.named
    }

    /// The next line that says something; false at the end.
    fn advance(&mut self) -> Result<bool, Fault> {
        loop {
            self.text.clear();
            self.line += 1;
            let mut limited = io::Read::take(&mut self.reader, LONGEST as u64);
            let read = limited.read_line(&mut self.text).map_err(|e| {
                let what = if e.kind() == io::ErrorKind::InvalidData {
                    "not UTF-8 text".to_string()
                } else {
                    e.to_string()
                };
                file_fault(&self.file, "T0109", format!("cannot read line {}: {what}", self.line), "")
            })?;
            if read == LONGEST && !self.text.ends_with('\n') {
                return Err(file_fault(
                    &self.file,
                    "T0402",
                    format!("line {} is longer than {} KiB", self.line, LONGEST >> 10),
                    "a trace has a point on each line",
                ));
            }
            if read == 0 {
                return Ok(false);
            }
            let bare = self.text.trim_start_matches('\u{feff}').trim();
            if !bare.is_empty() && !bare.starts_with('#') {
                return Ok(true);
            }
        }
    }

    fn fault(&self, code: &'static str, message: String, help: &str) -> Fault {
        line_fault(&self.file, self.line, &self.text, code, message, help)
    }

    fn number(&self, column: usize, name: &str) -> Result<f64, Fault> {
        let Some(text) = fields(&self.text).nth(column) else {
            let message = format!("the row has no `{name}`: it has {} fields", fields(&self.text).count());
            return Err(self.fault("T0402", message, ""));
        };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
            _ => {
                let text: String = text.chars().take(40).collect();
                let message = format!("`{text}` is not a number from 0 up");
                Err(self.fault("T0402", message, &format!("in `{name}`")))
            }
        }
    }

    fn record(&mut self) -> Result<Record, Fault> {
        let time = self.number(self.columns.time, "time_s")?;
        let value = self.number(self.columns.value, self.quantity.column())?;
        let latency_s = self.columns.latency.map(|c| self.number(c, "latency_s")).transpose()?;
        if value > self.quantity.most() {
            let message = format!("`{value}` is more than {} can be", self.quantity.column());
            return Err(self.fault("T0402", message, "check the unit of the column"));
        }
        let base = *self.base.get_or_insert(if UNIX.contains(&time) { time } else { 0.0 });
        let Some(at_ns) = nanoseconds(time - base) else {
            let message = format!("time `{time}` s is before the first row, or past 584 years");
            return Err(self.fault("T0403", message, "the times of a series must increase"));
        };
        let name = self.columns.name.and_then(|c| fields(&self.text).nth(c)).unwrap_or("link");
        let name = match self.series.get_key_value(name) {
            Some((name, last)) if at_ns <= *last => {
                let problem = if at_ns == *last { "is there twice" } else { "goes backwards" };
                let message = format!("time of `{name}` {problem}: `{time}` s");
                return Err(self.fault("T0403", message, "the times of a series must increase"));
            }
            Some((name, _)) => Arc::clone(name),
            None => name.into(),
        };
        self.series.insert(Arc::clone(&name), at_ns);
        Ok(Record { at_ns, name, value, latency_s })
    }
}

impl<R: BufRead> Iterator for CsvRecords<R> {
    type Item = Result<Record, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let record = match self.advance() {
            Ok(true) => self.record(),
            Ok(false) if self.rows == 0 => {
                Err(file_fault(&self.file, "T0404", "the trace has no rows", "at least one after the header"))
            }
            Ok(false) => {
                self.done = true;
                return None;
            }
            Err(fault) => Err(fault),
        };
        self.rows += 1;
        self.done = record.is_err();
        Some(record)
    }
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|f| f.trim_start_matches('\u{feff}').trim().trim_matches('"'))
}

/// The header of a trace file.
///
/// # Errors
/// Those of the writer.
pub fn write_header(out: &mut impl Write, quantity: Quantity, latency: bool) -> io::Result<()> {
    let latency = if latency { ",latency_s" } else { "" };
    writeln!(out, "time_s,{},{}{latency}", quantity.name_column(), quantity.column())
}

/// One row.
///
/// # Errors
/// Those of the writer.
pub fn write_record(out: &mut impl Write, record: &Record, latency: bool) -> io::Result<()> {
    write!(out, "{},{},{}", seconds_text(record.at_ns), record.name, record.value)?;
    match record.latency_s {
        Some(l) if latency => writeln!(out, ",{l}"),
        // A file with the column has it in every row.
        None if latency => writeln!(out, ",0"),
        _ => writeln!(out),
    }
}
