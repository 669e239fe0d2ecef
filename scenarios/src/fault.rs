//! Faults of a file: what is wrong, where, and what would be right. Reading goes on after each, so that all come at once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text that faults point into: a file, or an option of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path, the name of a built-in, or `--set`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable code, `T0101`; [`crate::explain`] has a paragraph on each.
    pub code: &'static str,
    /// What is wrong: lower case, names in backticks, no full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The text it is in.
    pub source: Arc<Source>,
    /// Bytes of that text, on character boundaries; none when the fault is the whole text or its absence.
    pub span: Option<Range<usize>>,
}

impl Fault {
    /// Line and column (in characters) of the fault's start, both from 1.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        let before = self.source.text.get(..self.span.as_ref()?.start)?;
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Some((line, column))
    }
}

impl fmt::Display for Fault {
    /// `file:line:column: error[T0101]: what is wrong`, and a line of help. An option is shown whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.name)?;
        match self.line_column() {
            Some(_) if self.source.name.starts_with("--") => write!(f, " {}", self.source.text)?,
            Some((line, column)) => write!(f, ":{line}:{column}")?,
            None => {}
        }
        write!(f, ": error[{}]: {}", self.code, self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// A place in one of the texts of a [`Faults`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    source: usize,
    start: usize,
    end: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// Most faults that are kept: past that a file is of another kind, and listing goes on for ever.
const MOST: usize = 200;

/// The faults found so far, and the texts they are in.
#[derive(Default)]
pub(crate) struct Faults {
    sources: Vec<Arc<Source>>,
    list: Vec<(Place, Fault)>,
}

impl Faults {
    /// Takes in a text; its place is the whole of it.
    pub(crate) fn add_source(&mut self, name: impl Into<String>, text: impl Into<String>) -> Place {
        let source = Source { name: name.into(), text: text.into() };
        let place = Place { source: self.sources.len(), start: 0, end: source.text.len() };
        self.sources.push(Arc::new(source));
        place
    }

    /// A part of the text that `whole` lies in; cut to character boundaries.
    pub(crate) fn part(&self, whole: Place, span: Range<usize>) -> Place {
        let text = &self.sources[whole.source].text;
        let inside = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (start, end) = (inside(span.start), inside(span.end));
        Place { source: whole.source, start, end: end.max(start) }
    }

    /// The text that a place is in.
    pub(crate) fn source(&self, place: Place) -> Arc<Source> {
        Arc::clone(&self.sources[place.source])
    }

    /// Line `line`, from 1, of the text that `whole` lies in.
    pub(crate) fn line(&self, whole: Place, line: u64) -> Place {
        let text = &self.sources[whole.source].text;
        let mut start = 0;
        for (number, content) in (1..).zip(text.split_inclusive('\n')) {
            if number == line {
                return self.part(whole, start..start + content.trim_end().len());
            }
            start += content.len();
        }
        whole
    }

    /// Takes in a fault.
    pub(crate) fn push(
        &mut self,
        place: Place,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.list.len() >= MOST {
            return;
        }
        let help = help.into();
        let source = Arc::clone(&self.sources[place.source]);
        let span = (!source.text.is_empty()).then_some(place.start..place.end);
        let help = (!help.is_empty()).then_some(help);
        self.list.push((place, Fault { code, message: message.into(), help, source, span }));
    }

    /// Takes in a fault that carries its own text; it is listed at `place`.
    pub(crate) fn adopt(&mut self, place: Place, fault: Fault) {
        if self.list.len() < MOST {
            self.list.push((place, fault));
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// All of them in order of place: the file first, then what it names.
    pub(crate) fn finish(mut self) -> Vec<Fault> {
        self.list.sort_by_key(|(place, _)| (place.source, place.start));
        self.list.into_iter().map(|(_, fault)| fault).collect()
    }
}
