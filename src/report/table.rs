//! Plain tables: columns as wide as their widest cell, numbers to the right.

use std::fmt;

/// Rows of text under a heading.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: impl IntoIterator<Item = impl Into<String>>) -> Table {
        Table { rows: vec![heading.into_iter().map(Into::into).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, c: usize| row.get(c).map_or("", String::as_str).to_string();
        let widths: Vec<usize> = (0..columns)
            .map(|c| self.rows.iter().map(|r| cell(r, c).chars().count()).max().unwrap_or(0))
            .collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|c| {
                self.rows[1..]
                    .iter()
                    .all(|r| cell(r, c).starts_with(|x: char| x.is_ascii_digit() || x == '-' || x == '+'))
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for c in 0..columns {
                let text = cell(row, c);
                let pad = " ".repeat(widths[c] - text.chars().count());
                let gap = if c == 0 { "" } else { "  " };
                line += &if numeric[c] { format!("{gap}{pad}{text}") } else { format!("{gap}{text}{pad}") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Seconds as a person reads them.
pub(crate) fn seconds(s: f64) -> String {
    match s {
        0.0 => "0 s".into(),
        s if s >= 100.0 => format!("{s:.1} s"),
        s if s >= 1.0 => format!("{s:.3} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.2} us", s * 1e6),
    }
}

/// Whole numbers with their thousands apart.
pub(crate) fn thousands(n: impl fmt::Display) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let mut table = Table::new(["name", "n"]);
        table.row(["a", "5"]);
        table.row(["long", "12"]);
        assert_eq!(table.to_string(), "name   n\na      5\nlong  12\n");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(seconds(0.001234), "1.23 ms");
        assert_eq!(seconds(123.46), "123.5 s");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
    }
}
