//! Lines, tables and numbers of other tools' files.

use crate::fault::Fault;
use crate::nearest::suggestion;
use crate::series::{file_fault, line_fault, nanoseconds};

/// A file's text and name.
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) file: &'a str,
}

/// A line that says something, and its number from 1.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) text: &'a str,
    number: u64,
}

/// A CSV text with a header.
pub(super) struct Table<'a> {
    of: &'a Text<'a>,
    header: Line<'a>,
    names: Vec<&'a str>,
    pub(super) rows: Vec<Line<'a>>,
}

impl<'a> Text<'a> {
    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let lines = (1..).zip(self.text.lines());
        lines
            .map(|(number, text)| Line { text: text.trim_start_matches('\u{feff}').trim(), number })
            .filter(|l| !l.text.is_empty() && !l.text.starts_with('#'))
    }

    pub(super) fn fault(&self, line: Line<'_>, message: &str, help: &str) -> Fault {
        line_fault(self.file, line.number, line.text, "T0402", message, help)
    }

    pub(super) fn fault_of_file(&self, code: &'static str, message: &str, help: &str) -> Fault {
        file_fault(self.file, code, message, help)
    }

    /// A number from 0 up.
    pub(super) fn number(&self, line: Line<'_>, text: &str, what: &str) -> Result<f64, Fault> {
        match text.trim().trim_matches('"').parse::<f64>() {
            Ok(n) if n.is_finite() && n >= 0.0 => Ok(n),
            _ => {
                let short: String = text.chars().take(40).collect();
                Err(self.fault(
                    line,
                    &format!("`{short}` is not a number from 0 up"),
                    &format!("in `{what}`"),
                ))
            }
        }
    }

    /// Seconds from the trace's start.
    pub(super) fn time(&self, line: Line<'_>, seconds: f64) -> Result<u64, Fault> {
        nanoseconds(seconds).ok_or_else(|| {
            self.fault(line, &format!("time `{seconds}` s is before the first, or past 584 years"), "")
        })
    }

    pub(super) fn table(&'a self) -> Result<Table<'a>, Fault> {
        let mut lines = self.lines();
        let Some(header) = lines.next() else {
            return Err(self.fault_of_file("T0404", "the file is empty", "a header and at least one row"));
        };
        Ok(Table { of: self, header, names: fields(header.text).collect(), rows: lines.collect() })
    }
}

impl<'a> Table<'a> {
    pub(super) fn names(&self) -> &[&'a str] {
        &self.names
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| *n == name)
    }

    /// The first of `names` that the header has.
    pub(super) fn column(&self, names: &[&str]) -> Result<usize, Fault> {
        names.iter().find_map(|n| self.find(n)).ok_or_else(|| {
            let message = format!("the header has no column `{}`", names[0]);
            let help = suggestion(names[0], &self.names);
            line_fault(self.of.file, self.header.number, self.header.text, "T0401", message, help)
        })
    }

    pub(super) fn field(&self, line: Line<'a>, column: usize) -> Result<&'a str, Fault> {
        fields(line.text).nth(column).ok_or_else(|| {
            let name = self.names.get(column).copied().unwrap_or_default();
            self.of.fault(line, &format!("the row has no `{name}`"), "")
        })
    }

    pub(super) fn number(&self, line: Line<'a>, column: usize) -> Result<f64, Fault> {
        let text = self.field(line, column)?;
        self.of.number(line, text, self.names.get(column).copied().unwrap_or_default())
    }
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|f| f.trim().trim_matches('"'))
}
